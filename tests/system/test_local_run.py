"""lazyroot run on this machine, with no service anywhere: what it leaves in the local store, when
it runs again, how it ends, and what it says that it cannot."""
import hashlib
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest

from system import BIN, PATIENCE, need_root, own_mounts, sandboxes_with, wait_until
from test_logs import go_on, read_until, sleeps

ANYBODY = 54321  # no user of this machine
HERE = ("namespaces", "plain")


class LocalRunTest(unittest.TestCase):
    def setUp(self):
        need_root()
        own_mounts()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-local-", dir="/var/tmp"))
        self.home = self.dir / "home"
        self.tree = self.dir / "tree"
        self.tree.mkdir()
        (self.tree / "in").write_text("input\n")

    def tearDown(self):
        scratch = self.home / "lazyroot/scratch"
        left = list(scratch.iterdir()) if scratch.exists() else []
        shutil.rmtree(self.dir)
        self.assertEqual(left, [])

    def words(self, verb, *args, place=None):
        return [str(word) for word in (BIN / "lazyroot", verb,
                                       *(("--sandbox", place) if place else ()), *args)]

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith("LAZYROOT_")}
        return {**env, "XDG_CACHE_HOME": str(self.home)}

    def lazyroot(self, verb, *args, place=None, prefix=()):
        return subprocess.run([*prefix, *self.words(verb, *args, place=place)], timeout=PATIENCE,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              cwd=self.dir, env=self.environment())

    def sh(self, script, *args, **kwargs):
        return self.lazyroot("run", *args, "--input", self.tree, "--env", "PATH=/usr/bin:/bin",
                             "--", "/bin/sh", "-c", script, **kwargs)

    def document(self, script, *args, **kwargs):
        run = self.sh(script, "--json", *args, **kwargs)
        self.assertEqual(run.returncode, 0, run.stderr)
        return json.loads(run.stdout)

    def test_outputs_and_logs_are_objects_of_the_local_store(self):
        for place in HERE:
            found = self.document("mkdir d; cat in > d/f; echo said", "--output", "d",
                                  place=place)
            self.assertEqual((self.dir / "d/f").read_text(), "input\n")
            shutil.rmtree(self.dir / "d")
            digest = found["outputs"][0]["digest"]
            self.assertEqual(self.lazyroot("ls", digest).stdout, "f\n")
            self.assertEqual(self.lazyroot("cat", digest, "f").stdout, "input\n")
            self.assertEqual(self.lazyroot("cat", found["stdout"]).stdout, "said\n")
            run = self.lazyroot("download", digest, self.dir / "copy")
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual((self.dir / "copy/f").read_text(), "input\n")
            shutil.rmtree(self.dir / "copy")

    def test_a_command_without_service_needs_no_option(self):
        run = self.sh("cat in")
        self.assertEqual((run.returncode, run.stdout), (0, "input\n"), run.stderr)

    def test_a_variable_without_a_value_has_the_callers(self):
        os.environ["HERE"] = "as here"
        try:
            run = self.lazyroot("run", "--env", "PATH=/usr/bin:/bin", "--env", "HERE", "--env",
                                "NOT_SET_ANYWHERE", "--env", "HERE_TOO=1", "--env", "HERE_TOO",
                                "--", "env")
        finally:
            del os.environ["HERE"]
        self.assertEqual(run.stdout, "HERE=as here\nPATH=/usr/bin:/bin\n", run.stderr)

    def test_what_is_not_in_the_local_store_is_named(self):
        run = self.lazyroot("cat", "0" * 64 + "/5")
        self.assertEqual(run.returncode, 1)
        self.assertIn("0" * 64, run.stderr)
        self.assertIn("local store", run.stderr)

    def test_a_result_is_used_again(self):
        count = self.dir / "count"
        count.write_text("")
        script = f"echo x >> {count}; echo made > out"

        def runs(*args):
            cached = self.document(script, "--output", "out", *args, place="plain")["cached"]
            return cached, len(count.read_text().split())

        self.assertEqual(runs(), (False, 1))
        self.assertEqual(runs(), (True, 1))
        self.assertEqual(runs("--rerun"), (False, 2))
        self.assertEqual(runs("--no-cache"), (False, 3))
        self.assertEqual(runs(), (True, 3))
        # the other place knows it, too
        self.assertTrue(self.document(script, "--output", "out", place="namespaces")["cached"])

    def test_a_result_counts_only_while_its_blobs_are_there(self):
        script = "mkdir out; echo made > out/f"
        first = self.document(script, "--output", "out")
        self.assertTrue(self.document(script, "--output", "out")["cached"])
        made = self.lazyroot("ls", "-l", "--json", first["outputs"][0]["digest"])
        hash_ = json.loads(made.stdout)[0]["digest"].split("/")[0]
        (self.home / "lazyroot/cas/blobs" / hash_[:2] / hash_).unlink()
        again = self.document(script, "--output", "out")
        self.assertFalse(again["cached"])
        self.assertEqual(again["outputs"], first["outputs"])

    def test_inputs_are_not_stored_for_what_is_known(self):
        hash_ = hashlib.sha256(b"input\n").hexdigest()
        blob = self.home / "lazyroot/cas/blobs" / hash_[:2] / hash_
        for place in HERE:
            script = f"exit 0 # in {place}"
            self.assertFalse(self.document(script, place=place)["cached"])
            blob.unlink()
            self.assertTrue(self.document(script, place=place)["cached"])
            self.assertFalse(blob.exists())

    def test_an_output_that_does_not_fit_is_named_as_it_is(self):
        own_mounts()
        small = self.dir / "small"
        small.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
        run = self.sh("mkdir d; head -c 3000000 /dev/zero > d/b", "--output", "d", "--download", small,
                      place="plain")
        left = list(small.iterdir())
        subprocess.run(["umount", small], check=True)
        self.assertEqual((run.returncode, left), (125, []))
        self.assertIn("output d: check out b: ", run.stderr)

    def test_a_failure_is_not_used_again(self):
        count = self.dir / "count"
        for n in (1, 2):
            run = self.sh(f"echo x >> {count}; exit 3", place="plain")
            self.assertEqual(run.returncode, 3)
            self.assertEqual(len(count.read_text().split()), n)

    def test_an_action_is_explained_without_a_service(self):
        action = self.document("cat in > out", "--output", "out")["action"]
        shown = self.lazyroot("action", "--json", action)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertEqual(json.loads(shown.stdout)["result"]["files"][0]["path"], "out")
        failed = json.loads(self.sh("exit 3", "--json").stdout)["action"]
        self.assertIn("exit code 3", self.lazyroot("action", failed).stdout)

    def test_what_is_uploaded_without_a_service_is_in_the_local_store(self):
        run = self.lazyroot("upload", "--json", self.tree, self.tree / "in")
        self.assertEqual(run.returncode, 0, run.stderr)
        tree, file = json.loads(run.stdout)
        self.assertEqual((tree["sent_blobs"], file["sent_blobs"]), (2, 0))
        self.assertEqual(self.lazyroot("cat", tree["digest"], "in").stdout, "input\n")
        self.assertEqual(self.lazyroot("cat", file["digest"]).stdout, "input\n")
        run = self.lazyroot("run", "--input-digest", f"{tree['digest']}=at", "--env",
                            "PATH=/usr/bin:/bin", "--", "cat", "at/in")
        self.assertEqual((run.returncode, run.stdout), (0, "input\n"), run.stderr)
        self.assertEqual(self.lazyroot("upload", self.tree, "").returncode, 2)
        again = self.lazyroot("upload", self.tree)
        self.assertIn("kept here 0 blobs", again.stderr)

    def test_standard_input_is_kept_without_a_service(self):
        with open("/proc/self/exe", "rb") as program:
            said = subprocess.run(self.words("upload", "-"), stdin=program, timeout=PATIENCE,
                                  capture_output=True, text=True, env=self.environment())
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertEqual(self.lazyroot("download", said.stdout.strip(),
                                       self.dir / "copy").returncode, 0)
        self.assertEqual((self.dir / "copy").read_bytes(),
                         pathlib.Path("/proc/self/exe").read_bytes())

    def test_a_name_is_a_tree_wherever_one_is_asked_for(self):
        made = self.document("mkdir d; echo made > d/f", "--output", "d", "--artifact", "lib")
        left = made["action"] + "+result"
        place = self.dir / "mounted"
        place.mkdir()
        for tree, expected in (("lib", ["d/"]), (left, ["d/", "in"]), (made["action"], ["in"])):
            run = self.lazyroot("ls", tree)
            self.assertEqual(run.stdout.split(), expected, run.stderr)
            self.assertEqual(self.lazyroot("diff", tree, tree).returncode, 0)
            shown = self.lazyroot("mount", "--json", tree, place)
            self.assertEqual(shown.returncode, 0, shown.stderr)
            try:
                self.assertEqual([n.strip("/") for n in expected], sorted(os.listdir(place)))
            finally:
                subprocess.run(["umount", place], check=True)
            self.assertEqual(self.lazyroot("ls", json.loads(shown.stdout)["digest"]).stdout,
                             run.stdout)
        for tree in ("lib", left):
            self.assertEqual(self.lazyroot("cat", tree, "d/f").stdout, "made\n")
            run = self.lazyroot("run", "--input-digest", f"{tree}=at", "--env",
                                "PATH=/usr/bin:/bin", "--", "cat", "at/d/f")
            self.assertEqual((run.returncode, run.stdout), (0, "made\n"), run.stderr)
        self.assertEqual(self.lazyroot("cat", "lib").returncode, 1)

    def test_a_directory_is_a_tree_too(self):
        tree = self.lazyroot("upload", self.tree).stdout.strip()
        self.assertEqual(self.lazyroot("diff", tree, "./tree").stdout, "")
        (self.tree / "in").write_text("changed\n")
        self.assertEqual(self.lazyroot("diff", tree, "./tree").stdout, "M\tin\n")
        self.assertEqual(self.lazyroot("diff", tree, self.tree).returncode, 1)
        run = self.lazyroot("shell", "./tree", "--", "cat", "in")
        self.assertEqual((run.returncode, run.stdout), (0, "changed\n"), run.stderr)
        self.assertEqual(self.lazyroot("cat", "./tree", "in").stdout, "changed\n")
        run = self.lazyroot("ls", "tree")
        self.assertEqual(run.returncode, 2)
        self.assertIn("named with ./", run.stderr)
        for wrong, said in (("./tree/in", "no directory"), ("./gone", "No such file")):
            run = self.lazyroot("ls", wrong)
            self.assertEqual(run.returncode, 1)
            self.assertIn(said, run.stderr)

    def test_a_shell_may_have_more_than_its_tree_says(self):
        action = self.document("true", "--env", "ITS=own", "--env", "OTHER=own")["action"]
        run = self.lazyroot("shell", "--action", action, "-e", "ITS=x", "-e", "ITS=mine", "-e",
                            "XDG_CACHE_HOME", "-w", "sub/dir/", "--", "/bin/sh", "-c",
                            "echo $ITS $OTHER $XDG_CACHE_HOME; pwd")
        self.assertEqual(run.stdout, f"mine own {self.home}\n/build/sub/dir\n", run.stderr)
        names = [set(line.split(":")[0].strip() for line in text.splitlines() if ":" in line)
                 for text in (pathlib.Path("/proc/net/dev").read_text(), *(self.lazyroot(
                     "shell", *words, "./tree", "--", "cat", "/proc/net/dev").stdout
                     for words in (("--network",), ())))]
        self.assertEqual((names[1], names[2]), (names[0], {"lo"}))
        for words in (("-w", "../.."), ("-e", "=x")):
            self.assertEqual(self.lazyroot("shell", *words, "./tree", "--", "true").returncode, 2)

    def test_what_is_neither_digest_nor_name_is_wrong_usage(self):
        place = self.dir / "nothing"
        place.mkdir()
        for args in (("ls", "no-such"), ("cat", "no-such", "f"), ("mount", "no-such", place),
                     ("diff", "no-such", "no-such"), ("download", "no-such", "there"),
                     ("checkout", "no-such", "there"), ("shell", "no-such", "--", "true"),
                     ("run", "--input-digest", "no-such=at", "--", "true")):
            run = self.lazyroot(*args)
            self.assertEqual(run.returncode, 2, args)
            self.assertIn('"no-such" is neither a digest', run.stderr)

    def test_the_local_store_keeps_to_its_size(self):
        parts = [self.dir / f"part{n}" for n in range(8)]
        for part in parts:
            part.write_bytes(os.urandom(700 << 10))
            run = self.lazyroot("upload", part, "--cache-size", "2M")
            self.assertEqual(run.returncode, 0, run.stderr)
        # what the last command brought may lie above it until the next one
        self.assertLess(sum(path.stat().st_size for path in
                            (self.home / "lazyroot/cas/blobs").rglob("*") if path.is_file()),
                        (2 << 20) + (700 << 10))
        last = self.lazyroot("download", run.stdout.strip(), self.dir / "last")
        self.assertEqual(last.returncode, 0, last.stderr)
        large = self.dir / "large"
        large.write_bytes(os.urandom(3 << 20))
        run = self.lazyroot("upload", large, "--cache-size", "2M")
        self.assertEqual(run.returncode, 1)
        self.assertIn("may be (2.1 MB)", run.stderr)
        self.assertEqual(self.lazyroot("upload", large).returncode, 0)

    def test_what_would_be_gone_at_once_is_refused(self):
        """Without a cache directory nothing is kept: no digest, no name stands for anything."""
        tree = self.lazyroot("upload", self.tree).stdout.strip()
        self.home = pathlib.Path("/proc/nothing")
        for args, code in ((("upload", self.tree), 1), (("shell", "--save", tree), 125),
                           (("run", "--artifact", "x", "--", "true"), 125),
                           (("pull", "x", "--artifacts", "grpc://127.0.0.1:1"), 1)):
            run = self.lazyroot(*args)
            self.assertEqual((run.returncode, run.stdout), (code, ""), args)
            self.assertIn("set XDG_CACHE_HOME", run.stderr)
        self.assertEqual(self.sh("cat in").stdout, "input\n")

    def test_what_was_read_only_a_service_tells(self):
        run = self.sh("cat in", "--reads")
        self.assertEqual((run.returncode, run.stdout), (0, "input\n"), run.stderr)
        self.assertIn("--server", run.stderr)
        action = self.document("cat in")["action"]
        run = self.lazyroot("action", "--reads", action)
        self.assertEqual(run.returncode, 1)
        self.assertIn("--server", run.stderr)

    def begin(self, place, marker):
        """A run whose command goes on until it is ended, and something below it."""
        process = subprocess.Popen(
            self.words("run", "--no-cache", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                       f"setsid sleep {marker} & sleep {marker}", place=place),
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.dir,
            env=self.environment())
        wait_until(lambda: len(sandboxes_with(marker)) >= 2, "the command")
        return process

    def test_an_interrupt_ends_the_command_and_all_below_it(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            for place in HERE:
                marker = f"48{os.getpid()}{number}"
                process = self.begin(place, marker)
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE), 128 + number)
                wait_until(lambda: not sandboxes_with(marker), "the command's end")
                self.assertEqual(list((self.home / "lazyroot/scratch").iterdir()), [])

    def test_a_kill_leaves_nothing_that_lasts(self):
        for place in HERE:
            marker = f"49{os.getpid()}"
            process = self.begin(place, marker)
            process.kill()
            process.wait(PATIENCE)
            wait_until(lambda: not sandboxes_with(marker), "the command's end")
            self.assertNotIn(str(self.dir), pathlib.Path("/proc/self/mountinfo").read_text())
            run = self.sh(":", "--no-cache", place=place)  # sweeps
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(list((self.home / "lazyroot/scratch").iterdir()), [])

    def test_what_a_plain_command_leaves_behind_is_ended(self):
        marker = f"47{os.getpid()}"
        run = self.sh(f"setsid sh -c 'setsid sleep {marker} & sleep {marker}' &\n"
                      "sleep 0.2; echo done", "--no-cache", place="plain")
        self.assertEqual((run.returncode, run.stdout), (0, "done\n"), run.stderr)
        self.assertEqual(sandboxes_with(marker), [])

    def test_a_narrow_umask_is_for_what_is_placed_only(self):
        narrow = ("/bin/sh", "-c", 'umask 077; exec "$@"', "sh")
        for place in HERE:
            run = self.sh("umask; touch made; ls -l made | cut -c1-10", "--output", "made",
                          "--no-cache", place=place, prefix=narrow)
            self.assertEqual((run.returncode, run.stdout), (0, "0022\n-rw-r--r--\n"), run.stderr)
            self.assertEqual((self.dir / "made").stat().st_mode & 0o777, 0o600)
        tree = self.lazyroot("upload", self.tree).stdout.strip()
        run = self.lazyroot("shell", tree, "--", "/bin/cat", "in", prefix=narrow)
        self.assertEqual((run.returncode, run.stdout), (0, "input\n"), run.stderr)

    def test_commands_at_once_share_the_store(self):
        begun = [subprocess.Popen(
            self.words("run", "-q", "--no-download", "--input", self.tree, "--output", "out",
                       "--env", f"N={n % 3}", "--", "/bin/sh", "-c", "echo $N > out; echo $N",
                       place=HERE[n % 2]), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
            env=self.environment()) for n in range(8)]
        for n, process in enumerate(begun):
            out, _ = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, out), (0, b"%d\n" % (n % 3)))

    def speaker(self, place, marker, *args, **kwargs):
        """A run that says something, waits for go_on(marker), and says more."""
        process = subprocess.Popen(
            self.words("run", "--no-cache", *args, "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                       f"echo one; echo err >&2; sleep {marker}; echo two; exit 3", place=place),
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
               **kwargs}, cwd=self.dir, env=self.environment())

        def end():
            process.kill()
            process.wait()
        self.addCleanup(end)
        return process

    def test_what_a_command_says_is_shown_while_it_runs_and_once(self):
        for n, place in enumerate(HERE):
            marker = f"46{os.getpid()}{n}"
            run = self.speaker(place, marker, "--stream-logs")
            self.assertEqual(read_until(run.stdout, b"one\n"), b"one\n")
            read_until(run.stderr, b"err\n")
            self.assertTrue(sleeps(marker), "it still runs")
            go_on(marker)
            out, err = run.communicate(timeout=PATIENCE)
            self.assertEqual((run.returncode, out), (3, b"two\n"), err)
            self.assertNotIn(b"err\n", err)

    def test_json_has_its_document_for_itself_and_the_words_on_stderr(self):
        for n, place in enumerate(HERE):
            marker = f"45{os.getpid()}{n}"
            run = self.speaker(place, marker, "--stream-logs", "--json")
            said = read_until(run.stderr, b"one\n")
            self.assertTrue(sleeps(marker), "it still runs")
            go_on(marker)
            out, err = run.communicate(timeout=PATIENCE)
            self.assertEqual(json.loads(out)["exit_code"], 3)
            self.assertEqual([(said + err).count(word) for word in (b"one\n", b"err\n", b"two\n")],
                             [1, 1, 1])

    def test_a_terminal_needs_no_option_for_that_and_a_pipe_does(self):
        marker = f"44{os.getpid()}"
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            run = self.speaker("plain", marker, "-q", stdout=theirs)
            os.close(theirs)
            self.assertEqual(read_until(terminal, b"one\r\n"), b"one\r\n")
            self.assertTrue(sleeps(marker), "it still runs")
            go_on(marker)
            self.assertEqual(read_until(terminal, b"two\r\n"), b"two\r\n")
        run = self.speaker("plain", marker)
        wait_until(lambda: sleeps(marker), "the command's sleep")
        time.sleep(0.3)
        self.assertEqual(select.select([run.stdout], [], [], 0)[0], [])
        go_on(marker)
        self.assertEqual(run.communicate(timeout=PATIENCE)[0], b"one\ntwo\n")

    def test_much_that_is_said_comes_whole_and_once(self):
        for place in HERE:
            run = self.sh("seq 1 300000; sleep 0.2; seq 1 300000 >&2; exit 1", "--stream-logs", "-q",
                          "--no-cache", place=place)
            text = "".join(f"{n}\n" for n in range(1, 300001))
            self.assertEqual((run.returncode, run.stdout == text, run.stderr == text), (1, True, True))

    def test_plain_says_what_only_namespaces_can(self):
        for words, expected in (
                (("--platform", "limit-memory=1G"), "limit-memory"),
                (("--platform", "unixUID=5"), "user 5"),
                (("--platform", "InputRootAbsolutePath=/w"), "/w")):
            run = self.sh(":", *words, place="plain")
            self.assertEqual(run.returncode, 125, run.stderr)
            self.assertIn(expected, run.stderr)
            self.assertIn("--sandbox namespaces", run.stderr)

    def test_a_place_that_cannot_be_is_said_before_the_command_runs(self):
        ran = self.dir / "ran"
        for words in (("--download", self.tree / "in"), ("--report", self.dir / "gone/report"),
                      ("--report", self.tree)):
            run = self.sh(f"echo > {ran}", *words, place="plain")
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn(f"{words[0]} {words[1]}", run.stderr)
        self.assertFalse(ran.exists())

    def test_usage(self):
        for words, expected in ((("--sandbox", "box"), "auto, namespaces, plain or remote"),
                                (("--sandbox", "plain", "--detach"), "--detach"),
                                (("--sandbox", "remote"), "no server")):
            run = self.sh(":", *words)
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn(expected, run.stderr)


