"""What the client keeps on this machine: what a run brought back, and what a run needs."""
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import system
from system import BIN, PATIENCE, SystemTest, need_root, own_mounts, sandboxes_with, wait_until
from test_logs import go_on, sleeps

MIB = 1 << 20


class BroughtBackTest(SystemTest):
    def here(self, verb, *args):
        """From the local store alone."""
        return self.system.lazyroot(verb, *args, env={"LAZYROOT_SERVER": ""})

    def assert_here(self, report, out, err):
        for name, text in (("stdout", out), ("stderr", err)):
            run = self.here("cat", report[name])
            self.assertEqual((run.code, run.text), (0, text), (name, run.err))

    def test_what_a_command_said_is_in_the_local_store_however_it_ended(self):
        for code in (0, 3):
            words = f"{time.monotonic_ns()}"
            run = self.system.sh(f"echo out {words}; echo err {words} >&2; exit {code}")
            self.assertEqual(run.code, code, run.err)
            self.assert_here(run.report, f"out {words}\n", f"err {words}\n")

    def test_of_a_result_that_was_known_already_too(self):
        script = f"echo out {time.monotonic_ns()}"
        first = self.system.sh(script)
        home = {"XDG_CACHE_HOME": str(self.system.dir / "other")}
        run = self.system.sh(script, env=home)
        self.assertTrue(run.report["cached"], run.err)
        found = self.system.lazyroot("cat", first.report["stdout"], env={"LAZYROOT_SERVER": "", **home})
        self.assertEqual((found.code, found.text), (0, first.text), found.err)

    def test_of_one_that_was_waited_for_too(self):
        words = f"{time.monotonic_ns()}"
        operation = self.system.lazyroot(
            "run", "--detach", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", f"echo {words}")
        run = self.system.lazyroot("wait", "--json", operation.text.strip())
        self.assertEqual(run.code, 0, run.err)
        self.assert_here(json.loads(run.out), words + "\n", "")

    def test_a_failed_run_is_looked_at_without_the_service(self):
        tree = self.system.tree("failed", {"f": "content"})
        run = self.system.sh("echo made > new; exit 4", "-i", tree, "-o", "new", "--download",
                             self.system.dir / "failed-out", "--sandbox", "namespaces")
        self.assertEqual(run.code, 4, run.err)
        run = self.here("shell", "--action", run.report["action"], "--result", "--", "/bin/sh", "-c",
                        "cat f new; echo more > new")
        self.assertEqual((run.code, run.text), (0, "contentmade\n"), run.err)


class SmallStoreTest(unittest.TestCase):
    """A local store that holds 24 MiB: what a command reads late is still there."""

    @classmethod
    def setUpClass(cls):
        need_root()
        own_mounts()

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-small-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.home = self.dir / "home"
        self.home.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", self.home], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", self.home], check=True)
        self.blobs = self.home / "lazyroot/cas/blobs"

    def popen(self, *args):
        env = {k: v for k, v in os.environ.items() if not k.startswith("LAZYROOT_")}
        process = subprocess.Popen([BIN / "lazyroot", *args], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.dir,
                                   env={**env, "XDG_CACHE_HOME": str(self.home)})

        def end():
            process.kill()
            process.communicate()
        self.addCleanup(end)
        return process

    def tree(self, name, n):
        tree = self.dir / name
        tree.mkdir()
        for i in range(n):
            (tree / f"{i}").write_bytes(os.urandom(MIB))
        return tree

    def has(self, path):
        hash_ = hashlib.sha256(path.read_bytes()).hexdigest()
        return (self.blobs / hash_[:2] / hash_).exists()

    def press(self, known):
        """Runs of others until what nobody holds is gone."""
        for n in range(20):
            run = self.popen("run", "-q", "--sandbox", "plain", "-i", self.tree(f"press-{time.time()}", 6),
                             "--", "/bin/true")
            self.assertEqual((run.wait(PATIENCE), run.stderr.read()), (0, b""))
            if not self.has(known):
                return
        self.fail("nothing goes")

    def late(self, marker, *where):
        """A command that reads what it has once it may."""
        run = self.popen(*where, "/bin/sh", "-c", f"sleep {marker}; cat 0 1 2 3 4 5 | sha256sum")
        wait_until(lambda: sleeps(marker) or run.poll() is not None, "the command")
        self.assertIsNone(run.poll(), run.stderr.read() if run.poll() is not None else "")
        return run

    WHERES = ("--input", "--input-digest", "shell", "mount")

    def where(self, name):
        """A tree that was just stored, and how a command is given it."""
        tree = self.tree(f"in-{name}", 6)
        upload = self.popen("run", "-q", "--json", "--sandbox", "plain", "-i", tree, "-o", "d", "--",
                            "/bin/sh", "-c", "mkdir d; mv ? d 2>/dev/null; true")
        out, err = upload.communicate(timeout=PATIENCE)
        self.assertEqual(upload.returncode, 0, err)
        root = json.loads(out)["outputs"][0]["digest"]
        run = ("run", "-q", "--no-cache", "--sandbox", "namespaces", "--env", "PATH=/usr/bin:/bin")
        return tree, {"--input": (*run, "-i", tree, "--"),
                      "--input-digest": (*run, "--input-digest", root, "--"),
                      "shell": ("shell", root, "--"), "mount": root}[name]

    def mounted(self, marker, root):
        """The same of what reads a tree that is mounted."""
        point = self.dir / "point"
        point.mkdir()
        mount = self.popen("mount", root, point)
        self.assertEqual(mount.wait(PATIENCE), 0, mount.stderr)
        self.addCleanup(subprocess.run, ["umount", "-l", point], check=True)
        return subprocess.Popen(["/bin/sh", "-c", f"sleep {marker}; cat [0-5] | sha256sum"], cwd=point,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def test_inputs_stay_while_a_command_of_this_machine_may_read_them(self):
        for n, name in enumerate(self.WHERES):
            with self.subTest(name):
                marker = f"42{os.getpid()}{n}"
                free = self.tree(f"free-{n}", 1)
                run = self.popen("run", "-q", "--sandbox", "plain", "-i", free, "--", "/bin/true")
                self.assertEqual(run.wait(PATIENCE), 0)
                tree, where = self.where(name)
                wanted = hashlib.sha256(b"".join((tree / f"{i}").read_bytes()
                                                 for i in range(6))).hexdigest()
                run = (self.mounted if name == "mount" else self.late)(marker, *(
                    [where] if name == "mount" else where))
                self.press(free / "0")
                self.assertTrue(self.has(tree / "5"))
                go_on(marker)
                out, err = run.communicate(timeout=PATIENCE)
                self.assertEqual((run.returncode, out.decode()), (0, f"{wanted}  -\n"), err)
                if name != "mount":
                    self.press(tree / "5")

    def test_what_a_killed_command_held_goes(self):
        tree, where = self.where("--input")
        marker = f"41{os.getpid()}"
        run = self.late(marker, *where)
        run.send_signal(signal.SIGKILL)
        run.wait(PATIENCE)
        wait_until(lambda: not sandboxes_with(marker), "the command's end")
        self.press(tree / "5")


if __name__ == "__main__":
    system.main()
