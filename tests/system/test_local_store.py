"""What the client keeps on this machine: what a run brought back, and what a run needs."""
import json
import time

import system
from system import SystemTest


class BroughtBackTest(SystemTest):
    def here(self, verb, *args):
        """From the local store alone."""
        return self.system.lazyroot(verb, *args, env={"LAZYROOT_SERVER": ""})

    def assert_here(self, report, out, err):
        for name, text in (("stdout", out), ("stderr", err)):
            run = self.here("cat", report[name])
            self.assertEqual((run.code, run.text), (0, text), (name, run.err))

    def test_what_a_command_said_is_in_the_local_store_however_it_ended(self):
        for code in (0, 3):
            words = f"{time.monotonic_ns()}"
            run = self.system.sh(f"echo out {words}; echo err {words} >&2; exit {code}")
            self.assertEqual(run.code, code, run.err)
            self.assert_here(run.report, f"out {words}\n", f"err {words}\n")

    def test_of_a_result_that_was_known_already_too(self):
        script = f"echo out {time.monotonic_ns()}"
        first = self.system.sh(script)
        home = {"XDG_CACHE_HOME": str(self.system.dir / "other")}
        run = self.system.sh(script, env=home)
        self.assertTrue(run.report["cached"], run.err)
        found = self.system.lazyroot("cat", first.report["stdout"], env={"LAZYROOT_SERVER": "", **home})
        self.assertEqual((found.code, found.text), (0, first.text), found.err)

    def test_of_one_that_was_waited_for_too(self):
        words = f"{time.monotonic_ns()}"
        operation = self.system.lazyroot(
            "run", "--detach", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", f"echo {words}")
        run = self.system.lazyroot("wait", "--json", operation.text.strip())
        self.assertEqual(run.code, 0, run.err)
        self.assert_here(json.loads(run.out), words + "\n", "")

    def test_a_failed_run_is_looked_at_without_the_service(self):
        tree = self.system.tree("failed", {"f": "content"})
        run = self.system.sh("echo made > new; exit 4", "-i", tree, "-o", "new", "--download",
                             self.system.dir / "failed-out", "--sandbox", "namespaces")
        self.assertEqual(run.code, 4, run.err)
        run = self.here("shell", "--action", run.report["action"], "--result", "--", "/bin/sh", "-c",
                        "cat f new; echo more > new")
        self.assertEqual((run.code, run.text), (0, "contentmade\n"), run.err)


if __name__ == "__main__":
    system.main()
