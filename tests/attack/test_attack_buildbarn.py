"""A scheduler that says what no scheduler should: the worker refuses by status or asks again
slowly, and takes the next job."""
import os
import time
import unittest

import system
from attack import Peer, data, digest_of, number
from buildbarn_scheduler import Scheduler, action_of, timestamp
from system import System, wait_until


def executing(*parts):
    return data(2, data(2, b"".join(parts)))


class BuildbarnAttack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.system = System(("--grant", "local=all"))
        cls.peer = Peer(cls.system.address)
        cls.scheduler = Scheduler(hold=1, beat=0.3)
        cls.worker = cls.system.start_worker(
            "--source", "buildbarn", "--cas", cls.system.address, "--slots", "1",
            server=cls.scheduler.address)

    @classmethod
    def tearDownClass(cls):
        cls.worker.stop()
        cls.scheduler.close()
        cls.peer.close()
        cls.system.close()

    def tearDown(self):
        """Whatever it heard, the worker lives, and takes the next job."""
        task = self.scheduler.execute(*action_of(self.peer, "echo next"))
        self.assertEqual(task.status()[0], "OK")
        self.assertIsNone(self.worker.popen.poll(), self.worker.err()[-2000:])
        self.worker.check_sanitizers()

    def say(self, answer):
        """The answer to the next call; returns how many calls came in the second after it."""
        self.scheduler.faults.append(answer)
        wait_until(lambda: not self.scheduler.faults, "the answer")
        n = len(self.scheduler.calls)
        time.sleep(1)
        return len(self.scheduler.calls) - n

    def refused(self, digest, action=b"", more=b""):
        """The status of a job; the double knows it by its digest, which has to come back as it
        was."""
        return self.scheduler.execute(digest, action, more=more).status()

    def test_answers_that_are_no_messages(self):
        for answer in (b"\xff" * 100, data(2, b"\xff"), data(2, data(2, b"\x0a\xff")),
                       os.urandom(1 << 20), data(1, b"\x09")):
            self.assertLess(self.say(answer), 20)

    def test_jobs_without_a_name(self):
        for parts in ((), (data(1, b""),), (data(1, number(2, 5)),),
                      (data(1, data(1, "a" * 1000)),), (data(1, data(1, "a" * (4 << 20))),)):
            self.assertLess(self.say(executing(*parts)), 20)

    def test_names_that_are_no_digests(self):
        for digest in (data(1, "../../x") + number(2, 1), data(1, "A" * 64) + number(2, 1),
                       data(1, "a" * 63) + number(2, 1), data(1, b"\x01\x1b[2J") + number(2, 1),
                       data(1, "a" * 64) + number(2, (1 << 64) - 5)):
            self.assertEqual(self.refused(digest)[0], "INVALID_ARGUMENT")

    def test_digest_functions_that_we_have_not(self):
        for function, hash_ in ((2, "a" * 40), (3, "a" * 32), (4, "a" * 96), (77, "a" * 64)):
            status = self.refused(data(1, hash_) + number(2, 5), more=number(9, function))
            self.assertEqual(status[0], "INVALID_ARGUMENT")
            self.assertIn("SHA256", status[1])

    def test_instances_that_are_none(self):
        digest, action = action_of(self.peer, "true")
        for suffix in ("x" * 5000, "x" * (1 << 20), "../blobs/x", "blobs", "\x1b[2J"):
            status = self.refused(digest, action, data(7, suffix))
            self.assertNotEqual(status[0], "OK", suffix[:20])

    def test_actions_that_are_none(self):
        for action in (b"\xff" * 50, os.urandom(1 << 16), data(1, b"\xff"), data(6, b"\xff"),
                       data(9, b"x" * (8 << 20)), number(7, 1) * 100_000):
            status = self.refused(digest_of(b"nobody has this"), action)
            self.assertNotEqual(status[0], "OK")

    def test_times_that_are_out_of_range(self):
        now = time.time()
        for at in (number(1, 1 << 63), timestamp(0), number(1, int(now)) + number(2, (1 << 31) - 1),
                   number(1, int(now)) + number(2, (1 << 64) - 1), number(1, (1 << 63) - 1)):
            with self.subTest(at=at):
                self.scheduler.faults.append(data(1, at) + data(2, data(1, b"")))
                n = len(self.scheduler.calls)
                wait_until(lambda: len(self.scheduler.calls) >= n + 2, "the next call")

    def test_idle_that_never_waits_is_asked_with_patience(self):
        self.scheduler.faults.extend([data(2, data(1, b""))] * 40)
        wait_until(lambda: len(self.scheduler.faults) < 40, "the end of the call before")
        began = time.monotonic()
        wait_until(lambda: len(self.scheduler.faults) <= 30, "ten calls")
        self.assertGreater(time.monotonic() - began, 1, "they come more and more slowly")
        self.scheduler.faults.clear()

    def test_a_new_job_in_each_answer(self):
        tasks = [action_of(self.peer, "sleep 1000") for _ in range(20)]
        self.scheduler.faults.extend(executing(data(1, digest), data(2, action))
                                     for digest, action in tasks)
        wait_until(lambda: not self.scheduler.faults, "the last of them")

    def test_much_metadata(self):
        digest, action = action_of(self.peer, "echo said")
        any_ = data(6, data(1, "type.googleapis.com/x") + data(2, b"x" * 1000))
        for more in (any_ * 5000, data(8, data(1, "k" * 100) + data(2, "v" * 100)) * 20_000,
                     data(6, b"") * 100_000):
            task = self.scheduler.execute(digest, action, more=more)
            self.assertEqual(task.status()[0], "OK")
            self.assertLess(len(task.response()), 1 << 20)

    def test_a_job_while_another_runs_is_malformed(self):
        running = self.scheduler.execute(*action_of(self.peer, "sleep 1; echo done"))
        running.wait_stage("running")
        self.say(executing())
        self.assertEqual(running.status()[0], "OK", "what cannot be answered changes nothing")


if __name__ == "__main__":
    system.main()
