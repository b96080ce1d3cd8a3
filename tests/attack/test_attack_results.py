"""Results that somebody else wrote into the action cache, and trees made to be walked for ever:
what the client makes of them stays below its destination, ends, and steers no terminal."""
import os
import pathlib
import subprocess
import time
import unittest

from attack import REAPI, Peer, data, digest, number
from system import BIN, SystemTest, main


def file_node(name, of, executable=False):
    return data(1, data(1, name) + data(2, digest(of)) + (number(4, 1) if executable else b""))


def dir_node(name, of):
    return data(2, data(1, name) + data(2, digest(of)))


def link_node(name, target):
    return data(3, data(1, name) + data(2, target))


class ResultsTest(SystemTest):
    server_args = ("--grant", "local=all")

    def setUp(self):
        self.peer = Peer(self.system.address)
        self.addCleanup(self.peer.close)
        self.dest = self.system.dir / f"dest-{time.monotonic_ns()}"
        self.dest.mkdir()
        self.outside = self.system.dir / "outside"
        self.outside.mkdir(exist_ok=True)

    def blob(self, content):
        path = self.system.dir / "blob"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.system.upload(path)

    def forge(self, result, *outputs):
        """Runs `true` once, replaces its cached result by another, and asks for it again."""
        options = [f"--output={o}" for o in outputs]
        command = ["--env", f"A={time.monotonic_ns()}", *options, "--download", self.dest]
        first = self.assert_ok(
            self.system.run(*command, "--no-download", "--", "/bin/true"))
        self.took = self.peer.status(
            REAPI + "ActionCache/UpdateActionResult",
            data(2, digest(first.report["action"])) + data(3, result)) == "OK"
        return self.system.run(*command, "--", "/bin/true")

    def assert_nothing_outside(self):
        self.assertEqual(list(self.outside.iterdir()), [])
        self.assertEqual([p for p in self.dest.rglob(".lazyroot*")], [])

    def output_dir(self, path, root):
        return data(3, data(1, path) + data(5, digest(root)))

    def output_file(self, path, of):
        return data(2, data(1, path) + data(2, digest(of)))

    def test_a_directory_through_a_link_of_another_output(self):
        evil = self.blob("evil")
        link = self.blob(link_node("x", str(self.outside)))
        tree = self.blob(file_node("evil", evil))
        run = self.forge(self.output_dir("d", link) + self.output_dir("d/x", tree), "d", "d/x")
        self.assertTrue(self.took)
        self.assertEqual(run.code, 125)
        self.assertIn("d/x", run.err)
        self.assert_nothing_outside()
        self.assertEqual(list(self.dest.iterdir()), [])

    def test_a_file_through_a_link_that_the_result_brings(self):
        evil = self.blob("evil")
        run = self.forge(data(12, data(1, "l") + data(2, str(self.outside))) +
                         self.output_file("l/evil", evil), "l", "l/evil")
        self.assertEqual(run.code, 125)
        self.assert_nothing_outside()

    def test_a_link_that_stands_at_the_destination(self):
        evil = self.blob("evil")
        (self.dest / "l").symlink_to(self.outside)
        run = self.assert_ok(self.forge(self.output_file("l/evil", evil), "l/evil"))
        self.assert_nothing_outside()
        self.assertEqual((self.dest / "l/evil").read_text(), "evil", run.err)

    def test_paths_that_lead_out(self):
        evil = self.blob("evil")
        for path in ("../outside/evil", str(self.outside / "evil"), "a/../../x", ""):
            with self.subTest(path=path):
                run = self.forge(self.output_file(path, evil), "a")
                # our server takes no such result; test_handover has what others would give
                self.assertFalse(self.took and path, run.err)
                self.assert_nothing_outside()
                self.assertEqual(list(self.dest.iterdir()), [])

    def test_what_was_not_asked_for_is_left_out_and_said(self):
        evil = self.blob("evil")
        run = self.assert_ok(self.forge(
            self.output_file("a", evil) + self.output_file(".bashrc\x1b[31m", evil), "a"))
        self.assertEqual([p.name for p in self.dest.iterdir()], ["a"])
        self.assertIn(r".bashrc\x1b[31m", run.err)


