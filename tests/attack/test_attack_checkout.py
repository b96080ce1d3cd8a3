"""Hostile trees under lazyroot checkout and shell: links that lead out, names that steer a
terminal, more paths than any disk, commands that leave something in the way."""
import os
import pathlib
import tarfile
import unittest

from attack import Peer, data, digest_of, number
from system import System, mounts_below, need_root
from test_attack_diff import EVIL, directory, file_, text


def link(name, target):
    return data(3, data(1, name) + data(2, target))


class CheckoutTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.peer = Peer(cls.system.address)
        cls.outside = cls.system.dir / "outside"
        cls.outside.mkdir()
        (cls.outside / "kept").write_text("kept")
        cls.busybox = pathlib.Path("/bin/busybox").read_bytes()

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def tearDown(self):
        self.assertEqual(sorted(os.listdir(self.outside)), ["kept"])
        self.assertEqual((self.outside / "kept").read_text(), "kept")
        self.assertEqual(mounts_below(self.system.dir), [])

    def call(self, verb, *args):
        run = self.system.lazyroot(verb, *args)
        self.assertNotIn("Sanitizer", run.err)
        return run

    def put(self, *blobs):
        self.peer.put(*blobs)
        return text(blobs[-1])

    def root(self, *more):
        """A root with a shell, and more."""
        node = data(1, data(1, "sh") + data(2, digest_of(self.busybox)) + b"\x20\x01")
        self.peer.put(self.busybox, node)
        return self.put(directory("bin", node) + b"".join(more))

    def test_links_lead_nowhere(self):
        for target in (str(self.outside), "../outside", "../../../../../.." + str(self.outside)):
            with self.subTest(target=target):
                root = self.put(b"x", file_("kept", b"x") + link("l", target))
                dest = self.system.dir / "links"
                self.assertEqual(self.call("checkout", "--force", root, dest).code, 0)
                self.assertEqual(os.readlink(dest / "l"), target)
                # and over a destination that is one
                over = self.system.dir / "over"
                if not over.is_symlink():
                    over.symlink_to(dest)
                self.assertEqual(self.call("checkout", "--force", root, over).code, 0)

    def test_integration_that_lays_links(self):
        """What a command made of the tree is captured, not followed."""
        root = self.root(directory("srv", b""))
        self.peer.put(b"")
        script = f"rmdir /srv; ln -s {self.outside} /srv; ln -s / /all; ln -s . /bin/self"
        dest = self.system.dir / "laid"
        run = self.call("checkout", "--integrate", script, "--integrate", "test -L /srv", root, dest)
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(os.readlink(dest / "srv"), str(self.outside))
        self.assertEqual(sorted(os.listdir(dest)), ["all", "bin", "srv"])

    def test_integration_sees_nothing_of_this_machine(self):
        (self.system.dir / "secret").write_text("secret")
        script = (f"test ! -e {self.system.dir} && test ! -e /home && test ! -e /usr && "
                  "! /bin/sh -c 'echo x > /proc/sys/kernel/hostname' 2>&1 | grep -v . ; "
                  "test $(ls /proc | grep -c '^[0-9]') -lt 9")
        run = self.call("checkout", "--integrate", script, self.root(), self.system.dir / "seen")
        self.assertEqual(run.code, 0, run.err)

    def test_more_paths_than_any_disk(self):
        blob = file_("f", b"")
        self.peer.put(b"", blob)
        for _ in range(40):
            blob = directory("a", blob) + directory("b", blob)
            self.peer.put(blob)
        for args in (("checkout", text(blob), self.system.dir / "bomb"),
                     ("checkout", text(blob), "--tar", self.system.dir / "bomb.tar")):
            run = self.call(*args)
            self.assertEqual(run.code, 1)
            self.assertIn("10000000 entries", run.err)
        self.assertEqual(list(self.system.dir.glob("bomb*")), [])

    def test_names_steer_no_terminal_and_no_archive(self):
        root = self.put(b"x", file_(EVIL, b"x") + link("l" + EVIL, "t" + EVIL))
        self.assertEqual(self.call("checkout", root, "--tar", self.system.dir / "evil.tar").code, 0)
        with tarfile.open(self.system.dir / "evil.tar") as archive:
            self.assertEqual(sorted(archive.getnames()), sorted([".", "./" + EVIL, "./l" + EVIL]))
        lost = self.put(file_(EVIL, b"nowhere"))
        run = self.call("checkout", lost, self.system.dir / "lost")
        self.assertEqual(run.code, 1)
        self.assertNotIn("\x1b", run.err)
        self.assertFalse((self.system.dir / "lost").exists())

    def test_a_file_of_any_size_is_shown(self):
        """Nobody has it, and nothing is counted beyond what a number holds."""
        huge = data(1, data(1, "huge") + data(2, data(1, "0" * 64) + number(2, (1 << 63) - 1)))
        root = self.put(huge, directory("d", huge) + huge)
        run = self.call("shell", root, "--", "/usr/bin/stat", "-c", "%s %b", "huge", "d/huge")
        self.assertEqual((run.code, run.text), (0, f"{(1 << 63) - 1} {1 << 54}\n" * 2), run.err)
        for args in (("checkout", root, self.system.dir / "huge"),
                     ("checkout", root, "--tar", self.system.dir / "huge.tar")):
            self.assertEqual(self.call(*args).code, 1)
        self.assertEqual(list(self.system.dir.glob("huge*")), [])

    def test_a_large_directory_is_there_at_once(self):
        large = b"".join(file_(f"name-{i:06}", b"") for i in range(200_000))
        root = self.put(b"", large, directory("big", large))
        run = self.call("shell", root, "--", "/bin/sh", "-c", "ls big | wc -l")
        self.assertEqual((run.code, run.text), (0, "200000\n"), run.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
