"""Our worker and client under BuildGrid, its SQL scheduler on PostgreSQL."""
import signal
import time
import unittest

import forky
from buildgrid import BuildGridTests, PostgreSQL
from system import PATIENCE, sandboxes_with, wait_until


class BuildGridPostgreSQLTest(BuildGridTests, unittest.TestCase):
    database = PostgreSQL

    def test_an_idle_or_busy_worker_asks_with_pauses(self):
        self.worker(2)
        marker = forky.marker()
        run = self.grid.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        wait_until(lambda: sandboxes_with(marker), "the job")
        time.sleep(3)  # pauses grow to a second
        before = self.grid.database.commits()
        time.sleep(5)
        self.assertLess(self.grid.database.commits() - before, 400, "1,362 without a pause")
        run.send_signal(signal.SIGINT)
        run.wait(PATIENCE)
        run.communicate()
