"""BuildStream builds on our worker through our server, and finds there what it built."""
import os
import signal

import forky
from buildstream import Project, remote
from system import sandboxes_with, wait_until

EXECUTE = "Execution/Execute"
CANCEL = "Operations/CancelOperation"


class BuildStreamTest(forky.InteropTest):
    """The input root is the whole file system of a command, partly read-only."""
    root = "/"
    worker_args = ("--allow", "uid", "--allow", "gid", "--slots", "4")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.project = Project(cls.forky)

    def bst(self, name, *words, code=0, **kwargs):
        run = self.project.bst(name, *words, **kwargs)
        self.assertEqual(run.code, code, run.err[-4000:])
        return run

    def start_slow(self, name, seconds):
        """An element's command that runs until then; the build, and what shows its command."""
        marker = f"{seconds}.{os.getpid()}"
        self.project.element(f"{name}.bst", f"""
kind: manual
build-depends: [base.bst]
config:
  build-commands: ["sleep {marker}"]
  install-commands: ["echo done > %{{install-root}}/done"]
""")
        self.project.configure(name, execution=self.forky.http)
        build = self.project.start(name, "build", f"{name}.bst")
        wait_until(lambda: sandboxes_with(marker) or build.popen.poll() is not None, "the command")
        self.assertIsNone(build.popen.poll(), build.err()[-3000:])
        return build, marker

    def test_artifacts_are_those_of_a_local_build(self):
        self.project.configure("local")
        self.project.configure("far", execution=self.forky.http)
        self.bst("local", "build", "all.bst")
        with self.forky.counted() as calls:
            self.bst("far", "build", "all.bst")
        self.assertEqual(calls[EXECUTE], 2)
        self.assertEqual(calls["ActionCache/GetActionResult NOT_FOUND"], 2)
        for element in ("hello", "report", "base"):
            self.assertEqual(self.project.files("local", element),
                             self.project.files("far", element))
        report = self.bst("far", "artifact", "checkout", "--tar", "-", "report.bst")
        self.assertIn(b"HELLO FROM SOURCE\n", report.out)
        self.bst("far", "artifact", "checkout", "--directory", "out", "hello.bst")
        out = self.project.dir / "out/usr/share/demo"
        self.assertEqual((out / "HELLO").read_text(), "HELLO FROM SOURCE\n")
        self.assertEqual(os.readlink(out / "link"), "HELLO")
        shell = self.bst("far", "shell", "--build", "report.bst", "--", "cat",
                         "/usr/share/demo/HELLO")
        self.assertEqual(shell.text, "HELLO FROM SOURCE\n")
        with self.forky.counted() as calls:  # what is built is asked for, and not run again
            self.project.forget("far")
            self.bst("far", "build", "all.bst")
        self.assertEqual((calls[EXECUTE], calls["ActionCache/GetActionResult"]), (0, 2))

    def test_failing_command_is_shown_as_that(self):
        self.project.configure("fails", execution=self.forky.http)
        run = self.bst("fails", "build", "fails.bst", code=255)
        self.assertRegex(run.err, r"exit ?code 7")
        self.assertIn("about to fail", run.err)

    def test_local_sandbox_on_remote_storage(self):
        """Only storage is asked: nothing runs on a worker, no result is looked up."""
        self.project.configure("stored", cache={"storage-service": remote(self.forky.http)})
        with self.forky.counted() as calls:
            self.bst("stored", "build", "all.bst")
        self.assertEqual({c.split("/")[0] for c in calls},
                         {"Capabilities", "ContentAddressableStorage"})
        run = self.bst("stored", "artifact", "checkout", "--tar", "-", "report.bst")
        self.assertIn(b"HELLO FROM SOURCE\n", run.out)

    def test_interrupt_ends_the_command(self):
        with self.forky.counted() as calls:
            build, marker = self.start_slow("interrupted", 4711)
            build.stop(signal.SIGINT)
            wait_until(lambda: not sandboxes_with(marker), "the end of what was interrupted")
        self.assertEqual(calls[CANCEL], 1)

    def test_server_that_comes_back_meanwhile(self):
        """The build goes on by WaitExecution, and passes."""
        with self.forky.counted() as calls:
            build, _ = self.start_slow("outlives", 5)
            self.forky.kill_server()
            self.forky.start_server()
            self.assertEqual(build.popen.wait(forky.PATIENCE), 0, build.err()[-4000:])
        self.assertGreaterEqual(calls["Execution/WaitExecution"], 1)
        self.assertEqual(calls[EXECUTE], 0)  # the one there was ended with the server

    def test_four_builders(self):
        marker = f"6.{os.getpid()}4"
        for i in range(4):
            self.project.element(f"part{i}.bst", f"""
kind: manual
build-depends: [base.bst]
config:
  install-commands: ["echo {i} > %{{install-root}}/part{i}; sleep {marker}"]
""")
        self.project.element("parts.bst", "kind: stack\ndepends: [%s]\n" % ", ".join(
            f"part{i}.bst" for i in range(4)))
        self.project.configure("four", builders=4, execution=self.forky.http)
        with self.forky.counted() as calls:
            build = self.project.start("four", "build", "parts.bst")
            wait_until(lambda: len(sandboxes_with(marker)) == 4 or build.popen.poll() is not None,
                       "four commands at once")
            self.assertIsNone(build.popen.poll(), build.err()[-4000:])
            self.assertEqual(build.popen.wait(forky.PATIENCE), 0, build.err()[-4000:])
        self.assertEqual(calls[EXECUTE], 4)
        run = self.bst("four", "artifact", "checkout", "--tar", "-", "parts.bst")
        for i in range(4):
            self.assertIn(b"part%d" % i, run.out)
