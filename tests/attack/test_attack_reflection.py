"""Server reflection: a tool that knows nothing can list and describe all that is served, and
questions that are large, malformed or never read hurt nobody."""
import queue
import unittest

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool

from attack import Peer, data, field, fields, is_sanitized, number, peak_rss
from system import System, need_root
from test_attack_health import FETCH, SERVICES

VERSIONS = ("v1", "v1alpha")
LIST, FILE, SYMBOL, EXTENSION, NUMBERS = 7, 3, 4, 5, 6


class Asking:
    """One stream: a question, its answer."""

    def __init__(self, peer, version):
        self.questions = queue.Queue()
        self.answers = peer.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")(
                iter(self.questions.get, None), timeout=60)

    def ask(self, what, value):
        question = data(what, value)
        self.questions.put(question)
        answer = next(self.answers)
        assert field(answer, 2) == question
        return answer

    def services(self):
        return sorted(field(v, 1).decode() for n, v in fields(field(self.ask(LIST, ""), 6)) if n == 1)

    def file(self, what, value):
        """The FileDescriptorProto that answers."""
        files = [v for n, v in fields(field(self.ask(what, value), 4)) if n == 1]
        return descriptor_pb2.FileDescriptorProto.FromString(files[0])

    def error(self, what, value):
        return field(field(self.ask(what, value), 7), 1)

    def end(self):
        """The status of the stream, once no question is left."""
        self.questions.put(None)
        for _ in self.answers:
            pass
        return self.answers.code()


def describe(asking, service):
    """The service as a tool comes to know it: its file, and what that needs, file by file."""
    pool, todo = {}, [asking.file(SYMBOL, service)]
    while todo:
        file = todo.pop()
        pool[file.name] = file
        todo += [asking.file(FILE, name) for name in file.dependency if name not in pool]
    made = descriptor_pool.DescriptorPool()

    def add(name):
        if name in pool:
            file = pool.pop(name)
            for dependency in file.dependency:
                add(dependency)
            made.Add(file)
    for name in list(pool):
        add(name)
    return made.FindServiceByName(service)


class ReflectionTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.system = None

    def tearDown(self):
        self.assertIsNone(self.system.server.popen.poll(), self.system.server.err()[-2000:])
        self.system.close()

    def open(self, *args):
        self.system = System(args)
        return Peer(self.system.address)

    def test_all_that_is_served_is_listed_and_described(self):
        with self.open() as peer:
            for version in VERSIONS:
                asking = Asking(peer, version)
                self.assertEqual(asking.services(), sorted(SERVICES))
                for service in SERVICES:
                    with self.subTest(service=service):
                        found = describe(asking, service)
                        self.assertGreater(len(found.methods), 0)
                self.assertEqual(asking.end(), grpc.StatusCode.OK)

    def test_symbols_of_every_kind_are_found(self):
        reapi = "build.bazel.remote.execution.v2."
        with self.open() as peer:
            asking = Asking(peer, "v1")
            for symbol in ("Execution", "Execution.Execute", "Action", "Action.command_digest",
                           "ExecutionStage.Value", "ExecutionStage.Value.QUEUED",
                           "BatchReadBlobsResponse.Response.digest"):
                self.assertEqual(asking.file(SYMBOL, reapi + symbol).package + ".", reapi)
            self.assertEqual(asking.file(SYMBOL, "google.longrunning.Operation.result").name,
                             "google/longrunning/operations.proto")
            for symbol in ("", "build", reapi[:-1], reapi, reapi + "Actio", reapi + "Action.x",
                           reapi + "Execution.Execute.x", "x" * 4000):
                self.assertEqual(asking.error(SYMBOL, symbol), 5, symbol)
            for name in ("", "x.proto", "protobuf-c/protobuf-c.proto"):
                self.assertEqual(asking.error(FILE, name), 5)
            self.assertEqual(asking.error(NUMBERS, reapi + "Action"), 12)
            self.assertEqual(asking.error(EXTENSION, data(1, reapi + "Action")), 12)
            self.assertEqual(asking.end(), grpc.StatusCode.OK)

    def test_service_that_is_turned_off_is_not_listed(self):
        with self.open("--no-assets") as peer:
            self.assertNotIn(FETCH, Asking(peer, "v1").services())

    def test_it_takes_a_right(self):
        with self.open("--grant", "cn:somebody=all") as peer:
            with self.assertRaises(grpc.RpcError) as caught:
                Asking(peer, "v1").services()
            self.assertEqual(caught.exception.code(), grpc.StatusCode.PERMISSION_DENIED)

    def test_bad_questions_end_their_stream(self):
        with self.open() as peer:
            for question in (b"\xff", data(LIST, "x" * 9000), data(SYMBOL, "x" * (15 << 20))):
                asking = Asking(peer, "v1")
                asking.questions.put(question)
                with self.assertRaises(grpc.RpcError) as caught:
                    next(asking.answers)
                self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
            asking = Asking(peer, "v1")
            self.assertEqual(asking.error(9, "x"), 12)  # no question that we know
            asking.questions.put(number(LIST, 1))
            self.assertEqual(field(field(next(asking.answers), 7), 1), 12)

    def test_answers_that_nobody_reads_are_not_piled_up(self):
        with self.open() as peer:
            question = data(SYMBOL, "build.bazel.remote.execution.v2.Execution")
            calls = []
            for version in VERSIONS:
                for _ in range(50):
                    calls.append(peer.channel.stream_stream(
                        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")(
                            iter([question] * 1000), timeout=60))
            with Peer(self.system.address) as other:
                for _ in range(10):
                    self.assertEqual(Asking(other, "v1").services(), sorted(SERVICES))
            if not is_sanitized():
                self.assertLess(peak_rss(self.system.server.pid), 500 << 20)
            for call in calls:
                call.cancel()


if __name__ == "__main__":
    unittest.main(verbosity=2)
