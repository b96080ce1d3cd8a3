"""Remote Asset: names are pushed and fetched, outlive the server, end with what they speak of;
and pushes that are too large, forbidden or at once."""
import hashlib
import os
import signal
import threading
import time
import unittest

import grpc

from attack import REAPI, Peer, data, digest_of, field, fields, number
from system import System, need_root, wait_until

ASSET = "/build.bazel.remote.asset.v1."
FETCH = {"blob": ASSET + "Fetch/FetchBlob", "directory": ASSET + "Fetch/FetchDirectory"}
PUSH = {"blob": ASSET + "Push/PushBlob", "directory": ASSET + "Push/PushDirectory"}
FIND_MISSING = REAPI + "ContentAddressableStorage/FindMissingBlobs"
URN = "urn:fdc:lazyroot.test:2026:"


def texts(number_, values):
    return b"".join(data(number_, v) for v in values)


def qualifiers(number_, pairs):
    return b"".join(data(number_, data(1, name) + data(2, value)) for name, value in pairs)


def timestamp(seconds, nanos=0):
    return number(1, int(seconds) % (1 << 64)) + (number(2, nanos) if nanos else b"")


def fetch_request(uris, pairs=(), instance="", oldest=None, extra=b""):
    return (data(1, instance) + (data(3, timestamp(oldest)) if oldest is not None else b"")
            + texts(4, uris) + qualifiers(5, pairs) + extra)


def push_request(uris, digest, pairs=(), instance="", expire=None, blobs=(), directories=(),
                 extra=b""):
    return (data(1, instance) + texts(2, uris) + qualifiers(3, pairs)
            + (data(4, timestamp(expire)) if expire is not None else b"")
            + data(5, digest) + texts(6, blobs) + texts(7, directories) + extra)


def directory(files=(), directories=()):
    """An encoded Directory of (name, digest)s."""
    return (b"".join(data(1, data(1, n) + data(2, d)) for n, d in files)
            + b"".join(data(2, data(1, n) + data(2, d)) for n, d in directories))


class AssetsCase(unittest.TestCase):
    args = ("--grant", "local=all", "--instance", "", "--instance", "some/where")

    def setUp(self):
        need_root()
        self.system = System(self.args)
        self.peer = Peer(self.system.address)

    def tearDown(self):
        self.peer.close()
        self.assertIsNone(self.system.server.popen.poll(), self.system.server.err()[-2000:])
        self.system.close()

    def push(self, uris, digest, kind="blob", **kwargs):
        self.peer.call(PUSH[kind], push_request(uris, digest, **kwargs))

    def fetch(self, uris, kind="blob", **kwargs):
        """The reply, or None where it is not found."""
        try:
            reply = self.peer.call(FETCH[kind], fetch_request(uris, **kwargs))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise
        self.assertEqual(field(field(reply, 1), 1, 0), 0)
        return reply

    def fetched(self, uris, kind="blob", **kwargs):
        """The digest, or None."""
        reply = self.fetch(uris, kind, **kwargs)
        return reply and field(reply, 5)

    def restart(self, number_=signal.SIGTERM, lost=()):
        """The server ends and starts again; the files of some blobs are gone by then."""
        self.peer.close()
        self.system.server.stop(number_)
        self.system.processes.remove(self.system.server)
        for blob in lost:
            hash_ = hashlib.sha256(blob).hexdigest()
            (self.system.dir / "data/blobs" / hash_[:2] / hash_).unlink()
        self.system.start_server()
        self.peer = Peer(self.system.address)


