"""A plain sandbox isolates nothing, but what lazyroot itself does stays in the scratch directory:
trees and commands that lead out of it by names and links move, read and write nothing outside,
and no process stays, however it is left behind."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import attack  # noqa: F401  (puts the folder of system on the path)
from system import BIN, PATIENCE, need_root, sandboxes_with, wait_until


class PlainTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-plain-", dir="/var/tmp"))
        self.outside = self.dir / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret\n")
        self.tree = self.dir / "tree"
        self.tree.mkdir()

    def tearDown(self):
        outside = [(path.name, path.read_text()) for path in self.outside.iterdir()]
        shutil.rmtree(self.dir)
        self.assertEqual(outside, [("secret", "secret\n")])

    def sh(self, script, *args):
        env = {k: v for k, v in os.environ.items() if not k.startswith("LAZYROOT_")}
        words = [BIN / "lazyroot", "run", "--sandbox", "plain", "--json", "--no-cache",
                 "--no-download", "--input", self.tree, *args, "--env", "PATH=/usr/bin:/bin",
                 "--", "/bin/sh", "-c", script]
        run = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                             timeout=PATIENCE, stdin=subprocess.DEVNULL,
                             env={**env, "XDG_CACHE_HOME": str(self.dir / "home")})
        self.assertEqual(list((self.dir / "home/lazyroot/scratch").iterdir()), [])
        return run, json.loads(run.stdout)

    def test_a_link_of_the_tree_that_leads_out_takes_no_output(self):
        for target in (str(self.outside), "../../../../../outside", "/"):
            link = self.tree / "out"
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            run, found = self.sh(":", "--output", "out/made/file")
            # "/" is the root itself, from within which the parent is made
            if target == "/":
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertFalse(pathlib.Path("/made").exists())
            else:
                self.assertEqual(found["error"]["code"], "INVALID_ARGUMENT", run.stderr)

    def test_a_working_directory_does_not_lead_out(self):
        (self.tree / "work").symlink_to(self.outside)
        run, found = self.sh("pwd", "--workdir", "work")
        self.assertEqual(found["error"]["code"], "INVALID_ARGUMENT", run.stderr)

    def test_a_link_that_the_command_made_is_captured_as_a_link(self):
        run, found = self.sh(f"mkdir out; ln -s {self.outside} out/d; rm -rf in;"
                             f" ln -s {self.outside} in", "--output", "out", "--output", "in",
                             "--output", "out/d/secret", "--output", "in/secret")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual({o["path"]: o["type"] for o in found["outputs"]},
                         {"out": "directory", "in": "symlink"})
        self.assertEqual(sorted(found["missing_outputs"]), ["in/secret", "out/d/secret"])

    def test_a_parent_that_became_a_link_leads_nowhere(self):
        run, found = self.sh(f"rm -r p; ln -s {self.outside} p", "--output", "p/secret")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(found["outputs"], [])

    def test_nobody_swaps_directories_while_they_are_captured(self):
        marker = f"46{os.getpid()}"
        swap = (f"while :; do mv out/d out/x; ln -s {self.outside} out/d; rm out/d;"
                f" mv out/x out/d; done; sleep {marker}")
        run, found = self.sh(
            "mkdir -p out/d; i=0; while [ $i -lt 500 ]; do echo $i > out/d/$i; i=$((i+1)); done;"
            f" (setsid sh -c '{swap}' >/dev/null 2>&1 &) ; sleep 0.3; sleep {marker} &",
            "--output", "out")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(found["outputs"][0]["type"], "directory")
        self.assertEqual(sandboxes_with(marker), [])

    def test_who_makes_processes_faster_than_they_end_is_ended(self):
        marker = f"45{os.getpid()}"
        run, _ = self.sh(
            "n=0; while [ $n -lt 300 ]; do"
            f" (setsid sh -c 'sleep {marker} & sleep {marker}; sleep {marker}' &); n=$((n+1));"
            " done; sleep 1000", "--timeout", "2s")
        self.assertEqual(run.returncode, 124, run.stderr)
        wait_until(lambda: not sandboxes_with(marker), "the end of all of them")

    def test_files_that_cannot_be_read_or_removed(self):
        run, found = self.sh("mkdir -p out/a/b; echo x > out/a/b/f; chmod 000 out/a/b/f;"
                             " mkfifo out/pipe; mknod out/zero c 0 0; mknod out/dev c 1 3;"
                             " chmod 500 out/a/b out/a", "--output", "out")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(len(found["notes"]), 3, found["notes"])

    def test_overlay_attributes_mean_nothing(self):
        script = ("import os; os.makedirs('out/d'); os.makedirs('other');"
                  "open('other/f', 'w').write('x');"
                  "[os.setxattr('out/d', k + '.overlay.redirect', b'/other')"
                  " for k in ('trusted', 'user')];"
                  "[os.setxattr('out/d', k + '.overlay.opaque', b'n') for k in ('trusted', 'user')]")
        run, found = self.sh(f'/usr/bin/python3 -c "{script}"', "--output", "out")
        self.assertEqual(run.returncode, 0, run.stderr)
        plain, again = self.sh("mkdir -p out/d", "--output", "out")
        self.assertEqual(plain.returncode, 0, plain.stderr)
        self.assertEqual(found["outputs"], again["outputs"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
