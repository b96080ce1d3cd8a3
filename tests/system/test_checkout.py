"""lazyroot checkout: directories and archives, whole or not at all, integrated in a sandbox."""
import json
import io
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import unittest

import system
from system import System, mounts_below
from test_verbs import same_tree

BUSYBOX = pathlib.Path("/bin/busybox")


class CheckoutTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        system.need_root()
        system.own_mounts()
        cls.system = System()
        cls.tree = cls.system.tree("tree", {
            "a": "a\n", "dir/run": ("exec", "#!/bin/sh\n"), "dir/link": ("link", "../a"),
            "empty": None, "ü": "utf-8", "n" * 200 + "/" + "m" * 200: "long",
            "out": ("link", "../../../etc/passwd"), "large": os.urandom(3 << 20)})
        (cls.tree / os.fsdecode(b"\xff\xfe")).write_text("no utf-8")
        cls.digest = cls.system.upload(cls.tree, "--mtimes", "never")
        base = cls.system.tree("base", {"bin/sh": ("exec", ""), "etc/seed": "seed\n"})
        shutil.copy(BUSYBOX, base / "bin/sh")
        cls.base = cls.system.upload(base, "--mtimes", "never")

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def setUp(self):
        self.dest = self.system.dir / f"dest-{self._testMethodName}"

    def checkout(self, *args, code=0, **kwargs):
        run = self.system.lazyroot("checkout", *args, **kwargs)
        self.assertEqual(run.code, code, run.err)
        self.assertEqual(mounts_below(self.system.dir), [])
        return run


    def test_a_directory_is_the_tree(self):
        self.checkout(self.digest, self.dest)
        self.assertTrue(same_tree(self.tree, self.dest))
        self.assertTrue(os.access(self.dest / "dir/run", os.X_OK))
        document = json.loads(self.checkout("--json", "--force", self.digest, self.dest).text)
        self.assertEqual(document, {"digest": self.digest, "dest": str(self.dest)})

    def test_what_is_there_stays_unless_forced(self):
        self.dest.mkdir()
        (self.dest / "mine").write_text("mine")
        run = self.checkout(self.digest, self.dest, code=1)
        self.assertIn("--force", run.err)
        self.assertEqual(os.listdir(self.dest), ["mine"])
        self.checkout("--force", self.digest, self.dest)
        self.assertTrue(same_tree(self.tree, self.dest))

    def test_a_directory_that_must_stay_is_filled_or_refused(self):
        """Where somebody stands, or something is mounted, no other directory comes."""
        def into(where, *args, cwd=None):
            return self.system.lazyroot("checkout", *args, self.digest, where, cwd=cwd)

        below = self.dest / "below"
        below.mkdir(parents=True)
        for where in (".", self.dest):  # the working directory, and what it lies in
            run = into(where, "--force", cwd=below)
            self.assertEqual(run.code, 0 if where == "." else 1, run.err)
            self.assertTrue(same_tree(self.tree, below))
        self.assertIn(str(self.dest), run.err)
        (below / "mine").write_text("mine")
        run = into(".", "--force", cwd=below)
        self.assertEqual(run.code, 1)
        self.assertIn("empty it", run.err)
        self.assertEqual((below / "mine").read_text(), "mine")
        run = into("/", "--force", cwd=below)
        self.assertEqual(run.code, 1)
        self.assertIn("/ is", run.err)
        self.assertFalse(os.path.exists("/dir/run"))

    def test_a_mount_point_is_filled_or_refused(self):
        self.dest.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", self.dest], check=True)
        try:
            for code in (0, 1):
                run = self.system.lazyroot("checkout", "--force", self.digest, self.dest)
                self.assertEqual(run.code, code, run.err)
                self.assertTrue(same_tree(self.tree, self.dest))
            self.assertIn("a mount point", run.err)
        finally:
            subprocess.run(["umount", self.dest], check=True)

    def test_what_is_no_file_is_written_to_and_stays(self):
        """A device, a FIFO, a descriptor of the caller's: none is replaced by a file."""
        device, pipe = self.system.dir / "null", self.system.dir / "pipe"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mkfifo(pipe)
        blob = self.system.upload(self.tree / "a")
        for args, rest in ((("checkout", self.digest, "--tar"), ()), (("download", blob), ()),
                           (("run", "--sandbox", "namespaces", "--report"), ("--", "/bin/true"))):
            with self.subTest(args=args):
                self.assertEqual(self.system.lazyroot(*args, device, *rest).code, 0)
                self.assertTrue(device.is_char_device())
                copy = self.system.dir / "copy"
                with open(copy, "wb") as out:
                    reader = subprocess.Popen(["cat", pipe], stdout=out)
                run = self.system.lazyroot(*args, pipe, *rest)
                self.assertEqual((run.code, reader.wait(system.PATIENCE)), (0, 0), run.err)
                piped = copy.read_bytes()
                self.assertTrue(pipe.is_fifo())
                with open(self.system.dir / "out", "w+b") as out:
                    os.set_inheritable(out.fileno(), True)
                    subprocess.run([system.BIN / "lazyroot", *args, f"/dev/fd/{out.fileno()}", *rest],
                                   pass_fds=(out.fileno(),), check=True, capture_output=True,
                                   env=self.system.environment(), cwd=self.system.dir)
                    out.seek(0)
                    written = out.read()
                self.assertTrue(written)
                if args[0] != "run":
                    self.assertEqual(written, piped)
        run = self.system.lazyroot("checkout", "--force", self.digest, device)
        self.assertEqual(run.code, 1)
        self.assertIn("is a device", run.err)
        self.assertTrue(device.is_char_device())

    def test_an_archive_holds_the_same(self):
        archive = self.system.dir / "archive.tar"
        self.checkout(self.digest, "--tar", archive)
        self.dest.mkdir()
        subprocess.run(["tar", "-x", "-f", archive, "-C", self.dest], check=True,
                       capture_output=True)
        self.assertTrue(same_tree(self.tree, self.dest))
        self.assertTrue(os.access(self.dest / "dir/run", os.X_OK))
        with tarfile.open(archive) as tar:
            for member in tar.getmembers():
                self.assertEqual((member.uid, member.gid, member.mtime), (0, 0, 1321009871))
        streamed = self.checkout(self.digest, "--tar", "-").out
        self.assertEqual(streamed, archive.read_bytes())  # the same tree, the same bytes
        self.assertIn("--force", self.checkout(self.digest, "--tar", archive, code=1).err)
        self.checkout("--force", self.digest, "--tar", archive)

    def test_an_archive_is_compressed_as_its_name_says(self):
        plain = self.checkout(self.digest, "--tar", "-").out
        for suffix, magic in ((".tar.gz", b"\x1f\x8b"), (".tgz", b"\x1f\x8b"), (".tar.bz2", b"BZh"),
                              (".tar.xz", b"\xfd7zXZ"), (".tar.zst", b"\x28\xb5\x2f\xfd")):
            for archive in (self.system.dir / f"a{suffix}", self.system.dir / f"b{suffix}"):
                self.checkout(self.digest, "--tar", archive)
            made = archive.read_bytes()
            self.assertTrue(made.startswith(magic), suffix)
            self.assertEqual(made, (self.system.dir / f"a{suffix}").read_bytes())
            if suffix != ".tar.zst":  # which Python does not know
                with tarfile.open(archive) as tar, tarfile.open(fileobj=io.BytesIO(plain)) as want:
                    self.assertEqual(tar.getnames(), want.getnames())

    def test_integration_sees_the_tree_as_its_root(self):
        run = self.checkout(
            "--integrate", "test $(id -u) = 0 && ls / && cat /etc/seed > /etc/first",
            "--integrate", "cat /etc/first /etc/seed > /etc/second; rm /etc/seed; ln -s x /etc/l",
            self.base, self.dest)
        self.assertIn("bin", run.err.split())  # its words are on stderr
        self.assertEqual(run.out, b"")
        self.assertEqual(sorted(os.listdir(self.dest)), ["bin", "etc"])
        self.assertEqual(sorted(os.listdir(self.dest / "etc")), ["first", "l", "second"])
        self.assertEqual((self.dest / "etc/second").read_text(), "seed\nseed\n")
        tar = self.checkout("--integrate", "echo hello; echo x > /etc/x", self.base, "--tar", "-")
        self.assertIn(b"./etc/x\0", tar.out)
        self.assertIn("hello", tar.err)

    def test_a_failure_touches_nothing(self):
        self.dest.mkdir()
        (self.dest / "mine").write_text("mine")
        archive = self.system.dir / "kept.tar"
        archive.write_text("kept")
        lost = self.system.tree("lost", {"f": "lost soon", "g": "stays"})
        digest = self.system.upload(lost, "--mtimes", "never")
        blob = self.system.upload(lost / "f")
        root = self.system.dir / "data"
        for path in root.rglob(blob.split("/")[0]):
            path.unlink()
        away = {"XDG_CACHE_HOME": str(self.system.dir / "failing-home")}
        for args in (("--integrate", "echo x > /etc/x; exit 3", self.base),
                     ("--integrate", "true", "--integrate", "kill -9 $$", self.base), (digest,)):
            with self.subTest(args=args):
                self.checkout("--force", *args, self.dest, code=1, env=away)
                self.assertEqual(os.listdir(self.dest), ["mine"])
                self.checkout("--force", *args, "--tar", archive, code=1, env=away)
                self.assertEqual(archive.read_text(), "kept")
                self.assertEqual([p.name for p in self.system.dir.glob("kept.tar*")], ["kept.tar"])

    def test_usage(self):
        run = self.checkout("--force", self.digest, "--tar", self.tree, code=1)
        self.assertIn("is a directory", run.err)
        for args in ((), (self.digest,), (self.digest, "a", "--tar", "b"), (self.digest, ""), (self.digest, "-"),
                     ("nonsense", "x"), ("--json", self.digest, "--tar", "-")):
            self.checkout(*args, code=2)


if __name__ == "__main__":
    system.main()