class AssetsTest(AssetsCase):
    def test_what_is_pushed_is_fetched_by_each_of_its_names(self):
        for kind, content in (("blob", b"a blob"),
                              ("directory", directory(files=[("f", digest_of(b"a blob"))]))):
            digest = self.peer.put(content)
            self.push([URN + "one", URN + "two"], digest, kind)
            for name in ("one", "two"):
                reply = self.fetch([URN + name], kind)
                self.assertEqual(field(reply, 5), digest)
                self.assertEqual(field(reply, 2).decode(), URN + name)
                self.assertIsNone(field(reply, 4))
                self.assertEqual(field(reply, 6), 1)  # SHA256
        self.assertIsNone(self.fetch([URN + "three"]))

    def test_a_tree_is_no_blob_and_a_blob_no_tree(self):
        digest = self.peer.put(b"x", directory(files=[("f", digest_of(b"x"))]))
        self.push([URN + "x"], digest, "directory")
        self.assertIsNone(self.fetch([URN + "x"]))
        self.assertEqual(self.fetched([URN + "x"], "directory"), digest)

    def test_uris_are_tried_in_order(self):
        first, second = self.peer.put(b"first"), self.peer.put(b"second")
        self.push([URN + "1"], first)
        self.push([URN + "2"], second)
        reply = self.fetch([URN + "0", URN + "2", URN + "1"])
        self.assertEqual(field(reply, 5), second)
        self.assertEqual(field(reply, 2).decode(), URN + "2")
        # one whose blob is gone is passed over
        self.restart(lost=[b"second"])
        self.assertEqual(self.fetched([URN + "0", URN + "2", URN + "1"]), first)

    def test_all_qualifiers_must_match_in_any_order(self):
        digest, other = self.peer.put(b"qualified"), self.peer.put(b"unqualified")
        pairs = [("resource_type", "application/x-git"), ("vcs.branch", "main"), ("empty", "")]
        self.push([URN + "q"], digest, pairs=pairs)
        reply = self.fetch([URN + "q"], pairs=pairs[::-1])
        self.assertEqual(field(reply, 5), digest)
        self.assertEqual(len([v for n, v in fields(reply) if n == 3]), 3)
        for wrong in ([], pairs[:2], pairs + [("more", "x")],
                      [pairs[0], ("vcs.branch", "other"), pairs[2]]):
            self.assertIsNone(self.fetch([URN + "q"], pairs=wrong))
        self.push([URN + "q"], other)
        self.assertEqual(self.fetched([URN + "q"]), other)
        self.assertEqual(self.fetched([URN + "q"], pairs=pairs), digest)

    def test_names_outlive_the_server(self):
        digest = self.peer.put(b"lasting")
        self.push([URN + "a"], digest, pairs=[("k", "v")])
        for number_ in (signal.SIGTERM, signal.SIGKILL):
            self.restart(number_)
            self.assertEqual(self.fetched([URN + "a"], pairs=[("k", "v")]), digest)

    def test_instances_share_no_names(self):
        digest = self.peer.put(b"here")
        self.push([URN + "a"], digest, instance="some/where")
        self.assertIsNone(self.fetch([URN + "a"]))
        self.assertEqual(self.fetched([URN + "a"], instance="some/where"), digest)
        status, text = self.peer.refusal(FETCH["blob"], fetch_request([URN + "a"], instance="no"))
        self.assertEqual(status, "INVALID_ARGUMENT")
        self.assertIn('"no"', text)

    def test_expired_names_are_not_found(self):
        digest = self.peer.put(b"short")
        soon = int(time.time()) + 3
        self.push([URN + "a"], digest, expire=soon)
        self.push([URN + "b"], digest, expire=1_000_000_000)
        self.push([URN + "c"], digest, expire=-5)
        self.push([URN + "d"], digest, expire=1 << 62)
        self.assertIsNone(self.fetch([URN + "b"]))
        self.assertIsNone(self.fetch([URN + "c"]))
        self.assertEqual(self.fetched([URN + "d"]), digest)
        reply = self.fetch([URN + "a"])
        if reply:  # unless three seconds went by
            self.assertEqual(field(field(reply, 4), 1), soon)
        wait_until(lambda: self.fetch([URN + "a"]) is None, "the end of a name")
        self.restart()
        self.assertIsNone(self.fetch([URN + "a"]))
        # another push alters it
        self.push([URN + "a"], digest)
        self.assertEqual(self.fetched([URN + "a"]), digest)
        self.push([URN + "a"], digest, expire=1)
        self.assertIsNone(self.fetch([URN + "a"]))

    def test_older_content_than_accepted_is_not_found(self):
        digest = self.peer.put(b"old")
        self.push([URN + "a"], digest)
        self.assertEqual(self.fetched([URN + "a"], oldest=time.time() - 100), digest)
        self.assertIsNone(self.fetch([URN + "a"], oldest=time.time() + 100))


