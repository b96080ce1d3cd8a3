"""The server is killed, and what it had to do goes on: jobs that run, jobs that wait, operations that
are over. What the file is asked for here, it is asked for by the server's own records."""
import pathlib
import random
import signal
import sqlite3
import subprocess
import time
import unittest

import system
from attack import REAPI, Peer, data, digest, digest_of, field, fields, number, status_of
from system import System, need_root, wait_until

OPERATIONS = "/google.longrunning.Operations/"
SESSION, JOB, OPERATION = 1, 2, 3
CANCELLED = 1  # google.rpc.Code


class Case(unittest.TestCase):
    server_args = ("--grant", "local=all")

    @classmethod
    def setUpClass(cls):
        need_root()

    def setUp(self):
        self.system = System(self.server_args)
        self.addCleanup(self.system.close)

    # ---- the server and its file

    @property
    def file(self):
        return self.system.dir / "data/operations.sqlite"

    def heads(self, kind):
        """None are kept by a file that is just being made."""
        with sqlite3.connect(f"file:{self.file}?mode=ro", uri=True) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name='records'").fetchone():
                return []
            return [row[0] for row in db.execute("SELECT head FROM records WHERE kind=?", (kind,))]

    def is_kept(self, *names):
        """Whether these operations are in the file."""
        kept = {field(head, 1).decode() for head in self.heads(OPERATION)}
        return kept.issuperset(names)

    def n_running(self):
        return sum(field(head, 15, 0) for head in self.heads(JOB))

    def kill(self):
        self.system.server.popen.kill()
        self.system.server.popen.wait()

    def restart(self):
        self.kill()
        return self.system.start_server(listen=self.system.address)

    # ---- runs

    def detach(self, script, *args, env=None):
        """An operation's name."""
        run = self.system.lazyroot("run", "--detach", *args, "--env", "PATH=/usr/bin:/bin", "--",
                                   "/bin/sh", "-c", script, env=env)
        self.assertEqual(run.code, 0, run.err)
        return run.text.strip()

    def wait(self, name, out):
        run = self.system.lazyroot("wait", name)
        self.assertEqual((run.code, run.text), (0, out), run.err)

    def n_started(self, *workers):
        return sum(worker.err().count(" running") for worker in workers)

    def operation(self, name):
        """(done, its ExecuteResponse or None), as GetOperation tells."""
        with Peer(self.system.address) as peer:
            got = peer.call(OPERATIONS + "GetOperation", data(1, name))
        response = field(got, 5)
        return field(got, 3, 0), field(response, 2, b"") if response else None


