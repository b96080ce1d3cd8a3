"""What a command read of its inputs is told: by directory, from the profile that its worker shares
(docs/foresight.md)."""
import json
import unittest

import system
from system import System


class ReadsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.system = System(("--grant", "local=all"))
        cls.worker = cls.system.start_worker()
        tree = cls.system.tree("root", {
            "a/read": "1\n", "a/not": "22\n", "a-b/read": "333\n", "b/deep/er/none": "4444\n",
            "b/none": "5\n", "top": "6\n", "link": ("link", "a/read")})
        cls.root = cls.system.upload(tree)

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def run_cat(self, *args, files="a/read a-b/read"):
        return self.system.sh(f"cat {files}", "--input-digest", self.root, "--no-cache", *args)

    def test_a_run_tells_what_it_read_and_never_touched(self):
        run = self.run_cat("--reads")
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(run.text, "1\n333\n")  # the command's own output is not touched
        lines = run.err.splitlines()
        for line in ("./  read 2 of 6 files, 6 B of 18 B", "a/  read 1 of 2 files, 2 B of 5 B",
                     "  a/read  2 B", "a-b/  read 1 of 1 files, 4 B of 4 B",
                     "b/  never touched: 2 files, 7 B"):
            self.assertIn(line, lines)
        self.assertNotIn("  a/not", run.err)
        self.assertNotIn("b/deep", run.err)

    def test_an_action_tells_the_same_as_a_document(self):
        run = self.run_cat("--reads", files="a/read top")
        self.assertEqual(run.code, 0, run.err)
        told = self.system.lazyroot("action", "--reads", "--json", run.report["action"])
        self.assertEqual(told.code, 0, told.err)
        document = json.loads(told.text)
        self.assertEqual(document["runs"], 1)
        files = {row["path"]: row for row in document["reads"] if row["kind"] == "file"}
        self.assertEqual(set(files), {"a/read", "top"})
        self.assertEqual(files["top"],
                         {"path": "top", "kind": "file", "bytes": 2, "read_by": 1, "of_runs": 1})
        untouched = {row["path"]: row["files"] for row in document["reads"]
                     if row["kind"] == "untouched"}
        self.assertEqual(untouched, {"a-b": 1, "b": 2})

    def test_what_no_worker_told_is_said(self):
        tree = self.system.upload(self.system.tree("other", {"f": "x"}))
        run = self.system.sh("exit 0; never run like this", "--input-digest", tree, "--detach",
                             "--platform", "nobody=has")
        action = self.system.lazyroot("action", "--reads", self.run_never(tree))
        self.assertEqual(run.code, 0, run.err)
        self.assertEqual(action.code, 1)
        self.assertIn("no worker has told what this command reads", action.err)

    def test_a_run_ends_as_its_command_did(self):
        run = self.system.sh("exit 3", "--input-digest", self.root, "--no-cache", "--reads")
        self.assertEqual(run.code, 3, run.err)  # it opened nothing, so there is no profile
        self.assertIn("--reads: no worker has told what this command reads", run.err)

    def run_never(self, tree):
        """The digest of an action that no worker can run."""
        run = self.system.lazyroot("run", "--input-digest", tree, "--detach", "--json",
                                   "--platform", "nobody=has", "--", "/bin/true", "never")
        document = json.loads(run.text)
        self.system.lazyroot("cancel", document["operation"])
        return document["action"]


if __name__ == "__main__":
    system.main()
