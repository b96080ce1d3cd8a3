"""What an action can make foresight think of, and what that costs the others on its worker: trees
that never end, names that wait for what never comes, long command lines and long listings."""
import concurrent.futures
import os
import pathlib
import signal
import time
import unittest

import grpc

from attack import REAPI, Hostile, Peer, is_sanitized, data, digest_of, field, number, shell
from system import System, need_root, wait_until

CAS = REAPI + "ContentAddressableStorage/"
GET_ACTION = REAPI + "ActionCache/GetActionResult"
PUT_ACTION = REAPI + "ActionCache/UpdateActionResult"
WORDS = 100_000
CPU_SECONDS = 30  # of the thread that thinks; a second is usual, without bounds it is hours


def file_node(name, digest):
    return data(1, data(1, name) + data(2, digest))


def dir_node(name, digest):
    return data(2, data(1, name) + data(2, digest))


def words(*args):
    """The start of a Command of these words."""
    return b"".join(data(1, arg) for arg in args) + data(2, data(1, "PATH") + data(2, "/bin"))


def thinking(pid):
    """Processor seconds of the worker's thread that thinks."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == "foresee":
            stat = (task / "stat").read_text().rsplit(")", 1)[1].split()
            return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    raise AssertionError("nobody thinks")


class ForesightTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.peer = Peer(cls.system.address)
        cls.peer.put(b"")

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def setUp(self):
        self.worker = self.system.start_worker("--slots", "2")

    def run_it(self, command, root):
        """A hostile action, then one that is none of its business: both end."""
        for case in ((command, root), (shell("true"), b"")):
            status, text, result = self.peer.execute(*case)
            self.assertEqual((status, field(result or b"", 4, 0)), ("OK", 0), text)
        self.assertLess(thinking(self.worker.pid), CPU_SECONDS)
        self.assertEqual(self.worker.stop(), 0)

    def test_a_tree_without_end(self):
        fold = self.peer.put(file_node("f", digest_of(b"")))
        for _ in range(60):
            fold = self.peer.put(dir_node("a", fold) + dir_node("b", fold))
        self.run_it(words("/bin/sh", "-c", "ls fold; sleep 3"), self.peer.put(dir_node("fold", fold)))

    def test_names_that_wait(self):
        args = "-Iempty\n" * 200 + "-Iaway\n" + "".join(f"-include x{i}.h\n" for i in range(WORDS // 2))
        root = (dir_node("away", data(1, "0" * 64) + number(2, 20)) + dir_node("empty", digest_of(b"")))
        root = file_node("args", self.peer.put(args.encode())) + root
        self.run_it(words("/bin/sh", "-c", "sleep 3", "@args"), self.peer.put(root))

    def test_a_long_command_line(self):
        self.run_it(words("/bin/sh", "-c", "sleep 3", *("-Iempty" for _ in range(250)),
                          *(f"-ly{i}" for i in range(WORDS))),
                    self.peer.put(dir_node("empty", digest_of(b""))))

    def test_long_listings(self):
        lib = b"".join(file_node(f"name-{i:06}", digest_of(b"")) for i in range(30_000))
        lib = self.peer.put(lib)
        args = "".join(f"-ly{i}\n" for i in range(WORDS))
        self.run_it(words("/bin/sh", "-c", "sleep 3", "@args"), self.peer.put(
            file_node("args", self.peer.put(args.encode())) + dir_node("lib", lib)))

    def test_others_have_their_turn(self):
        """Four that make it think as long as it will: what the fifth reads is foreseen."""
        self.assertEqual(self.worker.stop(), 0)
        self.worker = self.system.start_worker("--slots", "5", "--foresight", "local")
        args = "-Ideep/deep/deep/empty\n" * 200 + "".join(f"-include x{i}.h\n" for i in range(WORDS))
        deep = digest_of(b"")
        for name in ("empty", "deep", "deep"):
            deep = self.peer.put(dir_node(name, deep))
        root = self.peer.put(file_node("args", self.peer.put(args.encode())) + dir_node("deep", deep))
        tree = self.system.tree("beside", {f"f{i}": f"beside {i}" for i in range(20)})
        beside = self.system.upload(tree)
        files = " ".join(f"f{i}" for i in range(20))
        seconds = 10 if is_sanitized() else 1  # of the others it takes ten
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            others = [pool.submit(self.peer.execute, words("/bin/sh", "-c", f"sleep {seconds + 5}; : {i}", "@args"), root)
                      for i in range(4)]
            wait_until(lambda: thinking(self.worker.pid) > 0.05, "thoughts of the others")
            run = self.system.run("--input-digest", beside, "--no-cache", "-q", "--", "/bin/sh", "-c",
                                  f"sleep {seconds}; cat {files}")
        self.assertEqual(run.code, 0, run.err)
        foreseen = run.report["foresight"]
        self.assertEqual(foreseen["missed"]["files"], 0, foreseen)
        certain = foreseen["certain"]
        self.assertEqual(certain["useful"]["files"] + certain["late"]["files"], 20, foreseen)
        self.assertEqual([other.result()[0] for other in others], ["OK"] * 4)
        self.assertEqual(self.worker.stop(), 0)

    def test_digests_that_look_alike(self):
        """Nothing that is there has them, but a Directory may name them."""
        many = b"".join(file_node(f"n{i:06}", data(1, "0" * 56 + f"{i:08x}") + number(2, 1))
                        for i in range(WORDS))
        args = "".join(f"d/n{i:06}\n" for i in range(WORDS))
        self.run_it(words("/bin/sh", "-c", "sleep 3", "@args"), self.peer.put(
            file_node("args", self.peer.put(args.encode()))
            + dir_node("d", self.peer.put(many))))


class StorageTest(unittest.TestCase):
    """A storage of our own in front of the real one, which lets most through."""

    def setUp(self):
        need_root()
        self.system = System()
        self.addCleanup(self.system.close)
        peer = Peer(self.system.address)
        self.addCleanup(peer.close)

        def passed_on(path):
            return lambda request, context: peer.call(path, request)

        self.storage = Hostile({path: passed_on(path) for path in (
            REAPI + "Capabilities/GetCapabilities", CAS + "BatchReadBlobs", CAS + "FindMissingBlobs",
            CAS + "BatchUpdateBlobs")})
        self.addCleanup(self.storage.close)

    def start(self, *args):
        return self.system.start_worker("--cas", self.storage.address, "--slots", "1", *args)

    def run_script(self, root, script):
        run = self.system.run("--input-digest", root, "--no-cache", "-q", "--", "/bin/sh", "-c", script)
        self.assertEqual(run.code, 0, run.err)
        return run

    def test_a_cancelled_actions_tree_is_asked_for_no_more(self):
        system, storage = self.system, self.storage

        def page(request, context):
            n = storage.calls["GetTree"]
            time.sleep(0.02)
            yield data(1, file_node(f"f{n}", digest_of(b""))) + data(2, f"t{n}")

        storage.methods[CAS + "GetTree"] = page
        tree = system.tree("endless", {"d/e/f": "endless"})
        root = system.upload(tree)
        worker = self.start("--foresight", "off")
        client = system.popen("run", "--input-digest", root, "--no-cache", "--", "/bin/sh", "-c", "sleep 100")
        wait_until(lambda: storage.calls["GetTree"] > 10, "the load of the tree")
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=60)
        wait_until(lambda: not any((worker.cache / "actions").iterdir()), "the action's end")

        def is_quiet():
            before = storage.calls["GetTree"]
            time.sleep(0.5)
            return storage.calls["GetTree"] == before

        wait_until(is_quiet, "the end of the load")
        self.assertEqual(worker.stop(), 0)

    def test_profiles_that_nobody_tells_are_asked_for_at_once_and_not_for_long(self):
        active, most, deadlines = set(), [0], []

        def never(request, context):
            active.add(context)
            most[0] = max(most[0], sum(c.is_active() for c in active))
            deadlines.append(context.time_remaining())
            self.storage.never(request, context)
            active.discard(context)
            return b""

        self.storage.methods[GET_ACTION] = never
        worker = self.start()
        root = self.system.upload(self.system.tree("silent", {"f": "silent\n"}))
        self.run_script(root, "cat f; sleep 0.5")
        wait_until(lambda: most[0] >= 2, "two that are asked for at once")
        wait_until(lambda: not active, "the end of all of them")
        self.assertLessEqual(max(deadlines), 2.1)
        self.run_script(root, "cat f")
        self.assertEqual(worker.stop(), 0)

    def test_a_storage_that_refuses_profiles_is_asked_and_told_again(self):
        refuses = [True]

        def answer(request, context):
            if refuses[0]:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
            return b""

        self.storage.methods.update({GET_ACTION: answer, PUT_ACTION: answer})
        calls = self.storage.calls
        worker = self.start()
        root = self.system.upload(self.system.tree("refused", {"f": "refused\n"}))
        for i in range(15):
            self.run_script(root, f"cat f; : {i}")
        wait_until(lambda: calls["GetActionResult"] and calls["UpdateActionResult"], "the first of both")
        # each has three kinds to tell; a pause ends now and then, and three may be under way
        self.assertLess(calls["UpdateActionResult"], 15)
        refuses[0] = False
        before = calls["UpdateActionResult"]
        n = 15

        def is_told():
            nonlocal n
            n += 1
            self.run_script(root, f"cat f; : {n}")
            return calls["UpdateActionResult"] > before

        wait_until(is_told, "another try")
        self.assertEqual(worker.stop(), 0)
        said = [line for line in worker.err().splitlines() if " profiles " in line]
        self.assertEqual(sorted(line.split(" not ")[1].split(" for")[0] for line in said),
                         ["asked", "shared"], said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
