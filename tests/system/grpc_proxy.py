"""A proxy that knows no message: every gRPC call goes on to a server, byte by byte, counted, unless
a fault was ordered for its method. For what clients do when a server fails."""
import collections
import concurrent.futures
import itertools

import grpc

MESSAGE_MAX = 64 << 20


class Fault:
    """What happens to one call, the first whose first message has the bytes `of` in it. It ends
    with code, before anything of it went on, or once so many messages of the request or of the
    answer have passed; or `answer` is its answer; or `edit` alters each message of its answer."""

    def __init__(self, code=None, of=b"", requests_passed=None, answers_passed=None, answer=None,
                 edit=None):
        self.code, self.of, self.answer, self.edit = code, of, answer, edit
        self.requests_passed, self.answers_passed = requests_passed, answers_passed


class Proxy(grpc.GenericRpcHandler):
    def __init__(self, target):
        limits = [("grpc.max_receive_message_length", MESSAGE_MAX),
                  ("grpc.max_send_message_length", MESSAGE_MAX)]
        self.counts = collections.Counter()
        self.patience = collections.defaultdict(list)  # "Service/Method" -> seconds until deadlines
        self.faults = collections.defaultdict(list)  # "Service/Method" -> in order
        self.channel = grpc.insecure_channel(target, options=limits)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), handlers=(self,),
                                  options=limits)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def close(self):
        self.server.stop(0).wait()
        self.channel.close()

    def fault(self, name, first):
        for fault in self.faults[name]:
            if fault.of in first:
                self.faults[name].remove(fault)
                return fault
        return Fault()

    def service(self, details):
        name = details.method.rsplit(".", 1)[-1]
        self.counts[name] += 1

        def run(requests, context):
            first = next(requests)
            self.patience[name].append(context.time_remaining())
            fault = self.fault(name, first)
            if fault.answer is not None:
                yield fault.answer
            elif fault.code and fault.requests_passed is None and fault.answers_passed is None:
                context.abort(fault.code, "as ordered")
            else:
                yield from self.pass_on(details, fault, itertools.chain([first], requests), context)
        return grpc.stream_stream_rpc_method_handler(run)

    def pass_on(self, details, fault, requests, context):
        was_cut = False

        def some():
            nonlocal was_cut
            for n, request in enumerate(requests):
                if n == fault.requests_passed:
                    was_cut = True
                    call.cancel()
                    return
                yield request
        metadata = [(k, v) for k, v in details.invocation_metadata
                    if not k.startswith(("grpc-", "user-agent"))]
        call = self.channel.stream_stream(details.method)(some(), metadata=metadata)
        context.add_callback(call.cancel)
        try:
            for n, answer in enumerate(call):
                if n == fault.answers_passed:
                    was_cut = True
                    call.cancel()
                    break
                yield fault.edit(answer) if fault.edit else answer
        except grpc.RpcError as error:
            if not was_cut:
                context.set_trailing_metadata(error.trailing_metadata())
                context.abort(error.code(), error.details())
        if was_cut:
            context.abort(fault.code, "cut as ordered")
        context.set_trailing_metadata(call.trailing_metadata())
