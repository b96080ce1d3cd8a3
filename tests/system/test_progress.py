"""What is told while something goes on: events of --json on stderr, and the line of a terminal."""
import json
import os
import re
import signal
import unittest

import system
from system import BIN, PATIENCE, Process, System, need_root, sandboxes_with, wait_until
from test_commandline import Terminal


def events(process_or_text):
    text = process_or_text if isinstance(process_or_text, str) else process_or_text.err()
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"event":')]


class ProgressTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.system = System()
        self.addCleanup(self.system.close)

    def run_in_background(self, name, *args):
        process = Process(name, [BIN / "lazyroot", "run", "--no-cache", *args], self.system.dir,
                          env=self.system.environment())
        self.system.processes.append(process)
        return process

    def hold(self, marker):
        """The only slot is taken, until the function that is returned is called."""
        self.system.start_worker("--slots", "1")
        self.run_in_background("first", "--", "/bin/sleep", marker)
        wait_until(lambda: sandboxes_with(marker), "the first command")

        def release():
            for pid in sandboxes_with(marker):
                os.kill(pid, signal.SIGKILL)
        return release

    def test_a_queued_action_tells_how_many_are_before_it(self):
        release = self.hold(f"51{os.getpid()}")
        for n in (1, 2, 3):
            run = self.system.lazyroot("run", "--no-cache", "--detach", "--", "/bin/true", str(n))
            self.assertEqual(run.code, 0, run.err)
        last = self.run_in_background("last", "--json", "--", "/bin/sleep", "0.1")
        wait_until(lambda: [e for e in events(last) if e.get("behind") == 3], "its place")
        terminal = Terminal(self.system, ["run", "--no-cache", "--", "/bin/sleep", "0.2"], 60)
        terminal.read(until=b"queued behind 4")
        self.assertIn(b"Running: queued behind 4", terminal.text)
        release()
        self.assertEqual(last.popen.wait(PATIENCE), 0)
        self.assertEqual(terminal.wait(), 0)
        self.assertEqual(terminal.standing(), "")
        told = [e["stage"] for e in events(last)]
        self.assertEqual(sorted(set(told), key=told.index), ["queued", "running", "done"])
        self.assertTrue(all(e["event"] == "running" and e["ms"] >= 0 for e in events(last)))
        json.loads(last.out())  # one document, whatever stderr has

    def test_who_is_next_is_behind_nobody(self):
        release = self.hold(f"52{os.getpid()}")
        run = self.run_in_background("next", "--json", "--", "/bin/true")
        wait_until(lambda: events(run), "an event")
        release()
        self.assertEqual(run.popen.wait(PATIENCE), 0)
        self.assertEqual([e for e in events(run) if "behind" in e], [])

    def test_numbers_come_as_events_and_end_with_all_of_it(self):
        tree = self.system.tree("in", {"f": "", "g": "small"})
        os.truncate(tree / "f", 600 << 20)
        run = self.system.lazyroot("upload", "--json", tree)
        self.assertEqual(run.code, 0, run.err)
        last = {e["event"]: e for e in events(run.err)}
        self.assertLessEqual(set(last), {"reading", "uploading"})
        self.assertEqual(last["reading"]["done"], 2)
        self.assertEqual(last["reading"]["bytes"], (600 << 20) + 5)
        if "uploading" in last:
            self.assertEqual(last["uploading"]["done"], last["uploading"]["total"])
        quiet = self.system.lazyroot("upload", "--json", "--quiet", tree)
        self.assertEqual(events(quiet.err), [])
        self.assertIsNone(re.search("Reading|Uploading", run.err))


if __name__ == "__main__":
    system.main()
