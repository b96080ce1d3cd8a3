"""A cache that is smaller than what an action needs: each byte is right all the same, the worker says
what that cost, and stays within its limit."""
import hashlib
import os
import re
import subprocess

import system
from crash import CrashCase
from system import metrics, wait_until

class PressureTest(CrashCase):
    def smaller_than_the_input(self, data_path):
        worker = self.system.start_worker("--cache-size", "3M", "--data-path", data_path,
                                          "--metrics", "127.0.0.1:0")
        tree = self.system.tree("large", {f"f{i}": os.urandom(1 << 20) for i in range(12)})
        want = subprocess.run("cat f? f??", shell=True, cwd=tree, capture_output=True).stdout
        run = self.system.sh("cat f? f??", "--input", tree, "--no-cache")
        self.assertEqual(run.code, 125, "its stdout alone is more than the cache holds")
        self.assertIn("larger than all of", run.err)
        # each blob at two paths: what the first run fetched was evicted, and must come again
        run = self.system.sh("for d in . again; do cd $d; cat f? f?? | sha256sum; done",
                             "--input", tree, "--input", f"{tree}=again", "--no-cache")
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(run.text, f"{hashlib.sha256(want).hexdigest()}  -\n" * 2)
        lines = re.findall(r"cache is too small.*", worker.err())
        self.assertGreater(len(lines), 0, worker.err()[-3000:])
        self.assertRegex(lines[0], r"evicted \d+ blobs, [\d.]+ MB, meanwhile, and holds 3.1 MB")
        wait_until(lambda: sum(p.stat().st_size for p in (worker.cache / "blobs").glob("??/*"))
                   <= 3 << 20, "a cache within its limit")
        self.assertGreater(run.report["fetched"]["bytes"], 11 << 20)
        counted = metrics(worker)
        self.assertEqual(counted["lazyroot_cache_limit_bytes"], 3 << 20)
        self.assertLessEqual(counted["lazyroot_cache_bytes"], 3 << 20)
        self.assertGreater(counted["lazyroot_cache_evicted_bytes_total"], 3 << 20)
        self.assertGreater(counted["lazyroot_cache_evicted_blobs_total"], 3)
        self.assertEqual(counted["lazyroot_cache_too_small_total"], len(lines))

    def test_cache_smaller_than_the_input_by_page_cache(self):
        self.smaller_than_the_input("page-cache")

    def test_cache_smaller_than_the_input_by_passthrough(self):
        self.smaller_than_the_input("passthrough")

    def test_an_input_larger_than_an_eighth_of_the_cache_is_foreseen(self):
        """What nobody asked for yet is bounded, not what was foreseen and read."""
        self.system.start_worker("--cache-size", "16M")
        tree = self.system.tree("walked", {f"f{i:03}": os.urandom(16 << 10) for i in range(600)})
        run = self.system.sh("cat * | wc -c", "--input", tree, "--no-cache")
        self.assertEqual((run.code, run.text), (0, f"{600 * (16 << 10)}\n"), run.err)
        foreseen = run.report["foresight"]
        read = sum(foreseen[source][how]["bytes"] for source in ("certain", "learned", "derived", "seen")
                   for how in ("useful", "late"))
        self.assertGreater(read, 4 << 20, foreseen)

    def test_no_word_where_nothing_was_evicted(self):
        worker = self.system.start_worker()
        self.run_whole()
        self.assertNotIn("the cache", worker.err())


if __name__ == "__main__":
    system.main()
