"""Bazel builds and tests on our worker through our server, in each of its ways to do that."""
import signal

import forky
from bazel import Workspace
from proxy import DelayProxy
from system import sandboxes_with, wait_until

EXECUTE = "Execution/Execute"


class BazelTest(forky.InteropTest):
    # Bazel that is interrupted only leaves; nobody else waits for what it ran
    server_args = ("--abandon", "0", "--compression", "always")
    worker_args = ("--slots", "4")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.space = Workspace(cls.forky)
        cls.addClassCleanup(cls.space.close)

    def bazel(self, line, code=0):
        run = self.space.bazel(line)
        self.assertEqual(run.code, code, run.err[-4000:])
        return run

    def build(self, targets, more="", code=0):
        """On the worker, from nothing that Bazel remembers; the calls that it took."""
        self.bazel("clean")
        with self.forky.counted() as calls:
            run = self.bazel(f"build {self.space.remote()} {more} {targets}", code)
        return run, calls

    def test_build_and_the_second_from_the_cache(self):
        _, calls = self.build("//pkg:two //pkg:bigin")
        self.assertEqual(self.space.out("pkg/two/a.txt"), "HELLO BAZEL\n")
        self.assertEqual(self.space.out("pkg/two/b.txt"), "12\n")
        self.assertEqual(self.space.out("pkg/bigin.txt"), "6500000\n")
        self.assertEqual(calls[EXECUTE], 4)
        run, calls = self.build("//pkg:two //pkg:bigin")
        self.assertIn("4 remote cache hit", run.err)
        self.assertEqual(calls[EXECUTE], 0)
        self.assertEqual(calls["ActionCache/GetActionResult"], 4)

    def test_tree_artifacts_and_dangling_links(self):
        self.build("//pkg:usetree //pkg:tree //pkg:dangling")
        # Bazel knows no directory without files
        self.assertEqual(self.space.out("pkg/usetree.txt").split(),
                         [".", "./a", "./a/b", "./a/b/f", "./a/link", "./run"])
        run = self.forky.inside("""
            cd bazel-bin/pkg
            readlink dangling.sym tree.d/a/link
            tree.d/run; cat tree.d/a/link
        """, cwd=self.space.path)
        self.assertEqual(run.text.split(), ["no/where", "b/f", "ran", "x"])

    def test_failing_action_is_shown_as_that(self):
        run, _ = self.build("//pkg:fails", code=1)
        self.assertRegex(run.err, r"(?s)said.*complained|complained.*said")
        self.assertIn("Exit 3", run.err)

    def test_download_outputs_modes(self):
        """What of two's outputs and of upper, which only two reads, comes here."""
        for mode, comes in (("all", (True, True)), ("toplevel", (True, False)),
                            ("minimal", (False, False))):
            _, calls = self.build("//pkg:two", f"--remote_download_outputs={mode}")
            found = tuple(self.space.out(f"pkg/{name}") is not None
                          for name in ("two/a.txt", "upper.txt"))
            self.assertEqual(found, comes, mode)
            self.assertEqual(calls["ByteStream/Read"], 2 * comes[0] + comes[1], mode)

    def test_cache_compression(self):
        """8 MB of lines go up and come down as a few KB."""
        (self.space.dir / "pkg/lines.txt").write_text("the same line\n" * 600_000)
        with open(self.space.dir / "pkg/BUILD", "a") as build:
            build.write('\ngenrule(name="lines", srcs=["lines.txt"], outs=["lines.out"], '
                        'cmd="cat $< > $@")\n')
        proxy = DelayProxy(self.forky.address, 0)
        self.addCleanup(proxy.close)
        line = f"build {self.space.remote(proxy.address.split('//')[1])} //pkg:lines "
        self.bazel("clean")
        self.bazel(line + "--remote_cache_compression")
        self.assertLess(proxy.bytes, 1 << 20)
        self.assertEqual(len(self.space.out("pkg/lines.out")), 8_400_000)
        before = proxy.bytes
        self.bazel("clean")
        self.bazel(line + "--noremote_cache_compression")
        self.assertGreater(proxy.bytes - before, 8 << 20)

    def test_cache_only(self):
        """Actions run here; their results go up, and the second time come from there."""
        line = (f"build --spawn_strategy=local --remote_cache=grpc://{self.space.host_port} "
                "--remote_instance_name=other //pkg:two //pkg:usetree")
        self.bazel("clean")
        with self.forky.counted() as calls:
            self.bazel(line)
        self.assertEqual(calls["ActionCache/UpdateActionResult"], 4)
        self.assertEqual(calls[EXECUTE], 0)
        self.bazel("clean")
        with self.forky.counted() as calls:
            run = self.bazel(line)
        self.assertIn("4 remote cache hit", run.err)
        self.assertEqual(calls["ActionCache/UpdateActionResult"], 0)
        self.assertIn("./a/link", self.space.out("pkg/usetree.txt"))

    def test_interrupt_ends_the_command(self):
        marker = forky.marker()
        with open(self.space.dir / "pkg/BUILD", "a") as build:
            build.write('\ngenrule(name="slow", outs=["slow.txt"], '
                        f'cmd="sleep {marker}; date>$@")\n')
        client = self.forky.start_inside(
            "bazel-slow", self.space.words(f"build {self.space.remote()} //pkg:slow"),
            cwd=self.space.path)
        wait_until(lambda: sandboxes_with(marker) or client.popen.poll() is not None, "the command")
        self.assertIsNone(client.popen.poll(), client.err()[-3000:])
        self.assertEqual(client.stop(signal.SIGINT), 8)  # Bazel's code for that
        wait_until(lambda: not sandboxes_with(marker), "the end of what was interrupted")

    def test_tests_in_sh_cc_py_java(self):
        self.bazel("clean")
        with self.forky.counted() as calls:
            run = self.bazel(f"test {self.space.remote()} //lang:all")
        for language in ("sh", "cc", "py", "java"):
            self.assertRegex(run.text, rf"//lang:{language}_test +PASSED")
        self.assertGreaterEqual(calls[EXECUTE], 7)  # 4 tests, two compilations, javac, ...
        self.bazel(f"test {self.space.remote()} //pkg:s_test")

    def test_200_files_with_50_jobs(self):
        directory = self.space.dir / "many"
        directory.mkdir()
        for i in range(200):
            (directory / f"f{i}.c").write_text(f"int f{i}(void) {{ return {i}; }}\n")
        (directory / "BUILD").write_text(
            'cc_library(name = "many", srcs = glob(["*.c"]), linkstatic = True)\n')
        _, calls = self.build("//many", "--jobs=50 --features=-supports_pic")
        self.assertEqual(calls[EXECUTE], 201)  # and the archive
        run, calls = self.build("//many", "--jobs=50 --features=-supports_pic")
        self.assertEqual(calls[EXECUTE], 0)
        self.assertIn("201 remote cache hit", run.err)