class AnybodyTest(unittest.TestCase):
    """Who is not root, on a machine where /dev/fuse is not for everybody."""

    def setUp(self):
        need_root()
        own_mounts()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-local-", dir="/var/tmp"))
        self.dir.chmod(0o755)
        for name in ("lazyroot", "lazyroot-sandbox"):
            shutil.copy2(BIN / name, self.dir / name)
        home = self.dir / "home"
        home.mkdir()
        os.chown(home, ANYBODY, ANYBODY)
        device = self.dir / "fuse"
        os.mknod(device, stat.S_IFCHR | 0o600, os.stat("/dev/fuse").st_rdev)
        subprocess.run(["mount", "--bind", device, "/dev/fuse"], check=True)

    def tearDown(self):
        subprocess.run(["umount", "/dev/fuse"], check=True)
        shutil.rmtree(self.dir)

    def run_as_anybody(self, *args):
        env = {k: v for k, v in os.environ.items() if not k.startswith("LAZYROOT_")}
        return subprocess.run(
            ["setpriv", f"--reuid={ANYBODY}", f"--regid={ANYBODY}", "--clear-groups",
             self.dir / "lazyroot", "run", "--no-cache", *args, "--", "/bin/sh", "-c", "echo $$"],
            capture_output=True, text=True, timeout=PATIENCE, cwd="/",
            env={**env, "XDG_CACHE_HOME": str(self.dir / "home")})

    def test_namespaces_say_what_is_missing(self):
        run = self.run_as_anybody("--sandbox", "namespaces")
        self.assertEqual(run.returncode, 125)
        self.assertIn("/dev/fuse", run.stderr)

    def test_auto_falls_back_to_plain_and_says_so(self):
        run = self.run_as_anybody()
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("/dev/fuse", run.stderr)
        self.assertIn("without isolation", run.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
