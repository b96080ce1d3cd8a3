"""The server stands still, goes away or is killed under a job: the worker goes on with the one that
comes back, and what was acknowledged is still there. LAZYROOT_TEST_LONG=1: it is away for longer."""
import os
import signal
import time

import system
from crash import IS_LONG, CrashCase, mounts_anywhere
from system import sandboxes_with, wait_until

class ServerTest(CrashCase):
    def start_that_has_read(self):
        """A job that has read all it needs, and will end soon."""
        marker = f"3.{os.getpid()}1"  # seconds in which it is seen
        self.script += f"; sleep {marker}"
        client = self.start()
        wait_until(lambda: sandboxes_with(marker), "the command to have read its inputs")
        return client

    def test_server_that_stands_still_for_a_while(self):
        worker = self.system.start_worker()
        client = self.start_that_has_read()
        os.kill(self.system.server.pid, signal.SIGSTOP)
        wait_until(lambda: " capturing" in worker.err(), "the command's end")
        time.sleep(60 if IS_LONG else 3)
        os.kill(self.system.server.pid, signal.SIGCONT)
        self.finish(client)

    def test_server_killed_during_a_job(self):
        worker = self.system.start_worker()
        client = self.start_that_has_read()
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        wait_until(lambda: " capturing" in worker.err(), "the command's end")
        time.sleep(60 if IS_LONG else 1)
        self.system.start_server(listen=self.system.address)
        self.finish(client)
        self.assertIsNone(worker.popen.poll())

    def test_worker_without_a_server_can_be_ended(self):
        """It has a result that nobody takes: the first signal waits for that, the second not."""
        worker = self.system.start_worker()
        # without outputs, whose upload would wait for the server
        client = self.system.popen("run", "--", "/bin/sleep", "2")
        wait_until(lambda: " running" in worker.err(), "the command's start")
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        wait_until(lambda: " ended" in worker.err(), "the job's end")
        worker.popen.terminate()
        wait_until(lambda: "once more" in worker.err(), "the worker's word")
        self.assertIsNone(worker.popen.poll())
        worker.popen.terminate()
        self.assertEqual(worker.popen.wait(system.PATIENCE / 2), 1)
        self.assertIn(self.system.address, worker.err().splitlines()[-1])
        self.assertEqual(mounts_anywhere(worker.cache), [])
        client.kill()
        client.communicate()

    def test_server_gone_while_a_command_reads(self):
        """Reading waits for the server; the command sees nothing of it."""
        worker, client = self.start_stopped("running")
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        worker.popen.send_signal(signal.SIGCONT)
        wait_until(lambda: "again in" in worker.err() and " fetch " in worker.err(),
                   "a read that found no server")
        time.sleep(40 if IS_LONG else 2)
        self.assertNotIn(" ended", worker.err())
        self.system.start_server(listen=self.system.address)
        # its lease is lost with the old server, and it would stop again: another one goes on
        worker.stop(signal.SIGKILL)
        self.system.start_worker(cache=worker.cache)
        self.finish(client)

    def test_killed_server_keeps_what_it_acknowledged(self):
        self.system.start_worker()
        self.run_whole()
        digest = self.system.upload(self.tree)
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        self.system.start_server(listen=self.system.address)
        client = self.start("--report", self.system.dir / "again.json")
        self.finish(client)
        self.assertIn('"cached": true', (self.system.dir / "again.json").read_text()
                      .replace('"cached":true', '"cached": true'))
        self.assertEqual(self.system.lazyroot("download", digest, "back").code, 0)
        for path, text in self.files.items():
            self.assertEqual((self.system.dir / "back" / path).read_text(), text)


if __name__ == "__main__":
    system.main()
