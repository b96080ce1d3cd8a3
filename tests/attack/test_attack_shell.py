"""lazyroot shell and its user's terminal: a command has it, and must neither type into it what the
user's own shell would obey afterwards, nor take it along."""
import os
import sys
import unittest

import attack  # noqa: F401  (puts the folder of system on the path)
from system import System, main, need_root
from test_shell import Terminal

# The number of TIOCSTI and of TIOCLINUX, alone and with what the kernel does not look at.
TYPES_INTO = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]
for request in (0x5412, 0x541C, 0x7FF00005412, 0x1_0000_541C):
    status = libc.ioctl(0, request, b"\\x03")
    print(hex(request), status, os.strerror(ctypes.get_errno()))
print("done")
"""


class ShellTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.digest = cls.system.upload(cls.system.tree("tree", {"types": TYPES_INTO}))

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def test_nobody_types_into_the_terminal(self):
        args = (self.digest, "--", "/usr/bin/python3", "types")
        with Terminal(self.system, args) as terminal:
            terminal.expect("done")
            self.assertEqual(terminal.wait(), 0)
            lines = [line for line in terminal.seen.splitlines() if line.startswith("0x")]
            self.assertEqual(len(lines), 4)
            for line in lines:
                self.assertIn("-1 Operation not permitted", line)


if __name__ == "__main__":
    main()
