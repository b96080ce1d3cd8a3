"""Ends without warning. The worker is killed at each named point of a job, cancelled there, its
mount dies, its server goes away: nothing is left on the machine, what was acknowledged is still
there, and the job's result is right in the end, here or on another worker.

LAZYROOT_TEST_STOP_AT makes a worker stop itself (SIGSTOP) at a point of its first job, so every
test knows where it is. LAZYROOT_TEST_LONG=1: the long forms."""
import os
import pathlib
import signal
import subprocess
import time

import system
from crash import IS_LONG, CrashCase, is_stopped, mounts_anywhere
from system import descendants, sandboxes_with, wait_until

POINTS = ("fetching", "staging", "running", "capturing", "uploading", "ended")


class KilledWorkerTest(CrashCase):
    """kill -9 at every named point."""

    def on_the_restarted_one(self, point):
        worker, client = self.start_stopped(point)
        self.kill(worker)
        again = self.system.start_worker(cache=worker.cache, name=worker.name)
        self.assert_clean(again, worker)
        self.finish(client)
        self.run_whole("--no-cache")
        self.assert_clean(again, worker)
        self.assertEqual(again.stop(), 0)

    def on_another_one(self, point):
        worker, client = self.start_stopped(point)
        other = self.system.start_worker()
        self.kill(worker)
        self.finish(client)
        again = self.system.start_worker(cache=worker.cache)
        self.assert_clean(again, worker)
        self.assert_clean(other)

    def test_right_after_its_start(self):
        """Without any job: the mount, the lock and the launchers are what may stay."""
        worker = self.system.start_worker()
        self.kill(worker)
        again = self.system.start_worker(cache=worker.cache)
        self.assert_clean(again, worker)
        self.run_whole()


for _point in POINTS:
    setattr(KilledWorkerTest, f"test_{_point}_then_restarted",
            lambda self, point=_point: self.on_the_restarted_one(point))
    if IS_LONG or _point in ("fetching", "running", "uploading"):
        # it takes the server ten seconds to give a bot up
        setattr(KilledWorkerTest, f"test_{_point}_then_elsewhere",
                lambda self, point=_point: self.on_another_one(point))


class CancelTest(CrashCase):
    """A lease cancelled at every named point: the client hears of it, the worker goes on."""

    def cancelled_at(self, point):
        worker = self.system.start_worker(env={"LAZYROOT_TEST_STOP_AT": point})
        marker = f"51{os.getpid()}7"
        operation = self.system.lazyroot(
            "run", "--detach", "--no-cache", "--input", self.tree, "--env", "PATH=/usr/bin:/bin",
            "--", "/bin/sh", "-c", f"sleep {marker}" if point == "running" else "cat d*/f*"
        ).text.strip()
        wait_until(lambda: is_stopped(worker.pid), f"the worker to stop at {point}")
        self.assertEqual(self.system.lazyroot("cancel", operation).code, 0)
        run = self.system.lazyroot("wait", operation)
        self.assertEqual(run.code, 125)
        self.assertIn("cancel", run.err.lower())
        worker.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: " ended" in worker.err() or point == "ended", "the job's end")
        self.assertEqual(sandboxes_with(marker), [])
        # the next job would stop the worker again: another name for the same session
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(mounts_anywhere(worker.cache), [])
        again = self.system.start_worker(cache=worker.cache)
        self.assert_clean(again, worker)
        self.run_whole()

    def test_in_the_middle_of_a_long_capture(self):
        """A terabyte in sparse files that each fit: hashing all of them would take minutes."""
        worker = self.system.start_worker()
        operation = self.system.lazyroot(
            "run", "--detach", "--no-cache", "--output", "d", "--env", "PATH=/usr/bin:/bin", "--",
            "/bin/sh", "-c", "mkdir d; seq -f d/%g 5000 | xargs truncate -s 200M").text.strip()
        wait_until(lambda: " capturing" in worker.err(), "the capture")
        self.assertEqual(self.system.lazyroot("cancel", operation).code, 0)
        wait_until(lambda: "ended with CANCELLED" in worker.err(), "the job's end")
        self.run_whole()
        self.assertEqual(worker.stop(), 0)

    def test_while_it_waits_for_a_worker(self):
        operation = self.system.lazyroot("run", "--detach", "--no-cache", "--", "/bin/true"
                                         ).text.strip()
        self.assertEqual(self.system.lazyroot("cancel", operation).code, 0)
        self.assertEqual(self.system.lazyroot("wait", operation).code, 125)
        worker = self.system.start_worker()
        self.run_whole()
        self.assertEqual(worker.err().count(" fetching"), 1)


for _point in POINTS:
    setattr(CancelTest, f"test_{_point}", lambda self, point=_point: self.cancelled_at(point))


