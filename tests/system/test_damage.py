"""What happens to a cache: something else writes to its files or its index, its disk is full at
the wrong moment, or it is smaller than what an action needs. No wrong byte is served, the worker
goes on, and once the disk has room again everything works."""
import hashlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import system
from crash import CrashCase, flip
from system import metrics, wait_until


class DamagedCacheTest(CrashCase):
    """What a start finds in a cache directory that something else wrote to."""

    def setUp(self):
        super().setUp()
        self.worker = self.system.start_worker()
        self.run_whole()

    def blobs(self):
        return sorted(p for p in (self.worker.cache / "blobs").glob("??/*"))

    def restart(self, harm, clean):
        if clean:
            self.assertEqual(self.worker.stop(), 0)
        else:
            self.kill(self.worker)
        harm()
        again = self.system.start_worker(cache=self.worker.cache, name=self.worker.name + "b")
        for _ in range(2):
            self.run_whole("--no-cache")
        self.assert_clean(again, self.worker)
        self.assertEqual(again.stop(), 0)
        # and once more, as the mended cache is found
        self.system.start_worker(cache=self.worker.cache, name=self.worker.name + "c")
        self.run_whole("--no-cache")

    def flip_all(self):
        for i, path in enumerate(self.blobs()):
            flip(path, i * 7)

    def truncate_all(self):
        for i, path in enumerate(self.blobs()):
            path.chmod(0o644)
            os.truncate(path, path.stat().st_size * (i % 3) // 3)

    def remove_half(self):
        for path in self.blobs()[::2]:
            path.unlink()

    def remove_all(self):
        shutil.rmtree(self.worker.cache / "blobs")

    def garble_names(self):
        """Every blob under the name of another one of its size class; strangers between."""
        paths = self.blobs()
        for one, other in zip(paths[::2], paths[1::2]):
            data, more = one.read_bytes(), other.read_bytes()
            one.chmod(0o644)
            other.chmod(0o644)
            one.write_bytes(more)
            other.write_bytes(data)
        (self.worker.cache / "blobs/00").mkdir(exist_ok=True)
        (self.worker.cache / "blobs/00/stranger").write_text("x")
        (self.worker.cache / "blobs/stranger").write_text("x")

    def index(self):
        return self.worker.cache / "index.sqlite"

    def remove_index(self):
        for path in self.worker.cache.glob("index.sqlite*"):
            path.unlink()

    def garble_index(self):
        self.remove_index()
        self.index().write_bytes(random.Random(5).randbytes(100000))

    def truncate_index(self):
        os.truncate(self.index(), self.index().stat().st_size // 2 + 11)

    def overwrite_index(self):
        with open(self.index(), "r+b") as f:
            for page in range(1, self.index().stat().st_size // 4096):
                f.seek(page * 4096)
                f.write(b"\xa5" * 200)

    def lie_in_index(self):
        """An index in order, whose sizes are not those of the files."""
        with sqlite3.connect(self.index()) as db:
            table, = next(iter(db.execute(
                "select name from sqlite_master where type = 'table' and sql like '%size%'")))
            db.execute(f"update {table} set size = size + 1")
        db.close()

    def leave_half_written(self):
        half = self.worker.cache / "staging/999999.1"
        half.mkdir()
        (half / "7").write_bytes(os.urandom(70000))
        path = self.blobs()[0]
        data = path.read_bytes()
        path.unlink()
        (half / path.name).write_bytes(data[:-1])


for _harm in ("flip_all", "truncate_all", "remove_half", "remove_all", "garble_names",
              "remove_index", "garble_index", "truncate_index", "overwrite_index", "lie_in_index",
              "leave_half_written"):
    for _clean in (True, False):
        def _test(self, harm=_harm, clean=_clean):
            self.restart(getattr(self, harm), clean)
        setattr(DamagedCacheTest,
                f"test_{_harm}_after_{'a_clean_end' if _clean else 'kill_9'}", _test)


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


class PressureTest(CrashCase):
    def smaller_than_the_input(self, data_path):
        worker = self.system.start_worker("--cache-size", "3M", "--data-path", data_path,
                                          "--metrics", "127.0.0.1:0")
        tree = self.system.tree("large", {f"f{i}": os.urandom(1 << 20) for i in range(12)})
        want = subprocess.run("cat f? f??", shell=True, cwd=tree, capture_output=True).stdout
        run = self.system.sh("cat f? f??", "--input", tree, "--no-cache")
        self.assertEqual(run.code, 125, "its stdout alone is more than the cache holds")
        self.assertIn("larger than all of", run.err)
        # each blob at two paths: what the first run fetched was evicted, and must come again
        run = self.system.sh("for d in . again; do cd $d; cat f? f?? | sha256sum; done",
                             "--input", tree, "--input", f"{tree}=again", "--no-cache")
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(run.text, f"{hashlib.sha256(want).hexdigest()}  -\n" * 2)
        lines = re.findall(r"cache is too small.*", worker.err())
        self.assertGreater(len(lines), 0, worker.err()[-3000:])
        self.assertRegex(lines[0], r"evicted \d+ blobs, [\d.]+ MB, meanwhile, and holds 3.1 MB")
        wait_until(lambda: sum(p.stat().st_size for p in (worker.cache / "blobs").glob("??/*"))
                   <= 3 << 20, "a cache within its limit")
        self.assertGreater(run.report["fetched"]["bytes"], 11 << 20)
        counted = metrics(worker)
        self.assertEqual(counted["lazyroot_cache_limit_bytes"], 3 << 20)
        self.assertLessEqual(counted["lazyroot_cache_bytes"], 3 << 20)
        self.assertGreater(counted["lazyroot_cache_evicted_bytes_total"], 3 << 20)
        self.assertGreater(counted["lazyroot_cache_evicted_blobs_total"], 3)
        self.assertEqual(counted["lazyroot_cache_too_small_total"], len(lines))

    def test_cache_smaller_than_the_input_by_page_cache(self):
        self.smaller_than_the_input("page-cache")

    def test_cache_smaller_than_the_input_by_passthrough(self):
        self.smaller_than_the_input("passthrough")

    def test_no_word_where_nothing_was_evicted(self):
        worker = self.system.start_worker()
        self.run_whole()
        self.assertNotIn("the cache", worker.err())


if __name__ == "__main__":
    system.main()
