"""Few descriptors: the programs raise their soft limit, actions see a shell's, and as many slots
as the hard limit bears work, whatever their actions open; more are refused at start."""
import concurrent.futures
import os
import pathlib
import threading
import time
import unittest

from attack import Peer, digest, field, shell
from system import BIN, Failed, Process, System, need_root

N_FILES = 600


def limits_of(pid):
    """The soft and the hard limit of open files."""
    lines = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.split()[3:5] for line in lines if line.startswith("Max open files"))


class DescriptorsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.peer = Peer(cls.system.address)
        files = {f"f{i:03}": f"text {i}" for i in range(N_FILES)}
        cls.root = cls.system.upload(cls.system.tree("files", files))

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def start(self, limit, *args, **kwargs):
        return self.system.start_worker(*args, prefix=("prlimit", f"--nofile={limit}"), **kwargs)

    def say(self, script):
        status, text, result = self.peer.execute(shell(script))
        self.assertEqual(status, "OK", text)
        return field(result, 5, b"").decode()

    def test_actions_see_what_a_shell_gives(self):
        for limit, said in (("100:5000", "1024\n5000\n"), ("1024:1024", "1024\n1024\n"),
                            ("700:700", "700\n700\n"), ("4000:4000", "1024\n4000\n")):
            worker = self.start(limit, "--slots", "1")
            self.assertEqual(limits_of(worker.pid), [limit.split(":")[1]] * 2)
            self.assertEqual(self.say("ulimit -n; ulimit -Hn"), said)
            self.assertEqual(worker.stop(), 0)

    def test_the_server_raises_its_own(self):
        server = Process("other-server", [
            "prlimit", "--nofile=100:900", BIN / "lazyroot-server", "--listen",
            "grpc://127.0.0.1:0", "--data", self.system.dir / "other"], self.system.dir)
        self.system.processes.append(server)
        server.wait_line("listening on ")
        self.assertEqual(limits_of(server.pid), ["900", "900"])

    def test_sixteen_busy_slots_at_1024(self):
        worker = self.start("1024:1024", "--slots", "16")
        most, done = 0, threading.Event()

        def watch():
            nonlocal most
            while not done.is_set():
                most = max(most, len(os.listdir(f"/proc/{worker.pid}/fd")))
                time.sleep(0.005)

        root = digest(self.root)
        opener = shell(
            "/usr/bin/python3 -c \"import glob, time\n"
            "held = [open(f) for f in sorted(glob.glob('f*'))]\n"
            "print(len(held), sum(len(f.read()) > 5 for f in held)); time.sleep(1)\"")
        watcher = threading.Thread(target=watch)
        watcher.start()
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            openers = [pool.submit(self.peer.execute, opener, root=root) for _ in range(16)]
            short = [pool.submit(self.peer.execute, shell("true")) for _ in range(300)]
            ends = [f.result() for f in openers + short]
        done.set()
        watcher.join()
        print(f"{most} descriptors at most", flush=True)
        self.assertEqual({(status, text) for status, text, _ in ends}, {("OK", "")})
        for _, _, result in ends[:16]:
            self.assertEqual(field(result, 5), f"{N_FILES} {N_FILES}\n".encode(), result)
        self.assertNotIn("Too many open files", worker.err())
        self.assertEqual(worker.stop(), 0)
        self.assertNotIn("Too many open files", worker.err())

    def test_more_slots_than_descriptors_are_refused(self):
        for limit, slots in (("1024:1024", "64"), ("300:300", "1")):
            with self.assertRaisesRegex(Failed, "open files, and the hard limit is"):
                self.start(limit, "--slots", slots)
        with self.assertRaisesRegex(Failed, "1 slots need 360 open files"):
            self.start("200:200")

    def test_default_slots_are_as_many_as_fit(self):
        worker = self.start("365:365")
        self.assertEqual(self.say("echo one"), "one\n")
        self.assertEqual(worker.stop(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
