"""Logs that are read while the command runs: names once there is something, all bytes, an end with
the operation, nothing twice, and no call for commands that are over soon or say nothing."""
import os
import pathlib
import re
import signal
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "attack"))
import grpc  # noqa: E402

import system  # noqa: E402
from attack import Peer, data, field, number, shell, digest_of  # noqa: E402
from system import SystemTest, counts, sandboxes_with, wait_until  # noqa: E402

REAPI = "/build.bazel.remote.execution.v2."
READ = "/google.bytestream.ByteStream/Read"


def go_on(marker):
    """Ends the `sleep MARKER` that a command waits for."""
    wait_until(lambda: sleeps(marker), "the command's sleep")
    for pid in sleeps(marker):
        os.kill(pid, signal.SIGKILL)


def sleeps(marker):
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == f"sleep\0{marker}\0".encode():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def read_until(pipe, wanted):
    """What comes until that came."""
    got = b""
    while wanted not in got:
        piece = os.read(pipe.fileno(), 4096)
        if not piece:
            raise system.Failed(f"{got!r} ended without {wanted!r}")
        got += piece
    return got


class Execution:
    """An Execute whose messages are kept as they come."""

    def __init__(self, peer, script, extra=b""):
        action = data(1, peer.put(shell(script))) + data(2, digest_of(b"")) + extra
        peer.put(b"")
        self.messages = []
        self.call = peer.server_stream(REAPI + "Execution/Execute",
                                       data(6, peer.put(action)) + number(3, 1), timeout=300)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        try:
            for message in self.call:
                self.messages.append(message)
        except grpc.RpcError:
            pass

    def names(self, message=None):
        """(stdout, stderr) that the last message names; None: it does not."""
        message = message or (self.messages[-1] if self.messages else b"")
        metadata = field(field(message, 2, b""), 2, b"")
        return tuple((field(metadata, n) or b"").decode() or None for n in (3, 4))

    def name(self):
        return field(self.messages[0], 1).decode()

    def result(self):
        self.thread.join(60)
        return field(field(field(self.messages[-1], 5), 2), 1)


class Reader:
    def __init__(self, peer, name, offset=0):
        self.parts, self.status = [], None
        self.call = peer.server_stream(READ, data(1, name) + number(2, offset), timeout=300)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        try:
            for message in self.call:
                self.parts.append(field(message, 10, b""))
            self.status = "OK"
        except grpc.RpcError as error:
            self.status = error.code().name

    @property
    def got(self):
        return b"".join(self.parts)

    def all(self):
        self.thread.join(60)
        return self.status, self.got


