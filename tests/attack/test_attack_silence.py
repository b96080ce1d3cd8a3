"""Services that never answer, or never stop answering: the client's calls end in time."""
import os
import subprocess
import tempfile
import time
import unittest

import grpc

from attack import REAPI, Hostile, data, number
from system import BIN, Run, main

EXECUTE = REAPI + "Execution/Execute"
WAIT = REAPI + "Execution/WaitExecution"
FIND = REAPI + "ContentAddressableStorage/FindMissingBlobs"
READ = "/google.bytestream.ByteStream/Read"
TREE = REAPI + "ContentAddressableStorage/GetTree"
CANCEL = "/google.longrunning.Operations/CancelOperation"
META = "type.googleapis.com/build.bazel.remote.execution.v2."
DIGEST = "ab" * 32 + "/100"
# What a test allows: far above what the options below ask for, far below no end.
ENOUGH = 60


def nothing(request, context):
    return b""


def operation(stage, name="op", done=b""):
    metadata = data(1, META + "ExecuteOperationMetadata") + data(2, number(1, stage))
    return data(1, name) + data(2, metadata) + done


def finished():
    result = data(1, number(4, 7))  # ActionResult.exit_code
    return operation(4, done=number(3, 1) + data(
        5, data(1, META + "ExecuteResponse") + data(2, result)))


class SilenceTest(unittest.TestCase):
    def serve(self, methods):
        server = Hostile({})
        server.methods = {path: function(server) if function.__name__ == "of_server" else function
                          for path, function in methods.items()}
        self.addCleanup(server.close)
        return server

    def lazyroot(self, server, *args, seconds=ENOUGH):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        began = time.monotonic()
        run = Run(subprocess.run(
            [BIN / "lazyroot", *args], capture_output=True, stdin=subprocess.DEVNULL,
            timeout=seconds, cwd=home.name,
            env={**os.environ, "LAZYROOT_SERVER": server.address, "XDG_CACHE_HOME": home.name}))
        run.seconds = time.monotonic() - began
        return run

    def run_true(self, server, *options):
        return self.lazyroot(server, "run", "--rpc-timeout", "300ms", *options, "--", "true")

    def test_a_server_that_never_answers(self):
        def of_server(server):
            return server.never
        server = self.serve({path: of_server for path in (
            FIND, REAPI + "Capabilities/GetCapabilities", REAPI + "ActionCache/GetActionResult",
            REAPI + "ContentAddressableStorage/BatchReadBlobs")})
        for args in (("capabilities",), ("ls", DIGEST), ("cat", DIGEST), ("action", DIGEST),
                     ("upload", "/etc/hostname"), ("run", "--", "true")):
            with self.subTest(args=args):
                run = self.lazyroot(server, args[0], "--rpc-timeout", "300ms", *args[1:])
                self.assertEqual(run.code, 125 if args[0] == "run" else 1, run.err)
                self.assertTrue(run.err)

    def test_endless_empty_answers(self):
        def endless(request, context):
            while context.is_active():
                yield b""
        server = self.serve({FIND: nothing, EXECUTE: endless, WAIT: endless, READ: endless,
                             TREE: endless})
        for args in (("run", "--", "true"), ("cat", DIGEST), ("ls", "-R", DIGEST)):
            with self.subTest(args=args):
                run = self.lazyroot(server, args[0], "--rpc-timeout", "300ms", *args[1:])
                self.assertEqual(run.code, 125 if args[0] == "run" else 1, run.err)

    def test_execute_that_says_nothing(self):
        def of_server(server):
            def silent(request, context):
                yield server.never(request, context)
            return silent
        server = self.serve({FIND: nothing, EXECUTE: of_server})
        run = self.run_true(server, "--silence", "300ms")
        self.assertEqual(run.code, 125, run.err)
        self.assertEqual(server.calls["Execute"], 5, "bounded")

    def test_a_broken_stream_at_a_service_without_wait_execution(self):
        for silent in (False, True):
            with self.subTest(silent=silent):
                def of_server(server):
                    def wait(request, context):
                        yield server.never(request, context)
                    return wait

                def execute(request, context):
                    if server.calls["Execute"] < 3:
                        yield operation(3)
                        context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
                    else:
                        yield finished()
                methods = {FIND: nothing, EXECUTE: execute}
                if silent:
                    methods[WAIT] = of_server
                server = self.serve(methods)
                run = self.run_true(server, "--silence", "300ms")
                self.assertEqual(run.code, 7, run.err)
                self.assertEqual(server.calls["Execute"], 3)

    def test_an_operation_that_lives_for_ever_is_given_up_and_cancelled(self):
        def alive(request, context):
            while context.is_active():
                yield operation(3)
                time.sleep(0.05)
        server = self.serve({FIND: nothing, EXECUTE: alive, WAIT: alive, CANCEL: nothing})
        run = self.run_true(server, "--give-up", "1s")
        self.assertEqual(run.code, 125)
        self.assertIn("--give-up", run.err)
        self.assertEqual(server.calls["CancelOperation"], 1)
        run = self.lazyroot(server, "wait", "--give-up", "500ms", "op")
        self.assertEqual(run.code, 125)
        self.assertIn("--give-up", run.err)

    def test_a_slow_but_living_operation_is_waited_for(self):
        def slow(request, context):
            for _ in range(20):
                yield operation(3)
                time.sleep(0.1)
            yield finished()
        server = self.serve({FIND: nothing, EXECUTE: slow})
        run = self.run_true(server, "--silence", "1s")
        self.assertEqual(run.code, 7, run.err)
        self.assertEqual(server.calls["Execute"], 1)

    def test_pages_without_end(self):
        def page(request, context):
            page.n += 1
            yield data(2, f"t{page.n}")
        page.n = 0
        server = self.serve({TREE: page, REAPI + "ContentAddressableStorage/BatchReadBlobs":
                             lambda request, context: b""})
        run = self.lazyroot(server, "ls", "-R", "--rpc-timeout", "300ms", DIGEST)
        self.assertEqual(run.code, 1)


if __name__ == "__main__":
    main()
