"""Until completed or lost: a run through a proxy that breaks its streams at each message, and ends
its calls with each status, has the right result or the right error."""
import json
import os
import re
import signal
import time
import unittest

import grpc
import system
from grpc_proxy import Proxy, each, once
from system import System, need_root, wait_until

CODE = grpc.StatusCode
LARGE = 9 << 20


def encoded(number, value):
    """A field of a message: length-delimited, or a varint below 2^14."""
    if isinstance(value, int):
        return bytes([number << 3, value & 0x7F | 0x80, value >> 7])
    value = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(value) & 0x7F | 0x80, len(value) >> 7]) + value


def status(code, kind, detail):
    """What a service answers that says more than a code."""
    any_ = encoded(1, "type.googleapis.com/google.rpc." + kind) + encoded(2, detail)
    message = encoded(1, code.value[0]) + encoded(2, "so it is") + encoded(3, any_)
    return code, "so it is", (("grpc-status-details-bin", message),)


class LostCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System(("--grant", "local=all"))
        cls.worker = cls.system.start_worker()
        cls.proxy = Proxy(cls.system.address)

    @classmethod
    def tearDownClass(cls):
        cls.proxy.close()
        cls.system.close()

    def setUp(self):
        self.proxy.fault = None
        self.proxy.calls.clear()

    def run_sh(self, script, *args, fault=None, **kwargs):
        self.proxy.fault = fault
        return self.system.sh(f": {time.monotonic_ns()}; {script}", *args,
                              address=self.proxy.address, **kwargs)

    def assert_right(self, run, text):
        self.assertEqual((run.code, run.text), (0, text), run.err)

    def retry_lines(self, run):
        return re.findall(r"^lazyroot: .*(?:again|lost).*$", run.err, re.M)


class StreamsTest(LostCase):
    def test_88_a_stream_of_execute_that_breaks_at_each_message(self):
        for n in range(4):
            run = self.run_sh("sleep 0.3; echo right", fault=once(("Execute", "answer", n)))
            self.assert_right(run, "right\n")
            # how many messages come is the server's; after the last the result is there, however
            # the stream ends
            self.assertIn(run.report["retries"], (1,) if n < 2 else (0, 1), n)
            self.assertEqual(len(self.retry_lines(run)), run.report["retries"], run.err)

    def test_89_a_stream_of_wait_execution_that_breaks_at_each_message(self):
        for n in range(3):
            run = self.run_sh("sleep 0.7; echo right", fault=each(
                once(("Execute", "answer", 1)), once(("WaitExecution", "answer", n))))
            self.assert_right(run, "right\n")
            self.assertGreaterEqual(run.report["retries"], 1, n)
        self.assertEqual(self.proxy.calls["Execute"], 3, "each was waited for, none sent twice")

    def test_89_an_operation_that_is_lost_is_executed_again(self):
        run = self.run_sh("echo right", fault=each(
            once(("Execute", "answer", 1)), once(("WaitExecution", "request", 0), CODE.NOT_FOUND)))
        self.assert_right(run, "right\n")
        self.assertEqual((self.proxy.calls["Execute"], self.proxy.calls["WaitExecution"]), (2, 1))
        self.assertIn("the operation is lost, starting it again", run.err)

    def test_reads_that_break_at_each_message(self):
        for n in (0, 1, 4, 8, 9):
            self.proxy.calls.clear()
            out = self.system.dir / f"read-{n}"
            run = self.run_sh(f"head -c {LARGE} /dev/urandom > f; sha256sum f", "-o", "f",
                              "--download", out, fault=once(("Read", "answer", n)))
            self.assertEqual(run.code, 0, run.err)
            got = os.popen(f"cd {out} && sha256sum f").read()
            self.assertEqual(got, run.text, n)
            self.assertEqual(self.proxy.calls["Read"], 2, n)

    def test_writes_that_break_at_each_message(self):
        for n in (0, 1, 4, 8):
            self.proxy.calls.clear()
            tree = self.system.tree(f"write-{n}", {"f": os.urandom(LARGE)})
            run = self.run_sh("sha256sum f", "-i", tree, fault=each(
                once(("Write", "request", n)), once(("Write", "answer", 0))))
            self.assertEqual(run.code, 0, run.err)
            self.assertEqual(run.text, os.popen(f"cd {tree} && sha256sum f").read(), n)
            self.assertGreaterEqual(self.proxy.calls["Write"], 2, n)


