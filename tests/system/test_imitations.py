"""Clients that no package has, by what they send and how they take the answers: siso, buck2, Bazel
8 and 9, Pants, reclient. Raw calls through real sockets, at a real server with a real worker."""
import concurrent.futures
import hashlib
import os
import pathlib
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "attack"))
import grpc  # noqa: E402

import frames  # noqa: E402
import system  # noqa: E402
from attack import REAPI, Peer, data, digest_of, field, fields, number, shell, status_of  # noqa: E402
from system import SystemTest, sandboxes_with, wait_until  # noqa: E402

BYTES = "/google.bytestream.ByteStream/"
ZSTD = 1
DEADLINE_EXCEEDED = 4


def all_of(message, wanted):
    return [value for n, value in fields(message) if n == wanted]


def properties(**pairs):
    return b"".join(data(1, data(1, name) + data(2, value)) for name, value in sorted(pairs.items()))


class Imitation(SystemTest):
    """instance: as the client names it everywhere."""
    instance = ""
    worker_args = ("--slots", "2", "--platform", "OSFamily=linux", "--platform", "pool=default")
    server_args = ("--compression", "always", "--grant", "local=all")

    @classmethod
    def setUpClass(cls):
        if cls.instance:
            cls.server_args = (*cls.server_args, "--instance", cls.instance)
            cls.worker_args = (*cls.worker_args, "--instance", cls.instance)
        super().setUpClass()

    def setUp(self):
        self.peer = Peer(self.system.address)
        self.addCleanup(self.peer.close)

    def named(self, rest, field_number=1):
        return (data(field_number, self.instance) if self.instance else b"") + rest

    def missing(self, *blobs, peer=None):
        """Digests of those that are not there, by one call."""
        reply = (peer or self.peer).call(
            REAPI + "ContentAddressableStorage/FindMissingBlobs",
            self.named(b"".join(data(2, digest_of(b)) for b in blobs)))
        return all_of(reply, 2)

    def update(self, *blobs, compressor=0):
        """One BatchUpdateBlobs; the last one's digest."""
        reply = self.peer.call(
            REAPI + "ContentAddressableStorage/BatchUpdateBlobs",
            self.named(b"".join(data(2, data(1, digest_of(b)) + data(
                2, frames.compress(b) if compressor else b)
                + (number(3, compressor) if compressor else b"")) for b in blobs)))
        for answer in all_of(reply, 1):
            self.assertEqual(field(field(answer, 2, b""), 1, 0), 0, answer)
        return digest_of(blobs[-1])

    def batch_read(self, *digests):
        reply = self.peer.call(REAPI + "ContentAddressableStorage/BatchReadBlobs",
                               self.named(b"".join(data(2, d) for d in digests)))
        return [field(answer, 2, b"") for answer in all_of(reply, 1)]

    def action(self, command, root=b"", extra=b""):
        """Uploaded as the client does; its digest."""
        action = data(1, digest_of(command)) + data(2, digest_of(root)) + extra
        blobs = [b for b in (command, root, action)]
        lost = self.missing(*blobs)
        self.update(*[b for b in blobs if digest_of(b) in lost])
        return digest_of(action)

    def execute(self, action, extra=b"", peer=None, timeout=60):
        return (peer or self.peer).server_stream(
            REAPI + "Execution/Execute", self.named(data(6, action) + extra), timeout=timeout)

    def response(self, messages):
        """The ExecuteResponse at the end of a stream."""
        last = list(messages)[-1]
        self.assertEqual(field(last, 3), 1, "it is done")
        return field(field(last, 5), 2)

    def lookup(self, action):
        return self.peer.call(REAPI + "ActionCache/GetActionResult",
                              self.named(data(2, action)))


