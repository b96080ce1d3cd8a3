"""The worker under Buildbarn's protocol: the real worker and the real storage, and a double of the
scheduler. What it tells, what it stores, and that a result is never lost."""
import os
import signal
import subprocess
import time
import unittest

import grpc
import system
from attack import REAPI, Peer, data, digest_of, field, fields, number
from buildbarn_scheduler import Scheduler, Task, action_of
from far import Far
from system import BIN, System, sandboxes_with, wait_until

TIMEOUT = 6  # an Action's field
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
ORDER = ["started", "fetching_inputs", "running", "uploading_outputs"]


def marker_of():
    return f"47{os.getpid()}{time.monotonic_ns() % 1000000}"


class BuildbarnTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.system = System(("--grant", "local=all", "--instance", "", "--instance", "team",
                             "--instance", "team/a"))
        cls.peer = Peer(cls.system.address)

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.system.close()

    def start(self, *args, cas=None, **kwargs):
        """A scheduler, and a worker of its own."""
        self.scheduler = Scheduler(**kwargs)
        self.addCleanup(self.scheduler.close)
        self.worker = self.system.start_worker(
            "--source", "buildbarn", "--cas", cas or self.system.address, "--slots", "1", *args,
            server=self.scheduler.address)
        self.addCleanup(self.leave)
        return self.scheduler

    def leave(self):
        if self.worker.popen.poll() is None:
            self.assertEqual(self.worker.stop(), 0, self.worker.err())

    def execute(self, script, outputs=(), extra=b"", **kwargs):
        return self.scheduler.execute(*action_of(self.peer, script, outputs, extra), **kwargs)

    def cached(self, task, instance=""):
        return self.peer.status(REAPI + "ActionCache/GetActionResult",
                                data(1, instance) + data(2, task.digest)) == "OK"

    def text(self, digest):
        name = f"blobs/{field(digest, 1).decode()}/{field(digest, 2, 0)}"
        return b"".join(field(part, 10, b"") for part in self.peer.server_stream(
            "/google.bytestream.ByteStream/Read", data(1, name)))

    def assert_said(self, task, text):
        self.assertEqual(task.status()[0], "OK", task.status()[1])
        self.assertEqual(field(task.result(), 4, 0), 0)
        said = field(task.result(), 6)
        self.assertEqual(self.text(said) if said else b"", text)

    # What a job is

    def test_a_job_runs_and_its_result_is_complete(self):
        self.start()
        asked = data(1, "type.googleapis.com/x.Asked") + data(2, b"by whom")
        task = self.execute("echo made > out; echo said", ["out"], more=data(6, asked))
        self.assert_said(task, b"said\n")
        output = field(task.result(), 2)
        self.assertEqual(field(output, 1), b"out")
        self.assertEqual(self.text(field(output, 2)), b"made\n")
        metadata = field(task.result(), 9)
        self.assertEqual(field(metadata, 1).decode(), self.worker.name)
        self.assertEqual(field(field(metadata, 2), 1), 1_000_000_000, "when it was queued")
        self.assertIn((11, asked), fields(metadata))
        self.assertIsNotNone(field(metadata, 12), "virtual_execution_duration")
        self.assertTrue(self.cached(task))

    def test_a_result_is_told_once_and_brings_the_next_job(self):
        self.start()
        first = self.execute("sleep 1")
        wait_until(lambda: first.worker, "its start")
        before = len(self.scheduler.calls)
        for task in [self.execute("true") for _ in range(5)]:
            task.response()
        told = [call.state for call in self.scheduler.calls[before:]]
        self.assertEqual(told.count("completed"), 6)
        self.assertNotIn("idle", told[:len(told) - told[::-1].index("completed")])

    def test_stages_are_told_in_order(self):
        far = Far(self.system.address, 300)
        self.addCleanup(far.close)
        self.start(cas=far.address)
        task = self.execute("sleep 1; echo out > out", ["out"])
        self.assert_said(task, b"")
        self.assertEqual(task.stages, ORDER[1:])

    def test_a_failed_job_is_told_with_its_status(self):
        self.start()
        lost = self.scheduler.execute(digest_of(b"nowhere"), b"")
        self.assertEqual(lost.status()[0], "FAILED_PRECONDITION")
        late = self.execute("echo early; sleep 1000", extra=data(TIMEOUT, number(1, 1)))
        self.assertEqual(late.status()[0], "DEADLINE_EXCEEDED")
        self.assertEqual(self.text(field(late.result(), 6)), b"early\n")
        told = self.scheduler.said("completed")
        self.assertTrue(all(c.prefers_idle for c in told), "an answer is wanted at once")
        self.assert_said(self.execute("echo next"), b"next\n")

    def test_each_job_has_its_instance(self):
        self.start("--instance", "team")
        own = self.execute("echo own", instance="team")
        below = self.execute("echo below", instance="team/a")
        self.assert_said(own, b"own\n")
        self.assert_said(below, b"below\n")
        self.assertEqual({c.prefix for c in self.scheduler.calls}, {"team"})
        self.assertTrue(self.cached(own, "team") and not self.cached(own, "team/a"))
        self.assertTrue(self.cached(below, "team/a") and not self.cached(below, "team"))

    def test_a_job_whose_instance_is_not_there_fails_alone(self):
        self.start()
        task = self.execute("true", instance="elsewhere")
        self.assertIn("elsewhere", task.status()[1])
        self.assert_said(self.execute("echo next"), b"next\n")

    def test_platform_and_size_class_are_as_they_were_given(self):
        self.start("--platform", "pool=big", "--platform", "ISA=x", "--size-class", "4",
                   "--slots", "2")
        platform = data(1, data(1, "ISA") + data(2, "x")) + data(1, data(1, "pool")
                                                                 + data(2, "big"))
        other = self.execute("echo other")
        fits = self.execute("echo fits", extra=data(10, platform),
                            platform=[("ISA", "x"), ("pool", "big")])
        self.assert_said(fits, b"fits\n")
        self.assertFalse(other.responses, "it asks for another platform")
        call = self.scheduler.calls[0]
        self.assertEqual(call.platform, [("ISA", "x"), ("pool", "big")])
        self.assertEqual(call.size_class, 4)
        self.assertEqual(len({tuple(c.id) for c in self.scheduler.calls}), 2)

    def test_two_slots_run_two_jobs(self):
        self.start("--slots", "2", beat=0.5)
        markers = [marker_of() for _ in range(2)]
        tasks = [self.execute(f"sleep {m}") for m in markers]
        wait_until(lambda: all(sandboxes_with(m) for m in markers), "both commands")
        self.assertNotEqual(tasks[0].worker["slot"], tasks[1].worker["slot"])
        for task in tasks:
            self.scheduler.cancel(task)
        wait_until(lambda: not any(sandboxes_with(m) for m in markers), "their end")

    def test_it_comes_back_when_it_is_asked_to(self):
        self.start(beat=2)
        task = self.execute(f"sleep {marker_of()}")
        wait_until(lambda: len(self.scheduler.said("running")) >= 4, "four calls")
        calls = self.scheduler.said("running")
        for one, next_one in zip(calls, calls[1:]):
            self.assertGreater(next_one.at - one.at, 1.9, "not sooner: nothing had changed")
        self.scheduler.cancel(task)

    # The action cache

    def test_only_what_ran_well_is_cached(self):
        self.start()
        good = self.execute("true")
        bad = self.execute("exit 3")
        unwanted = self.execute("true", extra=number(7, 1))
        late = self.execute("sleep 1000", extra=data(TIMEOUT, number(1, 1)))
        for task in (good, bad, unwanted, late):
            task.response()
        self.assertEqual([self.cached(t) for t in (good, bad, unwanted, late)],
                         [True, False, False, False])

    def test_a_timeout_of_the_schedulers_does_not_keep_a_result_from_the_cache(self):
        self.start()
        digest, action = action_of(self.peer, "echo filled")
        filled = self.scheduler.execute(digest, action + data(TIMEOUT, number(1, 900)))
        digest, action = action_of(self.peer, "echo changed", extra=data(TIMEOUT, number(1, 60)))
        changed = self.scheduler.execute(
            digest, action.replace(data(TIMEOUT, number(1, 60)), data(TIMEOUT, number(1, 7))))
        self.assert_said(filled, b"filled\n")
        self.assert_said(changed, b"changed\n")
        self.assertTrue(self.cached(filled) and self.cached(changed))

    def test_another_action_under_a_digest_is_not_cached(self):
        self.start()
        digest, _ = action_of(self.peer, "echo right")
        wrong = self.scheduler.execute(digest, action_of(self.peer, "echo wrong")[1])
        self.assert_said(wrong, b"wrong\n")
        self.assertFalse(self.cached(wrong))
        self.assertIn("not in the action cache", self.worker.err())

    # The end of a job

    def test_a_job_that_nobody_wants_any_more_is_killed(self):
        self.start(beat=0.5)
        marker = marker_of()
        task = self.execute(f"sleep {marker}")
        wait_until(lambda: sandboxes_with(marker), "the command")
        self.scheduler.cancel(task)
        wait_until(lambda: not sandboxes_with(marker), "its end")
        self.assert_said(self.execute("echo next"), b"next\n")
        self.assertFalse(task.responses)

    def test_another_job_in_the_middle_takes_the_place(self):
        self.start(beat=0.5)
        marker = marker_of()
        first = self.execute(f"sleep {marker}")
        wait_until(lambda: sandboxes_with(marker), "the command")
        second = Task(*action_of(self.peer, f"echo {marker}"))
        with self.scheduler.lock:  # an answer that says executing, whatever it does
            worker = next(w for w in self.scheduler.workers.values() if w.task is first)
            worker.task = second
        self.assert_said(second, f"{marker}\n".encode())
        self.assertFalse(sandboxes_with(marker))
        self.assertFalse(first.responses)

    # Faults

    def test_a_scheduler_that_fails_for_a_while_loses_nothing(self):
        self.start(beat=0.2)
        task = self.execute("sleep 1; echo done")
        task.wait_stage("running")
        self.scheduler.faults.extend([UNAVAILABLE, grpc.StatusCode.INTERNAL, 2,
                                      grpc.StatusCode.RESOURCE_EXHAUSTED])
        self.assert_said(task, b"done\n")
        self.assertEqual(len(task.responses), 1)
        wait_until(lambda: "answers again" in self.worker.err(), "a word in the log")

    def test_a_scheduler_that_never_answers_is_asked_again(self):
        self.start(beat=0.2)
        task = self.execute("sleep 1; echo done")
        task.wait_stage("running")
        self.scheduler.faults.append(("running", "never"))
        self.assert_said(task, b"done\n")

    def test_a_result_whose_answer_is_lost_is_told_again(self):
        self.start(hold=1)
        self.scheduler.faults.append(("completed", "lost"))
        task = self.execute("echo done")
        self.assert_said(task, b"done\n")
        wait_until(lambda: len(self.scheduler.said("completed")) >= 2, "the result again")
        self.assertEqual(len(task.responses), 1)
        self.assert_said(self.execute("echo next"), b"next\n")

    def test_a_job_whose_answer_was_lost_comes_again(self):
        self.start(hold=1)
        self.scheduler.faults.extend([("idle", "lost")] * 3)
        wait_until(lambda: len(self.scheduler.faults) < 3, "a call whose answer will be lost")
        task = self.execute("echo done")
        self.assert_said(task, b"done\n")
        self.assertFalse(self.scheduler.faults)
        self.assertEqual(task.attempts, 3)

    def test_a_restarted_scheduler_gets_the_result_once(self):
        self.start(beat=0.5)
        before = self.execute("sleep 3; echo done")
        before.wait_stage("running")
        self.scheduler.restart()
        task = self.scheduler.execute(before.digest, before.action)
        self.assert_said(task, b"done\n")
        self.assertFalse(before.responses)
        self.assertEqual(len(task.responses), 1)
        self.assert_said(self.execute("echo next"), b"next\n")

    def test_a_restarted_scheduler_without_clients_ends_the_job(self):
        self.start(beat=0.5)
        marker = marker_of()
        task = self.execute(f"sleep {marker}")
        task.wait_stage("running")
        self.scheduler.restart()
        wait_until(lambda: not sandboxes_with(marker), "its end")

    # Draining

    def test_the_result_is_acknowledged_before_the_end(self):
        self.start(beat=0.5)
        task = self.execute("sleep 2; echo done")
        task.wait_stage("running")
        self.worker.popen.send_signal(signal.SIGTERM)
        self.scheduler.wait_call(lambda c: c.prefers_idle and c.state == "running", "a drain")
        self.assert_said(task, b"done\n")
        self.assertEqual(self.worker.popen.wait(system.PATIENCE), 0, self.worker.err())
        self.assertTrue(self.scheduler.said("completed")[-1].prefers_idle)

    def test_a_result_whose_call_is_held_is_told_again_at_the_end(self):
        self.start()
        task = self.execute("echo done")
        self.assert_said(task, b"done\n")  # the answer comes with the next job, if one comes
        self.assertFalse(self.scheduler.said("completed")[-1].prefers_idle)
        self.assertEqual(self.worker.stop(), 0, self.worker.err())
        self.assertTrue(self.scheduler.said("completed")[-1].prefers_idle)
        self.assertEqual(len(task.responses), 1)

    def test_a_result_that_cannot_be_told_keeps_the_worker(self):
        self.start(beat=60)
        task = self.execute("sleep 1; echo done")
        wait_until(lambda: task.worker, "its start")
        self.worker.popen.send_signal(signal.SIGTERM)
        self.scheduler.faults.extend([UNAVAILABLE] * 6)
        self.assert_said(task, b"done\n")
        self.assertEqual(self.worker.popen.wait(system.PATIENCE), 0, self.worker.err())
        self.assertFalse(self.scheduler.faults)

    def test_an_idle_worker_says_so_and_leaves(self):
        self.start("--slots", "2")
        self.scheduler.wait_call(lambda c: c.state == "idle" and not c.prefers_idle, "idle")
        n = len(self.scheduler.calls)
        self.assertEqual(self.worker.stop(), 0, self.worker.err())
        self.assertTrue(all(c.prefers_idle for c in self.scheduler.calls[n:]))
        self.assertEqual(len({tuple(c.id) for c in self.scheduler.calls[n:]}), 2)

    def test_a_job_that_comes_while_it_leaves_is_run(self):
        self.start()
        self.scheduler.wait_call(lambda c: c.state == "idle" and not c.prefers_idle, "idle")
        task = Task(*action_of(self.peer, "echo done"))
        with self.scheduler.lock:  # the answer that says so is lost with the call
            for worker in self.scheduler.workers.values():
                worker.task = task
        self.assertEqual(self.worker.stop(), 0, self.worker.err())
        self.assert_said(task, b"done\n")

    def test_a_second_signal_ends_it_without_a_scheduler(self):
        self.start()
        task = self.execute("sleep 1000")
        wait_until(lambda: task.worker, "its start")
        self.scheduler.server.close()
        self.worker.popen.send_signal(signal.SIGTERM)
        wait_until(lambda: "once more ends it" in self.worker.err(), "the first signal's word")
        self.worker.popen.send_signal(signal.SIGTERM)
        self.assertEqual(self.worker.popen.wait(system.PATIENCE), 1, self.worker.err())

    # The start

    def test_a_source_says_what_it_found(self):
        self.start("--instance", "team")
        self.assertRegex(self.worker.err(), r"Buildbarn's OperationQueue at \S+, instance "
                         r'\\?"team\\?"; storage at \S+: API 2\.\d+ to 2\.\d+; SHA256')
        bots = self.system.start_worker()
        self.assertRegex(bots.err(), r"Remote Workers API at \S+, instance .*: API 2\.\d+")
        self.assertEqual(bots.stop(), 0)

    def test_a_scheduler_of_another_protocol_is_an_error(self):
        worker = self.system.start_worker("--source", "buildbarn", wait=False)
        self.assertEqual(worker.popen.wait(system.PATIENCE), 1)
        self.assertIn("for jobs", worker.err())

    def test_options_that_mean_nothing_are_named(self):
        for args, word in ((("--source", "condor"), "bots or buildbarn"),
                           (("--size-class", "1"), "--source bots")):
            run = subprocess.run(
                [BIN / "lazyroot-worker", "--server", "127.0.0.1:1", "--cache",
                 self.system.dir / "none", *args], capture_output=True, text=True)
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn(word, run.stderr)


if __name__ == "__main__":
    system.main()
