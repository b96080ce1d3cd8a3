"""lazyroot run and its companions: what a user sees of a command that ran elsewhere."""
import json
import os
import shutil
import signal
import subprocess
import unittest

import system
from system import SystemTest, wait_until


class RunTest(SystemTest):
    def test_one_action_however_it_is_written(self):
        tree = self.system.tree("forms", {"f": "1"})
        forms = (("--output", "o/x", "--env", "A=1", "--env", "AB=2", "--env", "A1=3"),
                 ("--output", "./o//x/", "--env", "A1=3", "--env", "AB=2", "--env", "A=0",
                  "--env", "A=1", "--input", f"{tree}=./"))
        actions = set()
        for form in forms:
            args = form if "--input" in form else (*form, "--input", tree)
            run = self.assert_ok(self.system.run(
                *args, "--no-download", "--", "/bin/sh", "-c", "echo $A; echo > o/x"))
            self.assertEqual(run.text, "1\n")
            actions.add(run.report["action"])
        self.assertEqual(len(actions), 1)
        listing = self.system.lazyroot("action", actions.pop()).text
        names = [line.split()[1].split("=")[0] for line in listing.splitlines()
                 if line.startswith("env ")]
        self.assertEqual(names, ["A", "A1", "AB"], "in order of name, not of NAME=VALUE")

    def test_output_paths_as_people_write_them(self):
        for path in ("out/", "./out", "out/.", "out//"):
            with self.subTest(path=path):
                dest = self.system.dir / "forms-out"
                run = self.assert_ok(self.system.run(
                    "--output", path, "--download", dest, "--", "/bin/sh", "-c",
                    "mkdir -p out; echo > out/f"))
                self.assertEqual(run.err.count("not asked for"), 0)
                self.assertTrue((dest / "out/f").exists())
        for path in ("/abs", "../x", "a/../../b"):
            run = self.system.run("--output", path, "--", "/bin/true")
            self.assertEqual(run.code, 2)
            self.assertIn("--output", run.err)

    def test_exit_code_is_the_commands(self):
        self.assertEqual(self.system.sh("exit 7").code, 7)
        self.assertEqual(self.system.sh("exit 0").code, 0)

    def test_signal_is_128_plus_n(self):
        self.assertEqual(self.system.sh("kill -9 $$").code, 137)
        self.assertEqual(self.system.sh("kill -TERM $$").code, 143)

    def test_command_not_found_is_127_and_not_executable_126(self):
        tree = self.system.tree("nf", {"data": "no program\n"})
        self.assertEqual(self.system.run("--", "no-such-program").code, 127)
        run = self.system.run("--input", tree, "--", "./data")
        self.assertEqual(run.code, 126)
        self.assertIn("./data", run.err)

    def test_timeout_is_124_and_keeps_what_was_said(self):
        run = self.system.sh("echo before; sleep 60; echo after", "--timeout", "400ms")
        self.assertEqual(run.code, 124)
        self.assertEqual(run.text, "before\n")
        self.assertIn("timeout", run.err)

    def test_timeout_kills_the_whole_process_tree(self):
        marker = f"31{os.getpid()}7"
        run = self.system.sh(f"setsid sleep {marker} & (sleep {marker} & sleep {marker}); wait",
                             "--timeout", "400ms")
        self.assertEqual(run.code, 124)
        wait_until(lambda: not system.sandboxes_with(marker), "the processes' end")

    def test_daemons_end_with_the_command(self):
        marker = f"32{os.getpid()}7"
        run = self.system.sh(f"setsid nohup sleep {marker} >/dev/null 2>&1 & exit 0")
        self.assertEqual(run.code, 0)
        self.assertEqual(system.sandboxes_with(marker), [])

    def test_stdout_and_stderr_are_binary_and_apart(self):
        run = self.system.sh("printf 'a\\000b\\377'; printf 'E\\001' >&2; exit 0", "-q")
        self.assertEqual(run.out, b"a\0b\xff")
        self.assertIn("E\x01", run.err)

    def test_large_stdout_comes_through_the_store(self):
        run = self.system.sh("head -c 3000000 /dev/zero | tr '\\0' x")
        self.assertEqual(len(run.out), 3000000)

    def test_environment_is_exactly_the_commands(self):
        run = self.system.run("--env", "A=1", "--env", "B=x y", "--", "/usr/bin/env")
        self.assertEqual(sorted(run.text.splitlines()), ["A=1", "B=x y"])

    def test_workdir_is_where_the_command_starts(self):
        tree = self.system.tree("wd", {"a/b/f": "here\n"})
        run = self.system.sh("pwd; cat f", "--input", tree, "--workdir", "a/b")
        self.assertEqual(run.text, "/build/a/b\nhere\n")

    def test_missing_workdir_is_an_error_that_names_it(self):
        tree = self.system.tree("wd-file", {"f": "f", "d/x": "x"})
        for workdir, args, what in (("not/there", (), "not in the input root"),
                                    ("a/b", ("-o", "../o2"), "not in the input root"),
                                    ("f", ("--input", tree), "no directory there"),
                                    ("f/x", ("--input", tree), "no directory there")):
            run = self.system.sh("true", "--workdir", workdir, *args)
            self.assertEqual(run.code, 125)
            self.assertIn(f"the working directory {workdir} is {what}: it must be a directory of "
                          "the input root", run.err)

    def test_climbing_out_of_the_root_is_refused(self):
        for args in (["--workdir", "../x"], ["--output", "../../x"], ["--output", "/abs"]):
            run = self.system.sh("true", *args)
            self.assertEqual(run.code, 2, args)
            self.assertIn(args[1], run.err)

    def test_outputs_files_directories_links(self):
        run = self.assert_ok(self.system.sh(
            "mkdir -p d/sub d/empty; echo 1 > d/sub/f; ln -s sub/f d/l; echo x > x; chmod +x x;"
            "ln -s nowhere dangling",
            "--output", "d", "--output", "x", "--output", "dangling", "--output", "absent",
            "--download", "got"))
        got = self.system.dir / "got"
        self.assertEqual((got / "d/sub/f").read_text(), "1\n")
        self.assertTrue((got / "d/empty").is_dir())
        self.assertEqual(os.readlink(got / "d/l"), "sub/f")
        self.assertTrue(os.access(got / "x", os.X_OK))
        self.assertEqual(os.readlink(got / "dangling"), "nowhere")
        self.assertFalse((got / "absent").exists())
        self.assertIsNotNone(run.report)

    def test_output_parents_exist_before_the_run(self):
        self.assert_ok(self.system.sh("echo y > new/deep/f", "--output", "new/deep/f",
                                      "--download", "got2"))
        self.assertEqual((self.system.dir / "got2/new/deep/f").read_text(), "y\n")

    def test_an_output_without_a_place_does_not_keep_the_others(self):
        got = self.system.dir / "got-some"
        for name in ("b", "d/e"):
            (got / name).mkdir(parents=True)
            subprocess.run(["mount", "-t", "tmpfs", "none", got / name], check=True)
        try:
            run = self.system.sh("mkdir d; for i in a b c d/e f; do echo $i > $i; done; exit 3",
                                 *(f"-o{o}" for o in ("a", "b", "c", "d/e", "f")), "--download", got)
        finally:
            for name in ("b", "d/e"):
                subprocess.run(["umount", got / name], check=True)
        self.assertEqual(run.code, 125)
        self.assertIn("ended with 3", run.err)
        for name in ("a", "c", "f"):
            self.assertEqual((got / name).read_text(), f"{name}\n")
            self.assertNotIn(f"output {name}:", run.err)
        for name in ("b", "d/e"):
            self.assertIn(f"output {name}:", run.err)
        self.assertEqual(sorted(p.name for p in got.iterdir()), ["a", "b", "c", "d", "f"])

    def test_an_output_below_a_link_that_leads_nowhere_names_it(self):
        tree = self.system.tree("leads-out", {"abs": ("link", "/nowhere/at/all"), "up": ("link", "../../../x"),
                                              "self": ("link", "self"), "file": "f",
                                              "to-file": ("link", "file"), "d/in": ("link", "../e"), "e": None})
        for link in ("abs", "up", "self", "to-file"):
            with self.subTest(link=link):
                run = self.system.run("--json", "--input", tree, "-o", f"{link}/o", "--no-download", "--",
                                      "/bin/true")
                self.assertEqual(run.code, 125)
                error = json.loads(run.text)["error"]
                self.assertEqual(error["code"], "INVALID_ARGUMENT", error)
                self.assertIn(f"output {link}/o lies below {link}, which is a link to", error["message"])
        self.assert_ok(self.system.sh("echo o > d/in/o", "--input", tree, "-o", "d/in/o", "--no-download"))

    def test_failed_command_returns_its_outputs(self):
        run = self.system.sh("echo part > o; exit 3", "--output", "o", "--download", "got3")
        self.assertEqual(run.code, 3)
        self.assertEqual((self.system.dir / "got3/o").read_text(), "part\n")

    def test_inputs_are_merged_and_a_clash_is_an_error(self):
        one = self.system.tree("m1", {"a/x": "x\n", "f": "same\n"})
        two = self.system.tree("m2", {"a/y": "y\n", "f": "same\n"})
        three = self.system.tree("m3", {"f": "other\n"})
        run = self.assert_ok(self.system.sh("cat a/x a/y f deep/f", "--input", one, "--input",
                                            two, "--input", f"{three}=deep"))
        self.assertEqual(run.text, "x\ny\nsame\nother\n")
        run = self.system.sh("true", "--input", one, "--input", three)
        self.assertEqual(run.code, 125)
        self.assertIn("f", run.err)

    def test_input_digest(self):
        digest = self.system.upload(self.system.tree("known", {"k": "known\n"}))
        run = self.assert_ok(self.system.sh("cat k in/k", "--input-digest", digest,
                                            "--input-digest", f"{digest}=in"))
        self.assertEqual(run.text, "known\nknown\n")

    def test_inputs_can_be_written_and_stay_what_they_were(self):
        tree = self.system.tree("w", {"f": "original\n", "g": "original\n"})
        script = "cat f; echo changed >> f; rm g; cat f; ls"
        for _ in range(2):
            run = self.assert_ok(self.system.sh(script, "--input", tree, "--no-cache"))
            self.assertEqual(run.text, "original\noriginal\nchanged\nf\n")

    def test_cache_hit_rerun_and_no_cache(self):
        stamp = str(os.getpid())
        first = self.assert_ok(self.system.sh(f"echo {stamp}"))
        self.assertFalse(first.report["cached"])
        again = self.assert_ok(self.system.sh(f"echo {stamp}"))
        self.assertTrue(again.report["cached"])
        self.assertEqual(again.text, first.text)
        self.assertFalse(self.system.sh(f"echo {stamp}", "--rerun").report["cached"])
        for _ in range(2):
            run = self.system.sh(f"echo {stamp}", "--no-cache")
            self.assertFalse(run.report["cached"])

    def test_failures_are_not_cached(self):
        for _ in range(2):
            run = self.system.sh(f"exit 9 # {os.getpid()}")
            self.assertFalse(run.report["cached"])

    def test_report_has_the_documented_shape(self):
        tree = self.system.tree("rep", {"read": "12345", "unread": "xyz", "d/also": "q"})
        run = self.assert_ok(self.system.sh("cat read", "--input", tree))
        report = run.report
        self.assertEqual(report["exit_code"], 0)
        self.assertEqual(report["input"], {"files": 3, "directories": 1, "bytes": 9})
        self.assertEqual(report["opened"], {"files": 1, "bytes": 5})
        self.assertEqual(report["worker"], "worker1")
        for key in ("queued", "staging", "command", "waiting_for_data", "capture", "upload"):
            self.assertIn(key, report["time_ms"])
        self.assertRegex(report["action"], r"^[0-9a-f]{64}/\d+$")
        self.assertIn("opened 1 of 3 files", run.err)

    def test_json_on_stdout(self):
        run = self.assert_ok(self.system.lazyroot("run", "--json", "--", "/bin/echo", "hi"))
        self.assertEqual(json.loads(run.text)["exit_code"], 0)
        self.assertIn("hi", run.err)

    def test_detach_wait_and_cancel(self):
        run = self.system.lazyroot("run", "--detach", "--no-cache", "--env", "PATH=/bin", "--",
                                   "/bin/sh", "-c", "sleep 1; echo late; exit 4")
        self.assertEqual(run.code, 0, run.err)
        name = run.text.strip()
        waited = self.system.lazyroot("wait", name)
        self.assertEqual((waited.code, waited.text), (4, "late\n"))
        marker = f"33{os.getpid()}7"
        name = self.system.lazyroot("run", "--detach", "--no-cache", "--", "/bin/sleep",
                                    marker).text.strip()
        wait_until(lambda: system.sandboxes_with(marker), "the command's start")
        self.assertEqual(self.system.lazyroot("cancel", name).code, 0)
        self.assertEqual(self.system.lazyroot("cancel", name).code, 0, "idempotent")
        wait_until(lambda: not system.sandboxes_with(marker), "the command's end")
        waited = self.system.lazyroot("wait", name)
        self.assertEqual(waited.code, 125)
        self.assertIn("cancel", waited.err.lower())

    def test_unknown_operation(self):
        for verb, code in (("wait", 125), ("cancel", 1)):
            run = self.system.lazyroot(verb, "no-such-operation")
            self.assertEqual(run.code, code)
            self.assertIn("no-such-operation", run.err)

    def test_ctrl_c_cancels_on_the_server_and_exits_130(self):
        marker = f"34{os.getpid()}7"
        client = self.system.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        wait_until(lambda: system.sandboxes_with(marker), "the command's start")
        client.send_signal(signal.SIGINT)
        self.assertEqual(client.wait(system.PATIENCE), 130)
        client.stdout.close()
        client.stderr.close()
        wait_until(lambda: not system.sandboxes_with(marker), "the command's end")

    def test_usage_errors(self):
        for args, part in ((["run"], "COMMAND"), (["run", "--nonsense", "--", "x"], "--nonsense"),
                           (["run", "--timeout", "soon", "--", "x"], "soon"),
                           (["run", "--env", "=value", "--", "x"], "=value"),
                           (["wait"], "OPERATION"),
                           (["run", "--input-digest", "abc", "--", "x"], "abc")):
            run = self.system.lazyroot(*args)
            self.assertEqual(run.code, 2, args)
            self.assertIn(part, run.err)
        self.assertEqual(self.system.lazyroot("nonsense").code, 2)
        self.assertEqual(self.system.lazyroot("ls").code, 2)

    def test_unreachable_server_is_named(self):
        run = self.system.lazyroot("run", "--", "true", address="grpc://127.0.0.1:1")
        self.assertEqual(run.code, 125)
        self.assertIn("127.0.0.1:1", run.err)

    def test_unknown_instance_is_named(self):
        run = self.system.lazyroot("run", "--instance", "elsewhere", "--", "true")
        self.assertEqual(run.code, 125)
        self.assertIn("elsewhere", run.err)

    def test_identity_and_isolation(self):
        run = self.assert_ok(self.system.sh(
            "id -u; id -g; hostname; ls /proc | grep -c '^[0-9]'; touch /usr/x 2>&1 || true;"
            "test -e /build && echo build; ls /var 2>/dev/null | head -n1"))
        lines = run.text.splitlines()
        self.assertEqual(lines[:3], ["1000", "1000", "lazyroot"])
        self.assertLess(int(lines[3]), 10)
        self.assertIn("Read-only", lines[4])
        self.assertEqual(lines[5:], ["build", "tmp"])  # of the worker's own /var: nothing

    def test_root_layout_shows_only_the_input_root(self):
        busybox = "/bin/busybox"
        tree = self.system.tree("whole", {"bin/marker": "m\n"})
        shutil.copy(busybox, tree / "bin/busybox")
        (tree / "bin/busybox").chmod(0o755)
        run = self.assert_ok(self.system.run(
            "--input", tree, "--platform", "InputRootAbsolutePath=/", "--output", ".",
            "--download", "whole-out", "--", "/bin/busybox", "sh", "-c",
            "/bin/busybox ls /; /bin/busybox echo new > /made"))
        self.assertEqual(sorted(run.text.split()), ["bin", "dev", "proc", "sys", "tmp"])
        out = self.system.dir / "whole-out"
        self.assertEqual(sorted(p.name for p in out.iterdir()), ["bin", "made"])


class PropertiesTest(SystemTest):
    worker_args = ("--platform", "pool=x", "--platform", "kind=1")

    def test_a_property_that_no_worker_has_is_named_with_what_there_is(self):
        self.system.start_worker("--platform", "pool=y", "--platform", "kind=2")
        for asked, words in ((("pool=z",), ('"pool" as "z"', '"x"', '"y"')),
                             (("frob=1",), ('"frob" as "1"', '"pool"', '"kind"')),
                             (("pool=x", "kind=2"), ("kind=2, pool=x", "kind=1, pool=x; or kind=2, pool=y")),
                             (("kind=2", "pool=x", "OSFamily=linux"), ("OSFamily=linux, kind=1, pool=x",)),
                             (("network=on",), ("network=on", "--allow network")),
                             (("unixUID=5",), ("unixUID=5", "--allow uid=5")),
                             (("limit-memory=foo",), ("limit-memory", '"foo"', "a size"))):
            with self.subTest(asked=asked):
                run = self.system.run("-q", *(f"-p{p}" for p in asked), "--", "/bin/true", report=False)
                self.assertEqual(run.code, 125)
                for word in words:
                    self.assertIn(word, run.err)


if __name__ == "__main__":
    system.main()
