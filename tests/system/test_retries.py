"""What is tried again is a line on stderr each and counted, whichever call it was; and what was
refused for its credentials has one second try with others, no more."""
import json
import os
import re
import time
import unittest

import grpc
import system
from grpc_proxy import once
from test_logs import go_on, read_until
from test_lost import LARGE, LostCase

CODE = grpc.StatusCode
LINE = re.compile(r"^lazyroot: (a call failed|no result|lost sight).*; again (in \d+ ms|at once): .+$", re.M)


class RetriesTest(LostCase):
    def assert_counted(self, run, n, method):
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual((run.report["retries"], len(LINE.findall(run.err))), (n, n), (method, run.err))
        self.assertNotIn(method, run.err)

    def test_each_kind_of_call(self):
        tree = self.system.tree("kinds", {"large": os.urandom(LARGE),
                                          **{f"small/{i}": os.urandom(50) for i in range(100)}})
        script = f"head -c {LARGE} /dev/urandom > new; head -c 90 /dev/urandom > less"
        for method in ("GetActionResult", "FindMissingBlobs", "BatchUpdateBlobs", "Write", "Execute",
                       "BatchReadBlobs", "Read"):
            (tree / "large").write_bytes(os.urandom(LARGE))
            for i in range(100):
                (tree / "small" / str(i)).write_bytes(os.urandom(50))
            run = self.run_sh(script, "-i", tree, "-o", "new", "-o", "less", "--download",
                              self.system.dir / f"out-{method}",
                              fault=once((method, "request", 0)))
            self.assert_counted(run, 1, method)
            self.assertIn("127.0.0.1", LINE.search(run.err)[0])
            self.assertIn(" · tried again once\n", run.err)

    def test_an_answer_without_the_blobs_of_a_batch_is_one_try(self):
        script = "for i in $(seq 200); do head -c 90 /dev/urandom > o/$i; done"
        run = self.run_sh("mkdir o; " + script, "-o", "o", "--download", self.system.dir / "batch",
                          fault=once(("BatchReadBlobs", "answer", 0), times=2))
        self.assert_counted(run, 2, "BatchReadBlobs")
        self.assertEqual(len(os.listdir(self.system.dir / "batch/o")), 200)

    def test_the_lines_are_bounded_and_the_count_is_not(self):
        tree = self.system.tree("bounded", {f"{i}": os.urandom(5 << 20) for i in range(4)})
        run = self.run_sh("true", "-i", tree, "--json",
                          fault=once(("Write", "request", 0), times=15))
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(json.loads(run.out)["retries"], 15)
        self.assertEqual(len(LINE.findall(run.err)), 10)
        self.assertEqual(run.err.count("only counted from here on"), 1)

    def test_what_fails_in_the_end_says_how_often_it_was_tried(self):
        self.proxy.fault = once(("FindMissingBlobs", "request", 0), times=99)
        run = self.system.lazyroot("upload", "--json", self.system.tree("fails", {"f": "f"}),
                                   address=self.proxy.address)
        error = json.loads(run.out)["error"]
        self.assertEqual((run.code, error["code"], error["retries"]), (1, "UNAVAILABLE", 4), run.err)
        self.assertEqual(len(LINE.findall(run.err)), 4)

    def test_reading_along_that_breaks(self):
        marker = f"43{os.getpid()}"
        self.proxy.fault = once(("Read", "answer", 1))
        report = self.system.dir / "along.json"
        run = self.system.popen(
            "run", "--stream-logs", "--report", report, "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh",
            "-c", f"echo one; sleep {marker}; echo two; sleep 0.7; echo three",
            env={"LAZYROOT_SERVER": self.proxy.address})
        self.addCleanup(run.communicate)
        read_until(run.stdout, b"one\n")
        go_on(marker)
        out, err = run.communicate(timeout=60)
        self.assertEqual((run.returncode, out), (0, b"two\nthree\n"), err)
        self.assertEqual((json.loads(report.read_text())["retries"],
                          err.count(b"it goes on where it was")), (1, 1), err)

    def test_nothing_is_counted_where_nothing_failed(self):
        run = self.run_sh("echo right")
        self.assert_right(run, "right\n")
        self.assertEqual(run.report["retries"], 0)
        self.assertNotIn("again", run.err)


class CredentialsTest(LostCase):
    """The proxy refuses; whether there are others meanwhile is up to the file."""

    def setUp(self):
        super().setUp()
        self.token = self.system.dir / "token"
        self.token.write_text("first")
        self.refused = []

    def refuse(self, method, times, changes):
        def fault(name, way, n):
            if (name, way, n) != (method, "request", 0) or len(self.refused) == times:
                return None
            self.refused.append(name)
            if changes:
                self.token.write_text(f"other-{time.monotonic_ns()}")
            return CODE.UNAUTHENTICATED, "who are you?", ()
        return fault

    def attempt(self, method, times=1, changes=True, token=True):
        self.refused.clear()
        self.proxy.calls.clear()
        tree = self.system.tree("credentials", {"large": os.urandom(5 << 20), "small": os.urandom(9)})
        args = ("--token-file", self.token) if token else ()
        script = "head -c 5000000 /dev/urandom > new; head -c 90 /dev/urandom > less"
        return self.run_sh(script, *args, "-i", tree, "-o", "new", "-o", "less", "--download",
                           self.system.dir / f"out-{time.monotonic_ns()}",
                           fault=self.refuse(method, times, changes))

    KINDS = ("FindMissingBlobs", "BatchUpdateBlobs", "Write", "Execute", "BatchReadBlobs", "Read")

    def test_88_other_credentials_have_one_second_try(self):
        for method in self.KINDS:
            run = self.attempt(method)
            self.assertEqual(run.code, 0, (method, run.err))
            self.assertEqual(run.report["retries"], 1, (method, run.err))
            self.assertEqual(len(LINE.findall(run.err)), 1, (method, run.err))

    def test_88_and_no_third(self):
        for method in self.KINDS:
            run = self.attempt(method, times=99)
            self.assertEqual(run.code, 125, (method, run.err))
            self.assertEqual(self.proxy.calls[method], 2, (method, run.err))
            self.assertIn("who are you?", run.err)

    def test_88_the_same_or_no_credentials_have_none(self):
        for kwargs in ({"changes": False}, {"token": False}):
            for method in self.KINDS:
                run = self.attempt(method, times=99, **kwargs)
                self.assertEqual(run.code, 125, (method, run.err))
                self.assertEqual(self.proxy.calls[method], 1, (method, run.err))


del LostCase

if __name__ == "__main__":
    system.main()
