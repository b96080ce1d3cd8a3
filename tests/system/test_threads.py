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
        cls.enough = max(ENOUGH, (os.cpu_count() or 1) * 3 + 24)
        cls.place = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-threads-", dir="/var/tmp"))
        cls.place.chmod(0o755)
        for name in ("lazyroot", "lazyroot-server"):
            shutil.copy2(system.BIN / name, cls.place)
        for name in ("cache", "data"):
            (cls.place / name).mkdir()
            os.chown(cls.place / name, USER, USER)

    @classmethod
    def tearDownClass(cls):
        cls.system.close()
        shutil.rmtree(cls.place)

    def command(self, n_threads, program, *args):
        return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "prlimit",
                f"--nproc={n_threads}", self.place / program, *args]

    def ls(self, n_threads):
        return subprocess.run(
            self.command(n_threads, "lazyroot", "ls", self.digest),
            env=self.system.environment({"XDG_CACHE_HOME": str(self.place / "cache")}),
            cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=system.PATIENCE)

    def test_each_number_of_threads_is_too_few_or_enough(self):
        for n_threads in [*range(1, 25), self.enough]:
            run = self.ls(n_threads)  # one that hangs is what this is about
            if run.returncode == 0:
                self.assertEqual(run.stdout, "f\n", n_threads)
                continue
            self.assert_said(run.returncode, run.stdout, run.stderr, n_threads)
            said = [line for line in run.stderr.splitlines() if "; again " not in line]
            self.assertEqual(len(said), 1, run.stderr)

    def assert_said(self, code, out, err, n_threads):
        self.assertLess(n_threads, self.enough, err)
        self.assertEqual(code, 1, f"{n_threads}: {err}")
        self.assertIn("start the thread ", err, n_threads)
        self.assertIn("ulimit -u", err, n_threads)
        self.assertEqual(out, "", n_threads)

    def test_a_server_has_its_threads_or_does_not_start(self):
        for n_threads in [*range(1, 33), self.enough]:
            server = subprocess.Popen(
                self.command(n_threads, "lazyroot-server", "--listen", "grpc://127.0.0.1:0",
                             "--data", self.place / "data"),
                cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True)
            line = server.stdout.readline()
            if line:
                server.terminate()
            out, err = server.communicate(timeout=system.PATIENCE)
            if not line:
                self.assert_said(server.returncode, out, err, n_threads)
                continue
            self.assertIn("listening on ", line)
            self.assertEqual(server.returncode, 0, f"{n_threads}: {err}")


if __name__ == "__main__":
    unittest.main()
