"""buildbox's command line tools with our server and worker: trexe, casupload, casdownload,
rexplorer."""
import json
import re
import stat
import time

import forky
from system import PATIENCE, sandboxes_with, wait_until

LINUX = "--platform-properties=OSFamily=linux"


class ToolsTest(forky.InteropTest):
    def remote(self, instance="dev"):
        return f"--remote={self.forky.http} --instance={instance}"

    def trexe(self, options, command, code=0, **kwargs):
        return self.inside(f"mkdir -p in; cd in; exec trexe {self.remote()} {LINUX} {options} "
                           f"/bin/sh -c '{command}'", code, **kwargs)

    # ---- casupload, casdownload, rexplorer

    def a_tree(self, name):
        return self.forky.tree(name, {
            "a": f"{name}\n", "sub/run": ("exec", "#!/bin/sh\n"), "sub/deep/b": b"\0\xff" * 5000,
            "link": ("link", "sub/deep"), "dangling": ("link", "no/where"), "empty": None})

    def test_directory_formats_have_our_digests(self):
        tree = self.a_tree("formats")
        (tree / "big").write_bytes(b"".join(b"%d\n" % i for i in range(700_000)))  # by stream
        ours = self.forky.upload(tree)
        self.inside(f"""
            casupload {self.remote()} --output-digest-file=root --directory-format=both \
                --output-tree-digest-file=tree formats
            casupload {self.remote("other")} --output-digest-file=other formats
            casdownload {self.remote()} --root-digest=$(cat root) --destination-dir=by-root
            casdownload {self.remote()} --tree-digest=$(cat tree) --destination-dir=by-tree
            diff -r --no-dereference formats by-root; diff -r --no-dereference formats by-tree
            [ -x by-root/sub/run ] && [ -x by-tree/sub/run ] && [ ! -x by-root/a ]
            casdownload {self.remote()} --root-digest={ours} --destination-dir=ours
            diff -r --no-dereference formats ours
        """)
        self.assertEqual((self.forky.dir / "root").read_text(), ours)
        self.assertEqual((self.forky.dir / "other").read_text(), ours)
        tree_digest = (self.forky.dir / "tree").read_text()
        run = self.ok(self.forky.lazyroot("download", tree_digest, self.forky.dir / "tree-by-us"))
        self.inside("diff -r --no-dereference formats tree-by-us")
        self.assertEqual(run.code, 0)

    def test_only_what_is_missing_goes_up(self):
        self.a_tree("twice")
        self.inside(f"casupload {self.remote()} --output-digest-file=d twice")
        with self.forky.counted() as calls:
            self.inside(f"casupload {self.remote()} --output-digest-file=d twice")
        self.assertEqual(calls, {"Capabilities/GetCapabilities": 1,
                                 "ContentAddressableStorage/FindMissingBlobs": 1})

    def test_node_properties_come_back(self):
        """Times and modes that casupload captures are those of what we download."""
        tree = self.a_tree("properties")
        self.inside(f"""
            touch -d @1600000000.25 properties/a
            casupload {self.remote()} --capture-mtime --capture-unix-mode \
                --output-digest-file=kept properties
        """)
        digest = (self.forky.dir / "kept").read_text()
        self.assertNotEqual(digest, self.forky.upload(tree))
        self.ok(self.forky.lazyroot("download", digest, self.forky.dir / "kept-by-us"))
        found = (self.forky.dir / "kept-by-us/a").stat()
        self.assertEqual(found.st_mtime_ns, 1_600_000_000_250_000_000)
        self.assertEqual(stat.S_IMODE(found.st_mode), stat.S_IMODE((tree / "a").stat().st_mode))

    def test_a_file_and_what_an_action_left(self):
        file = self.forky.tree("one", {"f": "one file\n"})
        digest = self.forky.upload(file / "f")
        self.inside(f"casdownload {self.remote()} --file-digest={digest} --destination-dir=file")
        found = [p.read_text() for p in (self.forky.dir / "file").rglob("*") if p.is_file()]
        self.assertEqual(found, ["one file\n"])
        run = self.ok(self.forky.sh("echo out; echo err >&2; cp f f2", "--input", file, "--output",
                                    "f2", "--no-download"))
        self.look_at(run.report["action"], "left", {"f2": "one file\n"})

    def test_what_trexe_left(self):
        """A directory among the outputs: casdownload knows Trees only, which trexe asks for."""
        self.forky.tree("in", {"f": "one more file\n"})
        self.trexe("--input-path=f --output-path=d --output-path=f2 "
                   "--result-metadata-file=left.json",
                   "echo out; echo err >&2; mkdir -p d/e; echo o > d/e/o; cp f f2")
        action = json.loads((self.forky.dir / "in/left.json").read_text())["actionDigest"]
        self.look_at(f"{action['hash']}/{action['sizeBytes']}", "theirs",
                     {"d/e/o": "o\n", "f2": "one more file\n"})

    def look_at(self, action, where, outputs):
        self.inside(f"casdownload {self.remote()} --action-digest={action} "
                    f"--destination-dir={where}")
        left = {str(p.relative_to(self.forky.dir / where)): p.read_text()
                for p in (self.forky.dir / where).rglob("*") if p.is_file()}
        logs = action.split("/")[0] + "-out"
        self.assertIn("worker1", left.pop(f"{logs}/metadata"))
        self.assertEqual(left, {f"{logs}/stdout": "out\n", f"{logs}/stderr": "err\n",
                                f"{logs}/exit_code": "0\n", **outputs})
        seen = self.inside(f"rexplorer {self.remote()} --action={action} --depth=-1").text
        self.assertIn("echo out", json.dumps(json.loads(seen)))
        self.assertIn('"f2"', seen)

    # ---- trexe

    def test_outputs_and_inputs(self):
        self.forky.tree("in", {"f": "data\n", "d/x": ("exec", "#!/bin/sh\necho ran\n")})
        self.trexe(f"--d={self.forky.inner()}/got --input-path=f --input-path=d:moved/d "
                   "--output-path=o.txt --output-path=od --env=A=1 --env=B=2 --exec-timeout=30 "
                   "--priority=3 --salt=s --tool-name=t --tool-version=9 --target-id=//t "
                   "--action-mnemonic=M --configuration-id=c --correlated-invocations-id=i "
                   "--tool-invocation-id=j",
                   "cat f > o.txt; mkdir od; moved/d/x > od/y; echo $A$B >> od/y")
        self.assertEqual((self.forky.dir / "got/o.txt").read_text(), "data\n")
        self.assertEqual((self.forky.dir / "got/od/y").read_text(), "ran\n12\n")

    def test_options_of_connections(self):
        """Limits and waits of theirs that our server meets."""
        options = ("--request-timeout=60 --retry-limit=2 --retry-delay=100 --retry-on-code=INTERNAL "
                   "--keepalive-time=20 --min-throughput=1K --load-balancing-policy=round_robin "
                   "--num-digest-threads=1 --num-io-threads=2 --locality-hint=here --log-progress "
                   "--metrics-mode=stderr")
        self.assertIn("optional", self.trexe(options, "echo optional").text)

    def test_another_digest_function_is_refused(self):
        for function in ("SHA512", "MD5"):
            run = self.trexe(f"--digest-function={function}", "true", code=1)
            self.assertRegex(run.err, "(?i)digest|hash")
            run = self.inside(f"casupload {self.remote()} --digest-function={function} /etc/hosts",
                              code=1)
            self.assertRegex(run.err, "(?i)digest|hash")

    def test_exit_code_logs_and_the_time_limit(self):
        run = self.trexe(f"--d={self.forky.inner()}/e --stdout-file=o --stderr-file=e",
                         "echo said; echo complained >&2; exit 5", code=5)
        left = self.forky.dir / "in"
        self.assertIn("said", (left / "o").read_text() if (left / "o").exists() else run.text)
        run = self.trexe("--exec-timeout=1", "sleep 4713", code=1)
        self.assertIn("execution timeout exceeded", run.err)

    def test_action_result_as_json(self):
        """The read report in it is of a type that everybody knows."""
        self.trexe(f"--d={self.forky.inner()}/j --action-result-json=result.json "
                   "--result-metadata-file=metadata.json --skip-cache-lookup", "echo json")
        result = json.loads((self.forky.dir / "in/result.json").read_text())
        text = json.dumps(result)
        self.assertIn("google.protobuf.Struct", text)
        self.assertIn("opened", text)
        metadata = json.loads((self.forky.dir / "in/metadata.json").read_text())
        self.assertEqual(metadata["actionResultMetadata"]["exitCode"], 0)

    def test_cache_flags(self):
        with self.forky.counted() as calls:
            for options in ("", "", "--skip-cache-lookup", "--do-not-cache", "--do-not-cache"):
                self.trexe(options, "echo cache flags")
        # trexe looks up by itself, unless it is told not to
        self.assertEqual(calls["ActionCache/GetActionResult"], 1)
        jobs = re.findall(r"echo cache flags|job .* exit code 0", self.worker.err())
        self.assertEqual(calls["Execution/Execute"], 4, jobs)

    def test_detached_waited_for_cancelled(self):
        name = self.trexe("--no-wait --do-not-cache", "sleep 1; echo late").text.split()[-1]
        run = self.inside(f"trexe {self.remote()} --operation={name} "
                          f"--d={self.forky.inner()}/late --wait")
        self.assertIn("late\n", run.text)
        marker = forky.marker()
        name = self.trexe("--no-wait --do-not-cache", f"sleep {marker}").text.split()[-1]
        wait_until(lambda: sandboxes_with(marker), "the command")
        self.inside(f"trexe {self.remote()} --operation={name} --cancel")
        wait_until(lambda: not sandboxes_with(marker), "the end of what was cancelled")

    def test_logs_are_streamed(self):
        """What the command says comes while it runs, all of it and once, whichever log has
        something; one that is over soon ends trexe, too."""
        for first, out, err in (("echo early; echo complained >&2", "early\n", "complained\n"),
                                ("echo complained >&2", "", "complained\n"),
                                ("echo early", "early\n", "")):
            marker = forky.marker()
            client = self.forky.start_inside(f"trexe-{marker}", [
                "trexe", *self.remote().split(), LINUX, "--stream-logs", "--do-not-cache",
                "/bin/sh", "-c", f"{first}; sleep {marker}; echo late; exit 3"])
            wait_until(lambda: sandboxes_with(marker), "the command")
            if err:  # its own stdout is buffered
                wait_until(lambda: err in client.err(), "what it complained")
            self.assertTrue(sandboxes_with(marker))
            time.sleep(0.5)  # so that there are logs to be read along
            forky.end_all(marker)
            self.assertEqual(client.popen.wait(PATIENCE), 3)
            self.assertEqual(client.out(), out + "late\n")
            self.assertEqual(client.err().count("complained\n"), 1 if err else 0)
        run = self.trexe("--stream-logs --do-not-cache", "echo streamed; exit 3", code=3)
        self.assertEqual(run.text, "streamed\n")

    def test_symlinks_followed_or_kept(self):
        self.forky.tree("in", {"links/target": "of a link\n", "links/alias": ("link", "target")})
        script = "if [ -L alias ]; then readlink alias; else cat alias; fi"
        for option, said in (("", "of a link\n"), ("--do-not-follow-symlinks", "target\n")):
            run = self.trexe(f"{option} --input-path=links", script)
            self.assertEqual(run.text, said)

    def test_input_root_digest_and_working_directory(self):
        digest = self.forky.upload(self.forky.tree("by-digest", {"sub/dir/f": "by digest\n"}))
        run = self.trexe(f"--input-root-digest={digest} --working-dir=sub/dir", "cat f")
        self.assertIn("by digest", run.text)

    def test_node_properties_of_outputs(self):
        self.trexe(f"--d={self.forky.inner()}/props --output-path=o --output-node-properties=mtime "
                   "--output-node-properties=unix_mode --action-result-json=props.json",
                   "echo o > o; chmod 640 o; touch -d @1500000000 o")
        result = json.loads((self.forky.dir / "in/props.json").read_text())
        (file,) = result["outputFiles"]
        self.assertTrue(file["nodeProperties"]["mtime"].startswith("2017-07-14T02:40:00"))
        self.assertEqual(file["nodeProperties"]["unixMode"] & 0o777, 0o640)
