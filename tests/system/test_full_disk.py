"""A cache whose disk is full at the wrong moment: what does not come through says so, the worker goes
on, and once the disk has room again everything works."""
import os
import signal
import subprocess
import threading
import time

import system
from crash import CrashCase
from system import wait_until

class FullDiskTest(CrashCase):
    """A cache on a small file system of its own, full at the wrong moment."""

    def setUp(self):
        super().setUp()
        image = self.system.dir / "disk.img"
        self.disk = self.system.dir / "disk"
        self.disk.mkdir()
        with open(image, "wb") as f:
            f.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, self.disk], check=True)
        # before the system's own end, which removes the directory
        self.addCleanup(self.unmount)

    def unmount(self):
        for process in self.system.processes:
            if process.name.startswith("worker"):
                process.stop(signal.SIGKILL)
        subprocess.run(["umount", "-l", self.disk], check=True)

    def fill(self, leave=0):
        """Until nothing more fits but so many bytes."""
        filler = self.disk / "filler"
        with open(filler, "wb") as f:
            try:
                while True:
                    f.write(b"x" * 65536)
                    f.flush()
            except OSError:
                pass
        with open(filler, "r+b") as f:
            f.truncate(max(0, filler.stat().st_size - leave))
            os.fsync(f.fileno())

    def empty(self):
        (self.disk / "filler").unlink()

    def assert_failed_or_right(self, client):
        """What does not come through says so with 125; what does is right."""
        try:
            out, err = client.communicate(timeout=system.PATIENCE)
        except subprocess.TimeoutExpired:
            client.send_signal(signal.SIGINT)
            out, err = client.communicate(timeout=system.PATIENCE)
            self.assertEqual(client.returncode, 130, err.decode())
            return
        if client.returncode == 0:
            self.assertEqual(out.decode(), self.all)
        else:
            # the command itself may see ENOSPC, too: that is its own failure to tell
            self.assertTrue(client.returncode == 125 or b"No space left" in err, err.decode())

    def full_at(self, point, leave):
        worker, client = self.start_stopped(point, cache=self.disk / "cache")
        self.fill(leave)
        done = threading.Event()

        def go_on():  # another try stops there again
            while not done.wait(0.2):
                worker.popen.send_signal(signal.SIGCONT)

        going = threading.Thread(target=go_on)
        going.start()
        try:
            self.assert_failed_or_right(client)
        finally:
            done.set()
            going.join()
        worker.popen.send_signal(signal.SIGCONT)
        self.assertIsNone(worker.popen.poll(), worker.err()[-2000:])
        self.empty()
        # the same worker would stop again; its cache is what matters
        self.assertEqual(worker.stop(), 0)
        again = self.system.start_worker(cache=worker.cache)
        for _ in range(2):
            self.run_whole("--no-cache")
        self.assert_clean(again, worker)

    def test_in_the_middle_of_a_fetch(self):
        self.full_at("fetching", 0)

    def test_in_the_middle_of_a_fetch_with_little_left(self):
        self.full_at("fetching", 100000)

    def test_at_the_start_of_the_command(self):
        self.full_at("running", 30000)

    def test_in_the_middle_of_a_capture(self):
        self.full_at("capturing", 0)

    def test_before_the_index_is_committed(self):
        self.full_at("uploading", 0)

    def test_stays_up_and_recovers_without_a_restart(self):
        worker = self.system.start_worker(cache=self.disk / "cache")
        self.run_whole()
        self.fill()
        self.script += " # changed"
        self.assert_failed_or_right(self.start())
        self.empty()
        self.run_whole("--no-cache")
        self.assertIsNone(worker.popen.poll())

    def test_killed_and_started_on_a_full_disk(self):
        worker = self.system.start_worker(cache=self.disk / "cache")
        self.run_whole()
        self.fill()
        self.kill(worker)
        again = self.system.start_worker(cache=worker.cache, wait=False)
        wait_until(lambda: again.popen.poll() is not None or "ready" in again.out(),
                   "a start or a refusal")
        if again.popen.poll() is not None:
            self.assertRegex(again.err(), "No space left|full")
        self.empty()
        if again.popen.poll() is None:
            self.assertEqual(again.stop(), 0)
        last = self.system.start_worker(cache=worker.cache)
        self.run_whole("--no-cache")
        self.assert_clean(last, worker, again)

    def test_index_that_cannot_be_written_loses_only_ages(self):
        """The index's commit fails; the blobs are there all the same after kill -9."""
        worker = self.system.start_worker(cache=self.disk / "cache")
        tree = self.system.tree("more", {f"m{i}": os.urandom(3000) for i in range(200)})
        self.fill(2 << 20)
        run = self.system.sh("cat m* | sha256sum", "--input", tree, "--no-cache")
        want = run.text
        self.fill_up_again()
        time.sleep(1.5)  # more than the index's batches wait
        self.kill(worker)
        self.empty()
        again = self.system.start_worker(cache=worker.cache)
        run = self.system.sh("cat m* | sha256sum", "--input", tree, "--no-cache")
        self.assertEqual(run.text, want)
        self.assert_clean(again, worker)

    def fill_up_again(self):
        with open(self.disk / "filler", "ab") as f:
            try:
                while True:
                    f.write(b"x" * 4096)
                    f.flush()
            except OSError:
                pass


if __name__ == "__main__":
    system.main()