class LostTest(AssetsCase):
    """Whatever is missing of what a push spoke of, the name is not served; again, once it is."""

    def lost(self, lost, kind, digest, **kwargs):
        self.push([URN + "x"], digest, kind, **kwargs)
        self.assertEqual(self.fetched([URN + "x"], kind), digest)
        self.restart(lost=[lost])
        self.assertIsNone(self.fetch([URN + "x"], kind))
        self.peer.put(lost)
        self.assertEqual(self.fetched([URN + "x"], kind), digest)

    def tree(self):
        """A root with a file two levels down; (root's, middle's, file's bytes)."""
        file = os.urandom(20)
        low = directory(files=[("f", digest_of(file))])
        middle = directory(directories=[("low", digest_of(low))])
        root = directory(directories=[("a", digest_of(middle)), ("b", digest_of(low))])
        self.peer.put(file, low, middle, root)
        return root, middle, file

    def test_a_blob_that_is_gone(self):
        self.lost(b"itself", "blob", self.peer.put(b"itself"))

    def test_a_referenced_blob_that_is_gone(self):
        self.lost(b"other", "blob", self.peer.put(b"itself"), blobs=[self.peer.put(b"other")])

    def test_a_file_of_a_tree_that_is_gone(self):
        root, _, file = self.tree()
        self.lost(file, "directory", digest_of(root))

    def test_a_directory_of_a_tree_that_is_gone(self):
        root, middle, _ = self.tree()
        self.lost(middle, "directory", digest_of(root))

    def test_a_file_of_a_referenced_tree_that_is_gone(self):
        root, _, file = self.tree()
        self.lost(file, "blob", self.peer.put(b"itself"),
                  directories=[digest_of(b""), digest_of(root)])

    def test_a_reference_that_is_no_tree(self):
        self.push([URN + "x"], self.peer.put(b"itself"),
                  directories=[self.peer.put(b"\xff\xff\xff")])
        self.assertIsNone(self.fetch([URN + "x"]))

    def test_what_is_pushed_without_its_blob_is_a_name_only(self):
        for kind in ("blob", "directory"):
            digest = digest_of(b"kept elsewhere")
            self.push([URN + "x"], digest, kind, blobs=[digest_of(b"that too")])
            self.assertEqual(self.fetched([URN + "x"], kind), digest)


class EvictionTest(AssetsCase):
    args = ("--grant", "local=all", "--data-size", "24M", "--promise", "0")

    def test_what_is_fetched_stays_and_what_is_not_goes_with_all_its_blobs(self):
        kept, gone = [[os.urandom(1 << 20) for _ in range(2)] for _ in range(2)]
        trees = [directory(files=[("f", digest_of(blobs[1]))]) for blobs in (kept, gone)]
        for name, blobs, tree in (("kept", kept, trees[0]), ("gone", gone, trees[1])):
            self.peer.put(*blobs, tree)
            self.push([URN + name], digest_of(blobs[0]), directories=[digest_of(tree)])
        for _ in range(60):
            self.peer.put(os.urandom(1 << 20))
            self.assertEqual(self.fetched([URN + "kept"]), digest_of(kept[0]))
        wait_until(lambda: self.fetch([URN + "gone"]) is None, "the end of what nobody asks for")
        missing = self.peer.call(FIND_MISSING, texts(2, [digest_of(b) for b in kept]))
        self.assertEqual(missing, b"")


class PromiseTest(AssetsCase):
    args = ("--grant", "local=all", "--data-size", "24M")

    def test_what_an_asset_needs_stays_for_the_promised_time_whatever_comes(self):
        blobs = [os.urandom(1 << 20) for _ in range(2)]
        tree = directory(files=[("f", digest_of(blobs[1]))])
        self.peer.put(*blobs, tree)
        self.push([URN + "a"], digest_of(blobs[0]), directories=[digest_of(tree)])
        self.assertEqual(self.fetched([URN + "a"]), digest_of(blobs[0]))
        status = "OK"
        for _ in range(40):
            try:
                self.peer.put(os.urandom(1 << 20))
            except grpc.RpcError as error:
                status = error.code().name
        self.assertEqual(status, "RESOURCE_EXHAUSTED")
        self.assertEqual(self.fetched([URN + "a"]), digest_of(blobs[0]))
        missing = self.peer.call(FIND_MISSING, texts(2, [digest_of(b) for b in (*blobs, tree)]))
        self.assertEqual(missing, b"")


