"""An action cache that is not the storage, and lies: of trees without end, blobs that nobody has,
sizes that cannot be. A run asks it first, and then has its right result from who executes."""
import hashlib
import time
import unittest

from attack import REAPI, Hostile, Peer, data, digest_of, number
from system import System, main, need_root

GET = REAPI + "ActionCache/GetActionResult"


def no_digest(n, size=5):
    return data(1, hashlib.sha256(b"%d" % n).hexdigest()) + number(2, size)


def file_(path, digest):
    return data(2, data(1, path) + data(2, digest))


def directory(path, root=b"", tree=b""):
    return data(3, data(1, path) + (data(3, tree) if tree else b"") + (data(5, root) if root else b""))


class HitsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System(("--grant", "local=all"))
        cls.worker = cls.system.start_worker()
        cls.peer = Peer(cls.system.address)

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def run_against(self, result):
        cache = Hostile({REAPI + "Capabilities/GetCapabilities": lambda *_: b"",
                         GET: lambda *_: result})
        self.addCleanup(cache.close)
        run = self.system.sh(f": {time.monotonic_ns()}; mkdir d; echo right", "-o", "d",
                             "--download", self.system.dir / f"out-{time.monotonic_ns()}",
                             f"--action-cache={cache.address}", timeout=60)
        self.assertEqual(cache.calls["GetActionResult"], 1)
        self.assertNotIn("Sanitizer", run.err)
        return run

    def assert_right(self, result):
        run = self.run_against(result)
        self.assertEqual((run.code, run.text, run.report["cached"]), (0, "right\n", False), run.err)

    def test_trees_that_nobody_has(self):
        self.assert_right(b"".join(directory(f"d/{n}", no_digest(n)) for n in range(20000)))
        self.assert_right(b"".join(directory(f"d/{n}", tree=no_digest(n)) for n in range(20000)))

    def test_more_files_than_anybody_has(self):
        self.assert_right(b"".join(file_(f"d/{n}", no_digest(n)) for n in range(100000)))

    def test_sizes_that_cannot_be(self):
        for size in (1 << 62, (1 << 63) - 1, (1 << 64) - 5):
            self.assert_right(directory("d", no_digest(1, size)))
            self.assert_right(directory("d", tree=no_digest(1, size)))
            self.assert_right(file_("d/f", no_digest(1, size)))

    def test_what_is_no_tree(self):
        junk = b"no tree at all"
        self.peer.put(junk)
        self.assert_right(directory("d", digest_of(junk)))
        self.assert_right(directory("d", tree=digest_of(junk)))

    def bomb(self, last):
        """60 levels, each naming the next twice: 2^60 paths, 61 Directories."""
        blob = last
        self.peer.put(blob)
        for _ in range(60):
            blob = b"".join(data(2, data(1, name) + data(2, digest_of(blob))) for name in "ab")
            self.peer.put(blob)
        return digest_of(blob)

    def test_a_tree_of_any_number_of_paths(self):
        """Each Directory counts once; one blob that is missing is enough."""
        lost = data(1, data(1, "f") + data(2, no_digest(7)))
        self.assert_right(directory("d", self.bomb(lost)))

    def test_a_tree_of_more_than_is_looked_at(self):
        blobs = [b"".join(data(1, data(1, f"{n:06}{'x' * 200}") + data(2, digest_of(b"")))
                          for n in range(k * 40000, (k + 1) * 40000)) for k in range(6)]
        root = b"".join(data(2, data(1, f"{k}") + data(2, digest_of(blob)))
                        for k, blob in enumerate(blobs))
        self.peer.put(b"", root, *blobs)
        self.assertGreater(sum(map(len, blobs)), 64 << 20)
        self.assert_right(directory("d", digest_of(root)))


if __name__ == "__main__":
    main()
