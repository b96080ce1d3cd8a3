"""A job is cancelled at each named point (LAZYROOT_TEST_STOP_AT, as in test_killed.py): the client
hears of it, nothing is left, and the worker goes on."""
import os
import signal

from crash import POINTS, CrashCase, is_stopped, mounts_anywhere
import system
from system import sandboxes_with, wait_until

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


if __name__ == "__main__":
    system.main()
