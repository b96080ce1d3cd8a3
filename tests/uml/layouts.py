"""Where a worker may find itself in a cgroup v2 tree, and without one. Runs in a machine of its
own (tests/uml/run): it arranges the whole tree.

Alone in its cgroup it moves aside, to give its controllers to its actions, and back at the end;
beside others it must not; without any cgroup, too, nothing of a killed worker runs on. Each time
the worker says so, and what it says is true."""
import os
import pathlib
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import system  # noqa: E402
from system import System, descendants, wait_until  # noqa: E402

ROOT = pathlib.Path("/sys/fs/cgroup")
SERVICE = ROOT / "service"
HOG = "/usr/bin/python3 -c 'x = bytearray(200 << 20)'"


def put(path, text):
    path.write_text(str(text))


class Layout(unittest.TestCase):
    def setUp(self):
        # the programs, the worker by way of a shell that joins a cgroup first
        programs = pathlib.Path("/run/bin")
        programs.mkdir(exist_ok=True)
        real = pathlib.Path(os.environ["LAZYROOT_BIN"])
        for name in ("lazyroot", "lazyroot-server", "lazyroot-sandbox"):
            (programs / name).unlink(missing_ok=True)
            (programs / name).symlink_to(real / name)
        (programs / "lazyroot-worker").write_text(
            f'#!/bin/bash\n[ ! -d {SERVICE} ] || echo $$ > {SERVICE}/cgroup.procs\n'
            f'exec {real}/lazyroot-worker "$@"\n')
        (programs / "lazyroot-worker").chmod(0o755)
        system.BIN = programs
        self.system = System()
        self.addCleanup(self.system.close)

    def worker(self, *args, **kwargs):
        return self.system.start_worker("--slots", "1", *args, **kwargs)

    def says(self, worker):
        return next(line for line in worker.err().splitlines() if "limits: " in line)

    def limited(self, script, *limits):
        asked = [a for limit in limits for a in ("--platform", f"limit-{limit}")]
        return self.system.sh(script, "--no-cache", *asked)


class InACgroup(Layout):
    def setUp(self):
        put(ROOT / "cgroup.subtree_control", "+memory +pids")
        (ROOT / "harness").mkdir(exist_ok=True)
        put(ROOT / "harness/cgroup.procs", os.getpid())
        SERVICE.mkdir()
        super().setUp()
        self.addCleanup(SERVICE.rmdir)

    def below(self):
        return [p.name for p in SERVICE.iterdir() if p.is_dir()]

    def test_alone_the_worker_moves_aside_and_back(self):
        worker = self.worker("--limit", "processes=50")
        self.assertIn("memory by cgroup v2, processes by cgroup v2", self.says(worker))
        self.assertEqual(self.below(), [f"lazyroot-{worker.pid}-worker"])
        run = self.limited(HOG + "; exit 0", "memory=64M")
        self.assertEqual(run.code, 137)
        self.assertIn("killed: past the limit memory=64M", run.err)
        self.assertEqual(self.limited("echo ok", "memory=64M").text, "ok\n")
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(self.below(), [])
        self.assertEqual((SERVICE / "cgroup.subtree_control").read_text().strip(), "")

    def test_what_a_killed_worker_left_is_removed(self):
        worker = self.worker()
        client = self.system.popen("run", "--no-cache", "--", "/bin/sleep", "600")
        wait_until(lambda: len(self.below()) == 2, "the action's cgroup")
        worker.popen.kill()
        worker.popen.wait()
        self.system.processes.remove(worker)
        wait_until(lambda: "populated 0" in (SERVICE / "cgroup.events").read_text(),
                   "the end of what it started")
        client.kill()
        client.communicate()
        put(SERVICE / "cgroup.subtree_control", "-memory -pids")  # as a service manager does
        second = self.worker()
        self.assertNotIn(f"lazyroot-{worker.pid}", " ".join(self.below()))
        second.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: "once more" in second.err(), "the worker's word")
        second.stop()
        self.assertEqual(self.below(), [])

    def test_beside_others_the_worker_stays(self):
        stranger = subprocess.Popen(["sleep", "600"])
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        put(SERVICE / "cgroup.procs", stranger.pid)
        worker = self.worker()
        said = self.says(worker)
        self.assertIn("memory by RLIMIT_DATA", said)
        self.assertIn("processes by nothing", said)
        self.assertIn("other processes live in", said)
        self.assertEqual(self.below(), [])
        # cgroup.kill and CPU time need no controller
        run = self.limited("while :; do :; done", "cpu-time=1s")
        self.assertEqual(run.code, 137)
        self.assertIn("killed: past the limit cpu-time=1s", run.err)
        run = self.limited(HOG, "memory=64M")
        self.assertEqual(run.code, 1)
        self.assertIn("MemoryError", run.err)
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(self.below(), [])
        worker = self.worker("--limit", "processes=50", wait=False)
        self.assertEqual(worker.popen.wait(system.PATIENCE), 1)
        self.assertIn("this machine cannot", worker.err())
        stranger.kill()
        stranger.wait()


class WithoutCgroups(Layout):
    def setUp(self):
        subprocess.run(["umount", ROOT], check=True)
        self.addCleanup(lambda: subprocess.run(["mount", "-t", "cgroup2", "cgroup2", ROOT],
                                               check=True))
        super().setUp()

    def test_killed_worker_leaves_no_process(self):
        worker = self.worker()
        client = self.system.popen("run", "--no-cache", "--", "/bin/sleep", "600")
        wait_until(lambda: len(descendants(worker.pid)) > 3, "the command's start")
        processes = descendants(worker.pid)
        worker.popen.kill()
        worker.popen.wait()
        self.system.processes.remove(worker)
        wait_until(lambda: not any(is_alive(p) for p in processes), "the end of what it started")
        client.kill()
        client.communicate()


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    system.main()
