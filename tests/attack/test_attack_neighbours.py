"""Others on the same machine: a cache directory that is somebody else's, or that anybody may write
to, names in /tmp that were there first, and links that lead where only their victim may go."""
import json
import os
import pathlib
import shutil
import stat
import subprocess
import tempfile
import unittest

import attack  # noqa: F401  (puts the folder of system on the path)
from system import BIN, PATIENCE, main, need_root

OTHER = 12345  # nobody's


class NeighboursTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-neighbours-", dir="/var/tmp"))
        self.dir.chmod(0o755)
        self.victim = self.dir / "victim"  # what only we may write to
        (self.victim / "kept").mkdir(parents=True)
        (self.victim / "kept/file").write_text("kept\n")
        self.theirs = self.dir / "theirs"
        self.theirs.mkdir()
        self.tree = self.dir / "tree"
        self.tree.mkdir()
        (self.tree / "f").write_text("f\n")

    def tearDown(self):
        found = {str(p.relative_to(self.victim)) for p in self.victim.rglob("*")}
        shutil.rmtree(self.dir)
        self.assertEqual(found, {"kept", "kept/file"})

    def give(self):
        for path in [self.theirs, *self.theirs.rglob("*")]:
            os.chown(path, OTHER, OTHER, follow_symlinks=False)

    def lazyroot(self, *args, env=None, code=0):
        own = {k: v for k, v in os.environ.items() if not k.startswith("LAZYROOT_")}
        run = subprocess.run([str(BIN / "lazyroot"), *map(str, args)], capture_output=True,
                             text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, cwd=self.dir,
                             env={**own, "TMPDIR": str(self.dir), **(env or {})})
        self.assertEqual(run.returncode, code, run.stderr)
        return run

    def runs(self, cache):
        """A local run with that cache; what it said."""
        run = self.lazyroot("run", "--sandbox", "plain", "--input", self.tree, "--", "/bin/cat", "f",
                            env={"XDG_CACHE_HOME": str(cache)})
        self.assertEqual(run.stdout, "f\n")
        return run.stderr

    def test_root_with_the_home_of_another_user(self):
        (self.theirs / "lazyroot").mkdir()
        # what a killed command left is removed, in a directory of ours
        (self.theirs / "lazyroot/scratch").symlink_to(self.victim)
        (self.theirs / "lazyroot/cas").symlink_to(self.victim)
        self.give()
        self.assertIn(f"belongs to another user, {OTHER}", self.runs(self.theirs))

    def test_a_cache_that_is_anothers_link(self):
        (self.theirs / "lazyroot").symlink_to(self.victim)
        self.give()
        self.assertIn(f"belongs to another user, {OTHER}", self.runs(self.theirs))

    def test_a_cache_that_anybody_may_write_to(self):
        cache = self.dir / "open/lazyroot"
        cache.mkdir(parents=True)
        cache.chmod(0o1777)
        (cache / "scratch").symlink_to(self.victim)
        os.chown(cache / "scratch", OTHER, OTHER, follow_symlinks=False)
        self.assertIn("anybody may write to", self.runs(cache.parent))

    def test_a_cache_of_ones_own_is_kept(self):
        cache = self.dir / "elsewhere"
        cache.mkdir()
        (self.dir / "own").mkdir()
        (self.dir / "own/lazyroot").symlink_to(cache)
        self.assertNotIn("no cache directory", self.runs(self.dir / "own"))
        self.assertIn("cas", os.listdir(cache))

    # What checkout replaces.

    def digest(self):
        """Of a tree with a shell in it, in the cache that checkout() has."""
        script = "mkdir -p out/bin; echo f > out/f; cp /bin/busybox out/bin/sh"
        run = self.lazyroot("run", "--sandbox", "plain", "--json", "--no-download", "--output", "out",
                            "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", script,
                            env={"XDG_CACHE_HOME": str(self.dir / "home")})
        return json.loads(run.stdout)["outputs"][0]["digest"]

    def checkout(self, *args, code=0):
        return self.lazyroot("checkout", self.digest(), *args, code=code,
                             env={"XDG_CACHE_HOME": str(self.dir / "home")})

    def test_a_destination_that_is_anothers_link(self):
        self.theirs.chmod(0o1777)
        (self.theirs / "dest").symlink_to(self.victim)
        self.give()
        run = self.checkout("--force", self.theirs / "dest", code=1)
        self.assertIn(f"link of another user, {OTHER}", run.stderr)

    def test_a_link_of_ones_own_is_followed(self):
        (self.dir / "real").mkdir()
        (self.dir / "dest").symlink_to("real")
        self.checkout(self.dir / "dest")
        self.assertTrue((self.dir / "dest").is_symlink())
        self.assertEqual((self.dir / "real/f").read_text(), "f\n")

    def checkout_while(self, put, *args):
        """put() is called while the integration command runs, which says more than a pipe holds
        and so ends once all of it is read."""
        script = ("echo runs; i=0; while [ $i -lt 20000 ]; do echo 0123456789abcdef; i=$((i+1));"
                  " done")
        own = {k: v for k, v in os.environ.items() if not k.startswith("LAZYROOT_")}
        words = ["checkout", "--integrate", f"({script}) >&2", self.digest(), *args]
        process = subprocess.Popen([str(BIN / "lazyroot"), *map(str, words)],
                                   stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                                   env={**own, "XDG_CACHE_HOME": str(self.dir / "home")})
        self.assertEqual(process.stderr.readline(), "runs\n")
        put()
        err = process.communicate(timeout=PATIENCE)[1]
        return process.returncode, err.splitlines()[-1]

    def test_what_came_since_the_check_stays(self):
        def full(path):
            path.mkdir()
            (path / "new").write_text("new")
        for name, put, words in (("dir", full, ()),
                                 ("link", lambda path: path.symlink_to(self.victim), ()),
                                 ("file", lambda path: path.write_text("new"), ()),
                                 ("tar", lambda path: path.write_text("new"), ("--tar",))):
            with self.subTest(name=name):
                path = self.dir / name
                code, said = self.checkout_while(lambda: put(path), *words, path)
                self.assertEqual((code, "meanwhile" in said), (1, True), said)
        self.assertEqual((self.dir / "dir/new").read_text(), "new")
        self.assertEqual(os.readlink(self.dir / "link"), str(self.victim))
        self.assertEqual((self.dir / "file").read_text(), "new")
        self.assertEqual((self.dir / "tar").read_text(), "new")
        self.assertEqual([*self.dir.glob(".lazyroot-*"), *self.dir.glob("tar.*")], [])

    def test_an_empty_directory_that_came_since_is_taken(self):
        path = self.dir / "empty"
        self.assertEqual(self.checkout_while(path.mkdir, path)[0], 0)
        self.assertEqual((path / "f").read_text(), "f\n")

    def test_an_archive_takes_no_devices_place(self):
        os.mknod(self.dir / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mkfifo(self.dir / "fifo")
        (self.dir / "to").symlink_to("null")
        with open(self.dir / "read", "wb") as read:
            reader = subprocess.Popen(["cat", self.dir / "fifo"], stdout=read)
        for name in ("null", "fifo", "to"):
            self.checkout("--force", "--tar", self.dir / name)  # it is written to
            self.assertFalse((self.dir / name).is_file())
            self.assertEqual((self.dir / name).is_symlink(), name == "to")
        self.assertEqual(reader.wait(PATIENCE), 0)
        self.assertIn(b"ustar", (self.dir / "read").read_bytes())

    def test_a_file_is_not_what_somebody_put_in_its_way(self):
        """Names that a file has for a moment, before it replaces what stands there."""
        env = {"XDG_CACHE_HOME": str(self.dir / "home")}
        run = self.lazyroot("run", "--sandbox", "plain", "--json", "--no-download", "--output", "f",
                            "--", "/bin/sh", "-c", "echo ours > f", env=env)
        digest = json.loads(run.stdout)["outputs"][0]["digest"]
        (self.theirs / "f").write_text("before\n")
        pid = subprocess.Popen(["/bin/true"])
        pid.wait()
        for number in range(pid.pid, pid.pid + 3000):
            (self.theirs / f".lazyroot.{number}.0~").write_text("theirs\n")
        self.give()
        self.lazyroot("download", digest, self.theirs / "f", env=env)
        self.assertEqual((self.theirs / "f").read_text(), "ours\n")
        self.assertEqual((self.theirs / "f").stat().st_uid, os.geteuid())

    # What a report replaces.

    def report(self, path, **kwargs):
        return self.lazyroot("run", "--sandbox", "plain", "--report", path, "--", "/bin/true",
                             env={"XDG_CACHE_HOME": str(self.dir / "home")}, **kwargs)

    def test_a_report_goes_through_nobodys_link(self):
        """Names beside the report's that hold the number of the next processes."""
        self.theirs.chmod(0o777)
        pid = subprocess.Popen(["/bin/true"])
        pid.wait()
        for number in range(pid.pid, pid.pid + 3000):
            (self.theirs / f"r.json.{number}~").symlink_to(self.victim / "kept/file")
        self.give()
        self.report(self.theirs / "r.json")
        self.assertEqual((self.victim / "kept/file").read_text(), "kept\n")
        self.assertEqual(json.loads((self.theirs / "r.json").read_text())["exit_code"], 0)
        self.assertEqual((self.theirs / "r.json").stat().st_uid, os.geteuid())

    def test_a_report_to_a_device_or_a_pipe(self):
        os.mknod(self.dir / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        self.report(self.dir / "null")
        self.assertTrue((self.dir / "null").is_char_device())
        os.mkfifo(self.dir / "fifo")
        self.assertIn("fifo", self.report(self.dir / "fifo", code=125).stderr)
        reader = os.open(self.dir / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        self.report(self.dir / "fifo")
        self.assertEqual(json.loads(os.read(reader, 65536))["exit_code"], 0)
        os.close(reader)
        self.assertTrue((self.dir / "fifo").is_fifo())


if __name__ == "__main__":
    main()
