"""lazyroot shell: what a command finds there, what it leaves, and a real terminal."""
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
import unittest

import system
from system import BIN, PATIENCE, Failed, System, mounts_below, wait_until
from test_closure import node

CAS = "/build.bazel.remote.execution.v2.ContentAddressableStorage/"


class Terminal:
    """lazyroot shell, or another program, on a terminal of its own, as a session's foreground."""

    def __init__(self, system_, args, rows=24, columns=80, program=(BIN / "lazyroot", "shell")):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(system_.dir)
            os.execve(program[0], [*map(str, program), *map(str, args)],
                      system_.environment({"TERM": "dumb"}))
        self.size(rows, columns)
        self.seen = ""
        self.at = 0
        self.code = None

    def size(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern):
        """Until what came since the last match has it."""
        end = time.monotonic() + PATIENCE
        while True:
            found = re.search(pattern, self.seen[self.at:])
            if found:
                self.at += found.end()
                return found
            if not select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]:
                raise Failed(f"no {pattern!r} on the terminal: {self.seen[self.at:]!r}")
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                raise Failed(f"the terminal ended without {pattern!r}: {self.seen!r}") from None

    def run(self, line, pattern):
        self.type(line + "\r")
        return self.expect(pattern)

    def wait(self):
        end = time.monotonic() + PATIENCE
        while self.code is None and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.02)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        if self.code is None:
            self.kill()
            raise Failed(f"the shell does not end: {self.seen!r}")
        return self.code

    def kill(self):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.code = -signal.SIGKILL

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        os.close(self.fd)


class ShellTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.system = System()
        cls.worker = cls.system.start_worker()
        cls.tree = cls.system.tree("tree", {
            "a": "a\n", "dir/b": "b\n", "gone": "gone\n", "over": "old\n", "w/in": "in\n"})
        cls.digest = cls.system.upload(cls.tree, "--mtimes", "never")

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def tearDown(self):
        self.assertEqual(mounts_below(self.system.dir), [])
        actions = list((self.system.dir / "home/lazyroot").glob("scratch/*/*"))
        self.assertEqual(actions, [])

    def shell(self, *args, code=0, **kwargs):
        run = self.system.lazyroot("shell", *args, **kwargs)
        self.assertEqual(run.code, code, run.err)
        return run

    def test_a_command_sees_the_tree_and_may_write(self):
        run = self.shell(self.digest, "--", "/bin/sh", "-c",
                         "pwd; cat a; echo new > a; cat a; ls; exit 7", code=7)
        self.assertEqual(run.text, "/build\na\nnew\na\ndir\ngone\nover\nw\n")
        self.assertEqual(self.shell(self.digest, "--", "/bin/cat", "a").text, "a\n")

    def test_save_prints_what_was_left(self):
        run = self.shell("--save", self.digest, "--", "/bin/sh", "-c",
                         "echo said; echo b > n; rm gone; mkdir -p x/y; ln -s a l; chmod +x a; exit 3",
                         code=3)
        said, saved = run.text.splitlines()
        self.assertEqual(said, "said")
        diff = self.system.lazyroot("diff", self.digest, saved)
        self.assertEqual(diff.text, "M\ta\nD\tgone\nA\tl\nA\tn\nA\tx/y/\n", diff.err)
        again = self.shell("--save", saved, "--", "/bin/cat", "n")
        self.assertEqual(again.text, "b\n" + saved + "\n")
        document = json.loads(self.shell("--json", "--save", self.digest, "--", "/bin/true").text)
        self.assertEqual(document, {"exit_code": 0, "saved": self.digest})

    def run_action(self, script, *args, code=0):
        run = self.system.run("--input-digest", self.digest, "--no-download", *args, "--env",
                              "PATH=/usr/bin:/bin", "--env", "MY=own", "--", "/bin/sh", "-c", script)
        self.assertEqual(run.code, code, run.err)
        return run

    def test_an_action_finds_what_the_worker_gave_it(self):
        """Environment, working directory, identity, root and outputs' parents: the same words from
        a worker and from the shell."""
        script = ("env | sort; pwd; id; hostname; umask; find . | sort; ls -ld .. out; "
                  "cat /proc/self/limits | grep -c . ; ls /; cat /etc/passwd; ls -ln")
        for args in (("-w", "w", "-o", "out/deep/file"), ("-w", "new/dir", "-o", "out/x", "-o", "y"),
                     ("-o", "out/x", "-p", "InputRootAbsolutePath=/some/where")):
            with self.subTest(args=args):
                run = self.run_action(script, *args)
                shell = self.shell("--action", run.report["action"], "--", "/bin/sh", "-c", script)
                self.assertEqual(shell.text, run.text)

    def test_result_adds_the_outputs_of_a_failed_action_too(self):
        script = "echo new > over; mkdir -p out; echo o > out/o; exit {}"
        for code in (0, 4):
            run = self.run_action(script.format(code), "-o", "over", "-o", "out", code=code)
            action = run.report["action"]
            before = self.shell("--action", action, "--", "/bin/sh", "-c", "cat over; ls out 2>&1",
                                code=2)
            self.assertTrue(before.text.startswith("old\n"))
            for args in (("--action", action, "--result"), (action, "--result"),
                         (action + "+result",)):
                after = self.shell(*args, "--", "/bin/sh", "-c", "cat over out/o a")
                self.assertEqual(after.text, "new\no\na\n")
        self.assertIn("only an Action has a result",
                      self.shell("--result", self.digest, "--", "true", code=2).err)

    def test_usage_and_trouble(self):
        for args in ((), ("--result",), ("nonsense",), ("--root", "relative", self.digest)):
            self.shell(*args, code=2)
        self.shell("0" * 64 + "/5", "--", "/bin/true", code=125)
        self.shell("--action", self.digest, "--", "/bin/true", code=2)
        self.shell(self.digest, "--", "/no/such", code=127)

    def interrupted(self, terminal, marker):
        """Ctrl-C; where it came before the shell had given the terminal away, once more."""
        terminal.type("\x03")
        for _ in range(60):
            if not system.sandboxes_with(marker):
                return True
            time.sleep(0.05)
        return False

    def test_a_terminal_with_job_control(self):
        """Prompt, Ctrl-C, Ctrl-Z, fg, a resize, and the exit code."""
        with Terminal(self.system, (self.digest,)) as terminal:
            terminal.run("PS1='<%s> '; echo re'ady'" % "p", "ready\r\n<p> ")
            terminal.run("tty; test -t 0 && echo is-$((1+1))", "is-2\r\n<p> ")
            terminal.run("stty size", "24 80\r\n<p> ")
            terminal.size(40, 133)
            terminal.run("stty size", "40 133\r\n<p> ")
            terminal.type("echo star'ted'; sleep 1000; echo af'ter'\r")
            terminal.expect("started\r\n")
            wait_until(lambda: system.sandboxes_with("1000"), "the sleep")
            wait_until(lambda: self.interrupted(terminal, "1000"), "its end")
            terminal.expect("<p> ")
            terminal.run("echo code=$?", "code=130\r\n<p> ")
            terminal.type("sleep 2000\r")
            wait_until(lambda: system.sandboxes_with("2000"), "the sleep")
            terminal.type("\x1a")
            terminal.expect("(?i)stopped.*<p> |<p> ")
            terminal.run("jobs", "(?is)stopped.*sleep 2000.*<p> ")
            terminal.type("fg\r")
            terminal.expect("sleep 2000\r\n")
            wait_until(lambda: self.interrupted(terminal, "2000"), "its end")
            terminal.expect("<p> ")
            self.assertEqual(system.sandboxes_with("2000"), [])
            terminal.type("exit 9\r")
            self.assertEqual(terminal.wait(), 9)

    def test_in_the_background_it_waits_for_the_terminal(self):
        with Terminal(self.system, ("--norc", "-i"), program=(shutil.which("bash"),)) as terminal:
            terminal.run("PS1='<%s> '", "<%s> ")
            terminal.type(f"{BIN}/lazyroot shell {self.digest} &\r")
            terminal.expect("<%s> ")

            def is_stopped():
                terminal.type("jobs\r")
                return "topped" in terminal.expect(r"(?s)jobs\r\n(.*?)<%s> ")[1]
            wait_until(is_stopped, "the stop")
            terminal.run("echo st'ill' here", "still here\r\n<%s> ")
            terminal.type("fg\r")
            terminal.expect("shell ")
            terminal.run("PS1='<in> '; cat a", "a\r\n<in> ")
            terminal.type("exit 5\r")
            terminal.run("echo code=$?", "code=5\r\n<%s> ")
            terminal.type("exit\r")
            terminal.wait()

    def test_a_resize_reaches_a_command(self):
        with Terminal(self.system, (self.digest, "--", "/bin/bash", "-c",
                                    "trap 'stty size; exit 0' WINCH; echo wai'ting'; "
                                    "while :; do sleep 0.05; done")) as terminal:
            terminal.expect("waiting\r\n")
            terminal.size(11, 22)
            terminal.expect("11 22\r\n")
            self.assertEqual(terminal.wait(), 0)

    def test_ctrl_c_ends_a_command_and_not_lazyroot(self):
        with Terminal(self.system, ("--save", self.digest, "--", "/bin/sh", "-c",
                                    "echo x > made; echo star'ted'; exec sleep 3000")) as terminal:
            terminal.expect("started\r\n")
            terminal.type("\x03")
            self.assertEqual(terminal.wait(), 130)
            saved = re.search(r"[0-9a-f]{64}/\d+", terminal.seen).group()
        self.assertEqual(self.system.lazyroot("diff", self.digest, saved).text, "A\tmade\n")

    def test_a_shell_is_killed_with_all_that_it_started(self):
        with Terminal(self.system, (self.digest,)) as terminal:
            terminal.type("sleep 4000 & sleep 5000\r")
            wait_until(lambda: system.sandboxes_with("5000"), "the sleeps")
            terminal.kill()
        wait_until(lambda: not system.sandboxes_with("4000") and not system.sandboxes_with("5000"),
                   "their end")
        # what it left goes with the next
        self.shell(self.digest, "--", "/bin/true")

    def test_nothing_is_read_of_a_large_tree_before_the_prompt(self):
        """25,000 files: the directories on the way to the prompt alone are fetched."""
        below = [b"".join(node(1, f"f{f:03}", b"%d/%d" % (d, f)) for f in range(250))
                 for d in range(100)]
        root = b"".join(node(2, f"d{d:03}", blob) for d, blob in enumerate(below))
        blobs = self.system.tree("large", {f"b{i}": blob for i, blob in enumerate(
            [root, *below, b"42/7"])})
        self.system.upload(blobs)  # files that happen to hold Directories
        digest = self.system.upload(blobs / "b0")
        fresh = {"XDG_CACHE_HOME": str(self.system.dir / "large-home")}
        run = self.shell("--log", "debug", digest, "--", "/bin/cat", "d042/f007", env=fresh)
        self.assertEqual(run.text, "42/7")
        held = list((self.system.dir / "large-home/lazyroot/cas/blobs").glob("*/*"))
        self.assertEqual(len(held), 3)  # the root, one directory, one file


if __name__ == "__main__":
    system.main()
