"""A gRPC proxy that passes calls on as bytes, counts them, and breaks them where a test says.

A fault is told of each message before it is passed on: fault(method, "request" or "answer", n),
n counting from 0 in each call; "answer" is also asked at the end of a call that went well. What it
returns ends the call: a grpc.StatusCode, or (code, text, trailing metadata); None: go on."""
import collections
import concurrent.futures
import threading

import grpc

OPTIONS = [("grpc.max_receive_message_length", 16 << 20),
           ("grpc.max_send_message_length", 16 << 20), ("grpc.so_reuseport", 0)]


class Broken(Exception):
    pass


class GrpcProxy(grpc.GenericRpcHandler):
    def __init__(self, target):
        self.channel = grpc.insecure_channel(target.split("//")[-1], options=OPTIONS)
        self.calls = collections.Counter()
        self.fault = None
        self.lock = threading.Lock()
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), handlers=[self],
                                  options=OPTIONS)
        self.address = "grpc://127.0.0.1:%d" % self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def close(self):
        self.server.stop(None).wait()
        self.channel.close()

    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: self.serve(details, requests, context))

    def ask(self, method, way, n):
        with self.lock:
            return self.fault and self.fault(method, way, n)

    def serve(self, details, requests, context):
        method = details.method.rsplit("/", 1)[1]
        with self.lock:
            self.calls[method] += 1
        broken = []

        def passed_on():
            for n, request in enumerate(requests):
                verdict = self.ask(method, "request", n)
                if verdict:
                    broken.append(verdict)
                    call.cancel()
                    return
                yield request

        metadata = [(k, v) for k, v in details.invocation_metadata
                    if not k.startswith(("grpc-", "user-agent"))]
        call = self.channel.stream_stream(details.method)(passed_on(), metadata=metadata)
        context.add_callback(call.cancel)
        n = 0
        try:
            for n, answer in enumerate(call, 1):
                verdict = self.ask(method, "answer", n - 1)
                if verdict:
                    broken.append(verdict)
                    call.cancel()
                    break
                yield answer
            else:
                verdict = self.ask(method, "answer", n)
                if verdict:
                    broken.append(verdict)
            context.set_trailing_metadata(() if broken else call.trailing_metadata() or ())
        except grpc.RpcError as error:
            if not broken:
                context.set_trailing_metadata(error.trailing_metadata() or ())
                context.abort(error.code(), error.details())
        if broken:
            verdict = broken[0]
            code, text, trailers = verdict if isinstance(verdict, tuple) else (
                verdict, "broken by the test", ())
            context.set_trailing_metadata(trailers)
            context.abort(code, text)


def once(wanted, verdict=grpc.StatusCode.UNAVAILABLE, times=1):
    """A fault at one place: (method, way, n) = wanted, so many times."""
    left = [times]

    def fault(*at):
        if at != wanted or not left[0]:
            return None
        left[0] -= 1
        return verdict
    return fault


def each(*faults):
    """Several: the first that speaks counts."""
    return lambda *at: next((v for v in (f(*at) for f in faults) if v), None)
