"""stdout and stderr are as through a pipe: nothing that a command does with them loses what was
said before, or is refused."""
import hashlib

import system
from system import SystemTest


class StreamsTest(SystemTest):
    worker_args = ("--slots", "1", "--limit-max", "disk=64M", "--limit-max", "log-bytes=64M")

    def said(self, script, *args, code=0):
        run = self.system.run("--no-cache", *args, "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh",
                              "-c", script, report=True)
        self.assertEqual(run.code, code, run.err)
        return run

    def test_opened_again(self):
        run = self.said("echo one; echo two > /dev/stdout; echo three; echo four | tee /dev/stdout;"
                        " echo five >> /proc/self/fd/1")
        self.assertEqual(run.text, "one\ntwo\nthree\nfour\nfour\nfive\n")
        run = self.said("echo one >&2; echo two | tee /dev/stderr; echo three > /dev/stderr")
        self.assertEqual(run.text, "two\n")
        self.assertIn("one\ntwo\nthree\n", run.err)

    def test_order_of_both_in_one(self):
        run = self.said("exec 2>&1; for i in 1 2 3; do echo o$i; echo e$i >&2; done; ls -d /no/such; true")
        self.assertTrue(run.text.startswith("o1\ne1\no2\ne2\no3\ne3\nls: "), run.text)

    def test_sendfile_and_splice(self):
        run = self.system.run(
            "--no-cache", "--", "/usr/bin/python3", "-c",
            "import os\nfd = os.open('/usr/bin/env', os.O_RDONLY)\nn = os.fstat(fd).st_size\n"
            "while n: n -= os.sendfile(1, fd, None, n)\n")
        self.assert_ok(run)
        with open("/usr/bin/env", "rb") as file:
            self.assertEqual(run.out, file.read())

    def test_much_and_to_the_last_byte(self):
        run = self.said("head -c 50000000 /dev/zero | tr '\\0' x; echo end; echo err >&2")
        self.assertEqual(hashlib.sha256(run.out).hexdigest(),
                         hashlib.sha256(b"x" * 50000000 + b"end\n").hexdigest())
        self.assertIn("err\n", run.err)

    def test_closed_and_left_by_others(self):
        self.assertEqual(self.said("exec >&-; sleep 0.2; echo err >&2").text, "")
        run = self.said("(sleep 300; echo late) & echo now")
        self.assertEqual(run.text, "now\n")

    def test_limits(self):
        run = self.said("yes | head -c 5000000; sleep 60", "--platform", "limit-log-bytes=1M", code=137)
        self.assertIn("killed: past the limit log-bytes=1M", run.err)
        self.assertEqual(len(run.out), 1 << 20)
        run = self.said("yes | head -c 9000000; sleep 60", "--platform", "limit-disk=4M", code=137)
        self.assertIn("killed: past the limit disk=4M", run.err)


if __name__ == "__main__":
    system.main()
