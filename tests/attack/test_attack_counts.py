"""Requests of many small elements: each is refused or answered, and the server serves on."""
import unittest

from attack import REAPI, Peer, data  # puts the folder of system on the path
from system import System, need_root


class CountsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def tearDown(self):
        self.assertIsNone(self.system.server.popen.poll(), self.system.server.err()[-2000:])

    def test_find_missing_of_millions_of_empty_digests(self):
        with Peer(self.system.address) as peer:
            status = peer.status(REAPI + "ContentAddressableStorage/FindMissingBlobs",
                                 data(2, b"") * 4_300_000)
        self.assertIn(status, ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
