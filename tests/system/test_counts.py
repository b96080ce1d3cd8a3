"""Request counts: what a step may cost in FUSE messages and RPCs, on any machine.

The worker logs its counters when a job ends (--log job=debug); a difference between two jobs is
what happened between their ends.
"""
import json
import os
import pathlib
import signal

import system
from system import SystemTest, counts, delta, fuse_only, wait_until

READ = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs"
TREE = "/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree"
MISSING = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs"
UPDATE = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs"
STREAM = "/google.bytestream.ByteStream/Read"


class CountsTest(SystemTest):
    worker_args = ("--slots", "1")

    def step(self, script, *args):
        """Runs a script; what it cost since the end of the job before it."""
        before = counts(self.worker)
        run = self.assert_ok(self.system.sh(script, "--no-cache", *args))
        system.wait_until(lambda: counts(self.worker) != before, "the job's counters", 5)
        return run, delta(before, counts(self.worker))

    def tree_of(self, name, n_dirs, n_files):
        return self.system.tree(name, {f"d{d}/f{f}": f"{name} {d} {f}\n" for d in range(n_dirs)
                                       for f in range(n_files)})

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # what the kernel asks once in a mount's life (OPEN, FLUSH, GETXATTR: "not here")
        tree = cls.system.tree("first", {"f": "x", "d/g": "y"})
        cls.system.sh("cat f; ls -l . d", "--input", tree)

    def setUp(self):
        self.step("true")  # so that the difference begins with a known job

    def test_second_action_sends_nothing_for_what_the_first_touched(self):
        tree = self.tree_of("second", 5, 10)
        script = "cat d*/f* > /dev/null; ls -lR . > /dev/null; test -e nothing; test -e d1/none; true"
        self.step(script, "--input", tree)
        _, cost = self.step(script, "--input", tree)
        self.assertEqual(fuse_only(cost), {})
        self.assertEqual(cost.get(READ, 0) + cost.get(TREE, 0) + cost.get(STREAM, 0), 0)

    def test_find_in_a_warm_tree_sends_nothing(self):
        tree = self.tree_of("find", 20, 5)
        self.step("find . -size +0 > /dev/null", "--input", tree)
        run, cost = self.step("find . -type f | wc -l", "--input", tree)
        self.assertEqual(run.text.strip(), "100")
        self.assertEqual(fuse_only(cost), {})

    def test_cat_of_a_cold_file(self):
        tree = self.system.tree("cold", {"a/b/c/file": "cold\n", "a/b/other": "x"})
        self.step("true", "--input", tree)  # the directories are known, the file is not
        run, cost = self.step("cat a/b/c/file", "--input", tree)
        self.assertEqual(run.text, "cold\n")
        fuse = fuse_only(cost)
        self.assertEqual(fuse.pop("LOOKUP"), 4)
        self.assertEqual(fuse.pop("READ"), 1)
        self.assertEqual(fuse, {})
        self.assertLessEqual(cost.get(READ, 0), 2)  # the file, and before it the Command
        self.assertEqual(run.report["fetched"]["round_trips"], 1)
        self.assertEqual(cost.get(STREAM, 0) + cost.get(TREE, 0), 0)

    def test_k_opened_files_fetch_at_most_k_blobs(self):
        tree = self.tree_of("sparse", 30, 30)
        cold, _ = self.step("true", "--input", tree)
        self.assertEqual(cold.report["opened"]["files"], 0)
        k = 12
        script = "; ".join(f"cat d{i}/f{i}" for i in range(k))
        run, cost = self.step(script, "--input", tree)
        self.assertEqual(run.report["opened"]["files"], k)
        self.assertLessEqual(run.report["fetched"]["blobs"], k)
        self.assertEqual(run.report["fetched"]["bytes"], run.report["opened"]["bytes"])
        self.assertLessEqual(cost.get(READ, 0), k + 1)  # the Command is the one more

    def test_cold_tree_is_one_get_tree(self):
        tree = self.tree_of("directories", 50, 2)
        run, cost = self.step("find . > /dev/null", "--input", tree)
        self.assertEqual(cost.get(TREE, 0), 1)
        # what came besides: the Command
        self.assertLessEqual(cost.get(READ, 0), 2)
        self.assertEqual(run.report["input"]["files"], 100)

    def test_files_are_shared_between_roots(self):
        shared = {f"lib/f{i}": f"shared {i}\n" for i in range(20)}
        one = self.system.tree("one", {**shared, "own": "1"})
        two = self.system.tree("two", {**shared, "own": "2"})
        self.step("cat lib/*", "--input", one)
        run, cost = self.step("cat lib/*", "--input", two)
        # new directories mean new lookups, but no byte is read again: same nodes, same pages
        self.assertEqual(cost.get("READ", 0), 0)
        self.assertEqual(run.report["opened"]["files"], 20)
        self.assertEqual(cost.get(STREAM, 0), 0)

    def test_opened_files_count_though_the_worker_looks_late(self):
        """The command has ended, and its mounts with it, before the worker hears of its opens."""
        files = {f"lib/f{i}": f"late {i}\n" for i in range(20)}
        tree = self.system.tree("late", files)
        words = ["--no-cache", "--input", tree, "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c"]
        self.assert_ok(self.system.run(*words, "cat lib/*"))
        marker = f"3.{os.getpid()}1"  # seconds in which it is seen, and the worker stopped
        report = self.system.dir / "late.json"
        client = self.system.popen("run", "--report", report, *words,
                                   f"sleep {marker}; cat lib/*")
        wait_until(lambda: system.sandboxes_with(marker), "the command's start")
        self.worker.popen.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: not any(
                system.command_line(pid).startswith(b"/usr/bin/bwrap")
                for pid in system.descendants(self.worker.pid)), "the sandbox's end")
        finally:
            self.worker.popen.send_signal(signal.SIGCONT)
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out.decode()), (0, "".join(sorted(files.values(),
                         key=lambda text: f"f{text.split()[1]}"))), err)
        self.assertEqual(json.loads(report.read_text())["opened"]["files"], 20)

    def test_equal_files_of_one_root_are_two_files(self):
        tree = self.system.tree("equal", {"a": "same\n", "b": "same\n", "d/c": "same\n"})
        run, _ = self.step("echo more >> a; cat b d/c; cat a; stat -c %i a b d/c | sort -u | wc -l;"
                           "cp b copied && mv d/c b && cat b copied", "--input", tree)
        self.assertEqual(run.text, "same\nsame\nsame\nmore\n3\nsame\nsame\n")

    def test_nothing_to_upload_costs_no_rpc(self):
        self.step("exit 0")
        _, cost = self.step("exit 0")  # the same Command: nothing to read either
        self.assertEqual([k for k in cost if k.startswith("/")], [])

    def test_outputs_cost_one_question_and_one_batch(self):
        run, cost = self.step("for i in 1 2 3 4 5; do echo $i > o/$i; done", "--output", "o/1",
                              "--output", "o/2", "--output", "o/3", "--no-download")
        self.assertEqual(cost.get(MISSING, 0), 1)
        self.assertEqual(cost.get(UPDATE, 0), 1)

    def test_outputs_are_not_fetched_again(self):
        stamp = f"{os.getpid()} own output\n"
        run, _ = self.step(f"printf '{stamp}' > o", "--output", "o", "--download", "fed")
        tree = self.system.tree("feed", {"o": stamp})
        self.step("true", "--input", tree)
        again, cost = self.step("cat o", "--input", tree)
        self.assertEqual(again.report["opened"]["files"], 1)
        self.assertEqual(again.report["fetched"]["blobs"], 0)
        self.assertEqual(cost.get(STREAM, 0), 0)

    def test_chmod_and_rename_of_inputs_fetch_nothing(self):
        tree = self.system.tree("meta", {"big": os.urandom(3 << 20), "d/x": "x\n"})
        self.step("true", "--input", tree)
        run, cost = self.step("chmod 700 big; mv d e; ls -d e/x", "--input", tree)
        self.assertEqual(run.text, "e/x\n")
        self.assertEqual(run.report["fetched"]["blobs"], 0)
        self.assertEqual(cost.get("READ", 0) + cost.get(STREAM, 0), 0)


if __name__ == "__main__":
    system.main()
