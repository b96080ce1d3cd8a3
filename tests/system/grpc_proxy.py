"""A proxy that knows no message: every gRPC call goes on to a server, byte by byte, counted, unless
a fault was ordered. For what clients do when a server fails.

Faults are ordered by method (Proxy.faults, each for one call), or are a function (Proxy.fault) that
is asked before each message of each call goes on: fault(method, "request" or "answer", n), n counting
from 0 in the call, and of answers once more at the end of a call that went well. What it returns ends
the call: a grpc.StatusCode, or (code, text, trailing metadata); None: go on."""
import collections
import concurrent.futures
import itertools
import threading

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

    def at(self, way, n):
        passed = self.requests_passed if way == "request" else self.answers_passed
        return self.code if n == passed else None


class Proxy(grpc.GenericRpcHandler):
    def __init__(self, target):
        limits = [("grpc.max_receive_message_length", MESSAGE_MAX),
                  ("grpc.max_send_message_length", MESSAGE_MAX), ("grpc.so_reuseport", 0)]
        self.counts = collections.Counter()  # by "Service/Method"
        self.calls = collections.Counter()  # by "Method"
        self.patience = collections.defaultdict(list)  # "Service/Method" -> seconds until deadlines
        self.faults = collections.defaultdict(list)  # "Service/Method" -> in order
        self.fault = None
        self.lock = threading.Lock()
        self.channel = grpc.insecure_channel(target.split("//")[-1], options=limits)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(64), handlers=(self,),
                                  options=limits)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def close(self):
        self.server.stop(0).wait()
        self.channel.close()

    def ordered(self, name, first):
        for fault in self.faults[name]:
            if fault.of in first:
                self.faults[name].remove(fault)
                return fault
        return Fault()

    def ask(self, name, way, n):
        with self.lock:
            return self.fault and self.fault(name.rsplit("/", 1)[1], way, n)

    def service(self, details):
        name = details.method.rsplit(".", 1)[-1]
        with self.lock:
            self.counts[name] += 1
            self.calls[name.rsplit("/", 1)[1]] += 1

        def run(requests, context):
            first = next(requests)
            self.patience[name].append(context.time_remaining())
            fault = self.ordered(name, first)
            if fault.answer is not None:
                yield fault.answer
            elif fault.code and fault.requests_passed is None and fault.answers_passed is None:
                context.abort(fault.code, "as ordered")
            else:
                yield from self.pass_on(details, name, fault, itertools.chain([first], requests),
                                        context)
        return grpc.stream_stream_rpc_method_handler(run)

    def pass_on(self, details, name, fault, requests, context):
        verdicts = []

        def is_cut(way, n):
            verdict = fault.at(way, n) or self.ask(name, way, n)
            if verdict:
                verdicts.append(verdict)
                call.cancel()
            return verdict

        def some():
            for n, request in enumerate(requests):
                if is_cut("request", n):
                    return
                yield request
        metadata = [(k, v) for k, v in details.invocation_metadata
                    if not k.startswith(("grpc-", "user-agent"))]
        call = self.channel.stream_stream(details.method)(some(), metadata=metadata)
        context.add_callback(call.cancel)
        n_answers = 0
        try:
            for answer in call:
                if is_cut("answer", n_answers):
                    break
                n_answers += 1
                yield fault.edit(answer) if fault.edit else answer
        except grpc.RpcError as error:
            if not verdicts:
                context.set_trailing_metadata(error.trailing_metadata() or ())
                context.abort(error.code(), error.details())
        verdict = verdicts[0] if verdicts else self.ask(name, "answer", n_answers)
        if verdict:
            code, text, trailers = verdict if isinstance(verdict, tuple) else (
                verdict, "cut as ordered", ())
            context.set_trailing_metadata(trailers)
            context.abort(code, text)
        context.set_trailing_metadata(call.trailing_metadata() or ())


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