class PartsTest(CrashCase):
    """What a worker stands on dies alone."""

    def test_killed_command(self):
        self.system.start_worker()
        marker = f"52{os.getpid()}7"
        client = self.system.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        pid, = wait_until(lambda: sandboxes_with(marker), "the command's start")
        os.kill(pid, signal.SIGKILL)
        client.communicate(timeout=system.PATIENCE)
        self.assertEqual(client.returncode, 137, "that is the command's own end")

    def test_killed_launchers(self):
        """The processes that start commands: a job fails over, the worker gets new ones."""
        worker = self.system.start_worker("--slots", "2")
        self.run_whole()
        for pid in descendants(worker.pid):
            os.kill(pid, signal.SIGKILL)
        for _ in range(4):
            self.run_whole("--no-cache")
        self.assertIsNone(worker.popen.poll())

    def fuse_connection(self, worker):
        for line in pathlib.Path(f"/proc/{worker.pid}/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[4] == str(worker.cache / "mount"):
                return pathlib.Path("/sys/fs/fuse/connections") / fields[2].split(":")[1]
        self.fail("the worker has no mount")

    def test_aborted_fuse_session(self):
        """The worker cannot go on without its mount: it ends and says why, and the job that it
        had runs on the one that takes its place."""
        worker, client = self.start_stopped("running")
        connection = self.fuse_connection(worker)
        if not connection.exists():
            subprocess.run(["mount", "-t", "fusectl", "none", connection.parent], check=True)
        (connection / "abort").write_text("1")
        worker.popen.send_signal(signal.SIGCONT)
        self.assertNotEqual(worker.popen.wait(system.PATIENCE), 0)
        self.assertIn("mount", worker.err())
        self.assertEqual(mounts_anywhere(worker.cache), [])
        again = self.system.start_worker(cache=worker.cache)
        self.finish(client)
        self.assert_clean(again, worker)


class ServerTest(CrashCase):
    def start_that_has_read(self):
        """A job that has read all it needs, and will end soon."""
        marker = f"3.{os.getpid()}1"  # seconds in which it is seen
        self.script += f"; sleep {marker}"
        client = self.start()
        wait_until(lambda: sandboxes_with(marker), "the command to have read its inputs")
        return client

    def test_server_that_stands_still_for_a_while(self):
        worker = self.system.start_worker()
        client = self.start_that_has_read()
        os.kill(self.system.server.pid, signal.SIGSTOP)
        wait_until(lambda: " capturing" in worker.err(), "the command's end")
        time.sleep(60 if IS_LONG else 3)
        os.kill(self.system.server.pid, signal.SIGCONT)
        self.finish(client)

    def test_server_killed_during_a_job(self):
        worker = self.system.start_worker()
        client = self.start_that_has_read()
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        wait_until(lambda: " capturing" in worker.err(), "the command's end")
        time.sleep(60 if IS_LONG else 1)
        self.system.start_server(listen=self.system.address)
        self.finish(client)
        self.assertIsNone(worker.popen.poll())

    def test_worker_without_a_server_can_be_ended(self):
        """It has a result that nobody takes: the first signal waits for that, the second not."""
        worker = self.system.start_worker()
        client = self.start_that_has_read()
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        wait_until(lambda: " ended" in worker.err(), "the job's end")
        worker.popen.terminate()
        wait_until(lambda: "once more" in worker.err(), "the worker's word")
        self.assertIsNone(worker.popen.poll())
        worker.popen.terminate()
        self.assertEqual(worker.popen.wait(system.PATIENCE / 2), 1)
        self.assertIn(self.system.address, worker.err().splitlines()[-1])
        self.assertEqual(mounts_anywhere(worker.cache), [])
        client.kill()
        client.communicate()

    def test_server_gone_while_a_command_reads(self):
        """Reading waits for the server; the command sees nothing of it."""
        worker, client = self.start_stopped("running")
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        worker.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: "again in" in worker.err() and " fetch " in worker.err(),
                   "a read that found no server")
        time.sleep(40 if IS_LONG else 2)
        self.assertNotIn(" ended", worker.err())
        self.system.start_server(listen=self.system.address)
        # its lease is lost with the old server, and it would stop again: another one goes on
        worker.stop(signal.SIGKILL)
        self.system.start_worker(cache=worker.cache)
        self.finish(client)

    def test_killed_server_keeps_what_it_acknowledged(self):
        self.system.start_worker()
        self.run_whole()
        digest = self.system.upload(self.tree)
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        self.system.start_server(listen=self.system.address)
        client = self.start("--report", self.system.dir / "again.json")
        self.finish(client)
        self.assertIn('"cached": true', (self.system.dir / "again.json").read_text()
                      .replace('"cached":true', '"cached": true'))
        self.assertEqual(self.system.lazyroot("download", digest, "back").code, 0)
        for path, text in self.files.items():
            self.assertEqual((self.system.dir / "back" / path).read_text(), text)


if __name__ == "__main__":
    system.main()
