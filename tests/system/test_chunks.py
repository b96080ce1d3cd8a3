"""Large files of which little changed: what crosses the network between the real programs is
about that little, in bytes counted by a proxy, and the requests are few."""
import hashlib
import json
import random
import sqlite3
import unittest

import system
from proxy import DelayProxy
from system import System, counts, delta, metrics, wait_until

MIB = 1 << 20
SIZE = 64 * MIB
CHUNK = 512 << 10  # on average
FEW = 3 * CHUNK    # what one changed byte may cost: a chunk or two, and lists of all


def noise(seed, size=SIZE):
    return bytearray(random.Random(seed).randbytes(size))


def mapped(directory):
    """How many blobs' chunks are known there."""
    try:
        with sqlite3.connect(f"file:{directory}/chunks.sqlite?mode=ro", uri=True) as db:
            return db.execute("SELECT COUNT(*) FROM maps").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet
        return 0


class Chunks(unittest.TestCase):
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
        one = System(("--compression", "never", *(server_args or ("--chunks", "always"))))
        near = DelayProxy(one.address, 0)
        self.systems.append((one, [near]))
        return one, near

    def ok(self, run):
        self.assertEqual(run.code, 0, run.err)
        return run


class ClientTest(Chunks):
    def upload(self, one, near, content, name="f", *args):
        """Bytes that crossed, and the run."""
        path = one.dir / name
        path.write_bytes(content)
        before = near.bytes
        run = self.ok(one.lazyroot("upload", *args, path, address=near.address))
        return near.bytes - before, run

    def back(self, one, digest, content):
        """The whole of it, as somebody else gets it."""
        self.ok(one.lazyroot("download", digest, one.dir / "back",
                             env={"XDG_CACHE_HOME": str(one.dir / "other-home")}))
        self.assertEqual((one.dir / "back").read_bytes(), content)

    def test_one_byte_of_many_is_a_chunk_or_two_to_send(self):
        one, near = self.start()
        content = noise(1)
        whole, run = self.upload(one, near, content)
        self.assertGreater(whole, SIZE)
        self.assertNotIn("saved", run.err)
        wait_until(lambda: mapped(one.dir / "data") == 1, "the first version's chunks")
        content[SIZE // 2] ^= 1
        some, run = self.upload(one, near, content)
        self.assertLess(some, FEW)
        self.assertIn("saved by chunks", run.err)
        self.back(one, run.text.strip(), content)
        # and the next, by what is known of the second
        wait_until(lambda: mapped(one.dir / "data") == 2, "the second version's chunks")
        content[SIZE // 2 + 100:SIZE // 2 + 100] = b"inserted"
        some, run = self.upload(one, near, content, "f", "--json")
        result = json.loads(run.text)[0]
        self.assertLess(some, FEW)
        self.assertEqual(result["sent_bytes"] + result["saved_bytes"], len(content))
        self.assertLess(result["sent_bytes"], FEW)

    def test_what_is_all_new_is_sent_whole(self):
        one, near = self.start()
        self.upload(one, near, noise(2, 16 * MIB))
        wait_until(lambda: mapped(one.dir / "data") == 1, "the first file's chunks")
        cost, run = self.upload(one, near, noise(3, 16 * MIB), "g")
        self.assertGreater(cost, 16 * MIB)
        self.assertLess(cost, 16 * MIB * 1.01)
        self.assertNotIn("saved", run.err)

    def test_a_server_that_knows_no_chunks_gets_all(self):
        one, near = self.start("--chunks", "never")
        content = noise(4, 16 * MIB)
        for _ in range(2):
            cost, run = self.upload(one, near, content)
            self.assertGreater(cost, 16 * MIB)
            self.assertNotIn("saved", run.err)
            content[9 * MIB] ^= 1
        content[9 * MIB] ^= 1
        self.back(one, run.text.strip(), content)
        self.assertFalse((one.dir / "data" / "chunks.sqlite").exists())


class WorkerTest(Chunks):
    """The same down: what a worker has of another version it does not fetch."""

    def worker(self, one):
        self.cas = DelayProxy(one.address, 0)
        self.systems[-1][1].append(self.cas)
        return one.start_worker("--cas", self.cas.address, "--metrics", "127.0.0.1:0",
                                "--foresight", "off", "--slots", "1")

    def fetch(self, one, digest, want):
        """Bytes that crossed for an action that reads the file, and its report."""
        before = self.cas.bytes
        run = self.ok(one.sh("sha256sum f", "--no-cache", "--input-digest", digest))
        self.assertIn(hashlib.sha256(want).hexdigest(), run.text)
        return self.cas.bytes - before, run.report

    def tree(self, one, content):
        return one.upload(one.tree("in", {"f": bytes(content)}))

    def test_one_byte_of_many_is_a_chunk_or_two_to_fetch(self):
        one, _ = self.start()
        worker = self.worker(one)
        content = noise(5)
        whole, report = self.fetch(one, self.tree(one, content), content)
        self.assertGreater(whole, SIZE)
        wait_until(lambda: mapped(worker.cache) == 1, "the first version's chunks")
        for i in range(2, 10):  # on a busy machine an answer may come too late, and all of it
            content[SIZE // 2] ^= i
            digest = self.tree(one, content)
            wait_until(lambda: mapped(one.dir / "data") == i, "this version's chunks")
            before = counts(worker)
            some, report = self.fetch(one, digest, content)
            if some < SIZE:
                break
        self.assertLess(some, FEW)
        self.assertLess(report["fetched"]["bytes"], FEW)
        page = metrics(worker)
        self.assertGreater(page["lazyroot_fetch_chunk_bytes_total"], SIZE - FEW)
        self.assertLess(page["lazyroot_fetch_bytes_total"], (i - 1) * SIZE + FEW)
        wait_until(lambda: counts(worker) != before, "the job's counters")
        cost = delta(before, counts(worker))
        calls = {k.rsplit("/", 1)[-1]: v for k, v in cost.items() if k.startswith("/")}
        self.assertEqual(calls.get("GetChunkMapping"), 1, calls)
        self.assertNotIn("Read", calls)
        self.assertLessEqual(calls["BatchReadBlobs"], 4, calls)
        # nothing is there twice: the new chunks are parts of the file now
        held = sum(f.stat().st_size for f in (worker.cache / "blobs").glob("*/*"))
        self.assertLess(held, i * SIZE + MIB // 2)

    def test_what_a_worker_made_is_a_version_too(self):
        one, _ = self.start()
        worker = self.worker(one)
        made = one.sh("seq 1 4000000 >out", "--output", "out")
        self.ok(made)
        content = bytearray((one.dir / "out").read_bytes())
        self.assertGreater(len(content), 30_000_000)
        wait_until(lambda: mapped(worker.cache) == 1, "the output's chunks")
        wait_until(lambda: mapped(one.dir / "data") == 1, "the same at the server")
        for i in range(2, 10):
            content[len(content) // 2] ^= i
            digest = self.tree(one, content)
            wait_until(lambda: mapped(one.dir / "data") == i, "this version's chunks")
            some, _ = self.fetch(one, digest, content)
            if some < len(content):
                break
        self.assertLess(some, 8 * CHUNK)  # lines of digits have few places to cut

    def test_a_server_without_chunks_is_read_as_ever(self):
        one, _ = self.start("--chunks", "never")
        worker = self.worker(one)
        content = noise(6, 16 * MIB)
        for _ in range(2):
            cost, _ = self.fetch(one, self.tree(one, content), content)
            self.assertGreater(cost, 16 * MIB)
            content[9 * MIB] ^= 1
        self.assertEqual(mapped(worker.cache), 0)


if __name__ == "__main__":
    system.main()