class DurableTest(Case):
    def test_what_ran_waited_and_was_over_goes_on(self):
        worker = self.system.start_worker("--slots", "1")
        over = self.detach("echo over")
        self.wait(over, "over\n")
        ran = self.detach("sleep 4; date +%s%N; echo ran")
        wait_until(lambda: self.n_started(worker) == 2, "the command's start")
        waits = self.system.popen("run", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                                  "date +%s%N; echo waited")
        wait_until(lambda: len(self.heads(OPERATION)) == 3, "the second in the queue")
        last = self.detach("date +%s%N; echo last")
        wait_until(lambda: self.is_kept(over, ran, last) and self.n_running() == 1,
                   "all in the file")
        self.restart()
        done, response = self.operation(over)
        self.assertEqual((done, b"over\n" in response), (1, True))
        self.assertEqual(self.operation(last), (0, None))
        self.wait(over, "over\n")
        out, err = waits.communicate(timeout=system.PATIENCE)
        self.assertEqual(waits.returncode, 0, err)
        texts = [self.system.lazyroot("wait", ran).text, out.decode(),
                 self.system.lazyroot("wait", last).text]
        self.assertEqual([text.split()[1] for text in texts], ["ran", "waited", "last"])
        self.assertEqual(sorted(texts), texts, "their order")
        self.assertEqual(self.n_started(worker), 4, "one of them was run twice")
        self.assertIsNone(worker.popen.poll())

    def test_killed_three_times_in_a_row(self):
        worker = self.system.start_worker("--slots", "1")
        client = self.system.popen("run", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                                   "sleep 6; echo ran")
        wait_until(lambda: self.n_started(worker) == 1 and self.n_running() == 1, "the start")
        name = field(self.heads(OPERATION)[0], 1).decode()
        for _ in range(3):
            server = self.restart()
            wait_until(lambda: "1 run," in server.err(), "the word of what runs")
            self.assertEqual(self.operation(name), (0, None))
            time.sleep(0.5)
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out), (0, b"ran\n"), err)
        self.assertEqual(self.n_started(worker), 1)

    def test_killed_at_any_moment_every_run_ends_in_its_one_result(self):
        """Clients come, commands begin and end, while the server is killed now and then."""
        rng = random.Random(11)
        self.system.start_worker("--slots", "2")
        clients = []
        for i in range(24):
            clients.append(self.system.popen(
                "run", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                f"sleep 0.{rng.randint(1, 9)}; echo {i}; exit {i % 3}"))
            if i % 4 == 3:
                time.sleep(rng.random())
                self.restart()
        for i, client in enumerate(clients):
            out, err = client.communicate(timeout=system.PATIENCE)
            self.assertEqual((client.returncode, out), (i % 3, b"%d\n" % i), err)
        # one that two operations asked for stays as long as they: who hears no name asks again
        wait_until(lambda: all(field(head, 12) for head in self.heads(JOB)), "the end of all jobs")

    def test_a_result_that_was_ready_meanwhile_is_taken(self):
        worker = self.system.start_worker("--slots", "1")
        name = self.detach("sleep 1; exit 7")
        wait_until(lambda: self.n_running() == 1, "the start")
        wait_until(lambda: " running" in worker.err(), "the command, which needs no server")
        self.kill()
        wait_until(lambda: " ended" in worker.err(), "the command's end")
        self.system.start_server(listen=self.system.address)
        self.assertEqual(self.system.lazyroot("wait", name).code, 7)
        self.assertEqual(self.n_started(worker), 1)

    def test_outputs_wait_for_the_server(self):
        worker = self.system.start_worker("--slots", "1")
        name = self.detach("sleep 1; echo ran")
        wait_until(lambda: self.n_running() == 1, "the start")
        self.kill()
        wait_until(lambda: " uploading" in worker.err(), "the command's end")
        time.sleep(4)  # more than a call that is tried a few times
        self.system.start_server(listen=self.system.address)
        self.wait(name, "ran\n")
        self.assertEqual(self.n_started(worker), 1)

    def test_a_worker_that_died_too_runs_it_again(self):
        worker = self.system.start_worker("--slots", "1", name="one")
        name = self.detach("sleep 3; echo ran")
        wait_until(lambda: self.n_started(worker) == 1 and self.n_running() == 1, "the start")
        self.kill()
        worker.popen.kill()
        worker.popen.wait()
        self.system.start_server(listen=self.system.address)
        before = self.n_started(worker)
        again = self.system.start_worker("--slots", "1", name="one", cache=worker.cache)
        self.wait(name, "ran\n")
        self.assertEqual(self.n_started(again), before + 1)

    def test_an_end_in_good_order_keeps_all_too(self):
        worker = self.system.start_worker("--slots", "1")
        ran = self.detach("sleep 3; echo ran")
        last = self.detach("echo last")
        wait_until(lambda: self.n_started(worker) == 1, "the start")
        self.assertEqual(self.system.server.stop(), 0)
        self.system.start_server(listen=self.system.address)
        self.wait(ran, "ran\n")
        self.wait(last, "last\n")
        self.assertEqual(self.n_started(worker), 2)

    def test_what_was_cancelled_stays_so(self):
        name = self.detach("echo never")
        run = self.system.lazyroot("cancel", name)
        self.assertEqual(run.code, 0, run.err)
        wait_until(lambda: any(field(head, 6) for head in self.heads(OPERATION)), "its end")
        self.restart()
        done, response = self.operation(name)
        self.assertEqual((done, field(field(response, 3), 1)), (1, CANCELLED))
        worker = self.system.start_worker()
        self.wait(self.detach("echo other"), "other\n")
        self.assertEqual(self.n_started(worker), 1)

    def test_names_in_the_file_are_for_nobody_else(self):
        for name in ("", "-wal", "-shm"):
            path = pathlib.Path(f"{self.file}{name}")
            self.assertEqual(path.stat().st_mode & 0o077, 0, path)


class AbandonTest(Case):
    server_args = ("--grant", "local=all", "--abandon", "1s")

    def test_clients_that_never_come_back_are_given_up(self):
        left = self.system.popen("run", "--", "/bin/echo", "left")
        wait_until(lambda: len(self.heads(OPERATION)) == 1, "it in the file")
        kept = self.detach("echo kept")
        wait_until(lambda: self.is_kept(kept), "both in the file")
        name = field(self.heads(OPERATION)[0], 1).decode()
        left.kill()
        left.communicate()
        self.restart()
        self.assertEqual(self.operation(name), (0, None))
        done, response = wait_until(lambda: self.operation(name)[0] and self.operation(name),
                                    "the end of what nobody waits for")
        self.assertEqual((done, field(field(response, 3), 1)), (1, CANCELLED))
        self.assertEqual(self.operation(kept), (0, None))


