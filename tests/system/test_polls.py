"""How long the worker lets its server hold a poll: as long as it likes while nothing runs, and
little while something does, since some schedulers tell only then that it was cancelled."""
import os
import signal
import time
import unittest

import system
from grpc_proxy import Proxy
from system import PATIENCE, System, sandboxes_with, wait_until

POLL = "Bots/UpdateBotSession"


class PollsTest(unittest.TestCase):
    def setUp(self):
        system.need_root()
        here = self.here = System()
        proxy = self.proxy = Proxy(here.address.removeprefix("grpc://"))
        self.addCleanup(proxy.close)
        self.addCleanup(here.close)  # its worker wants to say that it leaves
        self.worker = here.start_worker("--slots", "2", server=f"grpc://{proxy.address}")

    def test_a_worker_that_leaves_asks_with_pauses(self):
        """It was 5,600 calls a second for as long as its last job ran."""
        marker = f"49{os.getpid()}"
        run = self.here.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        wait_until(lambda: sandboxes_with(marker), "the command")
        before = self.proxy.counts[POLL]
        self.worker.popen.terminate()
        wait_until(lambda: self.proxy.counts[POLL] > before, "its word that it leaves")
        before = self.proxy.counts[POLL]
        time.sleep(3)
        self.assertLess(self.proxy.counts[POLL] - before, 100)
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(PATIENCE), 130)
        run.communicate()
        self.assertEqual(self.worker.popen.wait(PATIENCE), 0)

    def test_polls_are_short_while_something_runs(self):
        here, proxy = self.here, self.proxy
        wait_until(lambda: proxy.patience[POLL], "the first poll")
        self.assertGreater(max(proxy.patience[POLL]), 50)
        marker = f"48{os.getpid()}"
        run = here.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        wait_until(lambda: sandboxes_with(marker), "the command")
        n = len(proxy.patience[POLL])
        wait_until(lambda: len(proxy.patience[POLL]) > n, "a poll while it runs")
        self.assertLessEqual(max(proxy.patience[POLL][n:]), 6)
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(PATIENCE), 130)
        run.communicate()


if __name__ == "__main__":
    system.main()
