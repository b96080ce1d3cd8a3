"""Limits of an action: a real command passes each of them. It is stopped, the message names the
limit and its value, what it left comes back, the next action is none the wiser, and nothing of
all that stays on the machine: no process, no cgroup."""
import os
import pathlib
import re
import signal
import time

import system
from system import SystemTest, System, cgroups_of, counts, descendants, wait_until


def peak_rss(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) << 10


def started_for_jobs(worker):
    """The launchers, and what they started."""
    return [pid for pid in descendants(worker.pid) if not system.is_warden(pid)]


def python(code):
    return f"/usr/bin/python3 -c '{code}'"


class LimitTest(SystemTest):
    worker_args = ("--slots", "1", "--limit", "processes=200", "--limit-max", "processes=1000",
                   "--limit-max", "memory=1G")

    def tearDown(self):
        run = self.assert_ok(self.system.sh("echo next", "--no-cache"))
        self.assertEqual(run.text, "next\n")
        self.assertEqual(run.report["notes"], [])
        wait_until(lambda: len(self.left()) == 1, "the end of all but the launcher")

    def left(self):
        return started_for_jobs(self.worker)

    def limited(self, script, *limits, args=(), **kwargs):
        asked = [a for limit in limits for a in ("--platform", f"limit-{limit}")]
        return self.system.sh(script, "--no-cache", *asked, *args, **kwargs)

    def assert_passed(self, run, limit, verb="killed"):
        message = f"{verb}: past the limit {limit}"
        self.assertIn(f"lazyroot: {message}\n", run.err)
        self.assertIn(message, run.report["notes"])
        return run

    def test_memory(self):
        run = self.limited("echo before; echo part > o; " + python(
            "x = bytearray(300 << 20); print(len(x))") + "; sleep 600; echo after",
            "memory=64M", args=("--output", "o", "--download", "memory"))
        self.assert_passed(run, "memory=64M")
        self.assertEqual((run.code, run.text), (137, "before\n"))
        self.assertEqual((self.system.dir / "memory/o").read_text(), "part\n")

    def test_memory_in_tmp(self):
        run = self.limited("dd if=/dev/zero of=/tmp/x bs=1M count=300; sleep 600", "memory=64M")
        self.assert_passed(run, "memory=64M")
        self.assertEqual(run.code, 137)

    def test_an_oom_kill_that_the_command_hides_is_no_success(self):
        run = self.limited(python("x = bytearray(300 << 20)") + "; exit 0", "memory=64M")
        self.assert_passed(run, "memory=64M")
        self.assertEqual(run.code, 137)

    def test_memory_below_the_limit(self):
        run = self.assert_ok(self.limited(python("x = bytearray(100 << 20)"), "memory=256M"))
        self.assertEqual(run.report["notes"], [])
        self.assertGreater(run.report["usage"]["peak_memory_bytes"], 100 << 20)
        small = self.assert_ok(self.limited("true", "memory=256M"))
        self.assertLess(small.report["usage"]["peak_memory_bytes"], 20 << 20,
                        "the peak is the action's own")

    def test_peak_memory_is_of_all_processes(self):
        hold = python("import time; x = bytearray(60 << 20); time.sleep(0.5)")
        run = self.assert_ok(self.limited(f"{hold} & {hold} & {hold} & wait"))
        self.assertGreater(run.report["usage"]["peak_memory_bytes"], 180 << 20)

    def test_fork_bomb(self):
        run = self.limited(
            "cat > bomb <<'E'\nimport os, time\nn = 0\nend = time.monotonic() + 1\n"
            "while time.monotonic() < end:\n"
            "    try:\n        os.fork()\n    except OSError: pass\nE\n"
            "/usr/bin/python3 bomb; exit 4", "processes=40")
        self.assert_passed(run, "processes=40", "refused")
        self.assertEqual(run.code, 4)

    def test_processes_up_to_the_limit(self):
        script = "for i in $(seq 30); do sleep 600 & done; echo all"
        run = self.assert_ok(self.limited(script, "processes=31"))
        self.assertEqual((run.text, run.report["notes"]), ("all\n", []))
        run = self.limited(script, "processes=30")
        self.assert_passed(run, "processes=30", "refused")

    def test_cpu_time(self):
        run = self.limited("echo busy; while :; do :; done & while :; do :; done",
                           "cpu-time=700ms")
        self.assert_passed(run, "cpu-time=700ms")
        self.assertEqual((run.code, run.text), (137, "busy\n"))
        usage = run.report["usage"]
        self.assertGreaterEqual(usage["cpu_user_ms"] + usage["cpu_system_ms"], 690)

    def test_sleep_costs_no_cpu_time(self):
        self.assert_ok(self.limited("sleep 0.5", "cpu-time=400ms"))

    def test_disk_many_files(self):
        run = self.limited(
            "mkdir d; echo kept > o; i=0; while :; do i=$((i+1)); "
            "dd if=/dev/zero of=d/$i bs=256k count=1 2> /dev/null; done", "disk=32M",
            args=("--output", "o", "--download", "disk"))
        self.assert_passed(run, "disk=32M")
        self.assertEqual(run.code, 137)
        self.assertEqual((self.system.dir / "disk/o").read_text(), "kept\n")

    def test_disk_one_file(self):
        run = self.limited("exec dd if=/dev/zero of=x bs=1M", "disk=32M", args=("--output", "x"))
        self.assert_passed(run, "disk=32M")
        self.assertIn(run.code, (137, 128 + signal.SIGXFSZ))

    def test_disk_below_the_limit(self):
        run = self.assert_ok(self.limited(
            "dd if=/dev/zero of=x bs=1M count=20; dd if=/dev/zero of=/tmp/x bs=1M count=8; "
            "sleep 0.3", "disk=32M"))
        self.assertEqual(run.report["notes"], [])

    def test_tmp(self):
        run = self.limited("dd if=/dev/zero of=/tmp/x bs=1M; exit 5", "disk=32M")
        self.assert_passed(run, "disk=32M")
        self.assertIn(run.code, (5, 137))

    def test_tmp_and_files_together(self):
        run = self.limited("dd if=/dev/zero of=/tmp/x bs=1M count=20; "
                           "dd if=/dev/zero of=x bs=1M count=20; sleep 600", "disk=32M")
        self.assert_passed(run, "disk=32M")
        self.assertEqual(run.code, 137)

    def test_output_files(self):
        run = self.limited("echo out; mkdir d; for i in 1 2 3 4 5 6; do echo $i > d/$i; done; "
                           "echo one > a; echo two > z", "output-files=3", args=(
                               "--output", "a", "--output", "d", "--output", "z",
                               "--download", "outputs"))
        self.assert_passed(run, "output-files=3", "outputs left out")
        self.assertEqual((run.code, run.text), (137, "out\n"))
        self.assertEqual([p.name for p in (self.system.dir / "outputs").iterdir()], ["a"])

    def test_output_bytes(self):
        run = self.limited("dd if=/dev/urandom of=x bs=1k count=20", "output-bytes=19K",
                           args=("--output", "x"))
        self.assert_passed(run, "output-bytes=19K", "outputs left out")
        run = self.assert_ok(self.limited("dd if=/dev/urandom of=x bs=1k count=20",
                                          "output-bytes=20K", args=("--output", "x")))
        self.assertEqual(run.report["notes"], [])

    def test_a_terabyte_of_nothing_is_not_hashed(self):
        for name in ("big", "d"):  # as a file, and as one of a directory's
            run = self.limited("mkdir d; truncate -s 1T d/big big; echo > d/small",
                               "output-bytes=1G", args=("--output", name))
            self.assert_passed(run, "output-bytes=1G", "outputs left out")
        run = self.limited("truncate -s 500T big || truncate -s 15T big", args=("--output", "big"))
        self.assertEqual(run.code, 125)
        self.assertIn("big is larger than all of", run.err)

    def test_untouched_inputs_are_no_outputs(self):
        tree = self.system.tree("many", {f"d/{i}": f"{i}\n" for i in range(50)})
        run = self.assert_ok(self.limited("echo new > d/new", "output-files=1",
                                          args=("--input", tree, "--output", "d")))
        self.assertEqual(run.report["notes"], [])

    def test_logs(self):
        run = self.limited("echo on stderr >&2; yes", "log-bytes=1M")
        self.assert_passed(run, "log-bytes=1M")
        self.assertEqual(run.code, 137)
        self.assertTrue(run.text.startswith("y\ny\n"))
        self.assertIn("on stderr\n", run.err)
        self.assertEqual(len(run.out) + len("on stderr\n"), 1 << 20)

    def test_message_stands_on_a_line_of_its_own(self):
        run = self.limited("printf no-newline >&2; exec yes", "log-bytes=100K")
        self.assertIn("no-newline\nlazyroot: killed", run.err)

    def test_gigabyte_of_stdout_in_bounded_memory(self):
        target = self.system.dir / "gigabyte"
        with open(target, "wb") as out:
            client = system.subprocess.Popen(
                [str(system.BIN / "lazyroot"), "run", "--no-cache", "-q", "--", "/bin/sh", "-c",
                 "/usr/bin/yes | /usr/bin/head -c 1073741824"], stdout=out,
                stdin=system.subprocess.DEVNULL, env=self.system.environment())
            self.assertEqual(client.wait(system.PATIENCE * 3), 0)
        self.assertEqual(target.stat().st_size, 1 << 30)
        target.unlink()
        if not is_sanitized():
            self.assertLess(peak_rss(self.worker.pid), 100 << 20)

    def test_more_than_the_maximum_is_named(self):
        for limit, maximum in (("memory=2G", "1G"), ("processes=1001", "1000")):
            run = self.limited("true", limit)
            self.assertEqual(run.code, 125)
            name, value = limit.split("=")
            self.assertIn(f"limit-{name} is {value}, more than this worker's maximum of {maximum}",
                          run.err)

    def test_nonsense_is_named(self):
        run = self.limited("true", "disk=much")
        self.assertEqual(run.code, 125)
        self.assertIn("limit-disk", run.err)
        self.assertIn("much", run.err)

    def test_wrong_options_are_named(self):
        for args, word in ((["--limit", "memory=1K"], "memory"), (["--limit", "speed=1"], "speed"),
                           (["--limit", "disk=2G", "--limit-max", "disk=1G"], "maximum of 1G")):
            run = system.subprocess.run(
                [system.BIN / "lazyroot-worker", "--server", "x:1", "--cache", "/nowhere", *args],
                capture_output=True, text=True, timeout=system.PATIENCE)
            self.assertEqual(run.returncode, 2)
            self.assertIn(word, run.stderr)

    def test_the_worker_says_how_it_limits(self):
        line = next(l for l in self.worker.err().splitlines() if "limits: " in l)
        for what in ("memory by ", "processes by ", "CPU time by ", "disk by "):
            self.assertIn(what, line)

    def test_an_action_may_ask_for_more_than_the_default(self):
        self.assert_ok(self.limited("for i in $(seq 300); do sleep 1 & done; wait",
                                    "processes=400"))

    def test_usage(self):
        run = self.assert_ok(self.limited(python(
            "import os; f = os.open(\"x\", os.O_CREAT | os.O_WRONLY); "
            "os.write(f, b\"a\" * (8 << 20)); os.fsync(f)")))
        usage = run.report["usage"]
        self.assertGreater(usage["cpu_user_ms"] + usage["cpu_system_ms"], 1)
        self.assertIn("read_bytes", usage)
        self.assertIn("written_bytes", usage)