class InstancesTest(Case):
    server_args = ("--grant", "local=all", "--instance", "a", "--instance", "b")

    def test_instances_share_nothing_but_blobs(self):
        workers = [self.system.start_worker("--slots", "1", "--instance", name, name=f"w{name}")
                   for name in "ab"]
        env = [{"LAZYROOT_INSTANCE": name} for name in "ab"]
        names = [self.detach("sleep 2; echo same", env=e) for e in env]
        wait_until(lambda: all(self.n_started(w) == 1 for w in workers) and self.n_running() == 2,
                   "the same action in both")
        self.restart()
        for name, e in zip(names, env):
            run = self.system.lazyroot("wait", name, env=e)
            self.assertEqual((run.code, run.text), (0, "same\n"), run.err)
        with Peer(self.system.address) as peer:
            for one, name in zip("ab", names):
                listed = peer.call(OPERATIONS + "ListOperations", data(4, one))
                self.assertEqual([field(o, 1).decode() for n, o in fields(listed) if n == 1],
                                 [name])
        self.detach("echo only", env=env[0])
        wait_until(lambda: self.n_started(workers[0]) == 2, "an action in one")
        run = self.system.lazyroot("run", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                                   "echo only", env=env[1])
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(self.n_started(workers[1]), 2, "a result of another instance was used")

    def test_an_instance_that_is_no_more_is_left_out(self):
        kept = self.detach("echo a", env={"LAZYROOT_INSTANCE": "a"})
        lost = self.detach("echo b", env={"LAZYROOT_INSTANCE": "b"})
        wait_until(lambda: self.is_kept(kept, lost), "both in the file")
        self.system.server_args = ["--grant", "local=all", "--instance", "a"]
        server = self.restart()
        self.assertIn("are not taken", server.err())
        self.assertEqual(self.operation(kept), (0, None))
        wait_until(lambda: not self.is_kept(lost), "the end of what cannot be")


class DamageTest(Case):
    def begin_anew(self, damage):
        name = self.detach("echo lost")
        wait_until(lambda: self.is_kept(name), "it in the file")
        self.kill()
        damage()
        server = self.system.start_server(listen=self.system.address)
        self.assertEqual(server.err().count("operations begin anew"), 1, server.err())
        self.assertTrue(pathlib.Path(f"{self.file}.damaged").exists())
        self.assertEqual(self.heads(OPERATION), [])
        kept = self.detach("echo kept")
        wait_until(lambda: self.is_kept(kept), "the new file at work")

    def whole(self):
        """The file without its log, so that what is done to it counts."""
        with sqlite3.connect(self.file) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def test_bytes_that_are_no_database(self):
        def damage():
            self.whole()
            self.file.write_bytes(b"no database " * 4096)
        self.begin_anew(damage)

    def test_pages_that_are_damaged(self):
        def damage():
            self.whole()
            content = bytearray(self.file.read_bytes())
            content[4096:8192] = b"\xff" * 4096
            self.file.write_bytes(content)
        self.begin_anew(damage)

    def test_a_database_of_somebody_else(self):
        def damage():
            self.file.unlink()
            with sqlite3.connect(self.file) as db:
                db.execute("CREATE TABLE records (id INTEGER PRIMARY KEY, kind, head)")
        self.begin_anew(damage)

    def test_one_that_is_damaged_while_it_is_used(self):
        first = self.detach("echo first")
        wait_until(lambda: self.is_kept(first), "it in the file")
        self.whole()
        with open(self.file, "r+b") as f:
            f.write(b"\0" * 8192)
        second = self.detach("echo second")
        wait_until(lambda: "begin anew" in self.system.server.err(), "the word of the damage")
        wait_until(lambda: self.is_kept(first, second), "all in a new file")


class FullDiskTest(Case):
    def setUp(self):
        super().setUp()
        self.system.server.stop()
        image, self.disk = self.system.dir / "disk.img", self.system.dir / "data"
        with open(image, "wb") as f:
            f.truncate(96 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, self.disk], check=True)
        self.addCleanup(self.unmount)
        self.system.server_args += ["--data-size", "64M"]
        self.system.start_server(listen=self.system.address)

    def unmount(self):
        self.system.server.stop(signal.SIGKILL)
        subprocess.run(["umount", "-l", self.disk], check=True)

    def fill(self):
        with open(self.disk / "filler", "wb", buffering=0) as f:
            for size in (1 << 16, 512):
                try:
                    while True:
                        f.write(b"x" * size)
                except OSError:
                    pass

    def test_execution_goes_on_and_all_is_kept_once_there_is_room(self):
        with Peer(self.system.address) as peer:
            command = peer.put(data(1, "/bin/true"))
            peer.put(b"")
            actions = [peer.put(data(1, command) + data(2, digest_of(b"")) + data(9, salt * 1500000))
                       for salt in (b"a", b"b")]
            before = self.detach("echo before")
            wait_until(lambda: self.is_kept(before), "it in the file")
            self.fill()
            names = []
            for action in actions:
                stream = peer.channel.unary_stream(REAPI + "Execution/Execute")(
                    data(6, action), metadata=(("lazyroot-detached", "1"),), timeout=60)
                names.append(field(next(iter(stream)), 1).decode())
                stream.cancel()
        server = self.system.server
        wait_until(lambda: "are not kept for now" in server.err(), "the word that it is full")
        time.sleep(3)  # the next tries
        self.assertEqual([self.operation(name) for name in names], [(0, None)] * 2)
        (self.disk / "filler").unlink()
        wait_until(lambda: "are kept again" in server.err(), "the word that there is room")
        self.assertEqual(server.err().count("are not kept for now"), 1)
        self.assertTrue(self.is_kept(before, *names))
        self.restart()
        for name in (before, *names):
            self.assertEqual(self.operation(name), (0, None))


if __name__ == "__main__":
    system.main()
