"""Services that lie to the client, or say more than anybody can keep: executions and artifact
caches. What is said of the truth is used, the rest named, nothing of it steers a terminal."""
import contextlib
import hashlib
import os
import pathlib
import subprocess
import threading
import unittest

from attack import REAPI, Hostile, data, digest_of, field, fields, number
from system import BIN, System, main, need_root, wait_until

TYPES = "type.googleapis.com/build.bazel.remote.execution.v2."
FETCH = "/build.bazel.remote.asset.v1.Fetch/FetchDirectory"
CAS = REAPI + "ContentAddressableStorage/"
MIB = 1 << 20
ESCAPE = "\x1b[2J"
NOTES = 6  # field of ReadReport


class ServicesCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    @contextlib.contextmanager
    def service(self, methods, *blobs):
        """One that has these blobs, and finds that it has all there are."""
        stored = {hashlib.sha256(blob).hexdigest(): blob for blob in blobs}

        def read(request, _context):
            reply = b""
            for wanted in (value for n, value in fields(request) if n == 2):
                blob = stored.get(field(wanted, 1).decode())
                reply += data(1, data(1, wanted) + (data(3, number(1, 5)) if blob is None
                                                    else data(2, blob)))
            return reply
        service = Hostile({REAPI + "Capabilities/GetCapabilities": lambda *_: b"",
                           CAS + "FindMissingBlobs": lambda *_: b"", CAS + "BatchReadBlobs": read,
                           **methods})
        try:
            yield service
        finally:
            service.close()

    def lazyroot(self, verb, *args, address="", code=0):
        run = self.system.lazyroot(verb, *args, address=address, timeout=120)
        self.assertEqual(run.code, code, run.err)
        self.assertNotIn("\x1b", run.err)
        self.assertNotIn("Sanitizer", run.err)
        return run


class ExecutionTest(ServicesCase):
    def test_what_was_said_before_is_not_kept(self):
        """An operation that waits for a day, of which each second something is said."""
        said = data(1, "op") + data(2, data(1, TYPES + "ExecuteOperationMetadata") + data(2, (
            number(1, 2) + data(99, b"x" * (4 * MIB)))))

        def execute(_request, _context):
            for _ in range(150):
                yield said
            yield data(1, "op") + number(3, 1) + data(5, (
                data(1, TYPES + "ExecuteResponse") + data(2, data(1, data(5, b"hello\n")))))
        with self.service({REAPI + "Execution/Execute": execute}) as service:
            run = self.lazyroot("run", "--", "/bin/true", address=service.address)
        self.assertEqual(run.text, "hello\n")


    def outcome(self, result, *words, waiting=(), blobs=()):
        """What a run says to a result's bytes, after Operations with these metadata."""
        def execute(_request, _context):
            for some in waiting:
                yield data(1, "op") + data(2, data(1, TYPES + "ExecuteOperationMetadata")
                                           + data(2, number(1, 2) + some))
            yield data(1, "op") + number(3, 1) + data(5, (
                data(1, TYPES + "ExecuteResponse") + data(2, data(1, result))))
        with self.service({REAPI + "Execution/Execute": execute}, *blobs) as service:
            return self.lazyroot("run", *words, "--", "/bin/true", address=service.address)

    def assert_few_lines(self, said, part):
        self.assertIn(part, said)
        self.assertLess(len(said.splitlines()), 120)

    def test_outputs_that_nobody_asked_for_are_not_all_named(self):
        outputs = b"".join(data(2, data(1, "o%06d" % i) + data(2, digest_of(b"")))
                           for i in range(100_000))
        run = self.outcome(outputs, "--output", "o")
        self.assert_few_lines(run.err, "99900 outputs that were not asked for more")

    def test_notes_are_not_all_said(self):
        def note(i):
            value = data(1, "type.googleapis.com/google.protobuf.StringValue")
            return data(5, data(11, value + data(2, data(1, f"note {i}{ESCAPE}"))))
        report = b"".join(data(NOTES, f"about {i}") for i in range(20_000))
        result = data(9, data(11, data(1, "type.googleapis.com/lazyroot.v1.ReadReport")
                              + data(2, report)))
        run = self.outcome(result, waiting=(note(i) for i in range(20_000)))
        self.assertIn("note 99\\x1b", run.err)
        self.assertNotIn("note 100\\x1b", run.err)
        self.assertLess(len(run.err.splitlines()), 220)

    def test_a_tree_that_is_named_many_times_is_taken_apart_once(self):
        """Each time it would take milliseconds; and what was asked for is looked for as often."""
        files = b"".join(data(1, data(1, "f%06d" % i) + data(2, digest_of(b"")))
                         for i in range(20_000))
        tree = data(1, files)
        outputs = data(3, data(1, "o") + data(3, digest_of(tree))) * 50_000
        words = [word for i in range(5_000) for word in ("--output", f"p{i}")]
        run = self.outcome(outputs, "--output", "o", *words, blobs=(tree,))
        self.assertIn("did not make: p0, p1, ", run.err)
        self.assertEqual(len(os.listdir(self.system.dir / "o")), 20_000)


