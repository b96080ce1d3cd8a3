"""Bazel, and a server that fails: how often it asks again (--remote_retries=2), and what our server
has to say so that it goes on."""
import hashlib
import sys

import forky
from bazel import Workspace
from grpc import StatusCode
from grpc_proxy import Fault, Proxy

sys.path.insert(0, str(forky.TOP / "tests/attack"))
from attack import data, digest_of, fields, number  # noqa: E402

EXECUTE, WAIT = "Execution/Execute", "Execution/WaitExecution"
FIND = "ContentAddressableStorage/FindMissingBlobs"
WRITE, QUERY = "ByteStream/Write", "ByteStream/QueryWriteStatus"
TRIED_AGAIN = ("UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "ABORTED", "NOT_FOUND")
FINAL = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")


def ended_with(code):
    """The Operation of an execution that ended so: ExecuteResponse.status."""
    status = number(1, code.value[0]) + data(2, "as ordered")
    response = data(1, "type.googleapis.com/build.bazel.remote.execution.v2.ExecuteResponse") \
        + data(2, data(3, status))
    return data(1, "dev/as-ordered") + number(3, 1) + data(5, response)


class BazelFaultsTest(forky.InteropTest):
    worker_args = ("--slots", "2")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.space = Workspace(cls.forky)
        cls.addClassCleanup(cls.space.close)
        cls.proxy = Proxy(cls.forky.host_port)
        cls.addClassCleanup(cls.proxy.close)
        cls.n = 0
        cls.build(cls)  # Bazel is up, and asked for capabilities

    def build(self, size=0):
        """An action that nobody has seen, by the proxy; its input is self.text."""
        cls = type(self) if isinstance(self, BazelFaultsTest) else self
        cls.n += 1
        cls.text = f"hello {cls.n}\n" + "a line\n" * (size // 7)
        (cls.space.dir / "pkg/in.txt").write_text(cls.text)
        cls.proxy.counts.clear()
        with cls.forky.counted() as calls:
            run = cls.space.bazel(
                f"build {cls.space.remote(cls.proxy.address)} --remote_retries=2 "
                "--remote_retry_max_delay=100ms //pkg:upper")
        cls.at_server = calls
        return run

    def check(self, faults, n_executes, code=0):
        self.proxy.faults[EXECUTE] = list(faults)
        run = self.build()
        self.assertEqual((run.code, self.proxy.counts[EXECUTE], self.proxy.faults[EXECUTE]),
                         (code, n_executes, []), run.err[-3000:])
        if code == 0:
            self.assertEqual(self.space.out("pkg/upper.txt"), self.text.upper())
            self.assertEqual(self.at_server[EXECUTE], 1)
        else:
            self.assertEqual(self.at_server[EXECUTE], 0)

    def test_calls_that_fail(self):
        """Twice and no more; the third try is our server's."""
        for name in (*TRIED_AGAIN, "UNKNOWN", "DEADLINE_EXCEEDED"):
            with self.subTest(name):
                self.check([Fault(StatusCode[name])] * 2, 3)
        self.check([Fault(StatusCode.UNAVAILABLE)] * 3, 3, code=34)

    def test_executions_that_fail(self):
        for name in TRIED_AGAIN:
            with self.subTest(name):
                self.check([Fault(answer=ended_with(StatusCode[name]))] * 2, 3)
        self.check([Fault(answer=ended_with(StatusCode.INTERNAL))] * 3, 3, code=34)

    def test_what_is_final(self):
        for name in FINAL:
            with self.subTest(name):
                self.check([Fault(StatusCode[name])], 1, code=34)
            with self.subTest(f"ended with {name}"):
                self.check([Fault(answer=ended_with(StatusCode[name]))], 1, code=34)

    def test_who_are_you(self):
        """Once more, with credentials that are asked for anew."""
        for name in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            with self.subTest(name):
                self.check([Fault(StatusCode[name])] * 2, 2, code=34)

    def test_stream_that_breaks(self):
        """It waits again, and hears of the same execution."""
        self.proxy.faults[EXECUTE] = [Fault(StatusCode.UNAVAILABLE, answers_passed=1)]
        run = self.build()
        self.assertEqual(run.code, 0, run.err[-3000:])
        self.assertEqual((self.proxy.counts[EXECUTE], self.proxy.counts[WAIT]), (1, 1))
        self.assertEqual(self.space.out("pkg/upper.txt"), self.text.upper())

    def test_missing_action_is_named(self):
        """Bazel believes that all is there. Our server says what is not, so that it goes up."""
        self.proxy.faults[FIND] = [Fault(answer=b"")]
        run = self.build()
        self.assertEqual(run.code, 0, run.err[-3000:])
        self.assertEqual((self.proxy.counts[EXECUTE], self.proxy.counts[FIND]), (2, 2))

    def test_missing_input_is_named_by_the_worker(self):
        gone = digest_of(b"hello %d\n" % (self.n + 1))

        def without(answer):
            return b"".join(data(2, value) for n, value in fields(answer) if value != gone)
        self.proxy.faults[FIND] = [Fault(edit=without)]
        run = self.build()
        self.assertEqual(run.code, 0, run.err[-3000:])
        self.assertEqual((self.proxy.counts[EXECUTE], self.at_server[EXECUTE]), (2, 2))
        self.assertEqual(self.space.out("pkg/upper.txt"), self.text.upper())

    def test_upload_that_breaks_goes_on(self):
        """From where QueryWriteStatus says."""
        size = 3 << 20
        text = f"hello {self.n + 1}\n" + "a line\n" * (size // 7)
        name = b"/blobs/" + hashlib.sha256(text.encode()).hexdigest().encode()
        self.proxy.faults[WRITE] = [Fault(StatusCode.UNAVAILABLE, of=name, requests_passed=20)]
        run = self.build(size)
        self.assertEqual(run.code, 0, run.err[-3000:])
        self.assertEqual((self.proxy.counts[QUERY], self.at_server[QUERY]), (1, 1))
        self.assertEqual(self.space.out("pkg/upper.txt"), self.text.upper())

    def test_storage_and_cache_that_fail(self):
        for method in (FIND, WRITE, "ActionCache/GetActionResult"):
            with self.subTest(method):
                self.proxy.faults[method] = [Fault(StatusCode.UNAVAILABLE)] * 2
                run = self.build()
                self.assertEqual((run.code, self.proxy.faults[method]), (0, []), run.err[-3000:])