class SisoTest(Imitation):
    instance = "projects/chromium/instances/default"

    def test_siso_execute_cut_by_its_timer_goes_on_by_wait_execution(self):
        """Its one-minute timer, shortened: the same operation until it is over."""
        marker = f"49{os.getpid()}1"
        stream = self.execute(self.action(shell(f"sleep {marker} & wait; echo $$")), timeout=1.5)
        name, n_cuts = None, 0
        while n_cuts < 3:
            try:
                for message in stream:
                    self.assertFalse(field(message, 3, 0))
                    name = name or field(message, 1)
                    self.assertEqual(field(message, 1), name)
                self.fail("the stream ended by itself")
            except grpc.RpcError as error:
                self.assertEqual(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            n_cuts += 1
            stream = self.peer.server_stream(REAPI + "Execution/WaitExecution", data(1, name),
                                             timeout=1.5 if n_cuts < 3 else 60)
        self.assertEqual(len(sandboxes_with(marker)), 1, "it runs, once")
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "cmdline").read_bytes() == f"sleep\0{marker}\0".encode():
                        os.kill(int(entry.name), 15)
                except OSError:
                    pass
        self.assertEqual(field(field(self.response(stream), 1), 4, 0), 0)

    def test_siso_a_timeout_says_the_words_that_end_its_retries(self):
        response = self.response(self.execute(self.action(
            shell("echo so far; sleep 60"), extra=data(6, number(2, 300000000)))))
        status = field(response, 3)
        self.assertEqual(field(status, 1), DEADLINE_EXCEEDED)
        self.assertEqual(field(status, 2), b"execution timeout exceeded")
        self.assertIn(b"300 ms", field(response, 5), "ours stand beside them")
        self.assertEqual(field(field(response, 1), 5), b"so far\n")

    def test_siso_25_connections_of_which_each_asks_for_everything_at_once(self):
        blobs = [f"siso {i}".encode() for i in range(2000)]
        self.update(*blobs[:1000])  # its batches have a thousand

        def ask(_):
            with Peer(self.system.address) as peer:
                return self.missing(*blobs, peer=peer)
        with concurrent.futures.ThreadPoolExecutor(25) as pool:
            for found in pool.map(ask, range(25)):
                self.assertCountEqual(found, [digest_of(b) for b in blobs[1000:]])

    def test_siso_reads_one_digest_a_batch_and_large_ones_by_stream(self):
        small, large = b"small" * 100, os.urandom(3 << 20)
        self.update(small)
        self.update(large)
        self.assertEqual(self.batch_read(digest_of(small)), [small])
        hash_ = hashlib.sha256(large).hexdigest()
        got = b"".join(field(m, 10, b"") for m in self.peer.server_stream(
            BYTES + "Read", data(1, f"{self.instance}/blobs/{hash_}/{len(large)}")))
        self.assertEqual(got, large)

    def test_siso_takes_the_first_compressor_that_is_announced(self):
        cache = field(self.peer.call(REAPI + "Capabilities/GetCapabilities", self.named(b"")), 1)
        announced = all_of(cache, 6)
        self.assertEqual(announced[0] if isinstance(announced[0], int) else announced[0][0], ZSTD)
        blob = os.urandom(512) * 20
        hash_ = hashlib.sha256(blob).hexdigest()
        name = f"{self.instance}/uploads/{uuid.uuid4()}/compressed-blobs/zstd/{hash_}/{len(blob)}"
        sent = frames.compress(blob)
        self.peer.client_stream(BYTES + "Write", iter([
            data(1, name) + number(3, 1) + data(10, sent)]))
        got = b"".join(field(m, 10, b"") for m in self.peer.server_stream(
            BYTES + "Read",
            data(1, f"{self.instance}/compressed-blobs/zstd/{hash_}/{len(blob)}")))
        self.assertEqual(frames.decompress(got, len(blob)), blob)


class Buck2Test(Imitation):
    """No digest function is ever set, the policies always are."""
    policies = data(7, b"") + data(8, b"")

    def test_buck2_platform_on_the_command_only(self):
        action = self.action(shell("echo here") + data(5, properties(pool="default")))
        response = self.response(self.execute(action, self.policies))
        self.assertEqual(field(field(response, 1), 5), b"here\n")
        other = self.action(shell("echo there") + data(5, properties(pool="other")))
        status = status_of(field(self.response(self.execute(other, self.policies)), 3))
        self.assertEqual(status[0], "FAILED_PRECONDITION")
        self.assertRegex(status[1], 'pool.*other')

    def test_buck2_demands_metadata_and_trees(self):
        command = shell("mkdir -p d/e; echo a > d/e/f") + data(7, "d")
        action = self.action(command)
        result = field(self.response(self.execute(action, self.policies)), 1)
        self.assertTrue(field(field(result, 9), 1), "the worker's name")
        directory = field(result, 3)
        tree = self.batch_read(field(directory, 3))[0]
        self.assertEqual(len(all_of(tree, 2)), 1, "one child")
        cached = field(self.response(self.execute(action, self.policies)), 1)
        self.assertEqual(field(cached, 9), field(result, 9))

    def test_buck2_demands_metadata_of_results_that_others_uploaded_without(self):
        action = self.action(shell("true # uploaded"))
        self.peer.call(REAPI + "ActionCache/UpdateActionResult",
                       self.named(data(2, action) + data(3, data(5, b"from elsewhere"))))
        self.assertIsNotNone(field(self.lookup(action), 9))
        response = self.response(self.execute(action, self.policies))
        self.assertEqual(field(response, 2), 1, "cached")
        self.assertIsNotNone(field(field(response, 1), 9))

    def test_buck2_asks_for_the_lifetime_of_hundreds_at_once(self):
        blobs = [f"buck2 {i}".encode() for i in range(300)]
        self.update(*blobs)
        for at in range(0, 300, 100):
            self.assertEqual(self.missing(*blobs[at:at + 100]), [])

    def test_buck2_stages_before_the_result(self):
        messages = list(self.execute(self.action(shell("sleep 0.2; echo stages")), self.policies))
        stages = [field(field(field(m, 2), 2), 1, 0) for m in messages]
        self.assertEqual(stages[-1], 4)
        self.assertIn(3, stages)
        self.assertEqual(sorted(stages), stages)
        self.assertTrue(all(field(m, 4) is None for m in messages), "no Operation.error")


