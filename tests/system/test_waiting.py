"""Runs that wait, and runs that nobody waits for, through the real programs."""
import os
import signal
import time

import system
from attack import BOTS, Peer, data, field, fields, number
from system import System, SystemTest, sandboxes_with, wait_until


class WaitingTest(SystemTest):
    server_args = ("--abandon", "1s", "--heartbeat", "1s")
    worker_args = ("--slots", "2")

    def sleeper(self, *options):
        marker = f"48{os.getpid()}{time.monotonic_ns() % 1000000}"
        client = self.system.popen("run", "--no-cache", *options, "--", "/bin/sleep", marker)
        wait_until(lambda: sandboxes_with(marker), "the command")
        return client, marker

    def test_a_client_that_is_killed_leaves_nothing_running(self):
        client, marker = self.sleeper()
        client.kill()
        client.communicate()
        wait_until(lambda: not sandboxes_with(marker), "the end of what nobody waits for")

    def test_a_client_that_lives_keeps_its_command(self):
        client, marker = self.sleeper()
        time.sleep(4)
        self.assertTrue(sandboxes_with(marker))
        client.send_signal(signal.SIGTERM)
        client.communicate()
        self.assertEqual(client.returncode, 143)
        wait_until(lambda: not sandboxes_with(marker), "the end of what was cancelled")

    def test_a_detached_run_goes_on_and_can_be_waited_for(self):
        marker = f"48{os.getpid()}77"
        run = self.assert_ok(self.system.lazyroot(
            "run", "--detach", "--no-cache", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
            f"sleep {marker} & p=$!; sleep 8; kill $p; echo said; exit 7"))
        wait_until(lambda: sandboxes_with(marker), "the command")
        time.sleep(3)
        self.assertTrue(sandboxes_with(marker), "nobody watches, and nobody has to")
        waited = self.system.lazyroot("wait", run.text.strip())
        self.assertEqual((waited.code, waited.text), (7, "said\n"), waited.err)

    def test_who_only_waits_is_told_of_an_end_that_another_try_might_mend(self):
        """Such an end makes run begin anew; wait does not know what."""
        own = System()
        self.addCleanup(own.close)
        name = self.assert_ok(own.lazyroot("run", "--detach", "--", "/bin/true")).text.strip()
        with Peer(own.address) as peer:
            def report(*leases):
                return [v for n, v in fields(peer.call(
                    BOTS + "UpdateBotSession", data(1, session) + data(2, data(1, session)
                    + data(2, "bot") + number(3, 1) + b"".join(data(5, lease) for lease in leases))))
                        if n == 5]
            session = field(peer.call(BOTS + "CreateBotSession", data(2, data(2, "bot")
                                                                      + number(3, 1))), 1)
            lease = data(7, field(report()[0], 7))
            report(lease + number(2, 2))
            report(lease + number(2, 4) + data(3, number(1, 14) + data(2, "not today")))
        run = own.lazyroot("wait", name)
        self.assertEqual(run.code, 125, run.err)
        self.assertIn("not today", run.err)

    def test_what_no_worker_offers_fails_by_name(self):
        run = self.system.run("--platform", "OSFamily=plan9", "--", "/bin/true")
        self.assertEqual(run.code, 125)
        for word in ("OSFamily", "plan9", "linux"):
            self.assertIn(word, run.err)
        run = self.system.run("--platform", "container-image=docker://x", "--", "/bin/true")
        self.assertEqual(run.code, 125)
        self.assertIn("container-image", run.err)

    def test_without_a_worker_it_waits_and_says_so(self):
        own = System()
        self.addCleanup(own.close)
        client = own.popen("run", "--", "/bin/echo", "came")
        time.sleep(2)
        self.assertIsNone(client.poll())
        own.start_worker()
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out), (0, b"came\n"), err)
        self.assertEqual(err.count(b"no worker is connected"), 1, err)

    def test_a_server_that_is_restarted_loses_no_run(self):
        own = System(["--abandon", "60s"])
        self.addCleanup(own.close)
        own.start_worker()
        client = own.popen("run", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                           "sleep 3; echo done")
        wait_until(lambda: "running" in own.processes[1].err(), "the start")
        own.server.stop(signal.SIGKILL)
        time.sleep(1)
        own.start_server(listen=own.address)
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out), (0, b"done\n"), err)


if __name__ == "__main__":
    system.main()
