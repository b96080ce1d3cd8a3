"""The command line as people meet it: exit codes, JSON, messages, progress, configuration."""
import base64
import fcntl
import hashlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import system
from system import SystemTest, wait_until

EMPTY = hashlib.sha256(b"").hexdigest() + "/0"


def digest_of(data):
    return f"{hashlib.sha256(data).hexdigest()}/{len(data)}"


class Terminal:
    """A program on a terminal of a given width, and all that it wrote there."""

    def __init__(self, system_, args, columns, env=None):
        pid, self.fd = pty.fork()
        if pid == 0:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            os.execve(system.BIN / "lazyroot", ["lazyroot", *map(str, args)],
                      system_.environment(env))
        self.pid = pid
        self.text = b""

    def read(self, until=None, seconds=system.PATIENCE):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (until and until in self.text):
            if not select.select([self.fd], [], [], 0.1)[0]:
                continue
            try:
                more = os.read(self.fd, 65536)
            except OSError:
                break
            if not more:
                break
            self.text += more

    def wait(self):
        self.read()
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def standing(self):
        """What is left on the last line, as a terminal shows it."""
        return self.text.decode(errors="replace").split("\n")[-1].split("\r")[-1].replace(
            "\x1b[K", "")


def takes_signal(pid, number):
    """Whether it has blocked the signal, for a thread that waits for it."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("SigBlk:")[1].split()[0], 16) >> (number - 1) & 1


class CodesTest(SystemTest):
    def interrupted(self, number, verb="run"):
        marker = f"35{os.getpid()}{number}"
        if verb == "run":
            client = self.system.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        else:
            name = self.system.lazyroot("run", "--detach", "--no-cache", "--", "/bin/sleep",
                                        marker).text.strip()
            client = self.system.popen(*verb, name)
        wait_until(lambda: system.sandboxes_with(marker), "the command's start")
        wait_until(lambda: takes_signal(client.pid, number), "the client to take signals itself")
        time.sleep(0.3)  # until it waits: wait has nothing else that shows it
        client.send_signal(number)
        _, err = client.communicate(timeout=system.PATIENCE)
        return client.returncode, err.decode(), marker

    def test_a_signal_is_128_plus_its_number(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number=number):
                code, err, marker = self.interrupted(number)
                self.assertEqual(code, 128 + number)
                self.assertIn("cancelling", err)
                wait_until(lambda: not system.sandboxes_with(marker), "the command's end")

    def test_wait_leaves_a_run_alone_unless_it_is_to_cancel(self):
        code, err, marker = self.interrupted(signal.SIGTERM, ("wait",))
        self.assertEqual(code, 143)
        self.assertIn("goes on", err)
        self.assertTrue(system.sandboxes_with(marker))
        operation = re.search(r"lazyroot: (\S+) goes on", err)[1]
        self.assertEqual(self.system.lazyroot("cancel", operation).code, 0)
        code, err, marker = self.interrupted(signal.SIGINT, ("wait", "--cancel"))
        self.assertEqual(code, 130)
        wait_until(lambda: not system.sandboxes_with(marker), "the command's end")

    def test_usage_is_2_for_every_verb(self):
        for verb in ("upload", "download", "run", "wait", "cancel", "mount", "ls", "cat", "action",
                     "diff", "checkout", "shell"):
            for args in ((verb,), (verb, "--nonsense", "x")):
                self.assertEqual(self.system.lazyroot(*args).code, 2, args)
        for args in (("run", "--sandbox", "remote", "--", "true"), ("wait", "x"), ("cancel", "x"),
                     ("capabilities",)):
            run = self.system.lazyroot(*args, env={"LAZYROOT_SERVER": ""})
            self.assertEqual(run.code, 2, args)
            self.assertIn("--server", run.err)
        for args in (("upload", "--mtimes", "now", "."), ("run", "--mtimes", "x", "--", "true")):
            self.assertEqual(self.system.lazyroot(*args).code, 2, args)


    def refused(self, program, option, args):
        run = subprocess.run([system.BIN / program, *map(str, args)], capture_output=True,
                             timeout=system.PATIENCE, cwd=self.system.dir,
                             env=self.system.environment({"LAZYROOT_SERVER": ""}))
        self.assertEqual(run.returncode, 2, run.stderr)
        said = [l for l in run.stderr.decode().splitlines() if l.startswith(program)]
        self.assertEqual(len(said), 1, run.stderr)
        self.assertIn(option, said[0])

    def test_a_bad_value_of_any_option_is_2_and_named(self):
        junk = self.system.dir / "junk.pem"
        junk.write_text("no certificate\n")
        tls = ("--listen", "grpcs://127.0.0.1:0")
        pem = ("--tls-cert", junk, "--tls-key", junk)
        grants = ("foo", "foo=all", "local=frob", "token:/none=all", "local=all@nowhere", "=all")
        for option, *args in (
                *(("--listen", "--listen", v) for v in ("grpc://0.0.0.0", "foo", "grpc://h:99999", "ftp://h:1",
                                                        "unix:", "grpc://:80", "grpc://0.0.0.0:0")),
                *(("--grant", "--grant", v) for v in grants), ("--sync", "--sync", "foo"),
                ("--data-size", "--data-size", "x"), ("--instance", "--instance", "x" * 300),
                ("--timeout-max", "--timeout-max", "0"), ("--abandon", "--abandon", "x"),
                ("--heartbeat", "--heartbeat", "1ms"), ("--log", "--log", "frob"), ("--tls-cert", *tls),
                ("--tls-cert", *tls, *pem), ("--listen", *pem),
                ("--tls-client-ca", *tls, "--tls-client-ca", junk),
                ("--tls-client-ca", *tls, *pem, "--tls-client-ca", "/none", "--grant", "local=all")):
            with self.subTest(server=args):
                self.refused("lazyroot-server", option, ("--data", "bad-data", *args))
        far = ("--server", "grpcs://127.0.0.1:1")
        for option, *args in (
                ("--server", "--server", "foo"), ("--server", "--server", "grpc://h"), ("--cas", "--cas", "foo"),
                ("--tls-ca", *far, "--tls-ca", junk), ("--tls-ca", *far, "--tls-ca", "/none"),
                ("--tls-key", *far, "--tls-cert", junk), ("--tls-cert", *far, *pem), ("--tls-ca", "--tls-ca", junk),
                ("--token-file", "--token-file", "/none"), ("--credential-helper", "--credential-helper", "/none"),
                ("--platform", "--platform", "foo"), ("--metrics", "--metrics", "foo"),
                ("--metrics", "--metrics", "127.0.0.1:x"), ("--root", "--root", "/proc/x"), ("--root", "--root", "x"),
                ("--user", "--user", "nosuch"), ("--slots", "--slots", "0"), ("--limit", "--limit", "foo"),
                ("--limit-max", "--limit-max", "memory=x"), ("--upper", "--upper", "x"), ("--name", "--name", ""),
                ("--allow", "--allow", "frob"), ("--data-path", "--data-path", "x"), ("--cache-size", "--cache-size", "1"),
                ("--wait-limit", "--wait-limit", "x"), ("--entries-max", "--entries-max", "0")):
            with self.subTest(worker=args):
                self.refused("lazyroot-worker", option, ("--server", "grpc://127.0.0.1:1", "--cache",
                                                         "bad-cache", *args))
        for option, *args in (
                ("--server", "--server", "foo"), ("--tls-ca", *far, "--tls-ca", junk),
                ("--tls-ca", *far, "--tls-ca", "/none"), ("--tls-key", *far, "--tls-cert", junk),
                ("--token-file", "--token-file", "/none"), ("--rpc-timeout", "--rpc-timeout", "0"),
                ("--entries-max", "--entries-max", "0"), ("--log", "--log", "x"),
                ("--credential-helper", "--credential-helper", "/none")):
            with self.subTest(client=args):
                self.refused("lazyroot", option, ("ls", "--server", "grpc://127.0.0.1:1", *args, EMPTY))


class JsonTest(SystemTest):
    def json(self, *args, code=0, **kwargs):
        run = self.system.lazyroot(*args, **kwargs)
        self.assertEqual(run.code, code, run.err)
        return json.loads(run.text)

    def sh(self, script, *args, **kwargs):
        return self.json("run", "--json", "--no-cache", "--env", "PATH=/usr/bin:/bin", *args, "--",
                         "/bin/sh", "-c", script, **kwargs)

    def test_run_tells_outputs_logs_and_what_is_missing(self):
        for more in (("--no-download",), ("--download", "json-out")):
            got = self.sh("echo f > f; chmod +x f; mkdir d; echo x > d/x; ln -s f l; echo out;"
                          "echo err >&2; exit 3", "--output", "f", "--output", "d", "--output", "l",
                          "--output", "none", *more, code=3)
            outputs = {o["path"]: o for o in got["outputs"]}
            self.assertEqual(outputs["f"], {"path": "f", "type": "file", "executable": True,
                                            "digest": digest_of(b"f\n")})
            self.assertEqual(outputs["d"]["type"], "directory")
            listing = self.json("ls", "--json", outputs["d"]["digest"])
            self.assertEqual([e["path"] for e in listing], ["x"])
            self.assertEqual(outputs["l"], {"path": "l", "type": "symlink", "target": "f"})
            self.assertEqual(got["stdout"], digest_of(b"out\n"))
            self.assertEqual(got["stderr"], digest_of(b"err\n"))
            self.assertEqual(got["missing_outputs"], ["none"])
        self.assertEqual(self.sh("true")["stdout"], EMPTY)

    def test_numbers_are_short(self):
        run = self.system.lazyroot("run", "--json", "--no-cache", "--", "/bin/true")
        for number in re.findall(r"-?\d+\.\d+", run.text):
            self.assertLessEqual(len(number.split(".")[1]), 3, run.text)

    def test_errors_are_json_too(self):
        for args, code, name in ((("cat", "--json", "0" * 64 + "/5"), 1, "NOT_FOUND"),
                                 (("ls", "--json", "nonsense"), 2, "INVALID_ARGUMENT"),
                                 (("run", "--json"), 2, "INVALID_ARGUMENT"),
                                 (("run", "--nonsense", "--json"), 2, "INVALID_ARGUMENT"),
                                 (("wait", "--json", "no-such"), 125, "NOT_FOUND"),
                                 (("run", "--json", "--input", "/no/such", "--", "x"), 125,
                                  "NOT_FOUND")):
            with self.subTest(args=args):
                error = self.json(*args, code=code)["error"]
                self.assertEqual(error["code"], name)
                self.assertEqual(error["exit_code"], code)
                self.assertTrue(error["message"])

    def test_an_unknown_verb_is_json_too(self):
        for args in (("--json", "frob"), ("frob", "--json"), ("--json",), ("--nonsense", "--json"),
                     ("--json", "ls"), ("upload", "--json"), ("ls", "--json", "--rpc-timeout", "x", EMPTY)):
            with self.subTest(args=args):
                error = self.json(*args, code=2)["error"]
                self.assertEqual((error["code"], error["exit_code"]), ("INVALID_ARGUMENT", 2))
                self.assertTrue(error["message"])

    def test_detach_cancel_and_mount(self):
        got = self.json("run", "--json", "--detach", "--no-cache", "--", "/bin/sleep", "60")
        self.assertRegex(got["action"], r"^[0-9a-f]{64}/\d+$")
        self.assertEqual(self.json("cancel", "--json", got["operation"]),
                         {"operation": got["operation"], "cancelled": True})
        point = self.system.dir / "json-mnt"
        point.mkdir()
        self.assertEqual(self.json("mount", "--json", EMPTY, point),
                         {"digest": EMPTY, "mounted": str(point)})
        subprocess.run(["umount", point], check=True)

    def test_cat_is_text_or_base64(self):
        for i, data in enumerate((b"text\n", "é\0".encode(), b"", b"\xff", b"\xff\xfe", b"\xffab",
                                  bytes(range(256)) * 999)):
            tree = self.system.tree(f"cat{i}", {"f": data})
            digest = self.system.upload(tree / "f")
            got = self.json("cat", "--json", digest)
            self.assertEqual(got["digest"], digest)
            self.assertEqual(got["text"].encode() if "text" in got
                             else base64.b64decode(got["base64"]), data)

    def test_ls_never_makes_two_names_equal(self):
        tree = os.fsencode(self.system.tree("names", {}))
        names = [b"caf\351", b"caf\352", "café".encode(), rb"caf\xe9", b"caf?", "caf\uf7e9".encode(),
                 b"caf\xef\x9f", "\ufffd".encode()]
        for name in names:
            with open(os.path.join(tree, name), "wb") as file:
                file.write(b"x")
        os.symlink(b"to\377", os.path.join(tree, b"link"))
        digest = self.system.upload(os.fsdecode(tree))
        entries = self.json("ls", "--json", digest)

        def decode(text):
            return b"".join(bytes([ord(c) - 0xf700]) if 0xf780 <= ord(c) <= 0xf7ff else c.encode()
                            for c in text)
        self.assertEqual(len({e["path"] for e in entries}), len(names) + 1)
        self.assertEqual({decode(e["path"]) for e in entries}, {*names, b"link"})
        self.assertEqual([decode(e["target"]) for e in entries if "target" in e], [b"to\377"])


class WordsTest(SystemTest):
    def test_missing_outputs_are_one_line(self):
        run = self.assert_ok(self.system.sh("echo > a", "-q", "--output", "a", "--output", "b",
                                            "--output", "c/d", "--download", "words-out"))
        self.assertEqual(run.err, "lazyroot run: the command did not make: b, c/d\n")
        run = self.system.sh("exit 3", "-q", "--output", "a", report=False)
        self.assertEqual((run.code, run.err), (3, ""))

    def test_an_output_that_is_no_file_is_told_once(self):
        script = "cd w; mkfifo f; perl -MSocket -e 'socket(S,AF_UNIX,SOCK_STREAM,0); bind(S, sockaddr_un(\"s\"))'"
        for args in ((), ("-q",)):
            run = self.assert_ok(self.system.sh(script, "--no-cache", "--no-download", "-o", "w/f",
                                                "-o", "w/s", "-o", "w/none", *args))
            lines = [l for l in run.err.splitlines() if not l.startswith("exit 0")]
            self.assertEqual(sorted(l.split(": ", 1)[1] for l in lines), [
                "the command did not make: w/none", "w/f: a FIFO, skipped", "w/s: a socket, skipped"])

    def test_errors_are_one_line_without_the_protocols_words(self):
        nowhere = "grpc://127.0.0.1:1"
        for args, address in ((("ls", EMPTY[:-1] + "7"), None), (("run", "--", "x"), nowhere),
                              (("upload", system.TOP / "README.md"), nowhere),
                              (("wait", "no-such"), None), (("capabilities",), nowhere),
                              (("run", "--instance", "elsewhere", "--", "x"), None)):
            with self.subTest(args=args):
                run = self.system.lazyroot(*args, address=address)
                self.assertNotEqual(run.code, 0)
                lines = [l for l in run.err.splitlines() if "again in" not in l]
                self.assertEqual(len(lines), 1, run.err)
                for word in ("build.bazel", "google.", "/Execute", "rpc", "ipv4:", "UNKNOWN"):
                    self.assertNotIn(word, run.err.replace("grpc://", ""))
                self.assertNotRegex(run.err, r"\d\d:\d\d:\d\d")
                self.assertEqual("127.0.0.1:1" in run.err, address is not None)
        run = self.system.lazyroot("ls", "--log", "debug", EMPTY[:-1] + "7")
        self.assertIn("ContentAddressableStorage/BatchReadBlobs", run.err)

    def test_did_you_mean(self):
        for args, word in ((("uplaod", "x"), "upload"), (("mout", "x"), "mount"),
                           (("run", "--no-cahce", "--", "x"), "--no-cache"),
                           (("ls", "--serve", "x", "--recursiv", "--jsno"), "--json")):
            run = self.system.lazyroot(*args)
            self.assertEqual(run.code, 2)
            self.assertIn(f"did you mean {word}?", run.err)

    def test_common_options_may_stand_before_the_verb(self):
        env = {"LAZYROOT_SERVER": ""}
        for before in (("-s", self.system.address), (f"--server={self.system.address}", "-q"),
                       (f"-s{self.system.address}", "--json", "--rpc-timeout", "30")):
            run = subprocess.run([system.BIN / "lazyroot", *before, "ls", EMPTY],
                                 env=self.system.environment(env), capture_output=True)
            self.assertEqual(run.returncode, 0, run.stderr)
        run = subprocess.run([system.BIN / "lazyroot", "--recursive", "ls", EMPTY],
                             env=self.system.environment(env), capture_output=True)
        self.assertEqual(run.returncode, 2)
        self.assertIn(b"--recursive", run.stderr)

    def test_a_number_alone_is_seconds(self):
        run = self.system.sh("sleep 60", "--timeout", "1")
        self.assertEqual(run.code, 124)

    def test_fetched_is_never_more_than_of(self):
        tree = self.system.tree("tiny", {f"a-rather-long-name-{i}": "1" for i in range(9)})
        run = self.assert_ok(self.system.sh("cat a*; ls", "--input", tree, "--no-cache"))
        self.assertNotRegex(run.err, r"fetched [\d.]+ k?B of \d B ")
        self.assertIn("9 B of files", run.err)

    def test_quiet_says_what_was_left_out(self):
        tree = self.system.tree("quiet", {"f": "1"})
        os.mkfifo(tree / "pipe")
        run = self.assert_ok(self.system.lazyroot("upload", "-q", tree))
        self.assertIn("quiet/pipe", run.err)
        run = self.assert_ok(self.system.sh("ls", "-q", "--input", tree))
        self.assertIn("quiet/pipe", run.err)

    def test_a_size_of_ten_bytes_is_refused(self):
        run = subprocess.run([system.BIN / "lazyroot-server", "--data", self.system.dir / "d10",
                              "--data-size", "10"], capture_output=True, timeout=system.PATIENCE)
        self.assertEqual(run.returncode, 2)
        self.assertIn(b"--data-size", run.stderr)


    def test_what_is_shown_is_one_name(self):
        tree = os.fsencode(self.system.tree("shown", {}))
        for name in (b"caf\xe9", rb"caf\xe9", rb"a\b", b"a\nb", rb"a\x0ab"):
            with open(os.path.join(tree, name), "wb"):
                pass
        run = self.assert_ok(self.system.lazyroot("ls", self.system.upload(os.fsdecode(tree))))
        self.assertEqual(sorted(run.text.splitlines()), sorted(
            [r"caf\xe9", r"caf\\xe9", r"a\\b", r"a\x0ab", r"a\\x0ab"]))
        # a worker's notes are escaped once, where they were made
        run = self.assert_ok(self.system.sh(r"mkdir d; mkfifo 'd/a\b'; : > d/$(printf '\377')",
                                            "--no-cache", "-o", "d", "--no-download"))
        self.assertIn(r"note: d/a\\b: a FIFO, skipped", run.err)
        self.assertIn(r"note: d/\xff: its name", run.err)

    def test_an_action_is_shown_as_a_shell_takes_it(self):
        words = [r"a\b'c", "tab\t'x\\", "plain", "it's"]
        run = self.system.run("--env", r"V=\n", "--", "/bin/echo", *words, report=True)
        shown = self.system.lazyroot("action", run.report["action"]).text
        line = next(l for l in shown.splitlines() if l.startswith("command"))
        got = subprocess.run(["bash", "-c", "printf '%s\\0' " + line.split(None, 1)[1]],
                             capture_output=True).stdout.decode()
        self.assertEqual(got.split("\0"), ["/bin/echo", *words, ""])
        self.assertIn(r"env          V='\n'", shown)

    def test_closed_standard_output_is_said(self):
        digest = self.system.upload(self.system.tree("closed", {"f": "f"}))
        for command in (f"lazyroot ls {digest}", f"lazyroot cat {digest} f", "lazyroot --version",
                        f"lazyroot download {digest_of(b'f')} -",
                        "lazyroot-server --help", "lazyroot-worker --version"):
            with self.subTest(command=command):
                run = subprocess.run(["sh", "-c", f"exec {system.BIN}/{command} >&-"],
                                     env=self.system.environment(), capture_output=True)
                self.assertEqual(run.returncode, 1)
                self.assertIn(b"standard output: it is closed", run.stderr)


class StreamsTest(SystemTest):
    def lazyroot(self, *args, data=None):
        return subprocess.run([system.BIN / "lazyroot", *map(str, args)], input=data,
                              env=self.system.environment(), capture_output=True,
                              timeout=system.PATIENCE)

    def test_upload_takes_standard_input_and_pipes(self):
        for data in (b"", b"hello\n", os.urandom(5 << 20)):
            run = self.lazyroot("upload", "-", data=data)
            self.assertEqual(run.stdout.decode(), digest_of(data) + "\n", run.stderr)
            self.assertEqual(self.lazyroot("cat", digest_of(data)).stdout, data)
        run = subprocess.run(["bash", "-c", f"{system.BIN}/lazyroot upload <(echo pipe)"],
                             env=self.system.environment(), capture_output=True)
        self.assertEqual(run.stdout.decode(), digest_of(b"pipe\n") + "\n", run.stderr)

    def test_download_to_standard_output(self):
        digest = self.lazyroot("upload", "-", data=b"bytes").stdout.decode().strip()
        run = self.lazyroot("download", digest, "-")
        self.assertEqual((run.returncode, run.stdout), (0, b"bytes"))
        tree = self.system.upload(self.system.tree("streamed", {"f": "1"}))
        run = self.lazyroot("download", tree, "-")
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"tree", run.stderr)

    def test_what_cannot_be_read_does_not_keep_the_rest(self):
        tree = self.system.tree("rest", {"a": "a", "b": "b"})
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tree / "sock"))
        run = self.lazyroot("upload", tree / "a", tree / "sock", tree / "none", tree / "b")
        self.assertEqual(run.returncode, 1)
        self.assertEqual(run.stdout.decode().split(), [digest_of(b"a"), digest_of(b"b")])
        self.assertIn(b"rest/sock", run.stderr)
        self.assertIn(b"rest/none", run.stderr)
        got = json.loads(self.lazyroot("upload", "--json", tree / "sock", tree / "b").stdout)
        self.assertEqual([("error" in e, "digest" in e) for e in got], [(True, False), (False, True)])

    def test_what_is_no_file_is_refused_at_once(self):
        tree = self.system.tree("odd", {"a": "a"})
        os.mkfifo(tree / "fifo")
        (tree / "link").symlink_to("fifo")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tree / "sock"))
        for path, what in ((tree / "fifo", "a FIFO"), (tree / "link", "a FIFO"),
                           (tree / "sock", "a socket"), ("/dev/zero", "a device")):
            with self.subTest(path=path):
                run = self.lazyroot("upload", path)
                self.assertEqual(run.returncode, 1)
                self.assertIn(f"{os.path.realpath(path)} is {what}".encode(), run.stderr)
                run = self.lazyroot("upload", path, tree / "a")
                self.assertEqual(run.stdout.decode().split(), [digest_of(b"a")])
                run = self.lazyroot("run", "--input", path, "--", "/bin/true")
                self.assertEqual(run.returncode, 125)
                self.assertIn(what.encode(), run.stderr)

    def test_a_mount_hides_nothing(self):
        full = self.system.tree("full", {"f": "1"})
        run = self.lazyroot("mount", EMPTY, full)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"not empty", run.stderr)
        point = self.system.dir / "twice"
        point.mkdir()
        self.assertEqual(self.lazyroot("mount", point).returncode, 0)
        try:
            run = self.lazyroot("mount", EMPTY, point)
            self.assertEqual(run.returncode, 1)
            self.assertIn(b"mounted on already", run.stderr)
            self.assertEqual(len(system.mounts_below(point)), 1)
        finally:
            subprocess.run(["umount", point], check=True)


class ProgressTest(SystemTest):
    def test_lines_fit_the_terminal(self):
        for columns in (14, 40, 80):
            tree = self.system.tree(f"wide{columns}", {"f": ""})
            os.truncate(tree / "f", (192 << 20) + columns)  # long enough to be worth a line
            drawn = []
            for args in (["upload", tree],
                         ["run", "--no-cache", "--env", "PATH=/bin", "--", "/bin/sleep", "0.2"]):
                terminal = Terminal(self.system, args, columns)
                self.assertEqual(terminal.wait(), 0)
                drawn += [re.split("[\r\n]", d)[0] for d in
                          terminal.text.decode().split("\r\x1b[K")]
            drawn = [d for d in drawn if re.match("Reading|Uploading|Running", d)]
            self.assertTrue([d for d in drawn if d.startswith("Running")])
            self.assertTrue([d for d in drawn if not d.startswith("Running")])
            for line in drawn:
                self.assertLess(len(line), columns, line)
            counted = [d for d in drawn if d.startswith("Uploading")]
            self.assertTrue(all(re.match(r"Uploading [\d,]+ of 2,", d) for d in counted
                                if columns > 14), counted)

    def test_a_line_tells_how_long_a_command_is_running(self):
        words = ["run", "--no-cache", "--", "/bin/sleep", "60"]
        for place in ("remote", "namespaces"):
            terminal = Terminal(self.system, [*words[:1], "--sandbox", place, *words[1:]], 80)

            def tells_time():
                terminal.read(seconds=0.2)
                return re.search(rb"running [1-9]\d* s", terminal.text)
            wait_until(tells_time, "the time")
            os.write(terminal.fd, b"\x03")
            self.assertEqual(terminal.wait(), 130)

    def test_a_dumb_terminal_gets_no_line(self):
        terminal = Terminal(self.system, ["run", "--no-cache", "--", "/bin/sleep", "0.3"], 80,
                            env={"TERM": "dumb"})
        self.assertEqual(terminal.wait(), 0)
        self.assertNotIn(b"\x1b", terminal.text)
        self.assertIn(b"exit 0 in", terminal.text)

    def test_ctrl_c_leaves_no_line_behind(self):
        terminal = Terminal(self.system, ["run", "--no-cache", "--", "/bin/sleep", "60"], 40)
        terminal.read(until=b"running")
        os.write(terminal.fd, b"\x03")
        self.assertEqual(terminal.wait(), 130)
        self.assertEqual(terminal.standing(), "")
        self.assertIn("cancelling", terminal.text.decode())
        self.assertNotIn("running" + "lazyroot", terminal.text.decode())


class ConfigurationTest(SystemTest):
    def config(self, text):
        path = self.system.dir / "c.yaml"
        path.write_text(text)
        return path

    def test_one_file_serves_all_verbs(self):
        path = self.config(f"server: {self.system.address}\nrecursive: true\nmerge: no\n"
                           "timeout: 5\nforeground: false\nsilence: 1m\nmtimes: never\n")
        for args in (("ls", EMPTY), ("cat", EMPTY), ("upload", path), ("run", "--", "/bin/true"),
                     ("capabilities",)):
            self.assert_ok(self.system.lazyroot(args[0], "--config", path, *args[1:],
                                                env={"LAZYROOT_SERVER": ""}))

    def test_what_is_wrong_in_it_is_said(self):
        for text, words in (("json: maybe\n", ("line 1", "maybe")), ("recursiv: 1\n", ("line 1",)),
                            ("# x\nserver: [a]\n", ("line 2", "server")), ("server: 'x\n", ("YAML",))):
            run = self.system.lazyroot("ls", "--config", self.config(text), EMPTY)
            self.assertEqual(run.code, 2, text)
            for word in words:
                self.assertIn(word, run.err)
            self.assertNotIn("Backtrace", run.err)

    def test_a_value_that_is_refused_later_is_found_there(self):
        server = f"server: {self.system.address}\n"
        for args, text, words in (
                (("upload", "."), server + "mtimes: sometimes\n", "line 2: --mtimes"),
                (("ls", EMPTY), "# x\n\nserver: grpc://nowhere\n", "line 3: --server"),
                (("ls", EMPTY), server + "rpc-timeout: 0\n", "line 2: --rpc-timeout"),
                (("run", "--", "x"), server + "env: [A=1, =B]\n", "line 2: --env =B"),
                (("run", "--", "x"), server + "output: [../x]\n", "line 2: --output")):
            with self.subTest(text=text):
                run = self.system.lazyroot(args[0], "--config", self.config(text), *args[1:],
                                           env={"LAZYROOT_SERVER": ""})
                self.assertEqual(run.code, 2)
                self.assertIn(f"c.yaml, {words}", run.err)
        # the command line's value has no file
        run = self.system.lazyroot("upload", "--config", self.config("mtimes: always\n"),
                                   "--mtimes", "sometimes", ".")
        self.assertNotIn("c.yaml", run.err)
        run = self.system.lazyroot("ls", EMPTY, env={"LAZYROOT_SERVER": "nowhere"})
        self.assertIn("LAZYROOT_SERVER: --server", run.err)
        for program, text in (("server", "data: d\nsync: foo\n"), ("server", "data: d\ngrant: [foo]\n"),
                              ("worker", "server: grpc://h:1\nupper: foo\n")):
            run = subprocess.run([system.BIN / f"lazyroot-{program}", "--config", self.config(text),
                                  *(("--cache", "c") if program == "worker" else ())],
                                 capture_output=True, cwd=self.system.dir, timeout=system.PATIENCE)
            self.assertEqual(run.returncode, 2)
            self.assertIn(b"c.yaml, line 2: --", run.stderr)

    def test_the_log_level_may_stand_there(self):
        path = self.config(f"server: {self.system.address}\nlog: debug\n")
        for args, is_told in (((), True), (("--log", "error"), False)):
            run = self.assert_ok(self.system.lazyroot("ls", "--config", path, *args, EMPTY))
            self.assertEqual("debug" in run.err or "core " in run.err, is_told, run.err)
        run = self.system.lazyroot("ls", "--config", self.config("log: frob\n"), EMPTY)
        self.assertEqual(run.code, 2)
        self.assertIn("c.yaml, line 1", run.err)

    def test_an_explicit_file_beats_the_environment(self):
        path = self.config(f"server: {self.system.address}\n")
        run = self.system.lazyroot("capabilities", "--config", path, address="grpc://127.0.0.1:1")
        self.assert_ok(run)
        run = self.system.lazyroot("capabilities", env={"LAZYROOT_CONFIG": str(path)},
                                   address="grpc://127.0.0.1:1")
        self.assertEqual(run.code, 1, "the usual file does not")


if __name__ == "__main__":
    system.main()