class RlimitTest(SystemTest):
    """A machine without cgroups: rlimits do what they can."""
    hidden = ("unshare", "-m", "sh", "-c", 'umount -R -l /sys/fs/cgroup && exec "$@"', "sh")

    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.system = System()
        cls.worker = cls.system.start_worker("--slots", "2", "--limit", "processes=300",
                                             prefix=cls.hidden)

    limited = LimitTest.limited

    def test_the_worker_says_so(self):
        said = next(line for line in self.worker.err().splitlines() if "limits: " in line)
        for words in ("memory by RLIMIT_DATA", "processes by RLIMIT_NPROC",
                      "CPU time by RLIMIT_CPU"):
            self.assertIn(words, said)

    def test_memory_of_a_process(self):
        self.assertEqual(self.limited(python("bytearray(200 << 20)"), "memory=64M").code, 1)
        self.assert_ok(self.limited(python("bytearray(20 << 20)"), "memory=64M"))

    def test_processes_up_to_the_limit(self):
        """Exactly as many, whatever the other slot runs."""
        marker = f"72{os.getpid()}9"
        beside = self.system.popen(
            "run", "--no-cache", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
            f"for i in $(seq 40); do sleep 600 & done; sleep {marker}")
        wait_until(lambda: system.sandboxes_with(marker), "the other action's processes")
        script = "for i in $(seq 30); do sleep 600 & done; echo all"
        run = self.assert_ok(self.limited(script, "processes=31"))
        self.assertEqual(run.text, "all\n")
        run = self.limited(script, "processes=30")
        self.assertIn("fork", run.err)
        self.assertNotEqual(run.code, 0)
        beside.terminate()
        beside.communicate()

    def test_what_is_looked_at(self):
        for script, limit, code in (
                ("while :; do :; done", "cpu-time=1s", 152), ("yes", "log-bytes=1M", 137),
                ("dd if=/dev/zero of=/tmp/x bs=1M; sleep 600", "disk=32M", 137)):
            run = self.limited(script, limit)
            self.assertEqual(run.code, code)
            self.assertIn(f"killed: past the limit {limit}", run.err)

    def test_nothing_runs_on(self):
        marker = f"73{os.getpid()}9"
        self.assert_ok(self.limited(f"setsid sleep {marker} & echo well"))
        self.assertEqual(system.sandboxes_with(marker), [])


