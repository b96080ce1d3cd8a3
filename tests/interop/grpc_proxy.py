"""A proxy that knows no message: every gRPC call goes on to a server, byte by byte, counted, unless
a fault was ordered for its method. For what clients do when a server fails."""
import collections
import concurrent.futures
import threading

import grpc

MESSAGE_MAX = 64 << 20


class Fault:
    """What happens to one call: it ends with code, before anything of it went on, or once `after`
    messages of the answer, or of the request, have passed. answer: instead of the error, these
    bytes are the answer."""

    def __init__(self, code=None, answers_passed=None, requests_passed=None, answer=None):
        self.code, self.answer = code, answer
        self.answers_passed, self.requests_passed = answers_passed, requests_passed


class Proxy(grpc.GenericRpcHandler):
    def __init__(self, target):
        limits = [("grpc.max_receive_message_length", MESSAGE_MAX),
                  ("grpc.max_send_message_length", MESSAGE_MAX)]
        self.counts = collections.Counter()
        self.faults = collections.defaultdict(list)  # "Service/Method" -> in order
        self.channel = grpc.insecure_channel(target, options=limits)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(128), handlers=(self,),
                                  options=limits)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def close(self):
        self.server.stop(0).wait()
        self.channel.close()

    def service(self, details):
        name = details.method.rsplit(".", 1)[-1]
        self.counts[name] += 1
        fault = self.faults[name].pop(0) if self.faults[name] else None

        def run(requests, context):
            yield from self.run(details, fault, requests, context)
        return grpc.stream_stream_rpc_method_handler(run)

    def run(self, details, fault, requests, context):
        if fault and fault.answers_passed is None and fault.requests_passed is None:
            if fault.answer is not None:
                yield fault.answer
                return
            context.abort(fault.code, "as ordered")
        is_cut = threading.Event()

        def passed_on():
            for n, request in enumerate(requests):
                if fault and fault.requests_passed is not None and n >= fault.requests_passed:
                    is_cut.set()
                    call.cancel()
                    return
                yield request
        metadata = [(k, v) for k, v in details.invocation_metadata
                    if not k.startswith(("grpc-", "user-agent"))]
        call = self.channel.stream_stream(details.method)(passed_on(), metadata=metadata)
        context.add_callback(call.cancel)
        try:
            for n, answer in enumerate(call):
                if fault and fault.answers_passed is not None and n >= fault.answers_passed:
                    call.cancel()
                    is_cut.set()
                    break
                yield answer
            else:
                context.set_trailing_metadata(call.trailing_metadata())
        except grpc.RpcError as error:
            if not is_cut.is_set():
                context.set_trailing_metadata([
                    (k, v) for k, v in call.trailing_metadata() if not k.startswith("grpc-message")])
                context.abort(error.code(), error.details())
        if is_cut.is_set():
            context.abort(fault.code, "cut as ordered")
