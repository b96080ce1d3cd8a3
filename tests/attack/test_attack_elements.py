"""Every method with every field that can be repeated, repeated up to the size of a message:
each call ends with an answer or a status, and the server serves on in bounded memory."""
import unittest

import grpc

from attack import BOTS, MESSAGE_MAX, REAPI, Peer, data, digest, is_sanitized, peak_rss
from system import System, need_root

CAS = REAPI + "ContentAddressableStorage/"
CACHE = REAPI + "ActionCache/"
OPERATIONS = "/google.longrunning.Operations/"
ASSET = "/build.bazel.remote.asset.v1."
BYTES = "/google.bytestream.ByteStream/"
DIGEST = digest("ab" * 32 + "/1234")
EMPTY = digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0")
SLACK = 4096  # for the frame, and for what stands around the elements

# method, kind, what comes first, the fields around the elements, from outside to inside
METHODS = {
    "FindMissingBlobs": (CAS + "FindMissingBlobs", "unary", b"", ()),
    "BatchUpdateBlobs": (CAS + "BatchUpdateBlobs", "unary", b"", ()),
    "BatchUpdateBlobs.requests": (CAS + "BatchUpdateBlobs", "unary", b"", (2,)),
    "BatchReadBlobs": (CAS + "BatchReadBlobs", "unary", b"", ()),
    "GetTree": (CAS + "GetTree", "stream", data(2, EMPTY), ()),
    "GetActionResult": (CACHE + "GetActionResult", "unary", data(2, DIGEST), ()),
    "UpdateActionResult": (CACHE + "UpdateActionResult", "unary", data(2, DIGEST), ()),
    "UpdateActionResult.result": (CACHE + "UpdateActionResult", "unary", data(2, DIGEST), (3,)),
    "UpdateActionResult.metadata": (CACHE + "UpdateActionResult", "unary", data(2, DIGEST),
                                    (3, 9)),
    "UpdateActionResult.properties": (CACHE + "UpdateActionResult", "unary", data(2, DIGEST),
                                      (3, 2, 7)),
    "Execute": (REAPI + "Execution/Execute", "stream", data(6, DIGEST), ()),
    "WaitExecution": (REAPI + "Execution/WaitExecution", "stream", b"", ()),
    "GetCapabilities": (REAPI + "Capabilities/GetCapabilities", "unary", b"", ()),
    "CreateBotSession": (BOTS + "CreateBotSession", "unary", b"", ()),
    "CreateBotSession.session": (BOTS + "CreateBotSession", "unary", b"", (2,)),
    "CreateBotSession.worker": (BOTS + "CreateBotSession", "unary",
                                data(2, data(2, "bot")), (2, 4)),
    "CreateBotSession.device": (BOTS + "CreateBotSession", "unary",
                                data(2, data(2, "bot")), (2, 4, 1)),
    "UpdateBotSession": (BOTS + "UpdateBotSession", "unary", data(1, "nobody"), ()),
    "UpdateBotSession.session": (BOTS + "UpdateBotSession", "unary", data(1, "nobody"), (2,)),
    "UpdateBotSession.lease": (BOTS + "UpdateBotSession", "unary", data(1, "nobody"), (2, 5)),
    "UpdateBotSession.mask": (BOTS + "UpdateBotSession", "unary", data(1, "nobody"), (3,)),
    "GetOperation": (OPERATIONS + "GetOperation", "unary", b"", ()),
    "ListOperations": (OPERATIONS + "ListOperations", "unary", b"", ()),
    "CancelOperation": (OPERATIONS + "CancelOperation", "unary", b"", ()),
    "FetchBlob": (ASSET + "Fetch/FetchBlob", "unary", data(4, "u"), ()),
    "FetchBlob.qualifiers": (ASSET + "Fetch/FetchBlob", "unary", data(4, "u"), (5,)),
    "FetchDirectory": (ASSET + "Fetch/FetchDirectory", "unary", data(4, "u"), ()),
    "PushBlob": (ASSET + "Push/PushBlob", "unary", data(2, "u") + data(5, DIGEST), ()),
    "PushDirectory": (ASSET + "Push/PushDirectory", "unary", data(2, "u") + data(5, DIGEST), ()),
    "CreateLogStream": ("/build.bazel.remote.logstream.v1.LogStreamService/CreateLogStream",
                        "unary", b"", ()),
    "Check": ("/grpc.health.v1.Health/Check", "unary", b"", ()),
    "Read": (BYTES + "Read", "stream", b"", ()),
    "QueryWriteStatus": (BYTES + "QueryWriteStatus", "unary", b"", ()),
    "Write": (BYTES + "Write", "writes", b"", ()),
}
N_FIELDS = 13  # the highest that any of these messages has, and one more


