"""Results in the action cache that are dear to look at: one Tree, or one Directory, named by
every output. Whether all of it is here is asked for by each who wants the result, and by
Execute; the answer comes, and others are answered meanwhile."""
import threading
import unittest

from attack import REAPI, Peer, data, digest_of, field, fields, number, shell
from system import System, main, need_root

CACHE, CAS = REAPI + "ActionCache/", REAPI + "ContentAddressableStorage/"
FILES = 20_000
OUTPUTS = 20_000


class CachedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System(["--grant", "local=all"])
        cls.peer = Peer(cls.system.address)
        cls.peer.put(b"")
        cls.directory = b"".join(data(1, data(1, "f%05d" % i) + data(2, digest_of(b"")))
                                 for i in range(FILES))
        cls.peer.put(cls.directory, data(1, cls.directory))

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def action(self, name):
        command = self.peer.put(shell(f": {name}"))
        return self.peer.put(data(1, command) + data(2, digest_of(b"")))

    def store(self, action, output):
        outputs = b"".join(data(3, data(1, f"o{i}") + output) for i in range(OUTPUTS))
        self.peer.call(CACHE + "UpdateActionResult", data(2, action) + data(3, outputs))

    def at_once(self, ask, n=8):
        """What each of so many connections is answered; others ask meanwhile."""
        found = []

        def run():
            with Peer(self.system.address) as peer:
                found.append(ask(peer))
        threads = [threading.Thread(target=run) for _ in range(n)]
        for thread in threads:
            thread.start()
        with Peer(self.system.address) as victim:
            while any(thread.is_alive() for thread in threads):
                victim.call(REAPI + "ContentAddressableStorage/FindMissingBlobs",
                            data(2, digest_of(b"")))
        for thread in threads:
            thread.join()
        return found

    def test_one_tree_or_directory_for_every_output(self):
        outputs = {"tree": data(3, digest_of(data(1, self.directory))),
                   "directory": data(5, digest_of(self.directory))}
        for name, output in outputs.items():
            with self.subTest(name):
                action = self.action(name)
                self.store(action, output)
                found = self.at_once(lambda peer, action=action: peer.status(
                    CACHE + "GetActionResult", data(2, action)))
                self.assertEqual(found, ["OK"] * 8)

                def execute(peer, action=action):
                    last = list(peer.server_stream(REAPI + "Execution/Execute",
                                                   data(6, action)))[-1]
                    return field(field(field(last, 5), 2), 2)  # cached_result
                self.assertEqual(self.at_once(execute), [1] * 8)

    def test_what_is_missing_is_found_in_any_step(self):
        """Among many small Trees the last has a file that is not here."""
        trees = [data(1, data(1, data(1, f"f{i}") + data(2, digest_of(b"")))) for i in range(500)]
        lost = data(1, data(1, data(1, "f") + data(2, digest_of(b"nowhere"))))
        large = data(1, self.directory)
        self.peer.put(*trees, lost)
        for name, some in (("whole", trees + [large]), ("lacks", trees + [large, lost]),
                           ("lost", [*trees, data(1, b"no such tree")])):
            action = self.action(name)
            outputs = b"".join(data(3, data(1, f"o{i}") + data(3, digest_of(tree)))
                               for i, tree in enumerate(some))
            self.peer.call(CACHE + "UpdateActionResult",
                           data(2, action) + data(3, outputs + number(4, 0)))
            self.assertEqual(self.peer.status(CACHE + "GetActionResult", data(2, action)),
                             "OK" if name == "whole" else "NOT_FOUND", name)


class PageTest(unittest.TestCase):
    """A page of a tree that is far away: what lies before it is walked again."""
    DIRS = 40_000

    def test_a_far_page_keeps_nobody_from_theirs(self):
        need_root()
        system = System(["--grant", "local=all"])
        self.addCleanup(system.close)
        dirs = [data(3, data(1, "l") + data(2, str(i))) for i in range(self.DIRS)]
        root = b"".join(data(2, data(1, f"d{i:06}") + data(2, digest_of(d)))
                        for i, d in enumerate(dirs))
        with Peer(system.address) as peer:
            for at in range(0, len(dirs), 10_000):
                peer.call(CAS + "BatchUpdateBlobs", b"".join(
                    data(2, data(1, digest_of(d)) + data(2, d)) for d in dirs[at:at + 10_000]))
            peer.put(root)
        request = data(2, digest_of(root)) + number(3, 10) + data(4, str(self.DIRS - 4))
        pages, done = [], threading.Event()

        def ask():
            with Peer(system.address) as peer:
                pages.append(b"".join(peer.server_stream(CAS + "GetTree", request)))
                done.set()
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        with Peer(system.address) as victim:
            for _ in range(20):
                victim.call(CAS + "FindMissingBlobs", data(2, digest_of(b"")))
            self.assertFalse(done.is_set(), "the pages came before twenty small answers")
        for thread in threads:
            thread.join()
        self.assertEqual([[d for n, d in fields(page) if n == 1] for page in pages],
                         [dirs[-5:]] * 8)


if __name__ == "__main__":
    main()
