"""Log streams by services and schedulers that lie: a stream that says something else than the
result, never ends, never answers or is none; names that are too long. The result is what counts,
and comes."""
import threading
import time
import unittest

from attack import REAPI, Hostile, Peer, data, digest_of, field, number, shell
from system import System, main, need_root

TYPES = "type.googleapis.com/build.bazel.remote.execution.v2."
BYTES = "/google.bytestream.ByteStream/"
BOTS = "/google.devtools.remoteworkers.v1test2.Bots/"


def metadata(stage, stdout="", stderr=""):
    return data(2, data(1, TYPES + "ExecuteOperationMetadata") + data(2, (
        number(1, stage) + (data(3, stdout) if stdout else b"")
        + (data(4, stderr) if stderr else b""))))


def done(stdout, stderr=b""):
    result = data(5, stdout) + data(7, stderr)
    return (data(1, "op") + metadata(4) + number(3, 1)
            + data(5, data(1, TYPES + "ExecuteResponse") + data(2, data(1, result))))


class ClientTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.system = System()
        self.addCleanup(self.system.close)

    def run_against(self, read, stdout, names=("logs/out", ""), stderr=b""):
        """The client's run at a service that runs nothing."""
        began = threading.Event()

        def execute(_request, context):
            yield data(1, "op") + metadata(3, *names)
            began.wait(5)
            yield done(stdout, stderr)

        def reading(request, context):
            began.set()
            yield from read(request, context)
        service = Hostile({
            REAPI + "Capabilities/GetCapabilities": lambda *_: b"",
            REAPI + "ContentAddressableStorage/FindMissingBlobs": lambda *_: b"",
            REAPI + "Execution/Execute": execute,
            BYTES + "Read": reading})
        self.addCleanup(service.close)
        self.service = service
        return self.system.lazyroot("run", "--stream-logs", "--", "/bin/true",
                                    address=service.address, timeout=60)

    def test_the_rest_of_it(self):
        def read(_request, _context):
            yield data(10, b"one\ntw")
        run = self.run_against(read, b"one\ntwo\n")
        self.assertEqual((run.code, run.text), (0, "one\ntwo\n"), run.err)

    def test_another_text_than_the_result(self):
        def read(_request, _context):
            yield data(10, b"lies\n")
        run = self.run_against(read, b"the truth\n")
        self.assertEqual((run.code, run.text), (0, "lies\nthe truth\n"), run.err)
        self.assertIn("is not what its result has", run.err)

    def test_more_than_the_result(self):
        def read(_request, _context):
            yield data(10, b"true\nand more")
        run = self.run_against(read, b"true\n")
        self.assertEqual((run.code, run.text), (0, "true\nand moretrue\n"), run.err)

    def test_a_stream_without_an_end(self):
        def read(_request, context):
            yield data(10, b"one\n")
            while context.is_active():
                time.sleep(0.05)
        run = self.run_against(read, b"one\ntwo\n")
        self.assertEqual((run.code, run.text), (0, "one\ntwo\n"), run.err)

    def test_a_stream_that_says_nothing_or_none_of_its_kind(self):
        def silent(_request, context):
            while context.is_active():
                time.sleep(0.05)
            yield b""

        def odd(_request, _context):
            yield b"\x07\x07\x07"
            yield number(10, 5)
            yield b""
        for read in (silent, odd):
            with self.subTest(read=read.__name__):
                run = self.run_against(read, b"one\n", names=("x" * 5000, "\n\x1b[2J"),
                                       stderr=b"err\n")
                self.assertEqual((run.code, run.text), (0, "one\n"), run.err)
                self.assertIn("err\n", run.err)
                self.assertNotIn("\x1b", run.err)

    def test_nothing_is_read_unless_it_is_wished(self):
        def read(_request, _context):
            yield data(10, b"one\n")
        self.assertEqual(self.run_against(read, b"one\n").text, "one\n")
        self.assertEqual(self.service.calls["Read"], 1)
        run = self.system.lazyroot("run", "--", "/bin/true", address=self.service.address,
                                   timeout=60)
        self.assertEqual((run.code, run.text), (0, "one\n"), run.err)
        self.assertEqual(self.service.calls["Read"], 1, "stdout is no terminal")


class WorkerTest(unittest.TestCase):
    """The scheduler names streams that nobody serves: our server stores, another schedules."""

    def setUp(self):
        need_root()
        self.system = System()
        self.addCleanup(self.system.close)

    def scheduler(self, names, write):
        peer = Peer(self.system.address)
        self.addCleanup(peer.close)
        peer.put(b"")
        action = data(1, peer.put(shell("echo one; sleep 0.5; echo two"))) + data(2, digest_of(b""))
        action_digest = peer.put(action)
        self.result = None
        self.ended = threading.Event()
        lease = data(7, "lease") + data(8, data(1, TYPES + "Action") + data(2, action))

        def create(request, _context):
            return field(request, 2) + data(1, "session")

        def update(request, context):
            session = field(request, 2)
            claim = field(session, 5)
            state = field(claim, 2, 0) if claim else 0
            if state == 4:
                self.result = field(field(claim, 9), 2)
                self.ended.set()
            context.set_trailing_metadata((("executeoperationmetadata-bin", (
                number(1, 3) + data(2, action_digest) + data(3, names[0]) + data(4, names[1]))),))
            if self.ended.is_set():
                time.sleep(0.2)
                return data(1, "session")
            if state == 2:
                time.sleep(0.2)
            return data(1, "session") + data(5, lease + number(2, 2 if state == 2 else 1))
        service = Hostile({BOTS + "CreateBotSession": create, BOTS + "UpdateBotSession": update,
                           BYTES + "Write": write, BYTES + "QueryWriteStatus": write})
        self.addCleanup(service.close)
        return service

    def outcome(self, names, write):
        service = self.scheduler(names, write)
        worker = self.system.start_worker("--slots", "1", "--cas", self.system.address,
                                          server=service.address, wait=False)
        self.assertTrue(self.ended.wait(60), worker.err()[-2000:])
        worker.stop()
        self.assertEqual(field(self.result, 5), b"one\ntwo\n")
        return service

    def test_streams_that_never_answer(self):
        def write(request, context):
            while context.is_active():
                time.sleep(0.05)
            return b""
        service = self.outcome(("logs/out", "logs/err"), write)
        self.assertGreater(service.calls["Write"], 0)

    def test_no_streams_at_all(self):
        self.outcome(("logs/out", "logs/err"), None)

    def test_names_that_are_too_long_or_strange(self):
        def write(request, context):
            return b""
        service = self.outcome(("x" * 3000, "logs/err"), write)
        self.assertEqual(service.calls["Write"], 0)
        self.outcome(("\x1b[2J\n/../..", ""), write)


if __name__ == "__main__":
    main()
