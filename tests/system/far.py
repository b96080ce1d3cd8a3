"""Distance: a server as seen from afar, through the proxy of tests/bench/far.c."""
import subprocess

from system import BIN

PROGRAM = BIN.parent / "tests" / "far"


class Far:
    def __init__(self, address, rtt_ms, bits=10 ** 9):
        port = address.rsplit(":", 1)[1]
        self.popen = subprocess.Popen([PROGRAM, port, str(int(rtt_ms * 1000)), str(bits)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = f"grpc://127.0.0.1:{int(self.popen.stdout.readline())}"

    def close(self):
        self.popen.stdin.close()
        self.popen.wait()
        self.popen.stdout.close()
