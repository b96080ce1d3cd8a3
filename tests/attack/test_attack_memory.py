"""What clients make the server keep: results, answers that nobody reads, requests at once. The
figures are generous; without the limits each is passed several times over."""
import hashlib
import os
import threading
import unittest

import grpc

from attack import REAPI, Peer, data, digest, field, fields, is_sanitized, number, peak_rss
from system import System, need_root

CAS = REAPI + "ContentAddressableStorage/"
CACHE = REAPI + "ActionCache/"
OPERATIONS = "/google.longrunning.Operations/"
READ = "/google.bytestream.ByteStream/Read"


def digest_of(content):
    return f"{hashlib.sha256(content).hexdigest()}/{len(content)}"


def put(peer, content):
    reply = peer.call(CAS + "BatchUpdateBlobs", data(
        2, data(1, digest(digest_of(content))) + data(2, content)))
    assert field(field(field(reply, 1), 2, b""), 1, 0) == 0
    return digest_of(content)


class MemoryTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.system = System(["--grant", "local=all"])
        self.peer = Peer(self.system.address)

    def tearDown(self):
        self.assertIsNone(self.system.server.popen.poll(), self.system.server.err()[-2000:])
        self.assertEqual(self.peer.status(CAS + "FindMissingBlobs", b""), "OK")
        self.peer.close()
        self.system.close()

    def assert_rss_below(self, limit):
        if not is_sanitized():
            self.assertLess(peak_rss(self.system.server.pid), limit)

    def cached_action(self, i, n_bytes):
        """An action whose cached result has so much stdout in it."""
        command = put(self.peer, data(1, "true"))
        action = put(self.peer, data(1, digest(command)) + data(2, digest(put(self.peer, b"x"))) +
                     data(10, data(1, data(1, "nobody") + data(2, str(i)))))
        self.peer.call(CACHE + "UpdateActionResult", data(2, digest(action)) +
                       data(3, data(5, bytes([i]) * n_bytes)))
        return action

    def execute(self, action):
        """The last operation of the stream."""
        return list(self.peer.server_stream(REAPI + "Execution/Execute",
                                            data(6, digest(action)) + data(7, b"")))[-1]

    def test_completed_operations_are_kept_by_bytes(self):
        for i in range(40):
            operation = self.execute(self.cached_action(i, 7 << 20))
            self.assertGreater(len(operation), 7 << 20)
        self.assert_rss_below(500 << 20)

    def test_list_of_operations_with_large_results_is_paged(self):
        names = [field(self.execute(self.cached_action(i, 7 << 20)), 1) for i in range(6)]
        names += [field(self.execute(self.cached_action(9, 60_000)), 1) for _ in range(60)]
        token, seen = b"", []
        while True:
            page = self.peer.call(OPERATIONS + "ListOperations",
                                  number(2, 1000) + data(3, token))
            self.assertLess(len(page), 4 << 20)
            seen += [field(v, 1) for n, v in fields(page) if n == 1]
            token = field(page, 2, b"")
            if not token:
                break
        self.assertEqual(sorted(seen), sorted(names))
        whole = self.peer.call(OPERATIONS + "GetOperation", data(1, names[5]))
        self.assertGreater(len(whole), 7 << 20)

    def test_result_that_no_message_holds_is_refused(self):
        action = digest_of(b"no matter")
        status = self.peer.status(CACHE + "UpdateActionResult", data(2, digest(action)) +
                                  data(3, data(5, b"x" * ((16 << 20) - 4096))))
        self.assertEqual(status, "RESOURCE_EXHAUSTED")

    def test_reads_that_nobody_reads(self):
        name = "blobs/" + put(self.peer, os.urandom(3 << 20))
        peers = [Peer(self.system.address) for _ in range(10)]
        calls = [peers[i % 10].server_stream(READ, data(1, name)) for i in range(600)]
        # one that is read gets through beside them
        self.assertEqual(sum(len(m) for m in self.peer.server_stream(
            READ, data(1, name))) // (3 << 20), 1)
        self.assert_rss_below(500 << 20)
        for call in calls:
            call.cancel()
        for peer in peers:
            peer.close()

    def test_large_requests_at_once_leave_others_their_turn(self):
        request = b"".join(data(2, digest(f"{i:064x}/1234")) for i in range(100_000))
        peers = [Peer(self.system.address) for _ in range(4 if is_sanitized() else 20)]
        calls = [peer.channel.unary_unary(CAS + "FindMissingBlobs").future(request, timeout=60)
                 for peer in peers for _ in range(3)]
        for _ in range(20):
            put(self.peer, os.urandom(100))
        for call in calls:
            try:
                self.assertEqual(len(call.result()), len(request))
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assert_rss_below(1000 << 20)
        for peer in peers:
            peer.close()

    def test_calls_that_never_send_their_request_block_nobody(self):
        ended = threading.Event()

        def nothing():
            ended.wait(30)
            yield b""
        peers = [Peer(self.system.address) for _ in range(8)]
        for peer in peers:
            for _ in range(60):
                peer.channel.stream_unary(CAS + "FindMissingBlobs").future(nothing(), timeout=30)
        for _ in range(20):
            with Peer(self.system.address) as other:
                put(other, os.urandom(100))
        ended.set()
        for peer in peers:
            peer.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