class ArtifactTest(ServicesCase):
    BLOB = b"hello\n"
    ROOT = data(1, data(1, "f") + data(2, digest_of(BLOB)))

    def cache(self, extra=b"", root=None):
        """An artifact cache that knows every name."""
        return self.service({FETCH: lambda *_: data(5, root or digest_of(self.ROOT)) + extra},
                            self.ROOT, self.BLOB)

    def pull(self, *caches, code=0):
        words = [word for cache in caches for word in ("--artifacts", "url=" + cache.address)]
        return self.lazyroot("pull", "x", *words, code=code)

    def known(self):
        return self.lazyroot("artifacts").text

    def tearDown(self):
        self.system.lazyroot("forget", "x")

    def test_what_is_of_no_use_is_passed_over(self):
        """What was over long ago, what another digest function calls so, no digest, an error."""
        for extra, root, part in (
                (data(4, number(1, 1)), None, ""),
                (data(4, number(1, (1 << 64) - 5)), None, ""),
                (number(6, 9), None, "digest function 9"),
                (b"", data(1, "x" + ESCAPE) + number(2, 5), "SHA-256"),
                (b"", digest_of(self.ROOT)[:66] + number(2, (1 << 64) - 1), "size -1"),
                (data(1, number(1, 7) + data(2, "no " + ESCAPE)), None, "no \\x1b")):
            with self.subTest(extra=extra, root=root), self.cache(extra, root) as bad:
                self.assertIn(part, self.pull(bad, code=1).err)
                self.assertEqual(self.known(), "")
                with self.cache() as good:
                    self.pull(bad, good)
                self.assertIn(" x\n", self.known())
                self.system.lazyroot("forget", "x")

    def test_a_time_that_never_comes(self):
        with self.cache(data(4, number(1, (1 << 63) - 1))) as cache:
            self.pull(cache)
        self.assertIn(" x", self.known())

    def test_two_caches_with_a_half_each(self):
        blobs = [b"%d" % i for i in range(200)]
        root = b"".join(data(1, data(1, "f%03d" % i) + data(2, digest_of(blob)))
                        for i, blob in enumerate(blobs))
        fetch = {FETCH: lambda *_: data(5, digest_of(root))}
        with self.service(fetch, root, *blobs[::2]) as one, \
                self.service(fetch, root, *blobs[1::2]) as two:
            self.assertIn("not all blobs came from it", self.pull(one, two).err)

    def test_more_entries_than_a_tree_may_have(self):
        """Each Directory once, so that it is the files that are too many; none is asked for."""
        files = [b"".join(data(1, data(1, "f%06d" % i) + data(2, digest_of(b"%d" % (i + k))))
                          for i in range(1000)) for k in range(3)]
        root = b"".join(data(2, data(1, "d%d" % i) + data(2, digest_of(f)))
                        for i, f in enumerate(files))
        with self.service({FETCH: lambda *_: data(5, digest_of(root))}, root, *files) as cache:
            run = self.lazyroot("pull", "x", "--entries-max", "2500", "--artifacts",
                                "url=" + cache.address, code=1)
        self.assertIn("2500 entries", run.err)


class KilledTest(ServicesCase):
    def test_an_archive_that_is_on_its_way_has_no_name(self):
        """Its blobs never come; whoever waits for them is killed."""
        asked = threading.Event()
        root = data(1, data(1, "f") + data(2, digest_of(b"never")))

        def read(request, context):
            wanted = [field(value, 1) for n, value in fields(request) if n == 2]
            if field(digest_of(root), 1) in wanted:
                return data(1, data(1, digest_of(root)) + data(2, root))
            asked.set()
            return service.never(request, context)
        place = self.system.dir / "archives"
        place.mkdir()
        with self.service({CAS + "BatchReadBlobs": read}) as service:
            words = ["checkout", f"{hashlib.sha256(root).hexdigest()}/{len(root)}", "--tar"]
            env = self.system.environment(address=service.address)
            process = subprocess.Popen([BIN / "lazyroot", *words, place / "a.tar"], env=env,
                                       stderr=subprocess.DEVNULL)
            self.assertTrue(asked.wait(60))
            # it has been made: nobody else has a file open there
            wait_until(lambda: any(str(place) in os.readlink(fd) for fd in pathlib.Path(
                f"/proc/{process.pid}/fd").iterdir()), "the start of the archive")
            process.kill()
            process.wait()
        self.assertEqual(os.listdir(place), [])


if __name__ == "__main__":
    main()
