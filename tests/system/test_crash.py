"""Ends without warning. The worker is killed at each named point of a job, cancelled there, its
disk fills up, its cache is damaged, its mount dies, its server goes away: nothing is left on the
machine, no wrong byte is served, what was acknowledged is still there, and the job's result is
right in the end, here or on another worker.

LAZYROOT_TEST_STOP_AT makes a worker stop itself (SIGSTOP) at a point of its first job, so every
test knows where it is. LAZYROOT_TEST_LONG=1: the long forms."""
import os
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import unittest

import system
from system import System, descendants, need_root, sandboxes_with, wait_until

POINTS = ("fetching", "staging", "running", "capturing", "uploading", "ended")
IS_LONG = bool(os.environ.get("LAZYROOT_TEST_LONG"))
CGROUPS = pathlib.Path("/sys/fs/cgroup")


def is_stopped(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return stat.rsplit(")", 1)[1].split()[0] == "T"


def mounts_anywhere(path):
    """Mounts on or below path in any mount namespace that a process lives in."""
    found = []
    for info in pathlib.Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            text = info.read_text()
        except OSError:
            continue
        found += [f"{info.parent.name}: {line}" for line in text.splitlines() if str(path) in line]
    return found


def cgroups_of(pid):
    return [path for path in CGROUPS.rglob(f"lazyroot-{pid}-*") if path.is_dir()]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(data)


class CrashCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()

    def setUp(self):
        self.system = System()
        self.addCleanup(self.system.close)
        self.files = {f"d{i}/f{i}": f"{i} {time.time()} {random.random()}\n" * 40
                      for i in range(8)}
        self.tree = self.system.tree("in", self.files)
        self.script = ("cat d*/f* > o/all; mkdir o/deep; cp d3/f3 o/deep/copy; ln -s all o/link; "
                       "rm d4/f4; cat o/all; echo err >&2")
        self.all = "".join(text for _, text in sorted(self.files.items()))

    def start(self, *args):
        return self.system.popen(
            "run", "--input", self.tree, "--output", "o", "--output", "o/all", "--download",
            "got", *args, "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
            "mkdir -p o; " + self.script)

    def finish(self, client):
        """The result is the right one, to the last byte."""
        out, err = client.communicate(timeout=system.PATIENCE * 2)
        self.assertEqual((client.returncode, out.decode()), (0, self.all), err.decode())
        got = self.system.dir / "got/o"
        self.assertEqual((got / "all").read_text(), self.all)
        self.assertEqual((got / "deep/copy").read_text(), self.files["d3/f3"])
        self.assertEqual(os.readlink(got / "link"), "all")
        shutil.rmtree(self.system.dir / "got")

    def run_whole(self, *args):
        self.finish(self.start(*args))

    def start_stopped(self, point, **kwargs):
        """A worker that stands at a point of the job that the returned client waits for."""
        worker = self.system.start_worker(env={"LAZYROOT_TEST_STOP_AT": point}, **kwargs)
        client = self.start()
        wait_until(lambda: is_stopped(worker.pid), f"the worker to stop at {point}")
        return worker, client

    def kill(self, worker):
        below = descendants(worker.pid)
        worker.popen.kill()
        worker.popen.wait()
        wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in below),
                   "the end of what the worker had started")
        self.assertEqual(mounts_anywhere(worker.cache), [])

    def assert_clean(self, worker, *dead):
        """Nothing of the dead workers is left after the start of this one on their cache."""
        wait_until(lambda: not any((worker.cache / "actions").iterdir()), "an empty actions/")
        left = [p.name for p in (worker.cache / "staging").iterdir()
                if not p.name.startswith(f"{worker.pid}.")]
        self.assertEqual(left, [])
        for one in dead:
            self.assertEqual(cgroups_of(one.pid), [])


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
    def test_server_that_stands_still_for_a_while(self):
        worker = self.system.start_worker()
        self.script += "; sleep 0.5"
        client = self.start()
        wait_until(lambda: " running" in worker.err(), "the command's start")
        os.kill(self.system.server.pid, signal.SIGSTOP)
        wait_until(lambda: " capturing" in worker.err(), "the command's end")
        time.sleep(60 if IS_LONG else 3)
        os.kill(self.system.server.pid, signal.SIGCONT)
        self.finish(client)

    def test_server_killed_during_a_job(self):
        worker = self.system.start_worker()
        self.script += "; sleep 0.5"
        client = self.start()
        wait_until(lambda: " running" in worker.err(), "the command's start")
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        wait_until(lambda: " capturing" in worker.err(), "the command's end")
        time.sleep(60 if IS_LONG else 1)
        self.system.start_server(listen=self.system.address)
        self.finish(client)
        self.assertIsNone(worker.popen.poll())

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
        worker.popen.send_signal(signal.SIGCONT)
        self.assert_failed_or_right(client)
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
        self.script += "; echo changed"
        self.all += "changed\n"
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
    def test_cache_smaller_than_the_input(self):
        worker = self.system.start_worker("--cache-size", "3M")
        tree = self.system.tree("large", {f"f{i}": os.urandom(1 << 20) for i in range(12)})
        want = subprocess.run("cat f? f??", shell=True, cwd=tree, capture_output=True).stdout
        script = "for n in 1 2; do cat f? f??; done > all; mv all out"
        for _ in range(2):
            run = self.system.sh(script, "--input", tree, "--no-cache", "--output", "out",
                                 "--download", "large-got")
            self.assertEqual(run.code, 0, run.err)
            got = (self.system.dir / "large-got/out").read_bytes()
            self.assertEqual(got, want + want)
        line = re.findall(r"cache too small.*", worker.err())
        self.assertEqual(len(line), 2, worker.err()[-3000:])
        self.assertRegex(line[0], r"evicted \d+ blobs, \d+\.\d [KMG]B")
        wait_until(lambda: sum(p.stat().st_size for p in (worker.cache / "blobs").glob("??/*"))
                   <= 3 << 20, "a cache within its limit")

    def test_no_word_where_nothing_was_evicted(self):
        worker = self.system.start_worker()
        self.run_whole()
        self.assertNotIn("cache too small", worker.err())


if __name__ == "__main__":
    system.main()