class TreesTest(SystemTest):
    """41 Directories, each naming the next twice: 2^40 files."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        path = cls.system.dir / "blob"
        path.write_bytes(b"leaf")
        of = cls.system.upload(path)
        path.write_bytes(file_node("f", of))
        of = cls.system.upload(path)
        for _ in range(40):
            path.write_bytes(dir_node("a", of) + dir_node("b", of))
            of = cls.system.upload(path)
        cls.root = of

    def assert_too_many(self, run, code=1):
        self.assertEqual(run.code, code, run.err)
        self.assertIn("--entries-max", run.err)
        self.assertEqual(len(run.err.strip().splitlines()), 1, run.err)

    def test_download(self):
        dest = self.system.dir / "huge"
        self.assert_too_many(self.system.lazyroot("download", self.root, dest))
        self.assertFalse(dest.exists())

    def test_ls(self):
        run = self.system.lazyroot("ls", "-R", self.root)
        self.assert_too_many(run)
        self.assertEqual(run.text, "", "it was counted before anything was shown")

    def test_find_in_a_mount(self):
        point = self.system.dir / "point"
        point.mkdir()
        process = self.system.popen("mount", "-f", "--entries-max", "2000", point)
        try:
            tree = point / self.root.replace("/", "-")
            self.wait_for(lambda: os.path.ismount(point))
            found = subprocess.run(["find", str(tree)], capture_output=True, timeout=60)
            self.assertNotEqual(found.returncode, 0)
            self.assertLess(found.stdout.count(b"\n"), 10000)
        finally:
            subprocess.run(["umount", "-l", str(point)], check=True)
            process.terminate()
            process.communicate()

    def wait_for(self, condition):
        import system
        system.wait_until(condition, "the mount")

    def test_upload_of_more_than_the_limit(self):
        tree = self.system.tree("many", {f"d{i % 7}/f{i}": "" for i in range(300)})
        self.assert_too_many(self.system.lazyroot("upload", "--entries-max", "200", tree))
        self.assert_ok(self.system.lazyroot("upload", "--entries-max", "307", tree))

    def test_bounds_are_the_users(self):
        tree = self.system.tree("few", {"a": "1", "b": "2", "c/d": "3"})
        root = self.system.upload(tree)
        dest = self.system.dir / "few-out"
        self.assert_too_many(self.system.lazyroot("download", "--entries-max", 3, root, dest))
        self.assert_ok(self.system.lazyroot("download", "--entries-max", 4, root, dest))
        self.assert_too_many(self.system.lazyroot("ls", "-R", "--entries-max", 3, root))


class TerminalTest(SystemTest):
    def test_names_come_out_escaped_everywhere(self):
        name = "\x1b[2J\u202eevil\n"
        tree = self.system.tree("names", {f"{name}/{name}": "x", "l": ("link", name)})
        root = self.system.upload(tree)
        for args in (("ls", root), ("ls", "-R", root), ("ls", "-lR", root),
                     ("cat", root, name), ("cat", name), ("download", name, "x"),
                     ("wait", name), (name,), ("run", "--output", "/" + name, "--", "true")):
            with self.subTest(args=args):
                run = self.system.lazyroot(*args)
                for stream in (run.text, run.err):
                    self.assertNotIn("\x1b", stream)
                    self.assertNotIn("\u202e", stream)
        listing = self.system.lazyroot("ls", "-R", root).text
        self.assertEqual(len(listing.splitlines()), 3)
        self.assertIn(r"\x1b[2J\xe2\x80\xaeevil\x0a/", listing)

    def test_output_that_cannot_be_written_is_no_success(self):
        tree = self.system.tree("full", {"a": "1"})
        root = self.system.upload(tree)
        for args, code in ((("ls", root), 1), (("ls", "--json", root), 1), (("--help",), 1),
                           (("upload", "-q", tree), 1), (("run", "--help"), 125),
                           (("capabilities",), 1), (("--version",), 1)):
            with self.subTest(args=args), open("/dev/full", "wb") as full:
                run = subprocess.run([BIN / "lazyroot", *map(str, args)], stdout=full,
                                     stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                     env=self.system.environment())
                self.assertEqual(run.returncode, code, run.stderr)
                self.assertIn(b"No space left", run.stderr)


if __name__ == "__main__":
    main()
