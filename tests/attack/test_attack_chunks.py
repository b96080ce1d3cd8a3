"""Chunks of blobs, claimed by a hostile peer: a few bytes of a request become many on the disk
where a blob is put together, so it is bounded, evicts nothing for a lie, and shows nothing that
its digest does not say."""
import collections
import hashlib
import os
import pathlib
import threading
import time
import unittest

import grpc

from attack import REAPI, Peer, data, digest_of, fields, is_sanitized, number, peak_rss
from system import System, need_root, wait_until

CAS = REAPI + "ContentAddressableStorage/"
SPLICE, SPLIT = CAS + "SpliceBlob", CAS + "SplitBlob"
REGISTER, MAPPING = CAS + "RegisterChunkMapping", CAS + "GetChunkMapping"
MIB = 1 << 20
EMPTY = digest_of(b"")


def named(hash_, size):
    """A Digest message of any size, a negative one too."""
    return data(1, hash_) + number(2, size & (1 << 64) - 1)


def some_hash():
    return hashlib.sha256(os.urandom(16)).hexdigest()


def request(blob, *chunks, function=0):
    return data(2, blob) + b"".join(data(3, c) for c in chunks) + number(5, function)


class Chunks(unittest.TestCase):
    args = ()

    def setUp(self):
        need_root()
        self.system = System(self.args)
        self.peer = Peer(self.system.address)

    def tearDown(self):
        self.assertIsNone(self.system.server.popen.poll(), self.system.server.err()[-2000:])
        self.peer.close()
        self.system.close()

    def register(self, *messages, peer=None, timeout=60):
        """The status of a stream of these."""
        try:
            (peer or self.peer).client_stream(REGISTER, iter(messages), timeout=timeout)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    def missing(self, *blobs):
        """How many of them."""
        reply = self.peer.call(CAS + "FindMissingBlobs", b"".join(data(2, b) for b in blobs))
        return sum(n == 2 for n, _ in fields(reply))

    def still_works(self):
        parts = [os.urandom(1000), os.urandom(2000)]
        self.peer.put(*parts)
        whole = digest_of(b"".join(parts))
        self.assertEqual(self.peer.status(SPLICE, request(whole, *map(digest_of, parts))), "OK")
        self.assertEqual(self.missing(whole), 0)


