"""Uploads that are never finished: what they take is bounded, others still come in, and no
blob is evicted for them."""
import hashlib
import os
import pathlib
import threading
import time
import unittest
import uuid

import grpc

from attack import REAPI, Peer, data, digest, fields, is_sanitized, number
from system import BIN, Process, System, need_root, wait_until

CAS = REAPI + "ContentAddressableStorage/"
WRITE = "/google.bytestream.ByteStream/Write"
DATA_SIZE = 100 << 20


def write_request(content, name=None, offset=0, is_last=False):
    return ((data(1, name) if name else b"") + number(2, offset) + number(3, int(is_last)) +
            data(10, content))


def name_of(hash_, size):
    return f"uploads/{uuid.uuid4()}/blobs/{hash_}/{size}"


def put(peer, content):
    """A whole blob by Write: the status it ends with."""
    hash_ = hashlib.sha256(content).hexdigest()
    try:
        peer.client_stream(WRITE, iter([write_request(
            content, name_of(hash_, len(content)), is_last=True)]), timeout=60)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


class Half:
    """An upload that is begun and then stands still until it is closed, or is broken off."""

    def __init__(self, peer, content, breaks_off=False):
        self.closed = threading.Event()
        self.breaks_off = breaks_off
        hash_ = hashlib.sha256(os.urandom(16)).hexdigest()
        self.name = name_of(hash_, 80 << 20)
        self.call = peer.channel.stream_unary(WRITE).future(
            self.requests(content), timeout=300)

    def requests(self, content):
        yield write_request(content, self.name)
        if not self.breaks_off:
            self.closed.wait(300)

    def close(self):
        self.closed.set()
        self.call.cancel()


