"""justbuild builds on our worker, keeps its things in our server, and is a server of our client."""
import json
import os

import forky
from system import sandboxes_with, wait_until


class JustbuildTest(forky.InteropTest):
    server_args = ("--abandon", "1s")
    worker_args = ("--slots", "2")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.path = cls.forky.project("justbuild")

    def just(self, verb, *words, root="just", remote=True, code=0):
        """Compatible: by SHA-256 and the protocol's own trees, not by those of git."""
        options = ["-r", self.forky.host_port, "--remote-instance-name", "dev"] if remote else []
        if verb in ("build", "install"):
            options += ["-C", "repos.json", "--remote-execution-property", "OSFamily:linux"]
        return self.inside(" ".join(["exec justbuild", verb, *options, "--compatible",
                                     "--local-build-root", f"$HOME/{root}", *words]),
                           code, cwd=self.path)

    def install(self, target, root, remote=True):
        """What a target makes, and the calls that took."""
        with self.forky.counted() as calls:
            run = self.just("install", "-o", f"$HOME/{root}-out", "app", target, root=root,
                            remote=remote)
        return run, calls

    def test_hello_world_and_what_it_says(self):
        run, calls = self.install("listed", "far")
        self.assertIn("Processed 5 actions, 0 cache hits", run.err)
        self.assertEqual(calls["Execution/Execute"], 5)
        far = self.forky.dir / "far-out"
        self.assertEqual((far / "listed.txt").read_text().split(),
                         ["all", "all/deep", "all/deep/empty", "all/deep/said.txt", "all/link"])
        # another user of the same server, who has nothing
        run, calls = self.install("listed", "again")
        self.assertIn("Processed 5 actions, 5 cache hits", run.err)
        self.assertEqual(calls["Execution/Execute"], 0)
        # a program and a tree, as they are built here
        for target in ("hello", "copies"):
            self.install(target, "far")
            self.install(target, "near", remote=False)
        self.assertEqual(self.inside("./far-out/hello").text, "hello by justbuild\n")
        self.assertEqual(os.readlink(far / "all/link"), "deep/said.txt")
        self.assertEqual((far / "hello").read_bytes(),
                         (self.forky.dir / "near-out/hello").read_bytes())

    def test_failing_action_is_shown_as_that(self):
        run = self.just("build", "app", "fails", code=1)
        self.assertIn("said", run.err)
        self.assertIn("complained", run.err)
        self.assertIn("exit code 3", run.err)

    def test_our_server_is_its_storage(self):
        """add-to-cas (files only, in this mode) and install-cas, beside our own commands."""
        tree = self.forky.tree("stored", {"a": "stored\n", "d/x": ("exec", "#!/bin/sh\n"),
                                          "link": ("link", "a")})
        file = self.forky.upload(tree / "a").split("/")[0]
        self.assertIn(file, self.just("add-to-cas", "$HOME/stored/a").text)
        (tree / "b").write_text("another\n")
        printed = self.just("add-to-cas", "$HOME/stored/b").text.strip("[]\n").split(":")[0]
        self.assertEqual(self.ok(self.forky.lazyroot("cat", f"{printed}/8")).text, "another\n")
        digest = self.forky.upload(tree)
        hash_, size = digest.split("/")
        for root, name in (("just", "back"), ("nothing-here", "fresh")):
            self.just("install-cas", "-o", f"$HOME/{name}", f"{hash_}:{size}:t", root=root)
            self.inside(f"diff -r --no-dereference stored {name}")
        self.assertEqual(self.just("install-cas", f"{file}:7:f", root="nothing-here-either").text,
                         "stored\n")

    def test_interrupt_leaves_nothing(self):
        """It only goes away. What it waited for ends when nobody is back in time (--abandon)."""
        marker = forky.marker()
        targets = self.forky.dir / "justbuild/app/TARGETS"
        targets.write_text(targets.read_text().replace("MARKER", marker))
        client = self.forky.start_inside("just-slow", [
            "justbuild", "build", "-C", "repos.json", "-r", self.forky.host_port,
            "--remote-instance-name", "dev", "--remote-execution-property", "OSFamily:linux",
            "--compatible", "--local-build-root", f"{self.forky.inner()}/slow", "app", "slow"],
            cwd=self.path)
        wait_until(lambda: sandboxes_with(marker), "the command")
        client.stop()
        wait_until(lambda: not sandboxes_with(marker), "the end of what was left")

    def test_a_server_of_our_client(self):
        """just execute, which knows no WaitExecution and no CancelOperation."""
        info = self.forky.dir / "info.json"
        self.forky.start_inside("just-execute", [
            "justbuild", "execute", "--compatible", "--local-build-root",
            f"{self.forky.inner()}/executor", "--info-file", f"{self.forky.inner()}/info.json"])
        wait_until(info.exists, "its port")
        port = wait_until(lambda: json.loads(info.read_text() or "{}").get("port"), "its port")
        address = f"grpc://127.0.0.1:{port}"
        env = {"LAZYROOT_INSTANCE": ""}
        tree = self.forky.tree("run", {"a": "in\n", "d/b": b"".join(b"%d\n" % i
                                                                    for i in range(800_000))})
        got = self.forky.dir / "ran"
        command = ("--input", tree, "--output", "o", "--output", "e", "--download", got, "--env",
                   "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                   "cat a > o; mkdir -p e/f; wc -l < d/b > e/f/n; echo said; echo err >&2; exit 3")
        run = self.forky.lazyroot("run", *command, env=env, address=address)
        self.assertEqual((run.code, run.text), (3, "said\n"), run.err)
        self.assertIn("err\n", run.err)
        self.assertEqual((got / "o").read_text(), "in\n")
        self.assertEqual((got / "e/f/n").read_text(), "800000\n")
        digest = self.ok(self.forky.lazyroot("upload", tree, env=env, address=address)).text.strip()
        self.ok(self.forky.lazyroot("download", digest, self.forky.dir / "round", env=env,
                                    address=address))
        self.inside("diff -r run round")
        same = ("run", "--json", "--input", tree, "--env", "PATH=/bin", "--", "/bin/cat", "a")
        self.ok(self.forky.lazyroot(*same, env=env, address=address))
        again = self.ok(self.forky.lazyroot(*same, env=env, address=address))
        self.assertTrue(json.loads(again.out)["cached"], again.err)
