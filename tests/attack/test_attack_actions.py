"""Actions that are hostile by what they ask for and by what they leave behind: each ends in a
status that says why, and the worker goes on to the next."""
import unittest

from attack import Peer, data, digest_of, field, fields, is_sanitized, number, shell
from system import System, need_root

OUTPUT_FILES, OUTPUT_PATHS = 3, 7
# a sanitized worker is given less of everything that takes time
SCALE = 10 if is_sanitized() else 1


class ActionsTest(unittest.TestCase):
    worker_args = ("--slots", "1", "--entries-max", "300000")

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System()
        cls.worker = cls.system.start_worker(*cls.worker_args)
        cls.peer = Peer(cls.system.address)

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def tearDown(self):
        self.assertIsNone(self.worker.popen.poll(), self.worker.err()[-2000:])
        status, text, result = self.peer.execute(shell("echo next"))
        self.assertEqual((status, field(result, 5)), ("OK", b"next\n"), text)

    def refused(self, command, *words, codes=("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"), **kwargs):
        status, text, _ = self.peer.execute(command, **kwargs)
        self.assertIn(status, codes, text)
        for word in words:
            self.assertIn(word, text)

    # what it asks for

    def test_many_declared_files_cost_what_they_are(self):
        n = 12500 // SCALE
        names = b"".join(data(OUTPUT_FILES, f"o{i}") for i in range(n))
        status, text, result = self.peer.execute(
            shell(f"i=0; while [ $i -lt {n} ]; do echo > o$i; i=$((i+1)); done") + names)
        self.assertEqual(status, "OK", text)
        self.assertEqual(sum(1 for f, _ in fields(result) if f == 2), n)

    def test_a_million_empty_output_paths(self):
        self.refused(shell("true") + data(OUTPUT_PATHS, "") * 1_000_000,
                     "the Command has more than 100000 outputs")

    def test_as_many_outputs_as_may_be_all_of_them_the_root(self):
        n = 100_000 // SCALE
        status, text, result = self.peer.execute(
            shell("echo > o") + data(OUTPUT_PATHS, "") * n)
        self.assertEqual(status, "OK", text)
        self.assertEqual(sum(1 for f, _ in fields(result) if f == 3), n)

    def test_a_result_larger_than_a_message(self):
        n = 4500
        script = ("/usr/bin/python3 -c \"import os\n"
                  f"for i in range({n}): os.symlink(str(i).ljust(4090, 'x'), str(i))\"")
        self.refused(shell(script) + b"".join(data(OUTPUT_PATHS, str(i)) for i in range(n)),
                     "ActionResult is larger than", codes=("RESOURCE_EXHAUSTED",))

    def test_hundreds_of_thousands_of_words(self):
        for one, what in ((data(2, b""), "environment variables"),
                          (data(2, data(1, "A")), "environment variables"),
                          (data(1, b""), "arguments"),
                          (data(3, b""), "outputs"), (data(8, b""), "output node properties")):
            with self.subTest(one=one):  # as many as the worker counts, or the server holds
                self.refused(shell("true") + one * (4_000_000 // len(one)), "Command")
                self.refused(shell("true") + one * 600_000, what)
        properties = data(1, data(1, "unixUID") + data(2, "1000")) * 200_000
        # our server refuses them first; unit/test_plan has the worker's own bound
        self.refused(shell("true") + data(5, properties), "200000 properties")
        self.refused(shell("true"), "200000 properties", extra=data(10, properties))

    def test_a_long_directory_before_each_output(self):
        """Each path is resolved: 100,000 times 4,000 bytes."""
        status, text, _ = self.peer.execute(
            shell("true") + data(6, "./" * 1900 + "w" * 250) + data(OUTPUT_PATHS, "x") * 99_000)
        self.assertEqual(status, "OK", text)  # outputs that nobody made
        deep = "d/" * 1900
        self.refused(shell("true") + data(OUTPUT_PATHS, deep + "x"), "directories deep")

    def test_huge_names(self):
        huge = "n" * (3 << 20)
        for command in (shell("true") + data(OUTPUT_PATHS, huge),
                        shell("true") + data(OUTPUT_PATHS, "/" + huge),
                        shell("true") + data(6, huge),
                        shell("true") + data(2, data(1, huge + "=")),
                        shell("true") + data(5, data(1, data(1, "network") + data(2, huge))),
                        shell("true") + data(5, data(1, data(1, "unixUID") + data(2, huge)))):
            status, text, _ = self.peer.execute(command)
            self.assertEqual(status, "INVALID_ARGUMENT", text[:200])
            self.assertLess(len(text), 10_000)
        status, text, result = self.peer.execute(data(1, huge))
        self.assertEqual(status, "OK", text[:200])
        self.assertEqual(field(result, 4), 126)

    def test_nul_bytes(self):
        """Cut there, commands of several digests would be one."""
        self.refused(shell("true") + data(1, b"a\0b"), "an argument holds a NUL byte")
        self.refused(shell("true") + data(2, data(1, b"A\0B") + data(2, "x")),
                     "the name of an environment variable holds a NUL byte")
        self.refused(shell("true") + data(6, b"\0x"), "working_directory holds a NUL byte")

    # what it leaves behind

    def test_a_directory_of_long_symlinks(self):
        """A few, with many names each: that is quicker to write, and no less to capture."""
        script = ("/usr/bin/python3 -c \"import os\nos.mkdir('d'); os.chdir('d')\n"
                  "for i in range(280000):\n"
                  "    if i % 40000: os.link(str(i - i % 40000), str(i), follow_symlinks=False)\n"
                  "    else: os.symlink('x' * 4090, str(i))\"")
        self.refused(shell(script) + data(OUTPUT_PATHS, "d"), "more than the 1024 MiB",
                     codes=("RESOURCE_EXHAUSTED",), timeout=300)

    def test_more_entries_than_outputs_may_have(self):
        script = ("/usr/bin/python3 -c \"import os\nos.mkdir('d'); os.chdir('d')\n"
                  "for i in range(300100):\n"
                  "    if i % 40000: os.link(str(i - i % 40000), str(i))\n"
                  "    else: open(str(i), 'w').close()\"")
        self.refused(shell(script) + data(OUTPUT_PATHS, "d"), "more than 300000 entries",
                     "--entries-max", codes=("RESOURCE_EXHAUSTED",), timeout=300)

    def test_many_sockets_are_a_few_notes(self):
        n = 20_000 // SCALE
        script = ("/usr/bin/python3 -c \"import os\nos.mkdir('d')\n"
                  f"for i in range({n}): os.mkfifo('d/%d' % i)\"")
        status, text, result = self.peer.execute(shell(script) + data(OUTPUT_PATHS, "d"))
        self.assertEqual(status, "OK", text)
        self.assertIn(f"{n - 100} more like these, skipped".encode(), result)

    # trees that name more paths than anybody can walk

    def doubling(self, levels):
        """The root of a DAG: each Directory holds the one below it twice."""
        below = b""
        for _ in range(levels):
            self.peer.put(below)
            node = digest_of(below)
            below = b"".join(data(2, data(1, name) + data(2, node)) for name in "ab")
        return self.peer.put(below)

    def test_an_output_directory_of_more_paths_than_may_be(self):
        root = self.doubling(40)
        status, text, _ = self.peer.execute(shell("true") + data(OUTPUT_PATHS, "a"), root=root)
        self.assertEqual(status, "RESOURCE_EXHAUSTED", text)
        self.assertIn("more than 300000 entries", text)
        # a Directory names the same without a walk, as has its output nothing else
        status, text, result = self.peer.execute(
            shell("true") + data(OUTPUT_PATHS, "a") + number(9, 1), root=root)
        self.assertEqual(status, "OK", text)
        status, text, _ = self.peer.execute(shell("ls a/b/a"), root=root)
        self.assertEqual(status, "OK", text)

    def test_a_dag_below_the_bound_comes_back(self):
        root = self.doubling(12)
        status, text, result = self.peer.execute(shell("true") + data(OUTPUT_PATHS, "a"),
                                                 root=root)
        self.assertEqual(status, "OK", text)
        self.assertIsNotNone(field(field(result, 3), 3))


if __name__ == "__main__":
    unittest.main(verbosity=2)
