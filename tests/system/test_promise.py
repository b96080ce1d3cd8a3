"""What the server said to be there stays: with --promise (3 h unless told otherwise) it refuses
uploads before it evicts what somebody was promised."""
import os
import unittest

import system
from system import System


class PromiseTest(unittest.TestCase):
    def setUp(self):
        system.need_root()
        self.system = None

    def tearDown(self):
        self.system.close()

    def serve(self, *args):
        self.system = System(["--data-size", "8M", *args])
        first = self.system.tree("first", {f"f{i}": os.urandom(1 << 20) for i in range(5)})
        self.digest = self.system.upload(first)
        second = self.system.tree("second", {f"s{i}": os.urandom(1 << 20) for i in range(4)})
        return self.system.lazyroot("upload", second)

    def assert_first_is_whole(self):
        run = self.system.lazyroot("download", "--force", self.digest, "back")
        self.assertEqual(run.code, 0, run.err)
        for i in range(5):
            self.assertEqual((self.system.dir / f"back/f{i}").read_bytes(),
                             (self.system.dir / f"first/f{i}").read_bytes())

    def test_uploads_are_refused_before_a_promise_is_broken(self):
        run = self.serve()
        self.assertEqual(run.code, 1, run.err)
        self.assertIn("blobs stay for 180 min 0 s after their last use", run.err)
        self.assert_first_is_whole()
        # what fits is still taken, and a restart forgets no promise
        small = self.system.tree("small", {"f": "small\n"})
        self.system.upload(small)
        self.assertEqual(self.system.server.stop(), 0)
        self.system.start_server()
        run = self.system.lazyroot("upload", self.system.dir / "second")
        self.assertEqual(run.code, 1, run.err)
        self.assert_first_is_whole()

    def test_without_promises_what_was_used_last_goes_last(self):
        run = self.serve("--promise", "0")
        self.assertEqual(run.code, 0, run.err)
        run = self.system.lazyroot("download", "--force", self.digest, "back")
        self.assertNotEqual(run.code, 0)
        self.assertRegex(run.err, "the remote store has no blob")


if __name__ == "__main__":
    system.main()