class BazelTest(Imitation):
    """8 and 9."""
    instance = "main"

    def test_bazel_9_marks_persistent_workers(self):
        marks = properties(persistentWorkerKey="0" * 64, persistentWorkerProtocol="json",
                           OSFamily="linux")
        tool = data(1, "tool") + data(2, digest_of(b"tool")) + data(
            6, data(1, data(1, "bazel_tool_input")))
        self.update(b"tool")
        action = self.action(shell("cat tool") + data(5, marks), root=data(1, tool),
                             extra=data(10, marks))
        response = self.response(self.execute(action))
        self.assertEqual(field(field(response, 1), 5), b"tool")

    def test_bazel_9_rewinds_what_is_lost(self):
        """What is missing is told by type and subject, so that it is made and sent again."""
        content = f"lost {time.time_ns()}".encode()
        root = data(1, data(1, "f") + data(2, digest_of(content)))
        action = self.action(shell("cat f") + data(2, data(1, "T") + data(2, str(time.time_ns()))),
                             root=root)
        try:
            response = self.response(self.execute(action))
            status = field(response, 3)
        except grpc.RpcError as error:
            status = dict(error.trailing_metadata())["grpc-status-details-bin"]
        self.assertEqual(field(status, 1), 9, status)
        failure = field(field(status, 3), 2)
        violation = field(failure, 1)
        self.assertEqual(field(violation, 1), b"MISSING")
        hash_ = hashlib.sha256(content).hexdigest()
        self.assertEqual(field(violation, 2), f"blobs/{hash_}/{len(content)}".encode())
        self.update(content)
        self.assertEqual(field(field(self.response(self.execute(action)), 1), 5), content)

    def test_bazel_8_uploads_each_blob_by_a_stream_and_asks_how_far_it_is(self):
        blob = os.urandom(300000)
        hash_ = hashlib.sha256(blob).hexdigest()
        name = f"{self.instance}/uploads/{uuid.uuid4()}/blobs/{hash_}/{len(blob)}"
        with self.assertRaises(grpc.RpcError):
            def broken():
                yield data(1, name) + data(10, blob[:100000])
                raise OSError("the network is gone")
            self.peer.client_stream(BYTES + "Write", broken())
        at = None

        def is_known():
            nonlocal at
            at = field(self.peer.call(BYTES + "QueryWriteStatus", data(1, name)), 1, 0)
            return at in (0, 100000)
        wait_until(is_known, "how far it is")
        reply = self.peer.client_stream(BYTES + "Write", iter([
            data(1, name) + number(2, at) + number(3, 1) + data(10, blob[at:])]))
        self.assertEqual(field(reply, 1), len(blob))

    def test_bazel_priorities_of_results_are_within_what_is_announced(self):
        announced = field(self.peer.call(REAPI + "Capabilities/GetCapabilities",
                                         self.named(b"")), 2)
        self.assertEqual(field(announced, 2), 1, "exec_enabled")
        self.assertIsNotNone(field(announced, 3), "execution priorities")


class PantsTest(Imitation):
    instance = "main"

    def test_pants_one_blob_a_batch_and_a_platform_that_says_linux(self):
        command = shell("cat a; mkdir out; cp a out/b") + data(7, "out")
        root = data(1, data(1, "a") + data(2, digest_of(b"pants")))
        for blob in (b"pants", command, root):
            self.update(blob)
        action = self.action(command, root, extra=data(10, properties(OSFamily="linux")))
        self.assertEqual(self.peer.status(REAPI + "ActionCache/GetActionResult",
                                          self.named(data(2, action))), "NOT_FOUND")
        result = field(self.response(self.execute(action)), 1)
        self.assertEqual(field(result, 5), b"pants")
        tree = self.batch_read(field(field(result, 3), 3))[0]
        file = field(field(tree, 1), 1)
        self.assertEqual(self.batch_read(field(file, 2)), [b"pants"])


class ReclientTest(Imitation):
    instance = "projects/rbe/instances/default_instance"

    def test_reclient_compressed_batches_metadata_and_inlined_outputs(self):
        source = b"int main(void) { return 0; }\n" * 50
        self.update(source, compressor=ZSTD)
        root = data(1, data(1, "a.c") + data(2, digest_of(source)))
        command = shell("wc -c < a.c > a.o") + data(7, "a.o")
        action = self.action(command, root)
        metadata = (("build.bazel.remote.execution.v2.requestmetadata-bin",
                     data(1, data(1, "re-client") + data(2, "0.185")) + data(2, "action")
                     + data(3, "invocation")),)
        stream = self.peer.channel.unary_stream(REAPI + "Execution/Execute")(
            self.named(data(6, action) + number(3, 1)), timeout=60, metadata=metadata)
        result = field(self.response(stream), 1)
        file = field(result, 2)
        self.assertEqual(field(file, 1), b"a.o")
        inlined = self.peer.call(REAPI + "ActionCache/GetActionResult", self.named(
            data(2, action) + data(5, "a.o")))
        self.assertEqual(field(field(inlined, 2), 5), f"{len(source)}\n".encode())


if __name__ == "__main__":
    system.main()
