"""Log streams: readers get all of it, as it comes and afterwards, and end with it; and writers
that break off, lie about where they are, write too much, or are a thousand."""
import queue
import threading
import unittest

import grpc

from attack import Peer, data, field, is_sanitized, number, peak_rss
from system import System, need_root, wait_until

CREATE = "/build.bazel.remote.logstream.v1.LogStreamService/CreateLogStream"
BYTES = "/google.bytestream.ByteStream/"
SIZE_MAX = 64 << 20  # of one: LOGSTREAMS_SIZE_MAX


class Writer:
    """A Write that goes on until it is ended or broken off."""

    def __init__(self, peer, name):
        self.name, self.at = name, 0
        self.messages = queue.Queue()
        self.call = peer.channel.stream_unary(BYTES + "Write").future(
            iter(self.messages.get, None), timeout=300)

    def write(self, content, is_last=False, at=None):
        at = self.at if at is None else at
        self.messages.put(data(1, self.name) + number(2, at) + number(3, int(is_last))
                          + data(10, content))
        self.at = at + len(content)
        return self

    def end(self):
        """(status, committed size) once no message is left."""
        self.messages.put(None)
        try:
            return "OK", field(self.call.result(120), 1, 0)
        except grpc.RpcError as error:
            return error.code().name, None

    def break_off(self):
        self.call.cancel()


class LogsCase(unittest.TestCase):
    args = ("--instance", "", "--instance", "some/where")

    def setUp(self):
        need_root()
        self.system = System(self.args)
        self.peer = Peer(self.system.address)

    def tearDown(self):
        self.peer.close()
        if self.system.server.popen.poll() is not None:
            self.assertEqual(self.system.server.popen.returncode, 0)
        self.system.close()

    def create(self, parent="", peer=None):
        """(name, name to write)"""
        reply = (peer or self.peer).call(CREATE, data(1, parent))
        return field(reply, 1).decode(), field(reply, 2).decode()

    def reading(self, name, offset=0, limit=0, peer=None):
        return (peer or self.peer).server_stream(
            BYTES + "Read", data(1, name) + number(2, offset % (1 << 64)) + number(3, limit),
            timeout=300)

    def read(self, name, offset=0, limit=0):
        """All of it; or the status."""
        try:
            return b"".join(field(m, 10, b"") for m in self.reading(name, offset, limit))
        except grpc.RpcError as error:
            return error.code().name

    def query(self, name):
        """(committed size, whether it has ended), or the status."""
        try:
            reply = self.peer.call(BYTES + "QueryWriteStatus", data(1, name))
            return field(reply, 1, 0), bool(field(reply, 2, 0))
        except grpc.RpcError as error:
            return error.code().name

    def wait_size(self, name, size):
        wait_until(lambda: self.query(name)[0] == size, f"{size} bytes of a log")


