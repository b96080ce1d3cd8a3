"""Hostile trees under lazyroot diff: more paths than anybody could be told of, names that steer a
terminal, files that say any size. It ends, in bounded memory, with what it is."""
import hashlib
import json
import os
import pty
import subprocess
import unittest

from attack import Peer, data, digest_of, number
from system import BIN, PATIENCE, System, need_root

EVIL = "\x1b]0;evil\x07\x1b[2J\nM\tforged"


def directory(name, content):
    return data(2, data(1, name) + data(2, digest_of(content)))


def file_(name, content):
    return data(1, data(1, name) + data(2, digest_of(content)))


def text(blob):
    return f"{hashlib.sha256(blob).hexdigest()}/{len(blob)}"


class DiffTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.peer = Peer(cls.system.address)

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def diff(self, *args):
        run = self.system.lazyroot("diff", *args)
        self.assertNotIn("Sanitizer", run.err)
        return run

    def bomb(self, seed):
        """60 levels, each naming the next twice: 2^60 paths."""
        blob = file_("f", seed)
        self.peer.put(seed, blob)
        for _ in range(60):
            blob = directory("a", blob) + directory("b", blob)
            self.peer.put(blob)
        return text(blob)

    def test_two_trees_of_any_number_of_paths(self):
        a, b = self.bomb(b"one"), self.bomb(b"two")
        run = self.diff("--entries-max", "20000", a, b)
        self.assertEqual(run.code, 2, run.err)
        self.assertIn("--entries-max", run.err)
        self.assertLess(len(run.out), 20000 * 130)
        run = self.diff("--json", "--entries-max", "20000", a, b)
        self.assertEqual(run.code, 2)
        self.assertEqual(json.loads(run.text)["error"]["code"], "RESOURCE_EXHAUSTED")
        self.assertEqual(self.diff(a, a).code, 0)

    def test_names_and_lines_steer_no_terminal(self):
        was = file_(EVIL, b"a") + file_("f", b"plain\n")
        now = file_(EVIL, b"b") + file_("f", EVIL.encode() + b"\n")
        self.peer.put(b"a", b"b", b"plain\n", EVIL.encode() + b"\n", was, now)
        for args in ((), ("--stat",)):
            out = self.diff(*args, text(was), text(now)).out
            self.assertNotIn(b"\x1b", out)
            self.assertNotIn(b"\nM\tforged", out)
        main, side = pty.openpty()
        with subprocess.Popen([BIN / "lazyroot", "diff", "--patch", text(was), text(now)],
                              stdout=side, env=self.system.environment()) as process:
            os.close(side)
            shown = b""
            while True:
                try:
                    piece = os.read(main, 65536)
                except OSError:
                    break
                if not piece:
                    break
                shown += piece
            self.assertEqual(process.wait(PATIENCE), 1)
        os.close(main)
        self.assertIn(b"\\x1b]0;evil", shown)
        self.assertNotIn(b"\x1b", shown)

    def test_sizes_that_nobody_has(self):
        huge = data(1, "0" * 64) + number(2, (1 << 63) - 1)
        was = b"".join(data(1, data(1, n) + data(2, huge)) for n in ("a", "b", "c"))
        self.peer.put(was)
        for args in (("--stat",), ("--patch",), ("--json",)):
            run = self.diff(*args, text(was), text(b""))
            self.assertEqual(run.code, 1, run.err)
        self.assertIn("Large files differ", self.diff("--patch", text(was), text(b"")).text)

    def test_a_large_directory(self):
        nodes = [file_(f"name-{i:06}", b"%d" % (i % 7)) for i in range(200_000)]
        was = b"".join(nodes)
        nodes[100_000] = file_("name-100000", b"changed")
        now = b"".join(nodes)
        self.peer.put(was, now)
        self.assertEqual(self.diff(text(was), text(now)).text, "M\tname-100000\n")

    def test_no_directory(self):
        """Twice the same name, names that lead out: refused with the digest."""
        for bad in (file_("x", b"1") + file_("x", b"2"), file_("..", b""), file_("a/b", b"")):
            self.peer.put(bad)
            root = directory("d", bad)
            self.peer.put(root)
            run = self.diff(text(root), text(b""))
            self.assertEqual(run.code, 2, run.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
