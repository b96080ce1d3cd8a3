"""Ends without warning. The worker is killed at each named point of a job, and what it stands on dies
alone: nothing is left on the machine, what was acknowledged is still there, and the job's result
is right in the end, here or on another worker.

LAZYROOT_TEST_STOP_AT makes a worker stop itself (SIGSTOP) at a point of its first job, so every
test knows where it is. LAZYROOT_TEST_LONG=1: each point on another worker, too."""
import os
import pathlib
import signal
import subprocess

import system
from crash import IS_LONG, POINTS, CrashCase, mounts_anywhere
from system import descendants, sandboxes_with, wait_until

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


if __name__ == "__main__":
    system.main()