class MatrixTest(LostCase):
    def test_88_what_may_pass_is_tried_again(self):
        for code in (CODE.UNAVAILABLE, CODE.INTERNAL, CODE.RESOURCE_EXHAUSTED, CODE.ABORTED,
                     CODE.NOT_FOUND, CODE.UNKNOWN, CODE.DEADLINE_EXCEEDED):
            run = self.run_sh("echo right",
                              fault=once(("Execute", "request", 0), code, times=2))
            self.assert_right(run, "right\n")
            self.assertEqual(run.report["retries"], 2, code)
            self.assertEqual(len(self.retry_lines(run)), 2, run.err)

    def test_88_what_will_not_pass_is_not(self):
        for code in (CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION, CODE.PERMISSION_DENIED,
                     CODE.UNIMPLEMENTED):
            self.proxy.calls.clear()
            run = self.run_sh("echo wrong", fault=once(("Execute", "request", 0), code, times=9))
            self.assertEqual(run.code, 125, code)
            self.assertEqual(self.proxy.calls["Execute"], 1, code)

    def test_88_tries_are_bounded(self):
        run = self.run_sh("echo wrong",
                          fault=once(("Execute", "request", 0), CODE.ABORTED, times=99))
        self.assertEqual(run.code, 125)
        self.assertEqual(self.proxy.calls["Execute"], 5)

    def test_88_retry_info_is_obeyed(self):
        delay = status(CODE.UNAVAILABLE, "RetryInfo", encoded(1, encoded(1, 1) + encoded(2, 0)))
        run = self.run_sh("echo right", fault=once(("Execute", "request", 0), delay))
        self.assert_right(run, "right\n")
        asked = int(re.search(r"again in (\d+) ms", run.err)[1])
        self.assertTrue(1000 <= asked <= 1250, run.err)

    def test_88_missing_blobs_are_sent_again(self):
        tree = self.system.tree("missing", {"f": "content"})
        first = self.run_sh("cat f", "-i", tree)
        self.assert_right(first, "content")
        subject = "blobs/ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73/7"
        lacks = status(CODE.FAILED_PRECONDITION, "PreconditionFailure",
                       encoded(1, encoded(1, "MISSING") + encoded(2, subject)))
        asked = self.proxy.calls["FindMissingBlobs"]
        run = self.run_sh("cat f", "-i", tree, fault=once(("Execute", "request", 0), lacks))
        self.assert_right(run, "content")
        self.assertEqual(run.report["retries"], 1)
        self.assertEqual(self.proxy.calls["FindMissingBlobs"] - asked, 2)

    def test_a_commands_own_failure_is_never_tried_again(self):
        run = self.run_sh("exit 3")
        self.assertEqual((run.code, self.proxy.calls["Execute"]), (3, 1))
        self.assertEqual(run.report["retries"], 0)


class StatementsTest(LostCase):
    def test_87_only_what_is_missing_is_sent(self):
        tree = self.system.tree("sent", {f"d/{i}": f"{i} {time.monotonic_ns()}" for i in range(40)})
        self.assertEqual(self.run_sh("true", "-i", tree).code, 0)
        self.assertGreater(self.proxy.calls["BatchUpdateBlobs"], 0)
        self.proxy.calls.clear()
        run = self.system.lazyroot("upload", tree, address=self.proxy.address)
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(self.proxy.calls["BatchUpdateBlobs"] + self.proxy.calls["Write"], 0)

    def test_a_cached_run_asks_for_the_result_and_sends_nothing(self):
        tree = self.system.tree("cached", {f"{i % 50}/{i}": f"{i}" for i in range(2000)})
        args = ("-i", tree, "-o", "o", "--download", self.system.dir / "cached-out", "--",
                "/bin/sh", "-c", "/usr/bin/env > o")
        for counted in (False, True):
            self.proxy.calls.clear()
            run = self.system.run(*args, address=self.proxy.address)
            self.assertEqual(run.code, 0, run.err)
            self.assertEqual(run.report["cached"], counted)
        self.assertEqual({k: n for k, n in self.proxy.calls.items() if k != "GetCapabilities"},
                         {"GetActionResult": 1})

    def test_92_an_interrupt_cancels_once_and_leaves_no_part_of_an_output(self):
        out = self.system.dir / "interrupted"
        process = self.system.popen(
            "run", "-o", "f", "--download", out, "--", "/bin/sh", "-c", "echo x > f; sleep 60",
            env={"LAZYROOT_SERVER": self.proxy.address})
        wait_until(lambda: self.proxy.calls["Execute"], "Execute")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(self.proxy.calls["CancelOperation"], 1)
        self.assertFalse(out.exists())

    def test_93_exit_codes_tell_a_command_from_a_service_from_usage(self):
        self.assertEqual(self.run_sh("exit 7").code, 7)
        lost = self.run_sh("true", fault=once(("Execute", "request", 0), CODE.ABORTED, times=99))
        self.assertEqual(lost.code, 125)
        self.assertEqual(self.system.lazyroot("run", "--timeout", "x", "--", "true").code, 2)

    def test_operations_are_listed_by_what_they_do(self):
        first = self.system.lazyroot("run", "--detach", "--", "/bin/sh", "-c",
                                     f": {time.monotonic_ns()}; sleep 60").text.strip()
        try:
            def listed(*filters):
                run = self.system.lazyroot("operations", "--json", *filters)
                self.assertEqual(run.code, 0, run.err)
                return {o["operation"]: o for o in json.loads(run.out)}
            wait_until(lambda: listed("stage=executing").get(first), "the operation")
            one = listed()[first]
            self.assertEqual((one["stage"], one["done"]), ("executing", False))
            self.assertEqual(set(listed("done=false", "action=" + one["action"])), {first})
            self.assertEqual(listed("done=true", "action=" + one["action"]), {})
            text = self.system.lazyroot("operations", "stage=executing").text
            self.assertEqual(text, f"{first} executing {one['action']}\n")
            bad = self.system.lazyroot("operations", "colour=red")
            self.assertEqual(bad.code, 1)
            self.assertIn("colour", bad.err)
        finally:
            self.system.lazyroot("cancel", first)

    def test_94_one_tree_has_one_digest(self):
        files = {"b/c": "x", "a": ("exec", "y"), "l": ("link", "b/c"), "e": None}
        one = self.system.upload(self.system.tree("one", files))
        two = self.system.upload(self.system.tree("two", dict(reversed(files.items()))))
        self.assertEqual(one, two)


if __name__ == "__main__":
    system.main()
