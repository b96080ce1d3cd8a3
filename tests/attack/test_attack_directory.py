"""A Directory that no message holds: an untouched one of 200,000 names as an output, with nothing
of it in the worker's cache."""
import unittest

from attack import MESSAGE_MAX, Peer, data, digest_of, field, number, shell
from system import System, need_root

NAMES = 200_000


def large():
    node = data(2, digest_of(b""))
    return b"".join(data(1, data(1, f"name-{i:06}") + node) for i in range(NAMES))


class LargeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.peer = Peer(cls.system.address)
        cls.large = large()
        cls.peer.put(cls.large, b"")
        cls.root = data(2, data(1, "big") + data(2, digest_of(cls.large)))
        cls.peer.put(cls.root)

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def run_it(self, format_, script="true"):
        """The output directory, by a worker that has never seen anything."""
        worker = self.system.start_worker("--slots", "1")
        command = shell(script) + data(7, "big") + number(9, format_)
        status, text, result = self.peer.execute(command, digest_of(self.root))
        self.assertEqual(status, "OK", text)
        self.assertEqual(field(result, 4, 0), 0, field(result, 7))
        self.assertEqual(worker.stop(), 0)
        self.assertNotIn("again in", worker.err())
        return field(result, 3)

    def test_as_a_tree_and_as_directories(self):
        self.assertGreater(len(self.large), MESSAGE_MAX)
        tree = digest_of(data(1, self.large))
        for format_ in (0, 1, 2):
            output = self.run_it(format_)
            self.assertEqual(field(output, 1), b"big")
            self.assertEqual(field(output, 3), None if format_ == 1 else tree)
            self.assertEqual(field(output, 5), None if format_ == 0
                             else digest_of(self.large))

    def test_as_a_commands_listing(self):
        self.run_it(0, f"test $(ls big | wc -l) = {NAMES}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
