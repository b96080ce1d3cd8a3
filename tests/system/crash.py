"""What the tests of sudden ends share: a system of their own, a job whose result is known to the
last byte, and words for what must not be left on the machine."""
import os
import pathlib
import random
import shutil
import time
import unittest

import system
from system import System, cgroups_of, descendants, need_root, wait_until

IS_LONG = bool(os.environ.get("LAZYROOT_TEST_LONG"))
# of a job, where LAZYROOT_TEST_STOP_AT can stop a worker
POINTS = ("fetching", "staging", "running", "capturing", "uploading", "ended")


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
