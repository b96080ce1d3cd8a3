"""Many actions at once on a cold cache behind a connection with 20 ms of delay: nothing is
fetched twice, and what they share comes once for all of them."""
import json
import threading
import unittest

import system
from proxy import DelayProxy
from system import System


class DistanceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.far = System()
        cls.proxy = DelayProxy(cls.far.address, 0.010)  # each way
        cls.far_worker = cls.far.start_worker("--cas", cls.proxy.address, "--slots", "8")

    @classmethod
    def tearDownClass(cls):
        cls.far.close()
        cls.proxy.close()

    def test_eight_actions_fetch_nothing_twice(self):
        n_shared, n = 120, 8
        shared = {f"lib/d{i % 6}/f{i}": f"shared {i}\n" * 20 for i in range(n_shared)}
        trees = [self.far.tree(f"root{k}", {**shared, "own/f": f"only {k}\n"}) for k in range(n)]
        digests = [self.far.upload(tree) for tree in trees]
        reports = [None] * n

        def one(k):
            path = self.far.dir / f"report{k}.json"
            run = self.far.lazyroot("run", "--no-cache", "--report", path, "--input-digest",
                                    digests[k], "--env", "PATH=/usr/bin:/bin",
                                    "--", "/bin/sh", "-c", "cat lib/*/* own/f | wc -c")
            self.assertEqual(run.code, 0, run.err)
            reports[k] = json.loads(path.read_text())

        threads = [threading.Thread(target=one, args=(k,)) for k in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertTrue(all(reports), "every action ended well")
        # distinct blobs: the shared files, their directories (6 and lib), and of each root
        # the root itself, own/ and own/f
        distinct = n_shared + 7 + 3 * n
        fetched = sum(r["fetched"]["blobs"] for r in reports)
        self.assertLessEqual(fetched, distinct)
        for report in reports:
            self.assertEqual(report["opened"]["files"], n_shared + 1)


if __name__ == "__main__":
    system.main()
