"""Users who may have few processes: what cannot start says so, and ends."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import system
from system import System, need_root

USER = 61999  # nobody else's, so all its threads are ours
ENOUGH = 40   # threads: what the client and gRPC have on a few processors is half of it


class FewThreadsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.digest = cls.system.upload(cls.system.tree("tree", {"f": "f\n"}))
        cls.place = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-threads-", dir="/var/tmp"))
        cls.place.chmod(0o755)
        shutil.copy2(system.BIN / "lazyroot", cls.place)
        (cls.place / "cache").mkdir()
        os.chown(cls.place / "cache", USER, USER)

    @classmethod
    def tearDownClass(cls):
        cls.system.close()
        shutil.rmtree(cls.place)

    def ls(self, n_threads):
        return subprocess.run(
            ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
             "prlimit", f"--nproc={n_threads}", self.place / "lazyroot", "ls", self.digest],
            env=self.system.environment({"XDG_CACHE_HOME": str(self.place / "cache")}),
            cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=system.PATIENCE)

    def test_each_number_of_threads_is_too_few_or_enough(self):
        enough = max(ENOUGH, (os.cpu_count() or 1) + 24)
        for n_threads in [*range(1, 25), enough]:
            run = self.ls(n_threads)  # one that hangs is what this is about
            if run.returncode == 0:
                self.assertEqual(run.stdout, "f\n", n_threads)
                continue
            self.assertLess(n_threads, enough, run.stderr)
            self.assertEqual(run.returncode, 1, f"{n_threads}: {run.stderr}")
            self.assertIn("start the thread ", run.stderr, n_threads)
            self.assertIn("ulimit -u", run.stderr, n_threads)
            self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
            self.assertEqual(run.stdout, "", n_threads)


if __name__ == "__main__":
    unittest.main()