class LogsTest(SystemTest):
    worker_args = ("--slots", "2")

    def setUp(self):
        self.peer = Peer(self.system.address)
        self.addCleanup(self.peer.close)

    def marker(self, n):
        return f"48{os.getpid()}{n}"

    def test_read_while_it_runs_and_later(self):
        marker = self.marker(1)
        run = Execution(self.peer, f"echo one; sleep {marker}; echo two; echo err >&2; "
                                   f"sleep {marker}; echo three")
        wait_until(lambda: run.names()[0], "the name of stdout")
        self.assertTrue(run.names()[1], "nothing is on stderr yet, but who reads one reads both")
        reader = Reader(self.peer, run.names()[0])
        wait_until(lambda: reader.got == b"one\n", "what it said first")
        go_on(marker)
        stdout, stderr = run.names()
        wait_until(lambda: reader.got == b"one\ntwo\n", "what it said then")
        other = Reader(self.peer, stderr)
        wait_until(lambda: other.got.endswith(b"err\n"), "stderr")
        go_on(marker)
        self.assertEqual(reader.all(), ("OK", b"one\ntwo\nthree\n"))
        self.assertIn(b"err\n", other.all()[1])
        self.assertEqual(field(run.result(), 7), other.got)
        self.assertEqual(field(run.result(), 5), b"one\ntwo\nthree\n")
        self.assertEqual(run.names(), (stdout, stderr), "they stay with the operation")
        self.assertEqual(Reader(self.peer, stdout).all(), ("OK", b"one\ntwo\nthree\n"))
        self.assertEqual(Reader(self.peer, stdout, 8).all(), ("OK", b"three\n"))

    def test_nothing_is_sent_for_what_is_over_soon_or_silent(self):
        worker = self.worker

        def is_free(script):
            before = counts(worker).get("/google.bytestream.ByteStream/Write", 0)
            run = Execution(self.peer, script)
            run.result()
            named = any(run.names(message) != (None, None) for message in run.messages)
            after = counts(worker).get("/google.bytestream.ByteStream/Write", 0)
            return not named and after == before
        self.assertTrue(is_free("sleep 0.6"))
        # on a machine that has no time, what is over at once may take longer than that
        self.assertTrue(any(is_free(f"echo soon {n}; echo over >&2") for n in range(5)))

    def test_a_cancelled_run_ends_its_readers(self):
        marker = self.marker(2)
        run = Execution(self.peer, f"echo one; sleep {marker}")
        wait_until(lambda: run.names()[0], "the name")
        reader = Reader(self.peer, run.names()[0])
        wait_until(lambda: reader.got, "its start")
        self.peer.call("/google.longrunning.Operations/CancelOperation", data(1, run.name()))
        self.assertEqual(reader.all(), ("OK", b"one\n"))
        run.thread.join(60)
        wait_until(lambda: not sandboxes_with(marker), "the end of the command")

    def test_joined_runs_have_the_same_logs(self):
        marker = self.marker(3)
        first = Execution(self.peer, f"echo one; sleep {marker}")
        wait_until(lambda: first.names()[0], "the name")
        second = Execution(self.peer, f"echo one; sleep {marker}")
        wait_until(lambda: second.names()[0] == first.names()[0], "the same")
        go_on(marker)
        first.result(), second.result()
        self.assertEqual(len(sleeps(marker)), 0)

    def test_a_lost_worker_ends_its_logs_and_the_next_has_others(self):
        lost = self.system.start_worker("--slots", "1", "--platform", "pool=lost", name="lost")
        marker = self.marker(4)
        properties = data(10, data(1, data(1, "pool") + data(2, "lost")))
        run = Execution(self.peer, f"echo one; sleep {marker}", properties)
        wait_until(lambda: run.names()[0], "the name")
        name = run.names()[0]
        reader = Reader(self.peer, name)
        wait_until(lambda: reader.got, "its start")
        lost.popen.kill()
        lost.popen.wait()
        self.assertEqual(reader.all(), ("OK", b"one\n"))
        wait_until(lambda: run.names() == (None, None), "no name without a worker")
        self.system.start_worker("--slots", "1", "--platform", "pool=lost", name="lost")
        wait_until(lambda: run.names()[0] not in (None, name), "another name")
        go_on(marker)
        self.assertEqual(field(run.result(), 5), b"one\n")

    def test_more_than_a_log_holds(self):
        """The result has all of it; the log ends early."""
        run = Execution(self.peer, "yes | head -c 70000000; sleep 0.5; echo end")
        wait_until(lambda: run.names()[0], "the name")
        status, got = Reader(self.peer, run.names()[0]).all()
        self.assertEqual(status, "OK")
        self.assertLessEqual(len(got), 64 << 20)
        self.assertEqual(field(field(run.result(), 6), 2), 70000004)

    def started(self, run):
        """Ended with the test, however that ends."""
        def end():
            run.kill()
            run.communicate()
        self.addCleanup(end)
        return run

    def client(self, marker, *args, script=None):
        return self.started(self.system.popen("run", "--stream-logs", "--no-cache", *args, "--env",
                                 "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                                 script or f"echo one; echo err >&2; sleep {marker}; echo two"))

    def test_the_client_shows_it_once(self):
        marker = self.marker(5)
        run = self.client(marker)
        self.assertEqual(read_until(run.stdout, b"one\n"), b"one\n")
        self.assertTrue(sleeps(marker), "it still runs")
        read_until(run.stderr, b"err\n")
        go_on(marker)
        out, err = run.communicate(timeout=60)
        self.assertEqual((run.returncode, out), (0, b"two\n"))
        self.assertNotIn(b"err\n", err)

    def test_the_client_shows_it_to_its_end_where_the_log_is_not(self):
        run = self.client(0, script="yes | head -c 66000000; sleep 0.5; echo end")
        out, err = run.communicate(timeout=120)
        self.assertEqual(run.returncode, 0, err)
        self.assertEqual(len(out), 66000004)
        self.assertEqual(out[-6:], b"y\nend\n"[-6:])

    def test_the_client_goes_on_after_a_lost_server(self):
        marker = self.marker(6)
        run = self.client(marker)
        self.assertEqual(read_until(run.stdout, b"one\n"), b"one\n")
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        self.system.start_server()
        def has_ended():  # whether it is this run of the command that counts, or another
            for pid in sleeps(marker):
                os.kill(pid, signal.SIGKILL)
            return run.poll() is not None
        wait_until(has_ended, "the end")
        out, err = run.communicate(timeout=120)
        self.assertEqual(run.returncode, 0, err)
        self.assertTrue(out.endswith(b"two\n"), out)

    def test_waiting_again_shows_all(self):
        marker = self.marker(7)
        detached = self.system.lazyroot(
            "run", "--detach", "--no-cache", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
            f"echo one; sleep {marker}; echo two")
        wait = self.started(self.system.popen("wait", "--stream-logs", "--no-download",
                                              detached.text.strip()))
        self.assertEqual(read_until(wait.stdout, b"one\n"), b"one\n")
        go_on(marker)
        out, err = wait.communicate(timeout=60)
        self.assertEqual((wait.returncode, out), (0, b"two\n"), err)

    def test_json_has_one_document_on_stdout(self):
        marker = self.marker(8)
        run = self.client(marker, "--json", "--report", "-")
        read_until(run.stderr, b"one\n")
        go_on(marker)
        out, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, err)
        self.assertTrue(out.startswith(b"{"), out)
        self.assertTrue(re.search(rb"(?m)^two$", err), err)


if __name__ == "__main__":
    system.main()
