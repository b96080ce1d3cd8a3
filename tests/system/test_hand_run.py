"""Programs of the tests that people run by hand tell how, and what they do not know, without
beginning anything."""
import pathlib
import subprocess
import unittest

import system

TESTS = pathlib.Path(__file__).resolve().parent.parent
PROGRAMS = ("bench/bench.py", "bench/bench_fair.py", "mutants/mutants.py", "oracle/oracle.py",
            "suites/suites.py", "interop/compare.py", "interop/forky.py")


class HandRunTest(unittest.TestCase):
    def call(self, program, *args):
        return subprocess.run(["/usr/bin/python3", "-B", TESTS / program, *args],
                              capture_output=True, text=True, timeout=system.PATIENCE)

    def test_help_is_help(self):
        for program in PROGRAMS:
            run = self.call(program, "--help")
            self.assertEqual(run.returncode, 0, f"{program}: {run.stderr}")
            self.assertIn("usage: ", run.stdout, program)
            self.assertEqual(run.stderr, "", program)

    def test_what_is_not_known_is_named(self):
        for program in ("bench/bench.py", "bench/bench_fair.py", "mutants/mutants.py"):
            run = self.call(program, "999")
            self.assertEqual(run.returncode, 2, f"{program}: {run.stderr}")
            self.assertIn("999", run.stderr, program)
            self.assertNotIn("Traceback", run.stderr, program)


if __name__ == "__main__":
    unittest.main()
