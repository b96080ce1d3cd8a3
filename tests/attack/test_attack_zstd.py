"""Compressed uploads and reads, byte by byte: bombs and windows are bounded in memory, what is no
frame is refused, what is one in any form is taken, and digests are those of the blob."""
import collections
import hashlib
import itertools
import os
import pathlib
import subprocess
import tempfile
import threading
import time
import unittest
import uuid

import grpc

from attack import (REAPI, Hostile, Peer, data, digest_of, field, fields, is_sanitized, number,
                    peak_rss, varint)
from system import BIN, System, need_root, wait_until
import frames

CAS = REAPI + "ContentAddressableStorage/"
READ = "/google.bytestream.ByteStream/Read"
WRITE = "/google.bytestream.ByteStream/Write"
QUERY = "/google.bytestream.ByteStream/QueryWriteStatus"
MIB = 1 << 20


def unique_text(n_lines=20000):
    seed = uuid.uuid4().hex
    return b"".join(f"{seed} line {i}\n".encode() for i in range(n_lines))


def name_of(content, size=None, compressor="zstd"):
    hash_ = hashlib.sha256(content).hexdigest()
    return (f"uploads/{uuid.uuid4()}/compressed-blobs/{compressor}/{hash_}/"
            f"{len(content) if size is None else size}")


def requests(name, sent, chunk=MIB, offset=0, is_whole=True):
    for at in range(0, max(len(sent), 1), chunk):
        yield ((data(1, name) if not at else b"") + number(2, offset + at)
               + number(3, int(is_whole and at + chunk >= len(sent)))
               + data(10, sent[at:at + chunk]))


class ZstdTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System(["--compression", "always"])

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def setUp(self):
        self.peer = Peer(self.system.address)

    def tearDown(self):
        self.peer.close()
        self.assertIsNone(self.system.server.popen.poll(), self.system.server.err()[-2000:])

    def write(self, name, sent, **kwargs):
        """(status, committed size or text)."""
        try:
            reply = self.peer.client_stream(WRITE, requests(name, sent, **kwargs))
            size = field(reply, 1, 0)
            return "OK", size - (1 << 64) if size >> 63 else size
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def read(self, content, offset=0, limit=0, kind="compressed-blobs/zstd"):
        """What comes, not decompressed; raises."""
        hash_ = hashlib.sha256(content).hexdigest()
        request = data(1, f"{kind}/{hash_}/{len(content)}") + number(2, offset) + number(3, limit)
        return b"".join(field(message, 10, b"")
                        for message in self.peer.server_stream(READ, request))

    def is_there(self, content):
        reply = self.peer.call(CAS + "FindMissingBlobs", data(2, digest_of(content)))
        return not any(n == 2 for n, _ in fields(reply))

    def assert_refused(self, name, sent, content, status="INVALID_ARGUMENT", word="", **kwargs):
        found, text = self.write(name, sent, **kwargs)
        self.assertEqual(found, status, text)
        self.assertIn(word, text)
        self.assertFalse(self.is_there(content))

    # ---- what is taken

    def test_upload_is_verified_and_its_size_is_that_of_the_frames(self):
        content = unique_text()
        sent = frames.compress(content)
        self.assertEqual(self.write(name_of(content), sent, chunk=1000), ("OK", len(sent)))
        self.assertEqual(self.read(content, kind="blobs"), content)

    def test_upload_of_what_is_there_ends_early_with_minus_one(self):
        content = unique_text()
        self.peer.put(content)
        self.assertEqual(self.write(name_of(content), frames.compress(content)), ("OK", -1))
        # whatever was meant to come
        self.assertEqual(self.write(name_of(content), b"no frame"), ("OK", -1))

    def test_every_form_of_frames_is_taken(self):
        content = unique_text()
        half = len(content) // 2
        forms = [frames.compress(content, level) for level in (-5, 1, 19)]
        forms.append(frames.compress(content[:half]) + frames.compress(content[half:]))
        forms.append(b"".join(frames.compress(content[at:at + 5000])
                              for at in range(0, len(content), 5000)))
        forms.append(frames.skipped(b"to whom it may concern") + frames.compress(content)
                     + frames.compress(b"") + frames.skipped(b""))
        for i, sent in enumerate(forms):
            with self.subTest(i):
                # one more byte makes another blob, which no form before has brought
                other = content + bytes([i])
                self.assertEqual(
                    self.write(name_of(other), sent + frames.compress(bytes([i])), chunk=777)[0],
                    "OK")
                self.assertTrue(self.is_there(other))

    def test_frames_without_a_size_are_taken_up_to_a_window_of_8_MiB(self):
        for log in (17, 20, 23):
            content = b"b" * frames.BLOCK * (log - 15)
            self.assertEqual(
                self.write(name_of(content), frames.repeated(log - 15, log))[0], "OK")

    def test_upload_goes_on_within_a_frame(self):
        content = unique_text(200000)
        name, sent = name_of(content), frames.compress(content)
        cut = len(sent) // 2 + 1
        self.assertEqual(self.write(name, sent[:cut], is_whole=False), ("OK", cut))
        reply = self.peer.call(QUERY, data(1, name))
        self.assertEqual((field(reply, 1), field(reply, 2, 0)), (cut, 0))
        self.assertEqual(self.write(name, sent[cut:], offset=cut), ("OK", len(sent)))
        self.assertTrue(self.is_there(content))
        self.assertEqual(field(self.peer.call(QUERY, data(1, name)), 2), 1)

    # ---- what is refused

    def test_other_bytes_are_refused(self):
        content = unique_text()
        self.assert_refused(name_of(content), frames.compress(content[:-1] + b"?"), content)

    def test_frame_that_is_cut_is_refused(self):
        content = unique_text()
        sent = frames.compress(content)
        for n in (1, 4, len(sent) // 2):
            self.assert_refused(name_of(content), sent[:-n], content)

    def test_bytes_behind_the_frames_are_refused(self):
        content = unique_text()
        for garbage in (b"x", b"(", bytes(4), b"\x27\xb5\x2f\xfd", frames.compress(b"x")):
            self.assert_refused(name_of(content), frames.compress(content) + garbage, content)

    def test_wrong_sizes_are_refused(self):
        content = unique_text()
        for size in (1, len(content) - 1, len(content) + 1):
            self.assert_refused(name_of(content, size), frames.compress(content), content)

    def test_what_is_no_frame_is_refused(self):
        content = unique_text()
        self.assert_refused(name_of(content), content, content, word="no zstd frames")
        self.assert_refused(name_of(content), b"", content)

    def test_compressors_that_are_not_offered_are_refused(self):
        content = unique_text()
        for compressor in ("deflate", "brotli", "identity", "ZSTD", "zstd2"):
            self.assert_refused(name_of(content, compressor=compressor), b"x", content,
                                word="compressor")
        with self.assertRaises(grpc.RpcError) as caught:
            self.read(content, kind="compressed-blobs/brotli")
        self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        reply = self.peer.call(CAS + "BatchUpdateBlobs", data(
            2, digest_entry(content) + data(2, content) + number(3, 3)))
        self.assertEqual(status_codes(reply), [3])

    # ---- what takes memory

    def test_bomb_is_stopped_at_what_was_declared(self):
        before = peak_rss(self.system.server.pid)
        content = unique_text(10)
        bomb = frames.repeated(50000)  # 200 KB for 6.5 GB
        for size in (1, 100000, 2 * MIB):
            self.assert_refused(name_of(content, size), bomb, content, word="more than")
        if not is_sanitized():
            self.assertLess(peak_rss(self.system.server.pid) - before, 64 * MIB)

    def test_bomb_of_what_was_declared_ends_with_its_digest(self):
        size = 16 * MIB if is_sanitized() else 64 * MIB
        content = unique_text(10)
        self.assert_refused(name_of(content, size), frames.repeated(size // frames.BLOCK), content)

    def test_frames_that_come_to_nothing_end_at_last(self):
        content = unique_text(10)
        for nothing in (frames.compress(b""), frames.skipped(b""), frames.skipped(bytes(1000))):
            self.assert_refused(name_of(content), nothing * (MIB // len(nothing)), content,
                                word="is not sent as more than", chunk=50000)

    def test_window_that_is_too_large_is_refused(self):
        content = unique_text(10)
        for log in (24, 27, 31, 41):
            self.assert_refused(name_of(content, 100 * MIB), frames.repeated(1, log), content,
                                word="more than 8 MiB")

    def test_windows_of_uploads_that_stand_still_are_bounded(self):
        n, window = (60, 23)
        before = peak_rss(self.system.server.pid)
        sent = frames.repeated(72, window, is_whole=False)  # 9 MiB, so that the window is full
        closed, calls = threading.Event(), []

        def half(name):
            yield data(1, name) + data(10, sent)
            closed.wait(60)

        attacker = Peer(self.system.address)
        try:
            for i in range(n):
                content = b"half %d" % i
                calls.append(attacker.channel.stream_unary(WRITE).future(
                    half(name_of(content, 100 * MIB)), timeout=60))
            wait_until(lambda: sum(c.done() for c in calls) >= n - 31,
                       "uploads that were refused the memory of their windows")
            self.assertEqual({c.code() for c in calls if c.done()},
                             {grpc.StatusCode.RESOURCE_EXHAUSTED})
            # the attacker has most, and gives way
            content = unique_text()
            self.assertEqual(self.write(name_of(content), frames.compress(content))[0], "OK")
            if not is_sanitized():
                self.assertLess(peak_rss(self.system.server.pid) - before, 400 * MIB)
        finally:
            closed.set()
            for call in calls:
                call.cancel()
            attacker.close()

    # ---- reading

    def test_read_at_an_offset_of_the_blob(self):
        content = unique_text(200000)
        self.peer.put(content)
        for offset in (0, 1, 12345, MIB, len(content) - 1, len(content)):
            sent = self.read(content, offset)
            self.assertEqual(frames.decompress(sent, len(content)), content[offset:])
            self.assertLess(len(sent), 100 + (len(content) - offset) / 3)
            self.assertTrue(sent)

    def test_read_has_no_limit_and_no_offset_outside(self):
        content = unique_text()
        self.peer.put(content)
        for offset, limit, code in ((0, 1, "INVALID_ARGUMENT"), (len(content) + 1, 0, "OUT_OF_RANGE"),
                                    (0, (1 << 64) - 1, "OUT_OF_RANGE"),
                                    ((1 << 64) - 1, 0, "OUT_OF_RANGE")):
            with self.assertRaises(grpc.RpcError) as caught:
                self.read(content, offset, limit)
            self.assertEqual(caught.exception.code().name, code)

    def test_read_of_the_empty_blob_is_a_frame(self):
        self.assertEqual(frames.decompress(self.read(b""), 0), b"")
        self.assertTrue(self.read(b""))

    def test_read_of_what_does_not_shrink_costs_less_than_a_hundredth(self):
        content = bytes(hashlib.sha256(b"%d" % i).digest()[j] for i in range(40000)
                        for j in range(32))
        self.peer.put(content)
        sent = self.read(content)
        self.assertEqual(frames.decompress(sent, len(content)), content)
        self.assertLess(len(sent), len(content) * 1.01)

    # ---- batches

    def batch(self, *entries):
        reply = self.peer.call(CAS + "BatchUpdateBlobs", b"".join(data(2, e) for e in entries))
        return status_codes(reply)

    def test_batch_takes_frames_each_by_itself(self):
        texts = [unique_text(100) for _ in range(6)]
        entries = [
            digest_entry(texts[0]) + data(2, frames.compress(texts[0])) + number(3, 1),
            digest_entry(texts[1]) + data(2, texts[1]),
            digest_entry(texts[2]) + data(2, texts[2]) + number(3, 1),  # no frame
            digest_entry(texts[3]) + data(2, frames.compress(texts[3])),  # no blob
            digest_entry(texts[4]) + data(2, frames.compress(texts[4])[:-1]) + number(3, 1),
            digest_entry(texts[5]) + data(2, frames.compress(texts[5][:50])
                                          + frames.compress(texts[5][50:])) + number(3, 1)]
        self.assertEqual(self.batch(*entries), [0, 0, 3, 3, 3, 0])
        self.assertEqual([self.is_there(t) for t in texts], [True, True, False, False, False, True])

    def test_batch_is_as_large_as_what_is_in_it(self):
        # a thousand of a few bytes that come to 128 KB each are over the limit
        content = b"b" * frames.BLOCK
        entry = digest_entry(content) + data(2, frames.repeated(1)) + number(3, 1)
        self.assertEqual(self.peer.status(CAS + "BatchUpdateBlobs", data(2, entry) * 1000),
                         "INVALID_ARGUMENT")
        self.assertEqual(self.batch(entry), [0])
        huge = data(1, data(1, hashlib.sha256(b"h").hexdigest()) + number(2, 1 << 50))
        self.assertEqual(self.peer.status(CAS + "BatchUpdateBlobs", data(
            2, huge + data(2, frames.repeated(1)) + number(3, 1))), "INVALID_ARGUMENT")

    def answers(self, *contents, acceptable=b""):
        reply = self.peer.call(CAS + "BatchReadBlobs", b"".join(
            data(2, digest_of(c)) for c in contents) + acceptable)
        return [(field(v, 4, 0), field(v, 2, b"")) for n, v in fields(reply) if n == 1]

    def test_batch_read_compresses_what_shrinks_for_who_takes_it(self):
        text, short = unique_text(1000), unique_text(1)
        noise = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(300))
        self.peer.put(text, short, noise)
        packed, one_by_one = data(3, varint(1)), number(3, 1)
        for acceptable in (packed, one_by_one, data(3, varint(3) + varint(1))):
            (how, sent), *rest = self.answers(text, short, noise, b"", acceptable=acceptable)
            self.assertEqual(how, 1)
            self.assertLess(len(sent), len(text) / 3)
            self.assertEqual(frames.decompress(sent, len(text)), text)
            self.assertEqual(rest, [(0, short), (0, noise), (0, b"")])
        for acceptable in (b"", number(3, 0), number(3, 3)):
            self.assertEqual(self.answers(text, acceptable=acceptable), [(0, text)])

    def test_zstd_is_announced_first(self):
        cache = field(self.peer.call(REAPI + "Capabilities/GetCapabilities", b""), 1)
        self.assertEqual([v for n, v in fields(cache) if n in (6, 7)], [b"\1", b"\1"])


class PlainTest(unittest.TestCase):
    """A server that was told to offer none."""

    def test_nothing_is_announced_and_nothing_taken(self):
        need_root()
        system = System(["--compression", "never"])
        try:
            with Peer(system.address) as peer:
                cache = field(peer.call(REAPI + "Capabilities/GetCapabilities", b""), 1)
                self.assertEqual([v for n, v in fields(cache) if n in (6, 7)], [])
                content = unique_text()
                with self.assertRaises(grpc.RpcError) as caught:
                    peer.client_stream(WRITE, requests(name_of(content),
                                                       frames.compress(content)))
                self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
                peer.put(content)
                reply = peer.call(CAS + "BatchReadBlobs", data(2, digest_of(content))
                                  + number(3, 1))
                self.assertEqual(field(field(reply, 1), 4, 0), 0)
        finally:
            system.close()


class HostileServerTest(unittest.TestCase):
    """A server that announces zstd and then sends what no blob becomes."""

    def read(self, size, sent, calls):
        """What the client makes of it, which asks for a blob of that size: (code, what it said,
        bytes of memory)."""
        def batch(request, context):
            wanted = field(request, 2)
            return data(1, data(1, wanted) + data(2, sent) + number(4, 1))

        def stream(request, context):
            calls.append(field(request, 1))
            yield data(10, sent)

        def capabilities(request, context):
            return data(1, data(6, varint(1)) + data(7, varint(1)) + number(4, 4 * MIB))

        server = Hostile({REAPI + "Capabilities/GetCapabilities": capabilities,
                          CAS + "BatchReadBlobs": batch, READ: stream})
        self.addCleanup(server.close)
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        with open(pathlib.Path(home.name) / "err", "wb") as err:
            client = subprocess.Popen(
                [BIN / "lazyroot", "download", f"{'ab' * 32}/{size}",
                 pathlib.Path(home.name) / "out"],
                stdout=err, stderr=err, stdin=subprocess.DEVNULL,
                env={**os.environ, "LAZYROOT_SERVER": server.address,
                     "XDG_CACHE_HOME": home.name})
            _, status, usage = os.wait4(client.pid, 0)
            client.returncode = os.waitstatus_to_exitcode(status)
        self.assertFalse((pathlib.Path(home.name) / "out").exists())
        return (client.returncode, (pathlib.Path(home.name) / "err").read_text(),
                usage.ru_maxrss << 10)

    def test_client_makes_no_more_of_frames_than_it_asked_for(self):
        sizes = (100000, 20 * MIB)  # by batch, and by stream
        bad = (frames.repeated(50000), frames.repeated(1, 31), b"no frame", b"",
               frames.compress(b"x" * 5000)[:-3])
        for size in sizes:
            for sent in bad:
                with self.subTest(size=size, sent=sent[:10]):
                    calls = []
                    code, text, memory = self.read(size, sent, calls)
                    self.assertEqual(code, 1, text)
                    self.assertIn(f"{'ab' * 32}/{size}", text)
                    self.assertTrue(all(b"compressed-blobs/zstd/" in c for c in calls))
                    if not is_sanitized():
                        self.assertLess(memory, 200 * MIB)


def digest_entry(content):
    return data(1, digest_of(content))


def status_codes(reply):
    """Of the responses of a BatchUpdateBlobs, in order."""
    return [field(field(value, 2, b""), 1, 0) for n, value in fields(reply) if n == 1]


class RoomTest(unittest.TestCase):
    """Frames that become far more bytes than they are: whoever sends them has paid for none."""

    def start(self, size):
        need_root()
        self.system = System(["--compression", "always", "--data-size", size, "--promise", "0"])
        self.addCleanup(self.system.close)
        self.peer = Peer(self.system.address)
        self.addCleanup(self.peer.close)

    def write(self, name, sent, peer=None):
        try:
            (peer or self.peer).client_stream(WRITE, requests(name, sent))
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def missing(self, blobs):
        reply = self.peer.call(REAPI + "ContentAddressableStorage/FindMissingBlobs",
                               b"".join(data(2, digest_of(blob)) for blob in blobs))
        return sum(n == 2 for n, _ in fields(reply))

    def test_lies_evict_nothing_and_what_is_true_takes_its_place(self):
        self.start("100M")
        blobs = [os.urandom(MIB) for _ in range(78)]
        self.peer.put(*blobs)
        self.assertEqual(self.missing(blobs), 0)
        zeros = bytes(60 * MIB)
        for _ in range(3):
            lie = name_of(os.urandom(20), size=len(zeros))
            self.assertIn(self.write(lie, frames.compress(zeros))[0],
                          ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"))
        self.assertEqual(self.missing(blobs), 0)
        true = bytes(10 * MIB)
        self.assertEqual(self.write(name_of(true), frames.compress(true)), ("OK", ""))
        # what did cost something is granted room, as its bytes would be
        text = os.urandom(15 * MIB).hex().encode()
        self.assertEqual(self.write(name_of(text), frames.compress(text)), ("OK", ""))
        self.assertEqual(self.missing([true, text]), 0)

    def test_lies_are_taken_up_to_a_bound_by_whatever_connection(self):
        self.start("4G")
        sent = frames.compress(bytes(40 * MIB))
        began = time.monotonic()
        found = collections.Counter()
        for i in range(40):
            with Peer(self.system.address) as peer:
                lie = name_of(os.urandom(20), size=40 * MIB)
                if i % 2:
                    found[self.write(lie, sent, peer)[0]] += 1
                    continue
                # left just before its end: it may be gone on with, and its bytes stay
                self.assertRaises(grpc.RpcError, peer.client_stream, WRITE,
                                  itertools.chain(requests(lie, sent, is_whole=False),
                                                  [data(1, "another name")]))
        taken = found["INVALID_ARGUMENT"] * 40 * MIB
        self.assertEqual(set(found), {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"})
        seconds = time.monotonic() - began
        self.assertLessEqual(taken, (256 + 16 * seconds + 40) * MIB)  # DEBTS_MAX, DEBTS_PER_S
        text = unique_text()
        self.assertEqual(self.write(name_of(text), frames.compress(text)), ("OK", ""))


if __name__ == "__main__":
    unittest.main(verbosity=2)