class UploadsTest(unittest.TestCase):
    n_descriptors = None

    def setUp(self):
        need_root()
        self.system = System(["--data-size", "100M", "--promise", "0"])
        if self.n_descriptors:
            self.restart_with_few_descriptors()
        self.halves = []

    def restart_with_few_descriptors(self):
        system = self.system
        system.server.stop()
        system.server = Process("server-few", [
            "prlimit", f"--nofile={self.n_descriptors}:{self.n_descriptors}",
            BIN / "lazyroot-server", "--listen", "grpc://127.0.0.1:0", "--data",
            system.dir / "data", *system.server_args], system.dir)
        system.processes.append(system.server)
        system.address = system.server.wait_line("listening on ").split(" ", 2)[2]

    def tearDown(self):
        self.assertIsNone(self.system.server.popen.poll(), self.system.server.err()[-2000:])
        for half in self.halves:
            half.close()
        self.system.close()

    def stored(self):
        """Bytes of the blobs; some may go while they are counted."""
        total = 0
        for path in (self.system.dir / "data/blobs").glob("*/*"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                pass
        return total

    def staged(self):
        """(number, bytes) of the files that the server writes and that have no name yet."""
        n = total = 0
        for path in pathlib.Path(f"/proc/{self.system.server.pid}/fd").iterdir():
            try:
                if str(self.system.dir / "data") in os.readlink(path):
                    status = os.stat(path)
                    if status.st_nlink == 0:
                        n += 1
                        total += status.st_size
            except FileNotFoundError:
                pass
        return n, total

    def test_bytes_of_half_uploads_stay_within_the_data_size_and_evict_nothing(self):
        blobs = [os.urandom(1 << 20) for _ in range(40)]
        hashes = [hashlib.sha256(b).hexdigest() for b in blobs]
        with Peer(self.system.address) as victim, Peer(self.system.address) as attacker:
            for blob in blobs:
                self.assertEqual(put(victim, blob), "OK")
            content = os.urandom(3 << 20)
            for i in range(60):
                self.halves.append(Half(attacker, content, breaks_off=i % 2 == 0))
            for half in self.halves[::2]:
                try:
                    half.call.result(120)
                except grpc.RpcError:
                    pass
            n, total = self.staged()
            self.assertLessEqual(total + len(blobs) * (1 << 20), DATA_SIZE)
            reply = victim.call(CAS + "FindMissingBlobs", b"".join(
                data(2, digest(f"{h}/{1 << 20}")) for h in hashes))
            self.assertEqual([v for n, v in fields(reply) if n == 2], [])
            # and there is room for others: the attacker gives way
            self.assertEqual(put(victim, os.urandom(2 << 20)), "OK")

    def missing(self, peer, blobs):
        reply = peer.call(CAS + "FindMissingBlobs", b"".join(
            data(2, digest(f"{hashlib.sha256(b).hexdigest()}/{len(b)}")) for b in blobs))
        return [v for n, v in fields(reply) if n == 2]

    def test_blob_that_can_never_fit_evicts_nothing(self):
        blobs = [os.urandom(8 << 20) for _ in range(10)]
        with Peer(self.system.address) as peer:
            for blob in blobs:
                self.assertEqual(put(peer, blob), "OK")
            hash_ = hashlib.sha256(b"never").hexdigest()
            with self.assertRaises(grpc.RpcError) as caught:
                peer.client_stream(WRITE, (write_request(
                    bytes(1 << 20), name_of(hash_, 200 << 20), i << 20) for i in range(200)))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertEqual(self.missing(peer, blobs), [])
        self.assertNotIn("evicted", self.system.server.err())

    def test_blob_as_large_as_the_store_takes_the_place_of_others(self):
        with Peer(self.system.address) as peer:
            for _ in range(11):
                self.assertEqual(put(peer, os.urandom(8 << 20)), "OK")
            for size in (60 << 20, 99 << 20):
                large = os.urandom(size)
                peer.put(large)
                time.sleep(1.5)  # what is over the limit goes in the background
                self.assertEqual(self.missing(peer, [large]), [])
            wait_until(lambda: self.stored() <= DATA_SIZE, "a store within its limit")
            # the next one takes its place
            self.assertEqual(put(peer, os.urandom(8 << 20)), "OK")
        log = self.system.server.err()
        self.assertIn("made room for the upload of", log)
        self.assertLessEqual(log.count("made room for the upload of"), 3)

    def test_many_half_uploads_refuse_nobody_else(self):
        peers = [Peer(self.system.address) for _ in range(3 if is_sanitized() else 11)]
        for peer in peers:
            self.halves += [Half(peer, b"x") for _ in range(400)]
        wait_until(lambda: self.staged()[0] >= 1000, "many uploads that stand still")
        with Peer(self.system.address) as victim:
            for _ in range(20):
                self.assertEqual(put(victim, os.urandom(1000)), "OK")
        self.assertLessEqual(self.staged()[0], 4096)
        for half in self.halves:
            half.close()
        for peer in peers:
            peer.close()

    def test_one_connection_has_a_share_of_the_uploads(self):
        with Peer(self.system.address) as peer:
            self.halves += [Half(peer, b"x") for _ in range(700)]
            wait_until(lambda: sum(h.call.done() for h in self.halves) >= 100,
                       "refusals of those over the share")
            codes = {h.call.code() for h in self.halves if h.call.done()}
            self.assertEqual(codes, {grpc.StatusCode.RESOURCE_EXHAUSTED})
            self.assertLessEqual(self.staged()[0], 512)
            for half in self.halves:
                half.close()


class FewDescriptorsTest(UploadsTest):
    n_descriptors = 1024

    # the tests above are not repeated here
    test_bytes_of_half_uploads_stay_within_the_data_size_and_evict_nothing = None
    test_one_connection_has_a_share_of_the_uploads = None
    test_blob_that_can_never_fit_evicts_nothing = None
    test_blob_as_large_as_the_store_takes_the_place_of_others = None

    def test_many_half_uploads_refuse_nobody_else(self):
        with Peer(self.system.address) as attacker:
            for _ in range(1100):
                half = Half(attacker, b"x", breaks_off=True)
                self.halves.append(half)
            for half in self.halves:
                try:
                    half.call.result(120)
                except grpc.RpcError:
                    pass
        for _ in range(20):  # connections, too
            with Peer(self.system.address) as victim:
                self.assertEqual(put(victim, os.urandom(1000)), "OK")


if __name__ == "__main__":
    unittest.main(verbosity=2)
