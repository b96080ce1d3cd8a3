"""Trees, Actions and results in which something is not as it should be, whatever it is, under each
verb that reads them: it ends with an answer or an error, without a word that steers a terminal,
and with nothing outside of its place. The dice are the same each time."""
import hashlib
import pathlib
import random
import shutil
import unittest

import grpc

from attack import REAPI, Peer, data, digest_of, mutated, number
from system import System, main, mounts_below, need_root

ROUNDS = 120
OUTSIDE = pathlib.Path("/var/tmp/lazyroot-out")  # where EVIL leads
PROPS = data(6, data(2, number(1, 5) + number(2, 6)) + data(3, number(1, 0o4755)))


def text(blob):
    return f"{hashlib.sha256(blob).hexdigest()}/{len(blob)}"


def file_(name, blob, more=b""):
    return data(1, data(1, name) + data(2, digest_of(blob)) + more)


def directory(name, blob):
    return data(2, data(1, name) + data(2, digest_of(blob)))


class MutatedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System(["--grant", "local=all"])
        cls.peer = Peer(cls.system.address)
        cls.busybox = pathlib.Path("/bin/busybox").read_bytes()
        cls.peer.put(cls.busybox, b"", b"hello\n")

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def tearDown(self):
        self.assertFalse(OUTSIDE.exists() or OUTSIDE.is_symlink())
        self.assertEqual(mounts_below(self.system.dir), [])

    def make(self, dice):
        """Digests, as text, of some blobs that belong together."""
        def maybe(message, chance):
            return mutated(dice, message) if dice.random() < chance else message
        low = maybe(file_("f", b"hello\n") + file_("g", b"", PROPS), 0.4)
        root = maybe(file_("a", b"hello\n") + file_("sh", self.busybox, number(4, 1))
                     + directory("low", low) + data(3, data(1, "l") + data(2, "/etc/passwd")), 0.5)
        tree = maybe(data(1, root) + data(2, low), 0.4)
        command = maybe(data(1, "/bin/sh") + data(1, "-c") + data(1, ":") + data(6, "w")
                        + data(2, data(1, "PATH") + data(2, "/bin")) + data(3, "o") + data(7, "o")
                        + data(5, data(1, data(1, "network") + data(2, "off"))), 0.5)
        action = maybe(data(1, digest_of(command)) + data(2, digest_of(root))
                       + data(6, number(1, 20)), 0.4)
        result = maybe(data(2, data(1, "o/f") + data(2, digest_of(b"hello\n")))
                       + data(3, data(1, "o") + data(3, digest_of(tree)))
                       + data(12, data(1, "s") + data(2, "t")) + data(5, "out")
                       + data(9, data(1, "w")), 0.6)
        self.peer.put(low, root, tree, command, action)
        try:
            self.peer.call(REAPI + "ActionCache/UpdateActionResult",
                           data(2, digest_of(action)) + data(3, result))
        except grpc.RpcError:
            pass  # the server has seen it
        return {"root": text(root), "tree": text(tree), "low": text(low), "action": text(action)}

    def verbs(self, made, place):
        shell = ("--", "/bin/sh", "-c", "rm -rf low; mkdir low; echo x > low/f; mv a b; find .")
        yield "checkout", made["root"], place / "root"
        yield "checkout", "--integrate", "echo x > /y", made["tree"], place / "tree"
        yield "checkout", made["action"] + "+result", "--tar", place / "result.tar"
        yield "ls", "-l", "-R", made["tree"]
        yield "diff", "--patch", made["root"], made["low"]
        yield "diff", "--json", made["low"], made["tree"]
        yield "shell", "--save", made["root"], *shell
        yield "shell", "--action", made["action"], "--result", "--save", *shell
        yield "action", made["action"]
        yield "action", "--json", made["action"]
        yield "download", made["tree"], place / "download"

    def test_each_verb_ends_well_or_says_why(self):
        for seed in range(ROUNDS):
            dice = random.Random(seed)
            made = self.make(dice)
            place = self.system.dir / "places"
            place.mkdir()
            for words in dice.sample(list(self.verbs(made, place)), 3):
                with self.subTest(seed=seed, words=words):
                    run = self.system.lazyroot(*words, timeout=60)
                    self.assertGreaterEqual(run.code, 0, run.err)
                    for word in ("Sanitizer", "runtime error", "\x1b"):
                        self.assertNotIn(word, run.err)
                    if words[0] != "shell":
                        self.assertNotIn("\x1b", run.text)
            shutil.rmtree(place)


if __name__ == "__main__":
    main()