class LogsTest(LogsCase):
    def test_58_readers_get_it_as_it_comes_and_end_with_it(self):
        name, to_write = self.create()
        early = self.reading(name)
        writer = Writer(self.peer, to_write).write(b"one ")
        self.assertEqual(field(next(early), 10), b"one ")
        late = self.reading(name)
        self.assertEqual(field(next(late), 10), b"one ")
        writer.write(b"two ")
        self.assertEqual(field(next(early), 10), b"two ")
        self.assertEqual(field(next(late), 10), b"two ")
        writer.write(b"three", is_last=True)
        self.assertEqual(writer.end(), ("OK", 13))
        for reader in (early, late):
            self.assertEqual([field(m, 10) for m in reader], [b"three"])

    def test_58_late_readers_get_all_from_where_they_like(self):
        name, to_write = self.create()
        content = bytes(range(256)) * 4096  # a megabyte, so several pieces
        self.assertEqual(Writer(self.peer, to_write).write(content).write(b"", True).end(),
                         ("OK", len(content)))
        self.assertEqual(self.read(name), content)
        self.assertEqual(self.read(name, 1000), content[1000:])
        self.assertEqual(self.read(name, 1000, 70_000), content[1000:71_000])
        self.assertEqual(self.read(name, len(content)), b"")
        self.assertEqual(self.read(name, len(content) + 1), "OUT_OF_RANGE")
        self.assertEqual(self.read(name, -1), "OUT_OF_RANGE")

    def test_limit_ends_a_reader_before_the_stream_ends(self):
        name, to_write = self.create()
        writer = Writer(self.peer, to_write).write(b"0123456789")
        self.wait_size(to_write, 10)
        self.assertEqual(self.read(name, 2, 5), b"23456")
        writer.write(b"", True).end()

    def test_empty_log_ends_its_readers(self):
        name, to_write = self.create()
        reader = self.reading(name)
        self.assertEqual(Writer(self.peer, to_write).write(b"", True).end(), ("OK", 0))
        self.assertEqual(list(reader), [])
        self.assertEqual(self.query(to_write), (0, True))

    def test_58_the_name_to_read_does_not_write_and_the_other_does_not_read(self):
        name, to_write = self.create()
        self.assertTrue(to_write.startswith(name + "/"))
        self.assertEqual(Writer(self.peer, name).write(b"x").end()[0], "INVALID_ARGUMENT")
        self.assertEqual(self.query(name), "INVALID_ARGUMENT")
        self.assertEqual(self.read(to_write), "INVALID_ARGUMENT")
        for wrong in (name + "/" + "0" * 32, "some/where/" + to_write,
                      "logstreams/" + "0" * 32 + to_write[-33:]):
            self.assertEqual(Writer(self.peer, wrong).write(b"x").end()[0], "NOT_FOUND")
            self.assertEqual(self.query(wrong), "NOT_FOUND")
        self.assertEqual(self.read("logstreams/" + "0" * 32), "NOT_FOUND")
        self.assertEqual(self.query(to_write), (0, False))

    def test_names_that_only_look_alike_are_blobs_names(self):
        for name in ("logstreams/", "logstreams/x", "logstreams/" + "0" * 33,
                     "logstreams/" + "0" * 32 + "/", "logstreams/" + "0" * 32 + "/1",
                     "xlogstreams/" + "0" * 32, "logstreams/" + "G" * 32):
            self.assertEqual(self.read(name), "INVALID_ARGUMENT")

    def test_instances_are_told_apart(self):
        name, to_write = self.create("some/where")
        self.assertTrue(name.startswith("some/where/logstreams/"))
        Writer(self.peer, to_write).write(b"x", True).end()
        self.assertEqual(self.read(name), b"x")
        self.assertEqual(self.read(name[len("some/where/"):]), "NOT_FOUND")
        self.assertEqual(self.read("no" + name), "INVALID_ARGUMENT")
        self.assertEqual(self.peer.status(CREATE, data(1, "no")), "INVALID_ARGUMENT")

    def test_it_is_only_added_to(self):
        name, to_write = self.create()
        self.assertEqual(Writer(self.peer, to_write).write(b"abc").end(), ("OK", 3))
        for at in (0, 2, 4, 1 << 40):
            self.assertEqual(Writer(self.peer, to_write).write(b"X", at=at).end()[0],
                             "INVALID_ARGUMENT")
        self.assertEqual(Writer(self.peer, to_write).write(b"def", True, at=3).end(), ("OK", 6))
        self.assertEqual(Writer(self.peer, to_write).write(b"ghi", at=6).end()[0],
                         "INVALID_ARGUMENT")
        # its end may be told again
        self.assertEqual(Writer(self.peer, to_write).write(b"", True, at=6).end(), ("OK", 6))
        self.assertEqual(self.read(name), b"abcdef")

    def test_a_writer_that_broke_off_goes_on(self):
        name, to_write = self.create()
        reader = self.reading(name)
        writer = Writer(self.peer, to_write).write(b"half ")
        self.assertEqual(field(next(reader), 10), b"half ")
        self.assertEqual(Writer(self.peer, to_write).write(b"x", at=5).end()[0], "ABORTED")
        writer.break_off()

        def goes_on():
            status, size = Writer(self.peer, to_write).write(b"whole", True, at=5).end()
            return size if status == "OK" else None
        self.assertEqual(wait_until(goes_on, "the end of the first writer's call"), 10)
        self.assertEqual(field(next(reader), 10), b"whole")
        self.assertEqual(list(reader), [])
        self.assertEqual(self.query(to_write), (10, True))

    def test_too_long_a_log_ends(self):
        name, to_write = self.create()
        reader = self.reading(name)
        got = []
        thread = threading.Thread(target=lambda: got.extend(len(field(m, 10)) for m in reader))
        thread.start()
        writer = Writer(self.peer, to_write)
        for _ in range(SIZE_MAX >> 20):
            writer.write(bytes(1 << 20))
        self.assertEqual(writer.write(b"x").end()[0], "RESOURCE_EXHAUSTED")
        thread.join(120)
        self.assertEqual(sum(got), SIZE_MAX)
        self.assertEqual(self.query(to_write), (SIZE_MAX, True))
        self.assertEqual(Writer(self.peer, self.create()[1]).write(b"x").end(), ("OK", 1))

    def test_nothing_is_left_after_a_restart(self):
        name, to_write = self.create()
        Writer(self.peer, to_write).write(b"x").end()
        self.peer.close()
        self.system.server.stop()
        self.system.start_server()
        self.peer = Peer(self.system.address)
        self.assertEqual(self.read(name), "NOT_FOUND")
        self.assertEqual(self.query(to_write), "NOT_FOUND")

    def test_readers_end_when_the_server_does(self):
        readers = [self.reading(self.create()[0]) for _ in range(50)]
        writer = Writer(self.peer, self.create()[1]).write(b"x")
        self.wait_size(writer.name, 1)
        self.assertEqual(self.system.server.stop(), 0)
        for reader in readers:
            with self.assertRaises(grpc.RpcError) as caught:
                list(reader)
            self.assertIn(caught.exception.code(),
                          (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED))

    def test_a_thousand_logs_at_once(self):
        peers = [Peer(self.system.address) for _ in range(4)]
        names = [self.create(peer=peers[i % 4]) for i in range(1000)]
        readers = [self.reading(name, peer=peers[i % 4]) for i, (name, _) in enumerate(names)]
        writers = [Writer(peers[(i + 1) % 4], to_write).write(b"log %d " % i)
                   for i, (_, to_write) in enumerate(names)]
        for i, writer in enumerate(writers):
            if i % 3 == 0:
                writer.break_off()  # half-written: its reader waits on
            else:
                writer.write(b"x" * 5000, True)
        for i, (writer, reader) in enumerate(zip(writers, readers)):
            if i % 3:
                self.assertEqual(writer.end()[0], "OK")
                self.assertEqual(b"".join(field(m, 10) for m in reader),
                                 b"log %d " % i + b"x" * 5000)
        # others are served meanwhile
        name, to_write = self.create()
        Writer(self.peer, to_write).write(b"other", True).end()
        self.assertEqual(self.read(name), b"other")
        if not is_sanitized():
            self.assertLess(peak_rss(self.system.server.pid), 500 << 20)
        for reader in readers[::3]:
            reader.cancel()
        for peer in peers:
            peer.close()

    def test_too_many_logs_are_refused_and_ended_ones_make_room(self):
        names = [self.create()]
        status = "OK"
        while status == "OK" and len(names) < 5000:
            try:
                names.append(self.create())
            except grpc.RpcError as error:
                status = error.code().name
        self.assertEqual(status, "RESOURCE_EXHAUSTED")
        self.assertLessEqual(len(names), 4096)
        Writer(self.peer, names[0][1]).write(b"x", True).end()
        self.create()
        self.assertEqual(self.read(names[0][0]), "NOT_FOUND")
        self.assertEqual(self.peer.status(CREATE, b""), "RESOURCE_EXHAUSTED")

    def test_readers_that_read_nothing(self):
        name, to_write = self.create()
        peers = [Peer(self.system.address) for _ in range(4)]
        readers = [self.reading(name, peer=peers[i % 4]) for i in range(800)]
        writer = Writer(self.peer, to_write)
        for _ in range(8):
            writer.write(bytes(1 << 20))
        self.assertEqual(writer.write(b"", True).end(), ("OK", 8 << 20))
        self.assertEqual(len(self.read(name)), 8 << 20)
        if not is_sanitized():
            self.assertLess(peak_rss(self.system.server.pid), 500 << 20)
        for reader in readers:
            reader.cancel()
        for peer in peers:
            peer.close()


