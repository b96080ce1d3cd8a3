"""What crosses the network between the real programs, in bytes, counted by a proxy: much less of
what shrinks, no more of what does not, and not one request more."""
import json
import os
import random
import unittest

import system
from proxy import DelayProxy
from system import System, counts, delta, metrics, wait_until

MIB = 1 << 20


def text(seed, size):
    """Lines as programs have them: shrinks to less than a third."""
    words = [f"word{i * 7919 % 5000}" for i in range(300)]
    some = random.Random(seed)
    lines = []
    while size > 0:
        lines.append(" ".join(some.choices(words, k=4)) + f" {seed}\n" * 4)
        size -= len(lines[-1])
    return "".join(lines).encode()


class CompressionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        system.need_root()

    def setUp(self):
        self.systems = []

    def tearDown(self):
        for one, proxies in self.systems:
            one.close()
            for proxy in proxies:
                proxy.close()

    def start(self, *server_args):
        """A server, and a worker and clients that reach it through proxies of their own."""
        one = System(server_args or ("--compression", "always"))  # all of it is local
        cas, near = DelayProxy(one.address, 0), DelayProxy(one.address, 0)
        self.systems.append((one, (cas, near)))
        one.worker = one.start_worker("--cas", cas.address, "--metrics", "127.0.0.1:0",
                                      "--foresight", "off", "--slots", "1")
        return one, cas, near

    def bytes_of(self, proxy, action):
        """What an action costs: bytes both ways."""
        before = proxy.bytes
        action()
        return proxy.bytes - before

    def costs(self, contents, *server_args):
        """(upload, the worker's reads and writes, a download), each in bytes; the worker's
        counts of calls."""
        one, cas, near = self.start(*server_args)
        tree = one.tree("in", contents)
        size = sum(len(c) for c in contents.values())
        up = self.bytes_of(near, lambda: self.ok(one.lazyroot(
            "upload", tree, address=near.address)))
        digest = one.lazyroot("upload", tree).text.strip()
        work = self.bytes_of(cas, lambda: self.ok(one.sh(
            "cat */* > out", "--no-cache", "--output", "out", "--input-digest", digest)))
        self.assertEqual((one.dir / "out").stat().st_size, size)
        down = self.bytes_of(near, lambda: self.ok(one.lazyroot(
            "download", digest, one.dir / "back", address=near.address,
            env={"XDG_CACHE_HOME": str(one.dir / "other-home")})))
        for path, content in contents.items():
            self.assertEqual((one.dir / "back" / path).read_bytes(), content)
        page = metrics(one.worker)
        calls = {k: v for k, v in counts(one.worker).items() if k.startswith("/")}
        return (up, work, down), calls, page

    def ok(self, run):
        self.assertEqual(run.code, 0, run.err)

    def test_what_shrinks_crosses_in_a_third_and_with_the_same_calls(self):
        contents = {f"d{i}/small": text(i, 60000) for i in range(20)}
        contents.update({f"d{i}/large": text(100 + i, 6 * MIB) for i in range(3)})
        size = sum(len(c) for c in contents.values())
        some, calls, page = self.costs(contents)
        all_, plain_calls, _ = self.costs(contents, "--compression", "never")
        self.assertGreater(all_[0], size)
        for cost, plain in zip(some, all_):
            self.assertLess(cost * 3, plain)
        self.assertEqual(calls.keys(), plain_calls.keys())
        for method, n in plain_calls.items():
            self.assertLessEqual(calls[method], n + 2, method)  # batches by who was first
        self.assertGreater(page["lazyroot_fetch_bytes_total"], size)
        self.assertLess(page["lazyroot_fetch_wire_bytes_total"] * 3,
                        page["lazyroot_fetch_bytes_total"])

    def test_an_upload_tells_what_it_saved(self):
        one, _, near = self.start()
        tree = one.tree("in", {"small": text(1, 60000), "large": text(2, 6 * MIB)})
        runs = []
        cost = self.bytes_of(near, lambda: runs.append(one.lazyroot(
            "upload", "--json", tree, address=near.address)))
        self.ok(runs[0])
        (told,) = json.loads(runs[0].out)
        self.assertGreater(told["shrunk_bytes"], told["sent_bytes"] * 2 // 3)
        crossed = told["sent_bytes"] - told["shrunk_bytes"]
        self.assertLess(crossed, cost)
        self.assertLess(cost, crossed + 100000)
        run = one.lazyroot("upload", one.tree("more", {"f": text(3, MIB)}))
        self.assertRegex(run.err, "saved by zstd [0-9.]+ ")

    def test_what_does_not_shrink_costs_no_more_than_a_hundredth(self):
        contents = {f"d{i}/small": os.urandom(60000) for i in range(20)}
        contents.update({f"d{i}/large": os.urandom(6 * MIB) for i in range(3)})
        some, _, _ = self.costs(contents)
        all_, _, _ = self.costs(contents, "--compression", "never")
        for cost, plain in zip(some, all_):
            self.assertLess(cost, plain * 1.01)

    def test_a_warm_run_asks_for_nothing(self):
        one, _, _ = self.start()
        tree = one.tree("in", {"d/large": text(1, 3 * MIB), "d/small": text(2, 50000)})
        self.ok(one.sh("cat d/*", "--no-cache", "--input", tree))
        before = counts(one.worker)
        self.ok(one.sh("cat d/*", "--no-cache", "--input", tree))
        wait_until(lambda: counts(one.worker) != before, "the job's counters")
        cost = delta(before, counts(one.worker))
        self.assertEqual([k for k in cost if "Read" in k or "GetTree" in k], [])

    def test_clients_do_as_the_server_says(self):
        one, _, near = self.start("--compression", "auto")  # to others than us
        tree = one.tree("in", {"f": text(3, 4 * MIB)})
        plain = self.bytes_of(near, lambda: self.ok(one.lazyroot(
            "upload", tree, address=near.address)))
        self.assertGreater(plain, 4 * MIB)
        one.server.stop()
        one.server_args = ["--compression", "always"]
        one.start_server()
        tree = one.tree("in2", {"f": text(4, 4 * MIB)})
        some = self.bytes_of(near, lambda: self.ok(one.lazyroot(
            "upload", tree, address=near.address)))
        self.assertLess(some * 3, plain)


if __name__ == "__main__":
    system.main()
