"""A process that is killed while one of its threads waits for its own FUSE mount: the kernel ends
it only once that mount is aborted, which nobody in it can do any more. The worker has a warden."""
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import unittest

import system
from system import BIN, System, SystemTest, command_line, descendants, wait_until

LIBC = ctypes.CDLL(None, use_errno=True)
MNT_FORCE = 1

# Serves a file system that never answers, and waits for it on another thread.
WAITS = r"""
import ctypes, os, struct, subprocess, sys, threading
where, *warden = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
if libc.mount(b"none", where.encode(), b"fuse", 0, options.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
if warden:
    subprocess.Popen(warden)

def ask():
    os.stat(where + "/x")

while True:
    request = os.read(fuse, 1 << 18)
    length, opcode, unique = struct.unpack_from("=IIQ", request)
    if opcode != 26:  # INIT is answered, nothing else is
        break
    init = struct.pack("=IIIIHHI", 7, 31, 65536, 0, 12, 10, 65536) + bytes(40)
    os.write(fuse, struct.pack("=IiQ", 16 + len(init), 0, unique) + init)
    threading.Thread(target=ask, daemon=True).start()
print("asked", flush=True)
threading.Event().wait()
"""


def state(pid):
    """Of its first thread."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


class WaitingProcessTest(unittest.TestCase):
    def setUp(self):
        system.need_root()
        self.system = System()
        self.mount = self.system.dir / "a mount\\here"  # as mountinfo escapes it
        self.mount.mkdir()

    def tearDown(self):
        LIBC.umount2(os.fsencode(self.mount), MNT_FORCE)
        LIBC.umount2(os.fsencode(self.mount), 2)  # MNT_DETACH
        self.system.close()

    def killed(self, *warden):
        process = subprocess.Popen([sys.executable, "-c", WAITS, self.mount, *warden],
                                   stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline(), "asked\n")
        process.kill()
        return process

    def test_stays_without_a_warden(self):
        """What the other test would see, had the warden done nothing."""
        process = self.killed()
        wait_until(lambda: state(process.pid) == "Z", "a zombie")
        self.assertIsNone(process.poll())
        LIBC.umount2(os.fsencode(self.mount), MNT_FORCE)
        self.assertEqual(process.wait(system.PATIENCE), -signal.SIGKILL)

    def test_ends_with_one(self):
        process = self.killed(BIN / "lazyroot-sandbox", "warden", self.system.dir)
        self.assertEqual(process.wait(system.PATIENCE), -signal.SIGKILL)

    def test_a_warden_of_another_directory_leaves_it(self):
        """Whose name begins the same."""
        (self.system.dir / "a mount").mkdir()
        process = self.killed(BIN / "lazyroot-sandbox", "warden", self.system.dir / "a mount")
        wait_until(lambda: state(process.pid) == "Z", "a zombie")
        wait_until(lambda: not [p for p in pathlib.Path("/proc").glob("[0-9]*")
                                if str(self.system.dir).encode() in command_line(p.name)
                                and system.is_warden(p.name)], "the warden's end")
        self.assertIsNone(process.poll())


class WorkersWardenTest(SystemTest):
    def warden(self, worker):
        pid, = [p for p in descendants(worker.pid) if system.is_warden(p)]
        return pid

    def test_signals_that_a_service_manager_sends_are_no_death(self):
        pid = self.warden(self.worker)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(pid, number)
        tree = self.system.tree("in", {"f": "bytes\n"})
        self.assertEqual(self.assert_ok(self.system.sh("cat f", "--no-cache", "--input", tree)).text,
                         "bytes\n")
        self.assertEqual(self.warden(self.worker), pid)

    def test_it_ends_with_its_worker(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            worker = self.system.start_worker()
            pid = self.warden(worker)
            worker.stop(number)
            wait_until(lambda: not command_line(pid), "the warden's end")


if __name__ == "__main__":
    system.main()