class HostileTest(AssetsCase):
    def refused(self, method, request, code="INVALID_ARGUMENT", part=""):
        status, text = self.peer.refusal(method, request)
        self.assertEqual((status, part in text), (code, True), text)

    def test_questions_out_of_bounds_are_refused(self):
        digest = self.peer.put(b"x")
        many = [("q%d" % i, "") for i in range(65)]
        for uris, pairs, part in (
                ([], (), "no URI"), ([""], (), "empty"), (["u" * 4097], (), "4096"),
                (["u%d" % i for i in range(65)], (), "65 URIs"), ([b"\xff"], (), "UTF-8"),
                (["u"], many, "65 qualifiers"), (["u"], [("a", "1"), ("a", "2")], "twice"),
                (["u"], [("n" * 257, "")], "256"), (["u"], [("n", "v" * 4097)], "4096"),
                (["u"], [("n", b"\x80")], "UTF-8"), (["u"], [(b"\xc0\xaf", "")], "UTF-8")):
            for kind in ("blob", "directory"):
                self.refused(FETCH[kind], fetch_request(uris, pairs), part=part)
                self.refused(PUSH[kind], push_request(uris, digest, pairs), part=part)
        # as large as may be
        uris = ["u%d" % i + "u" * 4000 for i in range(64)]
        pairs = [("q%d" % i + "n" * 200, "v" * 4096) for i in range(64)]
        self.push(uris, digest, pairs=pairs)
        self.assertEqual(self.fetched(uris[-1:], pairs=pairs), digest)

    def test_malformed_pushes_are_refused(self):
        digest = self.peer.put(b"x")
        bad = data(1, "0" * 63) + number(2, 1)
        self.refused(PUSH["blob"], data(2, "u"))
        self.refused(PUSH["blob"], push_request(["u"], bad))
        self.refused(PUSH["blob"], push_request(["u"], digest, blobs=[bad]),
                     part="references_blobs")
        self.refused(PUSH["blob"], push_request(["u"], digest, directories=[digest, bad]),
                     part="references_directories")
        self.refused(PUSH["blob"], push_request(["u"], digest, blobs=[digest] * 10_000,
                                                directories=[digest] * 7_000), part="17000")
        self.refused(PUSH["blob"], push_request(["u"], digest, blobs=[digest] * 100_000),
                     "RESOURCE_EXHAUSTED", "elements")
        self.refused(PUSH["blob"], push_request(["u"], digest, extra=number(8, 9)),
                     part="SHA256")
        self.refused(PUSH["blob"], push_request(
            ["u"], digest, extra=data(4, timestamp(5, 1_000_000_000))), part="expire_at")
        self.refused(FETCH["blob"], fetch_request(["u"], extra=data(3, timestamp(1, 1 << 30))),
                     part="oldest")
        self.assertIsNone(self.fetch(["u"]))

    def test_a_name_for_itself_twice_is_one(self):
        digest = self.peer.put(b"x")
        for _ in range(3):
            self.push(["u"] * 5 + ["v"], digest)
        self.assertEqual(self.fetched(["u"]), digest)
        self.assertEqual(self.fetched(["v"]), digest)

    def test_as_many_references_as_may_be(self):
        trees = [directory(files=[("f%d" % i, digest_of(b"x"))]) for i in range(200)]
        self.peer.put(b"x", *trees)
        digest = digest_of(b"x")
        self.push(["u"], digest, blobs=[digest] * 8_000,
                  directories=[digest_of(trees[i % 200]) for i in range(8_384)])
        self.assertEqual(self.fetched(["u"]), digest)

    def test_pushes_at_once_leave_one_of_them_whole(self):
        digests = [self.peer.put(b"blob %d" % i) for i in range(4)]
        failures = []

        def pusher(digest):
            with Peer(self.system.address) as peer:
                for _ in range(100):
                    status = peer.status(PUSH["blob"], push_request(["a", "b"], digest))
                    if status != "OK":
                        failures.append(status)
        threads = [threading.Thread(target=pusher, args=(d,)) for d in digests]
        for thread in threads:
            thread.start()
        while any(t.is_alive() for t in threads):
            self.assertIn(self.fetched(["a"]), [None, *digests])
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertIn(self.fetched(["a"]), digests)
        self.assertEqual(self.fetched(["a"]), self.fetched(["b"]))


class RightsTest(AssetsCase):
    args = ()

    def test_who_may_not_write_results_may_not_push(self):
        for kind in ("blob", "directory"):
            status, text = self.peer.refusal(PUSH[kind], push_request(["u"], digest_of(b"")))
            self.assertEqual(status, "PERMISSION_DENIED")
            self.assertIn("ac-write", text)
            self.assertEqual(self.peer.status(FETCH[kind], fetch_request(["u"])), "NOT_FOUND")


class OneInstanceTest(AssetsCase):
    args = ("--instance", "a", "--instance", "b", "--grant", "local=ac-write@a",
            "--grant", "local=ac-read@b")

    def test_rights_end_at_their_instance(self):
        def status(method, request):
            return self.peer.status(method, request)
        empty = digest_of(b"")
        self.assertEqual(status(PUSH["blob"], push_request(["u"], empty, instance="a")), "OK")
        self.assertEqual(status(PUSH["blob"], push_request(["u"], empty, instance="b")),
                         "PERMISSION_DENIED")
        self.assertEqual(status(FETCH["blob"], fetch_request(["u"], instance="a")),
                         "PERMISSION_DENIED")
        self.assertEqual(status(FETCH["blob"], fetch_request(["u"], instance="b")), "NOT_FOUND")


class OffTest(AssetsCase):
    args = ("--no-assets", "--grant", "local=all")

    def test_turned_off_it_is_unimplemented_and_leaves_no_file(self):
        for method in (*FETCH.values(), *PUSH.values()):
            self.assertEqual(self.peer.status(method, b""), "UNIMPLEMENTED")
        self.assertFalse((self.system.dir / "data/assets.sqlite").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
