"""lazyroot diff: what it says of two trees, and what it reads for that."""
import json
import os
import re
import subprocess
import time
import unittest

import system
from grpc_proxy import Proxy
from system import SystemTest, System
from test_closure import Tree

CAS = "/build.bazel.remote.execution.v2.ContentAddressableStorage/"


def calls(run):
    """Calls by method, as --log debug tells them at the end."""
    return {name: int(n) for name, n in re.findall(r"calls (\S+)=(\d+)", run.err)}


class RoundTrips(Proxy):
    """Far away: each call takes a while, and how many of them waited for each other is known."""

    def __init__(self, target):
        self.spans = []
        super().__init__(target)

    def pass_on(self, details, name, *args):
        began = time.monotonic()
        answers = list(super().pass_on(details, name, *args))
        time.sleep(0.05)
        self.spans.append((time.monotonic(), began, name))
        yield from answers

    def one_after_another(self, wanted):
        n = last = 0
        for ended, began, name in sorted(self.spans):
            if name == wanted and began >= last:
                n, last = n + 1, ended
        return n


class DiffTest(SystemTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.was = cls.upload("was", {
            "same/deep/f": "f", "changed": "one\ntwo\nthree\n", "gone": "gone\n",
            "run": ("exec", "#!/bin/sh\n"), "link": ("link", "here"), "typed": "file\n",
            "dir/inside": "x\n", "bin": b"\0one", "empty-gone": None})
        cls.now = cls.upload("now", {
            "same/deep/f": "f", "changed": "one\n2\nthree\n", "come": "come\n",
            "run": "#!/bin/sh\n", "link": ("link", "there"), "typed": ("link", "changed"),
            "dir": "now a file\n", "bin": b"\0two", "new/deep/er": "n", "empty": None})

    @classmethod
    def upload(cls, name, files):
        return cls.system.upload(cls.system.tree(name, files), "--mtimes", "never")

    def diff(self, *args, code=1, **kwargs):
        run = self.system.lazyroot("diff", *args, **kwargs)
        self.assertEqual(run.code, code, run.err)
        return run

    def test_names_have_letters_as_gits(self):
        self.assertEqual(self.diff(self.was, self.now).text.splitlines(), [
            "M\tbin", "M\tchanged", "A\tcome", "D\tdir/inside", "A\tdir", "A\tempty/",
            "D\tempty-gone/", "D\tgone", "M\tlink", "A\tnew/deep/er", "M\trun", "T\ttyped"])

    def test_codes_are_those_of_diff(self):
        self.assertEqual(self.diff(self.was, self.was, code=0).out, b"")
        nowhere = "0" * 64 + "/5"
        self.assertIn("NOT_FOUND", self.diff(self.was, nowhere, "--log", "debug", code=2).err)
        self.diff(self.was, code=2)
        self.diff(self.was, self.now, "--stat", "--patch", code=2)
        text = self.system.upload(self.system.tree("text", {"f": "no tree"}) / "f")
        self.assertIn("neither a Directory nor a Tree nor an Action",
                      self.diff(self.was, text, code=2).err)

    def test_sizes_need_no_blob(self):
        run = self.diff("--log", "debug", "--stat", self.was, self.now,
                        env={"XDG_CACHE_HOME": str(self.system.dir / "stat-home")})
        self.assertIn(" changed | 14 -> 12 bytes\n", run.text)
        self.assertIn(" run | 10 -> 10 bytes, no longer executable\n", run.text)
        self.assertIn(" 12 paths differ: 4 new, 3 gone, 5 changed; ", run.text)
        store = self.system.dir / "stat-home/lazyroot/cas/blobs"
        held = {p.name for p in store.glob("*/*")}
        file_ = self.system.upload(self.system.dir / "was/changed").split("/")[0]
        self.assertNotIn(file_, held)
        self.diff("--patch", self.was, self.now,
                  env={"XDG_CACHE_HOME": str(self.system.dir / "stat-home")})
        self.assertIn(file_, {p.name for p in store.glob("*/*")})

    def test_a_patch_is_one_that_git_applies(self):
        """Text files, links and modes; what is binary is said."""
        run = self.diff("--patch", self.was, self.now)
        self.assertIn("@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n", run.text)
        self.assertIn("Binary files differ: 4 and 4 bytes\n", run.text)
        a = self.system.tree("pa", {"f": "".join(f"{i}\n" for i in range(100)), "g": "no end",
                                    "l": ("link", "x"), "x": ("exec", "run\n"), "d": "away\n"})
        lines = [f"{i}\n" for i in range(100)]
        lines[3:5], lines[50], lines[97:] = ["three\n"], "fifty\nmore\n", []
        b = self.system.tree("pb", {"f": "".join(lines), "g": "no end\n", "l": ("link", "y"),
                                    "x": "run\n", "n/e/w": "new\nfile"})
        patch = self.diff("--patch", self.system.upload(a), self.system.upload(b)).out
        applied = subprocess.run(["git", "apply", "-p1", "-"], input=patch, cwd=a,
                                 capture_output=True)
        self.assertEqual(applied.returncode, 0, applied.stderr)
        self.diff(self.system.upload(a, "--mtimes", "never"),
                  self.system.upload(b, "--mtimes", "never"), code=0)

    def patch_afresh(self, was, now, name):
        """With nothing in the local store."""
        return self.diff("--patch", "--log", "debug", was, now,
                         env={"XDG_CACHE_HOME": str(self.system.dir / name)})

    def test_contents_come_together(self):
        """Of 100 files that differ: both sides in the time of a few round trips."""
        was = self.upload("many-was", {f"{i % 3}/{i}": f"was {i}\n" for i in range(100)})
        now = self.upload("many-now", {f"{i % 3}/{i}": f"is {i}\n" for i in range(100)})
        proxy = RoundTrips(self.system.address)
        self.addCleanup(proxy.close)
        run = self.diff("--patch", was, now, address=proxy.address,
                        env={"XDG_CACHE_HOME": str(self.system.dir / "many-home")})
        for i in range(100):
            self.assertIn(f"--- a/{i % 3}/{i}\n+++ b/{i % 3}/{i}\n@@ -1 +1 @@\n-was {i}\n+is {i}\n",
                          run.text)
        n = proxy.one_after_another("ContentAddressableStorage/BatchReadBlobs")
        print(f"\n  200 contents in {n} round trips, with those of the trees")
        # two roots and one level of directories, then as many calls at once as may be
        self.assertLessEqual(n, 3 + 5)

    def test_only_contents_that_are_shown_come(self):
        same = "the same\n"
        was = self.upload("shown-was", {"mode": same, "large": b"x" * (2 << 20), "small": "a\n"})
        now = self.upload("shown-now", {"mode": ("exec", same), "large": b"y" * (2 << 20),
                                        "small": "b\n"})
        run = self.patch_afresh(was, now, "shown-home")
        self.assertIn("Large files differ", run.text)
        self.assertIn("old mode 100644\nnew mode 100755\n", run.text)
        held = list((self.system.dir / "shown-home/lazyroot/cas/blobs").glob("*/*"))
        self.assertEqual(sorted(p.stat().st_size for p in held)[:2], [2, 2])
        self.assertEqual(len(held), 2 + 2)  # two roots

    def test_more_contents_than_are_held_at_once(self):
        lines = "".join(f"{i:07}\n" for i in range(120000))  # 0.96 MB
        was = self.upload("lots-was", {f"{i:02}": f"{i}\n{lines}" for i in range(20)})
        now = self.upload("lots-now", {f"{i:02}": f"{i}\n{lines}end\n" for i in range(20)})
        run = self.patch_afresh(was, now, "lots-home")
        self.assertEqual(re.findall(r"^\+\+\+ b/(\d+)$", run.text, re.M),
                         [f"{i:02}" for i in range(20)])
        self.assertEqual(run.text.count("\n+end\n"), 20)

    def test_a_content_that_is_nowhere_is_named_after_those_before_it(self):
        was = self.upload("lost-was", {"a": "a\n", "b": "b\n", "c": "c\n"})
        now = self.upload("lost-now", {"a": "aa\n", "b": "lost for ever\n", "c": "cc\n"})
        lost = self.system.upload(self.system.dir / "lost-now/b")
        self.system.server.stop()
        self.system.blob_path(self.system.dir / "data", lost).unlink()
        self.system.start_server()
        run = self.diff("--patch", was, now, code=2,
                        env={"XDG_CACHE_HOME": str(self.system.dir / "lost-home")})
        self.assertIn("+aa\n", run.text)
        self.assertNotIn("+cc\n", run.text)
        self.assertRegex(run.err, r"lazyroot diff: b: .*" + lost.split("/")[0])

    def test_json_says_both_sides(self):
        document = json.loads(self.diff("--json", self.was, self.now).text)
        self.assertEqual((document["was"], document["is"]), (self.was, self.now))
        of = {c["path"]: c for c in document["changes"] if c["path"] != "dir"}
        self.assertEqual(of["gone"]["status"], "D")
        self.assertIsNone(of["gone"]["is"])
        self.assertEqual(of["run"]["was"]["executable"], True)
        self.assertEqual(of["typed"]["is"], {"type": "symlink", "target": "changed"})
        self.assertEqual(json.loads(self.diff("--json", self.was, self.was, code=0).text)
                         ["changes"], [])

    def test_times_alone_are_said_as_such(self):
        tree = self.system.tree("times", {"f": "f", "d/g": "g"})
        first = self.system.upload(tree, "--mtimes", "always")
        os.utime(tree / "d/g", (1, 1))
        second = self.system.upload(tree, "--mtimes", "always")
        self.assertEqual(self.diff(first, second).text, "P\td/g\n")

    def test_of_an_action_its_input_root_or_what_it_left(self):
        tree = self.system.tree("act", {"in": "in\n", "sub/old": "old\n"})
        run = self.system.sh("echo new > sub/old; mkdir out; echo o > out/o; echo x > made; exit 3",
                             "--input", tree, "--output", "sub/old", "--output", "out",
                             "--output", "made", "--no-download", "--mtimes", "never")
        self.assertEqual(run.code, 3, run.err)  # in no action cache: it failed
        action = run.report["action"]
        root = self.system.upload(tree, "--mtimes", "never")
        self.diff(action, root, code=0)
        self.assertEqual(self.diff(action, action + "+result").text,
                         "A\tmade\nA\tout/o\nM\tsub/old\n")
        unknown = self.system.run("--no-download", "--no-cache", "--input", tree, "--", "/bin/true")
        self.assertIn("no result of the action is known",
                      self.diff(root, unknown.report["action"] + "+result", code=2).err)
        self.assertIn("only an Action has a result", self.diff(root, root + "+result", code=2).err)


class MillionTest(unittest.TestCase):
    """Two trees of 1,000,000 files, of which ten differ: the directories on the way alone are
    read, and a level costs one round trip."""

    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.system = System()

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def test_ten_of_a_million_files_cost_their_ways(self):
        changed = [(g * 2, g * 10 + 3) for g in range(10)]  # each in another group
        was, now = Tree(), Tree(*changed)
        was.upload(self.system)
        now.upload(self.system, set(was.blobs))
        fresh = {"XDG_CACHE_HOME": str(self.system.dir / "million-home")}
        run = self.system.lazyroot("diff", "--log", "debug", was.root, now.root, env=fresh)
        self.assertEqual(run.code, 1, run.err)
        self.assertEqual(run.text.splitlines(),
                         sorted(f"M\tg{g:02}/d{d:02}/g{g}d{d}" for g, d in changed))
        held = list((self.system.dir / "million-home/lazyroot/cas/blobs").glob("*/*"))
        self.assertEqual(len(held), 2 * (1 + 10 + 10))  # both sides, each on its way
        made = calls(run)
        self.assertNotIn(CAS + "GetTree", made)
        # two roots and two levels; what is asked for together may leave in several calls
        self.assertLessEqual(made[CAS + "BatchReadBlobs"], len(held))
        print(f"\n  {len(held)} directories of {len(set(was.blobs + now.blobs)):,} read, in "
              f"{made[CAS + 'BatchReadBlobs']} calls")


if __name__ == "__main__":
    system.main()