class SmallLogsTest(LogsCase):
    args = ("--data-size", "40M")  # so all logs have some two megabytes

    def test_all_logs_have_a_share_of_the_disk_and_ended_ones_make_room(self):
        old, live = self.create(), self.create()
        self.assertEqual(Writer(self.peer, old[1]).write(bytes(1 << 20), True).end(),
                         ("OK", 1 << 20))
        self.assertEqual(Writer(self.peer, live[1]).write(bytes(1 << 20)).end(),
                         ("OK", 1 << 20))
        new = self.create()
        writer = Writer(self.peer, new[1]).write(bytes(1 << 20))
        self.wait_size(new[1], 1 << 20)
        self.assertEqual(self.read(old[0]), "NOT_FOUND")
        # the others have not ended, so it is this one that does
        self.assertEqual(writer.write(bytes(1 << 20)).end()[0], "RESOURCE_EXHAUSTED")
        self.assertEqual(self.query(new[1]), (1 << 20, True))
        self.assertEqual(self.query(live[1]), (1 << 20, False))


class LogRightsTest(LogsCase):
    args = ("--grant", "local=cas-read,cas-write,execute")

    def test_only_workers_make_them(self):
        status, text = self.peer.refusal(CREATE, b"")
        self.assertEqual(status, "PERMISSION_DENIED")
        self.assertIn("worker", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
