"""The page for Prometheus: what it counts is what happened, and who asks badly hinders nobody."""
import os
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import system
from system import BIN, SystemTest, delta, metrics, metrics_url, sandboxes_with, wait_until


class MetricsTest(SystemTest):
    worker_args = ("--slots", "2", "--metrics", "127.0.0.1:0")

    def of(self, script, *args, **kwargs):
        """What a run changes, and the run."""
        before = metrics(self.worker)
        run = self.system.sh(script, "--no-cache", *args, **kwargs)
        wait_until(lambda: metrics(self.worker)["lazyroot_slots_busy"] == 0, "the action's end")
        return delta(before, metrics(self.worker)), run

    def outcome_of(self, script, *args):
        changed, _ = self.of(script, *args)
        return {name: n for name, n in changed.items() if name.startswith("lazyroot_actions")}

    def test_outcomes(self):
        for outcome, args in (("succeeded", ["true"]), ("failed", ["exit 3"]),
                              ("failed", ["kill -9 $$"]),
                              ("deadline_exceeded", ["sleep 60", "--timeout", "1s"]),
                              ("invalid_argument", ["true", "--platform", "limit-memory=many"])):
            with self.subTest(args):
                self.assertEqual(self.outcome_of(*args), {
                    f'lazyroot_actions_total{{outcome="{outcome}"}}': 1})

    def test_busy_slots(self):
        marker = f"61{os.getpid()}7"
        client = self.system.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        wait_until(lambda: sandboxes_with(marker), "the command's start")
        now = metrics(self.worker)
        self.assertEqual((now["lazyroot_slots"], now["lazyroot_slots_busy"]), (2, 1))
        client.terminate()
        client.communicate()
        wait_until(lambda: metrics(self.worker)["lazyroot_slots_busy"] == 0, "its end")
        self.assertEqual(metrics(self.worker)['lazyroot_actions_total{outcome="cancelled"}'], 1)

    def test_what_was_read(self):
        files = {f"{i}": os.urandom(5000) for i in range(4)}
        tree = self.system.tree("read", files)
        changed, run = self.of("cat 0 1 2 > /dev/null; sleep 0.2", "--input", tree)
        self.assertEqual(run.report["fetched"]["blobs"], 4, "three files and their directory")
        own = changed["lazyroot_fetch_bytes_total"] - run.report["fetched"]["bytes"]
        self.assertGreater(own, 0, "the worker itself reads the Command")
        self.assertLess(own, 1000)
        self.assertEqual(changed["lazyroot_cache_bytes"],
                         changed["lazyroot_fetch_bytes_total"])
        self.assertGreaterEqual(changed['lazyroot_fuse_requests_total{opcode="LOOKUP"}'], 3)
        spent = changed['lazyroot_action_seconds_total{step="command"}'] * 1000
        self.assertAlmostEqual(spent, run.report["time_ms"]["command"], delta=1)
        # once more: everything is at hand
        changed, _ = self.of("cat 0 1 2 > /dev/null; sleep 0.2", "--input", tree)
        self.assertNotIn("lazyroot_fetch_blobs_total", changed)
        self.assertNotIn("lazyroot_fetch_failed_total", changed)

    def test_calls_have_their_methods(self):
        self.of("true")
        names = [name for name in metrics(self.worker) if name.startswith("lazyroot_cas_rpcs")]
        self.assertTrue(any("BatchReadBlobs" in name for name in names), names)

    def test_versions_and_ways(self):
        infos = [n for n in metrics(self.worker) if n.startswith("lazyroot_worker_info")]
        self.assertRegex(infos[0], r'version="[0-9.]+",data_path="page-cache"')

    def status_of(self, url, **kwargs):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, **kwargs)) as reply:
                return reply.status
        except urllib.error.HTTPError as e:
            e.close()
            return e.code

    def test_other_pages_and_methods(self):
        url = metrics_url(self.worker)
        self.assertEqual(self.status_of(url, method="HEAD"), 200)
        self.assertEqual(self.status_of(url, method="POST", data=b"x"), 405)
        self.assertEqual(self.status_of(url.replace("metrics", "")), 404)
        self.assertEqual(self.status_of(url + "/../../etc/passwd"), 404)

    def test_half_a_request_hinders_no_end(self):
        worker = self.system.start_worker("--metrics", "[::1]:0")
        where = urllib.parse.urlparse(metrics_url(worker))
        with socket.create_connection((where.hostname, where.port)) as half:
            half.sendall(b"GET /met")
            self.assertIn("lazyroot_slots_busy", metrics(worker))
            self.assertEqual(worker.stop(), 0)

    def test_a_busy_slot_hides_no_page_while_the_worker_drains(self):
        worker = self.system.start_worker("--metrics", "127.0.0.1:0", "--platform", "pool=drain")
        marker = f"62{os.getpid()}7"
        client = self.system.popen("run", "--no-cache", "--platform", "pool=drain", "--",
                                   "/bin/sleep", marker)
        wait_until(lambda: sandboxes_with(marker), "the command's start")
        worker.popen.terminate()
        wait_until(lambda: "once more" in worker.err(), "the worker's word")
        self.assertEqual(metrics(worker)["lazyroot_slots_busy"], 1)
        client.terminate()
        client.communicate()
        self.assertEqual(worker.popen.wait(system.PATIENCE), 0)

    def refused(self, address):
        run = subprocess.run(
            [BIN / "lazyroot-worker", "--server", self.system.address, "--cache",
             self.system.dir / "refused", "--metrics", address],
            capture_output=True, text=True, timeout=system.PATIENCE)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("--metrics: ", run.stderr)
        self.assertIn(address, run.stderr)
        return run.stderr

    def test_addresses_that_cannot_be(self):
        self.assertIn("HOST:PORT", self.refused("9090"))
        self.refused("127.0.0.1:http-alt")
        self.refused("nowhere.invalid:9090")
        taken = urllib.parse.urlparse(metrics_url(self.worker)).netloc
        self.assertIn("in use", self.refused(taken))


if __name__ == "__main__":
    system.main()
