"""Power failure: the server's data lies on a disk of its own (a file), and what that file holds
at the moment of an answer is what a machine without power would find again."""
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

import system
from system import System, need_root

DISK_BYTES = 256 << 20


class Disk:
    """An ext4 in a file. Its kernel writes to the file only what it must or what is old."""

    def __init__(self, directory, file=None):
        self.file = directory / "disk" if file is None else file
        self.point = directory / f"{self.file.name}.mounted"
        self.point.mkdir()
        if file is None:
            with open(self.file, "wb") as made:
                made.truncate(DISK_BYTES)
            subprocess.run(["mkfs.ext4", "-q", "-F", self.file], check=True)
        # written by itself only after a minute, so that no chance helps a promise
        subprocess.run(["mount", "-o", "loop,commit=60", self.file, self.point], check=True)

    def cut_power(self, directory):
        """Another disk, with what is in the file now."""
        copy = directory / f"cut-{time.monotonic_ns()}"
        subprocess.run(["cp", "--sparse=always", self.file, copy], check=True)
        return Disk(directory, copy)

    def close(self):
        subprocess.run(["umount", self.point], check=True)


class PowerTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-power-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.disk = Disk(self.dir)
        self.addCleanup(self.disk.close)

    def start(self, sync, disk):
        args = ["--sync", sync] if sync else []
        own = System(server_args=[*args, "--data", disk.point / "data", "--data-size", "100M"])
        self.addCleanup(own.close)
        return own

    def files(self, own):
        tree = own.tree("files", {f"d{i % 5}/small{i}": f"small {i} {time.time()}\n" * 3
                                  for i in range(100)})
        (tree / "large").write_bytes(str(time.time()).encode() * 400_000)
        return tree

    def survives(self, sync):
        """What a power failure right after the upload's answer leaves, as another server
        sees it: whether the tree comes back whole."""
        own = self.start(sync, self.disk)
        tree = self.files(own)
        root = own.upload(tree)
        cut = self.disk.cut_power(self.dir)
        self.addCleanup(cut.close)
        after = self.start("none", cut)
        dest = self.dir / "back"
        run = after.lazyroot("download", root, dest, env={"XDG_CACHE_HOME": str(self.dir / "home")})
        if run.code:
            self.assertIn("has no blob", run.err)
            return False
        subprocess.run(["diff", "-r", tree, dest], check=True)
        return True

    def test_batch_is_the_default_and_keeps_its_word(self):
        self.assertTrue(self.survives(None))

    def test_blob(self):
        self.assertTrue(self.survives("blob"))

    def test_none_promises_nothing(self):
        self.assertFalse(self.survives("none"), "the test sees what is lost")

    def test_what_a_second_client_is_told_to_be_there_is(self):
        own = self.start("batch", self.disk)
        tree = self.files(own)
        first = own.popen("upload", tree)
        for _ in range(20):
            root = own.upload(tree)
        cut = self.disk.cut_power(self.dir)
        self.addCleanup(cut.close)
        self.assertEqual(first.wait(), 0)
        first.communicate()
        after = self.start("none", cut)
        run = after.lazyroot("download", root, self.dir / "back",
                             env={"XDG_CACHE_HOME": str(self.dir / "home")})
        self.assertEqual(run.code, 0, run.err)


if __name__ == "__main__":
    system.main()
