"""Ways around --limit disk and --limit inodes: the action ends, its result says why, the worker
goes on."""
import unittest

from attack import Peer, field, shell
from system import System, need_root


class DiskTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.worker = cls.system.start_worker("--slots", "1", "--limit", "disk=32M", "--limit",
                                             "inodes=2000", "--allow", "userns")
        cls.peer = Peer(cls.system.address)

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def tearDown(self):
        self.assertIsNone(self.worker.popen.poll(), self.worker.err()[-2000:])
        self.run_ok("echo next")

    def run_it(self, script):
        """(exit code, stdout, stderr)."""
        status, text, result = self.peer.execute(shell(script))
        self.assertEqual(status, "OK", text)
        return (field(result, 4, 0), field(result, 5, b"").decode(),
                field(result, 7, b"").decode())

    def run_ok(self, script):
        code, out, err = self.run_it(script)
        self.assertEqual(code, 0, err)
        return out

    def killed(self, script, limit):
        code, _, err = self.run_it(script)
        self.assertEqual(code, 137, err)
        self.assertIn(f"killed: past the limit {limit}", err)

    def python(self, code):
        return "cat > code <<'E'\nimport os, socket, time, mmap\n" + code + "\nE\n" \
            "/usr/bin/python3 code; sleep 60"

    # 64 MiB in pieces of 8, each below the limit of one file
    PIECES = ("def pieces(opened):\n    for i in range(8):\n        fd = opened(i)\n"
              "        os.write(fd, bytes(8 << 20))\n")

    def test_below_a_path_that_no_call_takes(self):
        self.killed(self.python(
            self.PIECES + "for i in range(60):\n    os.mkdir('d' * 200); os.chdir('d' * 200)\n"
            "pieces(lambda i: os.open('f%d' % i, os.O_CREAT | os.O_RDWR))"), "disk=32M")

    def test_below_more_directories_than_anybody_captures(self):
        self.killed(self.python(
            "for i in range(1100):\n    os.mkdir('d'); os.chdir('d')\n"), "disk=32M")

    def test_below_many_long_names_at_the_very_end(self):
        """No look comes between the writing and the end: the last one sees it all."""
        self.killed(
            "cat > code <<'E'\nimport os\nfor i in range(1000):\n"
            "    i % 2 or os.mkdir('e' * 200)\n"
            "    os.mkdir('d' * 200); os.chdir('d' * 200)\n"
            "for i in range(5): open('f%d' % i, 'wb').write(bytes(20 << 20))\n"
            "os._exit(0)\nE\nexec /usr/bin/python3 code", "disk=32M")

    def test_files_without_a_name(self):
        for opened in ("os.open('f', os.O_CREAT | os.O_RDWR)", "os.open('.', os.O_TMPFILE | os.O_RDWR)"):
            self.killed(self.python(
                self.PIECES + f"def opened(i):\n    fd = {opened}\n"
                "    if os.path.exists('f'): os.unlink('f')\n    return fd\n"
                "pieces(opened); time.sleep(60)"), "disk=32M")

    def test_files_that_are_only_mapped(self):
        self.killed(self.python(
            "kept = []\nfor i in range(8):\n"
            "    fd = os.open('f', os.O_CREAT | os.O_RDWR); os.unlink('f')\n"
            "    os.write(fd, bytes(8 << 20)); kept.append(mmap.mmap(fd, 8 << 20)); os.close(fd)\n"
            "time.sleep(60)"), "disk=32M")

    def test_files_held_by_a_grandchild(self):
        self.killed(self.python(
            self.PIECES + "def opened(i):\n    fd = os.open('f', os.O_CREAT | os.O_RDWR)\n"
            "    os.unlink('f')\n    return fd\n"
            "if os.fork() == 0:\n    if os.fork() == 0:\n"
            "        os.setsid(); pieces(opened); time.sleep(60)\n    os._exit(0)\n"), "disk=32M")

    def test_the_sandboxs_own_file_systems(self):
        """/ is tiny, /dev read-only, /dev/shm counts with /tmp and the rest."""
        out = self.run_ok(
            "dd if=/dev/zero of=/x bs=1M count=8 2>/dev/null && echo root; "
            "mkdir /var && dd if=/dev/zero of=/var/x bs=1M count=8 2>/dev/null && echo var; "
            "dd if=/dev/zero of=/dev/x bs=1M count=8 2>/dev/null && echo dev; "
            "mkdir /dev/pts/x /dev/x 2>/dev/null && echo made; "
            "echo y > /dev/null && echo z > /dev/shm/z && cat /dev/shm/z; "
            "du -sk / --exclude=/proc --exclude=/sys --exclude=/usr --exclude=/etc -x | "
            "awk '$1 > 1100 {print \"much\"}'")
        self.assertEqual(out, "z\n")
        self.killed("dd if=/dev/zero of=/dev/shm/x bs=1M count=20; dd if=/dev/zero of=/tmp/x bs=1M "
                    "count=20; sleep 60", "disk=32M")
        self.killed("dd if=/dev/zero of=/dev/shm/x bs=1M count=33; sleep 60", "disk=32M")

    def test_many_files(self):
        self.killed(self.python("for i in range(2100): open('f%d' % i, 'w').close()"),
                    "inodes=2000")
        self.killed(self.python("for i in range(2100): os.symlink('x', '/tmp/f%d' % i)"),
                    "inodes=2000")
        self.killed(self.python("for i in range(2100): os.symlink('x', '/f%d' % i)"),
                    "inodes=2000")
        self.run_ok("i=0; while [ $i -lt 1900 ]; do : > f$i; i=$((i+1)); done")

    def test_nested_mounts_are_granted_or_refused(self):
        script = "unshare -Urm sh -c 'mount -t tmpfs none /tmp && echo mounted'"
        self.assertEqual(self.run_ok(script), "mounted\n")  # with --allow userns they are
        other = self.system.start_worker("--slots", "1", "--platform", "pool=no")
        run = self.system.sh(script, "--no-cache", "--platform", "pool=no")
        self.assertNotEqual(run.code, 0)
        self.assertNotIn("mounted", run.text)
        self.assertEqual(other.stop(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