def repeated(element, around, head):
    """A message of MESSAGE_MAX bytes, or a little less."""
    body = element * ((MESSAGE_MAX - SLACK - len(head)) // len(element))
    for field in reversed(around):
        body = data(field, body)
    return head + body


class ElementsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System(["--grant", "local=all"])

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def tearDown(self):
        self.assertIsNone(self.system.server.popen.poll(), self.system.server.err()[-2000:])

    def ends(self, peer, method, kind, request):
        """The status a call ends with."""
        try:
            if kind == "unary":
                peer.call(method, request)
            elif kind == "stream":
                for _ in peer.server_stream(method, request):
                    pass
            else:
                peer.client_stream(method, iter([request]))
            return "OK"
        except grpc.RpcError as error:
            return error.code().name

    def sweep(self, make):
        """Each field of each method as make() gives its element."""
        for name, (method, kind, head, around) in METHODS.items():
            with Peer(self.system.address) as peer:
                for field in range(1, N_FIELDS + 1):
                    with self.subTest(method=name, field=field):
                        status = self.ends(peer, method, kind, repeated(make(field), around, head))
                        self.assertIsNone(self.system.server.popen.poll(),
                                          self.system.server.err()[-2000:])
                        self.assertNotIn(status, ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"))

    def test_empty_elements_of_every_field(self):
        self.sweep(lambda field: data(field, b""))
        if not is_sanitized():
            self.assertLess(peak_rss(self.system.server.pid), 600 << 20)

    def test_millions_are_refused_by_name(self):
        with Peer(self.system.address) as peer:
            for method, request in (
                    (CAS + "FindMissingBlobs", data(2, b"") * 4_300_000),
                    (CAS + "BatchReadBlobs", data(2, b"") * 4_300_000),
                    (CAS + "BatchUpdateBlobs", data(2, b"") * 4_300_000),
                    (CACHE + "GetActionResult", data(2, DIGEST) + data(5, b"") * 4_300_000),
                    (CACHE + "UpdateActionResult",
                     data(2, DIGEST) + data(3, data(2, b"") * 4_300_000)),
                    (BOTS + "CreateBotSession",
                     data(2, data(2, "b") + data(4, data(2, b"") * 4_300_000))),
                    (BOTS + "UpdateBotSession",
                     data(1, "nobody") + data(2, data(5, b"") * 2_800_000))):
                with self.subTest(method=method):
                    status, text = peer.refusal(method, request)
                    self.assertEqual(status, "RESOURCE_EXHAUSTED")
                    self.assertIn("elements", text)

    def test_session_is_asked_for_before_its_leases_are_looked_at(self):
        with Peer(self.system.address) as peer:
            status, text = peer.refusal(BOTS + "UpdateBotSession",
                                        data(1, "nobody") + data(2, data(5, b"") * 1000))
        self.assertEqual(status, "INVALID_ARGUMENT")
        self.assertIn("is unknown", text)

    def test_large_metadata_is_refused_and_the_connection_lives(self):
        with Peer(self.system.address) as peer:
            self.assertNotEqual(peer.status(
                REAPI + "Capabilities/GetCapabilities", b"",
                metadata=[("x-large", "a" * (1 << 20))]), "OK")
        with Peer(self.system.address) as peer:
            self.assertEqual(peer.status(REAPI + "Capabilities/GetCapabilities", b""), "OK")

    def test_compressed_messages_are_refused(self):
        with Peer(self.system.address, [("grpc.default_compression_algorithm", 2)]) as peer:
            status = peer.status(CAS + "FindMissingBlobs", data(2, DIGEST) * 100_000)
        self.assertNotEqual(status, "OK")
        if not is_sanitized():
            self.assertLess(peak_rss(self.system.server.pid), 600 << 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