class CostTest(SystemTest):
    worker_args = ("--slots", "1", "--limit", "processes=100", "--limit", "memory=1G",
                   "--limit", "disk=10G", "--limit", "log-bytes=1G", "--limit", "cpu-time=1h")

    def test_trivial_actions_cost_three_processes_and_no_move(self):
        run = self.assert_ok(self.system.run("--no-cache", "--", "/bin/true"))
        self.assertEqual(run.report["notes"], [])
        before = counts(self.worker)
        launchers = started_for_jobs(self.worker)
        n = 20
        for _ in range(n):
            self.assert_ok(self.system.run("--no-cache", "--", "/bin/true"))
        writes = counts(self.worker)["cgroup/writes"] - before["cgroup/writes"]
        # all is reaped when the end is told: nothing is to be killed. A slot's directories
        # (v1) keep their limits; an action's (v2) get theirs: three files for memory, one for
        # processes
        how = next(l for l in self.worker.err().splitlines() if "limits: " in l)
        an_action = 3 * ("memory by cgroup v2" in how) + ("processes by cgroup v2" in how)
        self.assertEqual(writes, an_action * n)
        self.assertEqual(started_for_jobs(self.worker), launchers)
        self.assertEqual(len(launchers), 1)
        for path in cgroups_of(self.worker.pid):
            if (path / "pids.peak").exists():
                # launcher, bubblewrap outside and inside, command
                self.assertEqual(int((path / "pids.peak").read_text()), 4)
                tasks = (path / "cgroup.procs").read_text().split()
                self.assertEqual(tasks, [str(launchers[0])])


