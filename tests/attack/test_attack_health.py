"""grpc.health.v1: what serves and what does not, whom it is open to, and watches that nobody
reads."""
import unittest

import grpc

from attack import Peer, data, field
from system import System, need_root

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
FETCH = "build.bazel.remote.asset.v1.Fetch"
SERVICES = [
    FETCH, "build.bazel.remote.asset.v1.Push", "build.bazel.remote.execution.v2.ActionCache",
    "build.bazel.remote.execution.v2.Capabilities",
    "build.bazel.remote.execution.v2.ContentAddressableStorage",
    "build.bazel.remote.execution.v2.Execution",
    "build.bazel.remote.logstream.v1.LogStreamService", "google.bytestream.ByteStream",
    "google.devtools.remoteworkers.v1test2.Bots", "google.longrunning.Operations",
    "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
]


class HealthTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.system = None

    def tearDown(self):
        self.system.close()

    def open(self, *args):
        self.system = System(args)
        return Peer(self.system.address)

    def watch(self, peer, service=""):
        return peer.server_stream(WATCH, data(1, service), timeout=300)

    def test_every_service_serves_and_others_are_unknown(self):
        with self.open() as peer:
            for service in ["", *SERVICES]:
                with self.subTest(service=service):
                    self.assertEqual(field(peer.call(CHECK, data(1, service)), 1), SERVING)
            for service in ("nothing", "build.bazel.remote.execution.v2", "/", FETCH + "."):
                status, text = peer.refusal(CHECK, data(1, service))
                self.assertEqual(status, "NOT_FOUND")
                self.assertIn(service, text)

    def test_service_that_is_turned_off_is_unknown(self):
        with self.open("--no-assets") as peer:
            self.assertEqual(peer.status(CHECK, data(1, FETCH)), "NOT_FOUND")
            self.assertEqual(peer.status("/" + FETCH + "/FetchBlob", b""), "UNIMPLEMENTED")
            self.assertEqual(field(peer.call(CHECK, b""), 1), SERVING)

    def test_check_is_open_and_watch_is_not(self):
        with self.open("--grant", "cn:somebody=all") as peer:
            self.assertEqual(field(peer.call(CHECK, b""), 1), SERVING)
            with self.assertRaises(grpc.RpcError) as caught:
                next(self.watch(peer))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.PERMISSION_DENIED)

    def test_watch_says_that_the_server_ends(self):
        with self.open() as peer:
            known, unknown = self.watch(peer), self.watch(peer, "nothing")
            self.assertEqual(field(next(known), 1), SERVING)
            self.assertEqual(field(next(unknown), 1), SERVICE_UNKNOWN)
            self.assertEqual(self.system.server.stop(), 0)
            self.assertEqual([field(m, 1) for m in known], [NOT_SERVING])
            self.assertEqual([field(m, 1) for m in unknown], [NOT_SERVING])

    def test_watches_that_nobody_reads_hurt_nobody(self):
        self.open().close()
        peers = [Peer(self.system.address) for _ in range(4)]
        calls = [self.watch(peers[i % 4], "x" * 1000) for i in range(1200)]
        for call in calls[::100]:
            self.assertEqual(field(next(call), 1), SERVICE_UNKNOWN)
        with Peer(self.system.address) as other:
            for _ in range(20):
                self.assertEqual(field(other.call(CHECK, b""), 1), SERVING)
        for call in calls[::3]:
            call.cancel()
        self.assertEqual(self.system.server.stop(), 0)
        for peer in peers:
            peer.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
