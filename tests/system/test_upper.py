"""An upper directory of its own size: what a command may write ends exactly at the limit, and
nothing of it is left, however the worker ends."""
import pathlib
import signal
import subprocess
import unittest

import system
from system import SystemTest, mounts_below, wait_until

LIMIT = 32 << 20
BLOCK = 4096


def loops(worker):
    """Loop devices that hold a file of one of a worker's actions."""
    found = []
    for path in pathlib.Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if f"{worker.cache}/actions/" in path.read_text():
                found.append(path.read_text().strip())
        except OSError:
            continue
    return found


def worker_mounts(worker):
    text = pathlib.Path(f"/proc/{worker.pid}/mountinfo").read_text()
    return [line for line in text.splitlines() if ".disk" in line]


FILL = """import os, sys
def fill(fd):
    n = 0
    try:
        while True:
            n += os.write(fd, bytes(4096))
    except OSError as e:
        print(e.strerror, n)
"""


class UpperTests:
    kind = None

    def python(self, code, *args):
        (self.system.dir / "code").mkdir(exist_ok=True)
        (self.system.dir / "code/code.py").write_text(FILL + code)
        return self.assert_ok(self.system.run(
            *args, "--no-cache", "--input", self.system.dir / "code", "--env",
            "PATH=/usr/bin:/bin", "--", "/usr/bin/python3", "code.py"))

    def assert_exact(self, text, spare):
        """What was written until there was no more: the limit, but for what directories and the
        lists of a file's blocks take of it."""
        words, n = text.strip().rsplit(" ", 1)
        self.assertEqual(words, "No space left on device")
        self.assertLessEqual(int(n), LIMIT)
        self.assertGreaterEqual(int(n), LIMIT - spare)

    def assert_clean(self):
        wait_until(lambda: not worker_mounts(self.worker) and not loops(self.worker) and not any(
            (self.worker.cache / "actions").iterdir()), "a clean worker")

    def test_ends_at_the_limit(self):
        run = self.python("fill(os.open('f', os.O_CREAT | os.O_WRONLY))")
        self.assert_exact(run.text, self.spare)

    def test_files_without_a_name_count_and_are_given_back(self):
        run = self.python("""
fd = os.open('f', os.O_CREAT | os.O_RDWR); os.unlink('f'); fill(fd)
fd2 = os.open('g', os.O_CREAT | os.O_RDWR); fill(fd2); os.close(fd)
fill(fd2)""")
        lines = run.text.splitlines()
        self.assert_exact(lines[0], self.spare)
        self.assertLess(int(lines[1].rsplit(" ", 1)[1]), 4 * BLOCK)
        self.assert_exact(lines[2], self.spare + 4 * BLOCK)

    def test_tmp_and_shm_count_together_with_the_rest(self):
        run = self.python("""
os.posix_fallocate(os.open('f', os.O_CREAT | os.O_RDWR), 0, 8 << 20)
os.posix_fallocate(os.open('/dev/shm/f', os.O_CREAT | os.O_RDWR), 0, 8 << 20)
fill(os.open('/tmp/f', os.O_CREAT | os.O_RDWR))
print(oct(os.stat('/tmp').st_mode), oct(os.stat('/dev/shm').st_mode))""")
        lines = run.text.splitlines()
        self.assertEqual(lines[1], "0o41777 0o41777")
        words, n = lines[0].rsplit(" ", 1)
        self.assertEqual(words, "No space left on device")
        self.assertLessEqual(int(n), 16 << 20)
        self.assertGreaterEqual(int(n), (16 << 20) - self.spare)

    def test_outputs_come_from_there(self):
        (self.system.dir / "in").mkdir(exist_ok=True)
        (self.system.dir / "in/seed").write_text("seed\n")
        out = self.system.dir / "got"
        run = self.assert_ok(self.system.sh(
            "mkdir -p out/sub; dd if=/dev/zero of=out/big bs=1M count=20 2>/dev/null;"
            " ln out/big out/same; mv seed out/sub/; ln -s sub out/link; chmod +x out/big",
            "--no-cache", "--input", self.system.dir / "in", "--output", "out", "--download", out))
        self.assertEqual((out / "out/big").stat().st_size, 20 << 20)
        self.assertEqual((out / "out/same").stat().st_size, 20 << 20)
        self.assertTrue((out / "out/big").stat().st_mode & 0o100)
        self.assertEqual((out / "out/sub/seed").read_text(), "seed\n")
        self.assertEqual((out / "out/link").readlink(), pathlib.Path("sub"))
        self.assertIsNotNone(run.report)

    def test_an_action_asks_for_less(self):
        run = self.python("fill(os.open('f', os.O_CREAT | os.O_WRONLY))", "--platform",
                          "limit-disk=4M")
        words, n = run.text.strip().rsplit(" ", 1)
        self.assertEqual(words, "No space left on device")
        self.assertLessEqual(int(n), 4 << 20)
        self.assertGreaterEqual(int(n), (4 << 20) - self.spare)

    def test_inodes(self):
        run = self.system.sh("i=0; while [ $i -lt 1900 ]; do : > f$i; i=$((i+1)); done; sleep 60",
                             "--no-cache", "--platform", "limit-inodes=500")
        self.assertEqual(run.code, 137)
        self.assertIn("killed: past the limit inodes=500", run.err)

    def test_nothing_is_left(self):
        self.assert_ok(self.system.sh("echo x > f"))
        self.assert_clean()

    def test_nothing_is_left_by_a_worker_that_was_killed(self):
        worker = self.system.start_worker(*self.worker_args, "--platform", "pool=killed",
                                          name="killed")
        run = self.system.popen("run", "--no-cache", "--platform", "pool=killed", "--env",
                                "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", "echo x > f; sleep 300")
        wait_until(lambda: worker_mounts(worker), "the action's file system")
        self.assertEqual(len(loops(worker)), self.kind == "loop")
        worker.stop(signal.SIGKILL)
        wait_until(lambda: not loops(worker), "the end of the loop device")
        self.assertFalse(mounts_below(worker.cache))
        again = self.system.start_worker(*self.worker_args, "--platform", "pool=killed",
                                         name="killed")
        try:
            wait_until(lambda: worker_mounts(again), "the action's next try")
            self.assertLessEqual(len(list((again.cache / "actions").iterdir())), 1)
        finally:
            run.send_signal(signal.SIGINT)
            run.communicate()
        self.assertEqual(again.stop(), 0)


class TmpfsTest(UpperTests, SystemTest):
    worker_args = ("--slots", "1", "--limit", "disk=32M", "--limit-max", "inodes=100000",
                   "--upper", "tmpfs")
    kind = "tmpfs"
    spare = 0


class LoopTest(UpperTests, SystemTest):
    worker_args = ("--slots", "1", "--limit", "disk=32M", "--limit-max", "inodes=100000",
                   "--upper", "loop")
    kind = "loop"
    spare = 2 * BLOCK  # one for a list of extents, one that the kernel keeps for itself


class OptionTest(unittest.TestCase):
    def test_needs_a_limit(self):
        for kind, words in (("loop", "--upper loop needs --limit disk=SIZE"),
                            ("tmpfs", "--upper tmpfs needs --limit disk=SIZE"),
                            ("ram", "--upper ram is not dir, tmpfs or loop")):
            done = subprocess.run(
                [system.BIN / "lazyroot-worker", "--server", "grpc://127.0.0.1:1", "--cache",
                 "/nonexistent", "--upper", kind], capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 2)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    system.main()
