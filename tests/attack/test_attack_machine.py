"""A machine without memory: the action ends, its result says why, the worker goes on."""
import os
import pathlib
import unittest

from attack import Peer, field, is_sanitized, shell
from system import System, need_root, skip_program, wait_until

MEMORY = pathlib.Path("/sys/fs/cgroup/memory")
LIMIT = (1200 if is_sanitized() else 300) << 20  # of worker and action together


class MemoryTest(unittest.TestCase):
    """Worker and action together in a cgroup with too little memory, and no limit of the action's."""

    def setUp(self):
        self.cgroup = MEMORY / f"lazyroot-attack-test-{os.getpid()}"
        self.cgroup.mkdir()
        (self.cgroup / "memory.use_hierarchy").write_text("1")
        (self.cgroup / "memory.limit_in_bytes").write_text(str(LIMIT))
        self.system = System()

    def tearDown(self):
        self.system.close()
        wait_until(self.gone, "the end of the cgroup")

    def gone(self):
        try:
            for child in self.cgroup.glob("*/"):
                child.rmdir()
            self.cgroup.rmdir()
        except OSError:
            return False
        return True

    def may_lower(self):
        """Some containers are not given CAP_SYS_RESOURCE."""
        status = pathlib.Path("/proc/self/status").read_text()
        return int(status.split("CapEff:")[1].split()[0], 16) >> 24 & 1

    def test_a_machine_without_memory_loses_the_action(self):
        worker = self.system.start_worker(
            "--slots", "1", prefix=("sh", "-c", f'echo $$ > {self.cgroup}/cgroup.procs; exec "$@"',
                                    "sh"))
        score = pathlib.Path(f"/proc/{worker.pid}/oom_score_adj").read_text()
        self.assertEqual(score, "-500\n" if self.may_lower() else "0\n")
        with Peer(self.system.address) as peer:
            status, text, result = peer.execute(shell(
                "cat /proc/self/oom_score_adj; echo -900 > /proc/self/oom_score_adj; "
                "cat /proc/self/oom_score_adj"))
            self.assertEqual((status, field(result, 5)), ("OK", b"500\n500\n"), text)
            for ending in ("", "; exit 0"):
                status, text, result = peer.execute(shell(
                    f"echo before; /usr/bin/python3 -c 'x = bytearray({3 * LIMIT})'" + ending))
                self.assertEqual(status, "OK", text)
                self.assertEqual((field(result, 4), field(result, 5)), (137, b"before\n"))
                self.assertIn(b"killed: the worker's machine had no memory left", field(result, 7))
                self.assertIsNone(worker.popen.poll())
            status, text, result = peer.execute(shell("echo next"))
            self.assertEqual((status, field(result, 5)), ("OK", b"next\n"), text)
        self.assertEqual(worker.stop(), 0)


def setUpModule():
    need_root()
    if not (MEMORY / "memory.limit_in_bytes").exists():
        skip_program("no cgroup v1 memory controller here")


if __name__ == "__main__":
    unittest.main(verbosity=2)
