"""A team without a farm: commands run on each one's machine, results and what they name are shared."""
import json
import os
import shutil
import unittest

import system
from system import System, need_root


class TeamTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System(("--grant", "local=all"))
        cls.tree = cls.system.tree("tree", {"in": "input\n"})

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def run_as(self, who, place, script, *args, push=True):
        """One of the team, whose machine knows only what others have shared."""
        url = self.system.address
        dest = self.system.dir / f"dest-{who}"
        run = self.system.lazyroot(
            "run", *(("--sandbox", place) if place else ()), "--storage", url, "--action-cache",
            url + (",push" if push else ""), "--json", "--input", self.tree, "--env",
            "PATH=/usr/bin:/bin", "--download", dest, *args, "--", "/bin/sh", "-c", script,
            env={"XDG_CACHE_HOME": str(self.system.dir / f"home-{who}"), "LAZYROOT_SERVER": ""})
        return run, json.loads(run.out) if run.out else None, dest

    def test_what_one_made_the_others_have(self):
        for place, other in (("namespaces", "plain"), ("plain", "namespaces")):
            script = (f": {place}; mkdir -p d/e; cat in > d/e/f; ln -s e d/l; echo x > x; "
                      "chmod +x x; head -c 3000000 /dev/zero; echo wrong >&2")
            words = ("--output", "d", "--output", "x")
            run, made, dest = self.run_as(f"{place}-1", place, script, *words)
            self.assertEqual((run.code, made["cached"]), (0, False), run.err[-300:])
            run, had, copy = self.run_as(f"{place}-2", other, script, *words)
            self.assertEqual((run.code, had["cached"]), (0, True), run.err[-300:])
            for key in ("action", "outputs", "stdout", "stderr"):
                self.assertEqual(made[key], had[key])
            self.assertEqual((copy / "d/l/f").read_text(), "input\n")
            self.assertTrue(os.access(copy / "x", os.X_OK))
            self.assertIn("wrong\n", run.err)
            shutil.rmtree(copy)
            # who has a farm finds it, too, although nobody works there
            run = self.system.lazyroot("run", "--input", self.tree, "--env", "PATH=/usr/bin:/bin",
                                       *words, "--download", copy, "--", "/bin/sh", "-c", script)
            self.assertEqual(run.code, 0, run.err[-300:])
            self.assertIn("from the cache", run.err)

    def test_only_what_succeeded_and_may_be_cached_is_shared(self):
        for number, (script, code, words) in enumerate((
                ("exit 3", 3, {}), ("exit 0 # unasked", 0, {"args": ("--no-cache",)}),
                ("exit 0 # no push", 0, {"push": False}))):
            args, push = words.get("args", ()), words.get("push", True)
            for who in ("one", "two"):
                run, found, _ = self.run_as(f"only-{number}-{who}", "namespaces", script, *args,
                                            push=push)
                self.assertEqual((run.code, found["cached"]), (code, False), run.err)

    def test_a_storage_alone_runs_no_command(self):
        run, found, _ = self.run_as("auto", None, "echo here")
        self.assertEqual((run.code, found["worker"]), (0, None), run.err)

    def test_a_cache_that_is_down_is_as_good_as_an_empty_one(self):
        other = System()
        address = other.address
        other.close()
        run = self.system.lazyroot(
            "run", "--sandbox", "namespaces", "--storage", self.system.address, "--action-cache",
            address + ",push", "--", "/bin/true", env={"LAZYROOT_SERVER": ""})
        self.assertEqual(run.code, 0, run.err)
        self.assertIn("the action cache did not take the result", run.err)

    def test_a_cache_alone_is_not_enough(self):
        run = self.system.lazyroot("run", "--action-cache", self.system.address, "--", "true",
                                   env={"LAZYROOT_SERVER": ""})
        self.assertEqual(run.code, 2)
        self.assertIn("--storage", run.err)


if __name__ == "__main__":
    system.main()
