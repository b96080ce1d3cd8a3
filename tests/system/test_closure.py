"""An input root of 1,000,000 files behind 50 ms: what comes of its directories is what is new,
and a command waits for those on its way only. Asserted by requests and bytes, not by the clock."""
import hashlib
import signal
import time
import unittest

import system
from proxy import DelayProxy
from system import System, counts, delta, wait_until

READ = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs"
TREE = "/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree"
GROUPS, DIRS, FILES = 20, 100, 500


def varint(n):
    out = b""
    while n > 127:
        out += bytes((n & 127 | 128,))
        n >>= 7
    return out + bytes((n,))


def field(number, value):
    return varint(number << 3 | 2) + varint(len(value)) + value


def node(number, name, content):
    digest = hashlib.sha256(content).hexdigest().encode()
    size = b"\x10" + varint(len(content)) if content else b""
    return field(number, field(1, name.encode()) + field(2, field(1, digest) + size))


class Tree:
    """The Directories of a root: alike, and no two the same. No file is anywhere; nobody reads
    one."""
    files = b"".join(node(1, f"f{i:03}", b"%d" % i) for i in range(FILES))

    def __init__(self, *changed):
        self.blobs = []
        groups = b""
        for g in range(GROUPS):
            below = b""
            for d in range(DIRS):
                own = "changed" if (g, d) in changed else "own"
                below += self.add(f"d{d:02}", self.files + node(1, f"g{g}d{d}", own.encode()))
            groups += self.add(f"g{g:02}", below)
        self.add("", groups)
        self.root = f"{hashlib.sha256(self.blobs[-1]).hexdigest()}/{len(self.blobs[-1])}"
        self.bytes = sum(map(len, self.blobs))

    def add(self, name, blob):
        self.blobs.append(blob)
        return node(2, name, blob)

    def upload(self, far, known=frozenset()):
        """As files that happen to hold Directories."""
        base = far.dir / self.root[:16]
        base.mkdir()
        new = [blob for blob in self.blobs if blob not in known]
        for i, blob in enumerate(new):
            (base / f"b{i}").write_bytes(blob)
        far.upload(base)
        return sum(map(len, new))


class ClosureTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.old = Tree()
        cls.new = Tree((7, 42))
        cls.far = System()
        cls.old.upload(cls.far)
        cls.new_bytes = cls.new.upload(cls.far, set(cls.old.blobs))

    @classmethod
    def tearDownClass(cls):
        cls.far.close()

    def setUp(self):
        self.proxy = DelayProxy(self.far.address, 0.025)  # each way
        self.n = getattr(ClosureTest, "n", 0) + 1
        ClosureTest.n = self.n
        self.worker = self.start_worker()

    def tearDown(self):
        self.worker.stop()
        self.proxy.close()

    def start_worker(self, name=""):
        return self.far.start_worker("--cas", self.proxy.address, "--slots", "1",
                                     cache=self.far.dir / f"cache{self.n}")

    def true(self, tree, *args):
        run = self.far.run("--input-digest", tree.root, "--no-cache", *args, "--", "/bin/true")
        self.assertEqual(run.code, 0, run.err)
        return run

    def settle(self):
        """Until no more comes: what is loaded in the background is all here."""
        def look():
            before = self.proxy.bytes
            time.sleep(1)
            return before == self.proxy.bytes
        wait_until(look, "the load's end")

    def test_one_changed_file_of_a_million_costs_its_way(self):
        cold = self.proxy.bytes
        self.true(self.old)
        self.settle()
        cold = self.proxy.bytes - cold
        self.assertLess(cold, 1.2 * self.old.bytes)
        self.assertGreater(cold, self.old.bytes)
        self.true(self.old)  # its job's end says what was asked for so far
        before, bytes_before = counts(self.worker), self.proxy.bytes
        # the way to the output is the one that changed: the command cannot start before
        run = self.true(self.new, "--output", "g07/d42/none")
        self.settle()
        self.true(self.new)
        cost, came = delta(before, counts(self.worker)), self.proxy.bytes - bytes_before
        print(f"\n  cold: {cold:,} bytes; one file changed: {came:,} bytes, "
              f"{run.report['fetched']['round_trips']} round trips before the command")
        self.assertEqual(cost.get(TREE, 0), 0)
        self.assertLessEqual(cost.get(READ, 0), 3 + 2)  # the Directories, and two Commands
        self.assertEqual(run.report["fetched"]["blobs"], 3)
        self.assertEqual(run.report["fetched"]["bytes"], self.new_bytes)
        self.assertLessEqual(run.report["fetched"]["round_trips"], 3)
        self.assertLess(came, 2 * self.new_bytes + 30000)  # and all that was said besides
        self.assertEqual(run.report["input"]["files"], GROUPS * DIRS * (FILES + 1))

    def test_a_command_starts_before_the_last_page_and_the_rest_is_resumed(self):
        # a quarter of the tree comes, and then nothing: the command has run all the same
        self.proxy.most = self.proxy.bytes + self.old.bytes // 4
        self.true(self.old)
        wait_until(lambda: self.proxy.bytes >= self.proxy.most, "a quarter of the tree")
        self.worker.stop(signal.SIGKILL)
        self.proxy.close()
        self.proxy = DelayProxy(self.far.address, 0.025)
        self.worker = self.start_worker()
        self.true(self.old)
        self.settle()
        had = self.old.bytes - self.proxy.bytes
        print(f"\n  resumed: {self.proxy.bytes:,} of {self.old.bytes:,} bytes")
        self.assertGreater(had, self.old.bytes // 8)
        run = self.true(self.old)
        self.assertEqual(run.report["input"]["files"], GROUPS * DIRS * (FILES + 1))
        self.assertEqual(run.report["fetched"]["blobs"], 0)


if __name__ == "__main__":
    system.main()