class LeftoverTest(SystemTest):
    worker_args = ("--slots", "2", "--limit", "processes=100")

    def test_clean_end_leaves_no_cgroup(self):
        worker = self.system.start_worker("--platform", "own=yes")
        self.assert_ok(self.system.run("--no-cache", "--platform", "own=yes", "--", "/bin/true"))
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(cgroups_of(worker.pid), [])

    def test_killed_worker_leaves_no_process_and_its_cgroups_go_at_the_next_start(self):
        own = System()
        self.addCleanup(own.close)
        worker = own.start_worker("--slots", "2")
        client = own.popen("run", "--no-cache", "--", "/bin/sleep", "600")
        wait_until(lambda: len(started_for_jobs(worker)) > 4, "the command's start")
        processes = descendants(worker.pid)
        worker.popen.kill()
        worker.popen.wait()
        wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in processes),
                   "the end of what it started")
        second = own.start_worker(cache=worker.cache)
        self.assertEqual(cgroups_of(worker.pid), [])
        client.kill()
        client.communicate()
        second.popen.terminate()
        wait_until(lambda: "once more" in second.err(), "the worker's word")
        self.assertEqual(second.stop(), 0)
        self.assertEqual(cgroups_of(second.pid), [])

    def test_launcher_that_died_idle_is_nobodys_loss(self):
        for pid in descendants(self.worker.pid):
            os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            self.assert_ok(self.system.run("--no-cache", "--", "/bin/true"))

    def test_launcher_that_dies_with_its_command_is_no_build_failure(self):
        marker = f"46{os.getpid()}3"
        client = self.system.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        wait_until(lambda: system.sandboxes_with(marker), "the command's start")
        first = system.sandboxes_with(marker)
        launchers = [pid for pid in descendants(self.worker.pid) if is_launcher(pid)]
        for pid in launchers:  # at once: none may take the job over meanwhile
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: set(system.sandboxes_with(marker)) - set(first),
                   "the command's second start")
        for pid in system.sandboxes_with(marker):
            os.kill(pid, signal.SIGTERM)
        client.communicate(timeout=system.PATIENCE)
        self.assertEqual(client.returncode, 143)


def is_launcher(pid):
    return system.command_line(pid).split(b"\0")[1:2] == [b"serve"]


def is_sanitized():
    return b"__asan_init" in (system.BIN / "lazyroot-worker").read_bytes()


if __name__ == "__main__":
    system.main()