class ClaimsTest(Chunks):
    def test_sizes_that_overflow_or_are_none(self):
        here = self.peer.put(b"here")
        top = (1 << 63) - 1
        for blob, chunks in (
                (named(some_hash(), top), [here]),
                (named(some_hash(), 1 << 41), [here]),
                (named(some_hash(), -1), [here]),
                (named(some_hash(), 8), [named(some_hash(), top)] * 2 + [here]),
                (named(some_hash(), 8), [here, named(some_hash(), -4), here]),
                (named(some_hash(), 8), [here, here, here]),
                (named(some_hash(), 8), [data(1, "no hash") + number(2, 8)]),
                (data(1, "no hash") + number(2, 8), [here, here]),
                (b"", [here]),
                (named(some_hash(), 8), [b"\xff\xff"])):
            self.assertEqual(self.peer.status(SPLICE, request(blob, *chunks)),
                             "INVALID_ARGUMENT")
            self.assertEqual(self.register(request(blob, *chunks)), "INVALID_ARGUMENT")
        self.still_works()

    def test_what_is_no_message(self):
        blob = named(some_hash(), 4)
        for bad in (b"\xff", b"\x0a\xff\xff\xff\x7f", data(2, blob) + b"\x1a\x05x",
                    data(2, blob) + number(3, 7) + b"\x1b"):
            for method in (SPLICE, SPLIT):
                self.assertEqual(self.peer.status(method, bad), "INVALID_ARGUMENT", (method, bad))
            self.assertEqual(self.register(bad), "INVALID_ARGUMENT")
        self.assertEqual(self.register(request(blob), b"\xff"), "INVALID_ARGUMENT")
        self.assertEqual(self.register(), "INVALID_ARGUMENT")

    def test_a_blob_of_itself_and_a_digest_that_lies(self):
        here = self.peer.put(b"here")
        blob = digest_of(os.urandom(8))
        self.assertEqual(self.peer.status(SPLICE, request(blob, blob)), "NOT_FOUND")
        self.assertEqual(self.register(request(blob, blob)), "NOT_FOUND")
        self.assertEqual(self.peer.status(SPLICE, request(blob, here, here)), "INVALID_ARGUMENT")
        self.assertEqual(self.missing(blob), 1)
        # nobody is told of it either
        self.assertEqual(self.peer.status(SPLIT, data(2, blob)), "NOT_FOUND")

    def test_many_chunks_of_nothing_take_no_memory(self):
        before = peak_rss(self.system.server.pid)
        blob = named(some_hash(), 1)
        page = b"".join([data(3, EMPTY)] * 50000)
        self.assertEqual(self.register(data(2, blob) + page, *[page] * 30), "INVALID_ARGUMENT")
        self.assertIn(self.peer.status(SPLICE, data(2, blob) + page * 4),
                      ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"))
        if not is_sanitized():
            self.assertLess(peak_rss(self.system.server.pid) - before, 200 * MIB)
        self.still_works()

    def test_one_blob_taken_apart_by_many_at_once(self):
        content = os.urandom(24 * MIB)
        blob = self.peer.put(content)
        answers = []

        def ask():
            with Peer(self.system.address) as peer:
                answers.append(peer.call(SPLIT, data(2, blob)))

        threads = [threading.Thread(target=ask) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(len(answers), 24)
        self.assertEqual(len(set(answers)), 1)
        names = [c for n, c in fields(answers[0]) if n == 1]
        at = 0
        for name in names:
            size = dict(fields(name))[2]
            self.assertEqual(name, digest_of(content[at:at + size]))
            at += size
        self.assertEqual(at, len(content))


class RoomTest(Chunks):
    args = ("--data-size", "100M", "--promise", "0")

    def stored(self):
        return sum(p.stat().st_size for p in (self.system.dir / "data/blobs").glob("*/*"))

    def test_lies_evict_nothing_and_what_they_take_is_given_back(self):
        blobs = [os.urandom(MIB) for _ in range(60)]
        chunk = self.peer.put(*blobs)
        held = self.stored()
        lie = request(named(some_hash(), 80 * MIB), *[chunk] * 80)
        found = []

        def attack():
            with Peer(self.system.address) as peer:
                for _ in range(2):
                    found.append(peer.status(SPLICE, lie))

        threads = [threading.Thread(target=attack) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(len(found), 12)
        self.assertLessEqual(set(found), {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"})
        self.assertEqual(self.missing(*map(digest_of, blobs)), 0)
        self.assertEqual(self.stored(), held)
        # a smaller one that is true is made, once what was lied is forgiven
        whole = digest_of(b"".join(blobs[:8]))
        true = request(whole, *map(digest_of, blobs[:8]))
        wait_until(lambda: self.peer.status(SPLICE, true) == "OK", "the end of the debt")

    def test_streams_that_stand_still_keep_nobody_out(self):
        chunk = self.peer.put(os.urandom(MIB))
        ends = threading.Event()

        def still():
            yield request(named(some_hash(), 4 * MIB), chunk)
            ends.wait(60)

        with Peer(self.system.address) as attacker:
            calls = [attacker.channel.stream_unary(REGISTER).future(still(), timeout=60)
                     for _ in range(200)]
            for _ in range(5):
                self.still_works()
            ends.set()
            for call in calls:
                call.cancel()


class DebtTest(Chunks):
    """What is copied in vain has a bound for each host, and for what shows at once there is no
    copying. Of the one that copies the other would know: a host that owes too much is refused."""
    args = ("--data-size", "4G", "--promise", "0")
    MAX, PER_S = 256 * MIB, 16 * MIB  # DEBTS_MAX, DEBTS_PER_S

    def setUp(self):
        super().setUp()
        self.chunk = self.peer.put(os.urandom(MIB))

    def test_lies_are_copied_up_to_a_bound_by_whatever_connection(self):
        began = time.monotonic()
        found = collections.Counter()
        for i in range(60):
            with Peer(self.system.address) as peer:
                lie = request(named(some_hash(), 40 * MIB), *[self.chunk] * 40)
                if i % 2:
                    found[peer.status(SPLICE, lie)] += 1
                else:
                    found[self.register(lie, peer=peer)] += 1
        copied = found.pop("INVALID_ARGUMENT") * 40 * MIB
        self.assertEqual(list(found), ["RESOURCE_EXHAUSTED"])
        seconds = time.monotonic() - began
        self.assertLessEqual(copied, self.MAX + seconds * self.PER_S + 40 * MIB)
        # who sends bytes themselves is not concerned, nor who names what is there
        self.peer.put(os.urandom(2 * MIB))
        self.assertEqual(self.peer.status(SPLICE, request(self.chunk, self.chunk)), "OK")

    def test_what_shows_at_once_is_not_copied(self):
        absent = named(some_hash(), MIB)
        for _ in range(30):
            blob = named(some_hash(), 61 * MIB)
            lacks = request(blob, *[self.chunk] * 60, absent)
            self.assertEqual(self.peer.status(SPLICE, lacks), "NOT_FOUND")
            self.assertEqual(self.register(lacks), "NOT_FOUND")
            short = request(blob, *[self.chunk] * 60)
            self.assertEqual(self.peer.status(SPLICE, short), "INVALID_ARGUMENT")
        self.still_works()

    def written(self):
        """Bytes that the server has handed to write(2) so far."""
        text = pathlib.Path(f"/proc/{self.system.server.pid}/io").read_text()
        return int(text.split("wchar: ")[1].split()[0])

    def test_who_leaves_before_the_end_owes_it_too(self):
        for _ in range(40):
            before = self.written()
            leaves = threading.Event()

            def messages(leaves=leaves):
                yield request(named(some_hash(), 61 * MIB), *[self.chunk] * 60)
                leaves.wait(60)
            call = self.peer.channel.stream_unary(REGISTER).future(messages(), timeout=60)
            wait_until(lambda: call.done() or self.written() - before >= 60 * MIB, "the copies")
            refused = call.done()
            leaves.set()
            call.cancel()
            if refused:
                break
        self.assertTrue(refused)
        self.assertEqual(call.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)


class PromiseTest(Chunks):
    args = ("--data-size", "24M")

    def test_what_is_promised_is_not_evicted_for_a_splice(self):
        blobs = [os.urandom(MIB) for _ in range(18)]
        self.peer.put(*blobs)
        whole = digest_of(b"".join(blobs[:6]))
        self.assertEqual(
            self.peer.status(SPLICE, request(whole, *map(digest_of, blobs[:6]))),
            "RESOURCE_EXHAUSTED")
        self.assertEqual(self.missing(*map(digest_of, blobs)), 0)
        self.assertEqual(self.missing(whole), 1)


if __name__ == "__main__":
    unittest.main()
