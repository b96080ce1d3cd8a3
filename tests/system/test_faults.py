"""What goes wrong on the way: killed programs, lost and corrupt blobs, full disks, machines that
lack something. The next try must work, and nothing may be left behind."""
import os
import pathlib
import signal
import subprocess
import time
import unittest

import system
from system import BIN, System, SystemTest, mounts_below, sandboxes_with, wait_until


def sleepers(marker):
    return lambda: sandboxes_with(marker)


class FaultTest(SystemTest):
    worker_args = ("--slots", "2")

    def tearDown(self):
        for worker in self.system.processes:
            if worker.name.startswith("worker") and worker.popen.poll() is None:
                wait_until(lambda w=worker: not any((w.cache / "actions").iterdir()),
                           f"the end of what {worker.name}'s actions left")

    def test_lost_input_is_sent_again_and_the_run_succeeds(self):
        text = f"lost {time.time()}\n"
        tree = self.system.tree("lost", {"f": text, "g": "kept"})
        self.system.upload(tree)
        digest = self.system.upload(tree / "f")
        self.system.blob_path(self.system.dir / "data", digest).unlink()
        run = self.assert_ok(self.system.sh("cat f", "--input", tree))
        self.assertEqual(run.text, text)

    def test_input_lost_for_good_is_no_build_failure(self):
        tree = self.system.tree("gone", {"f": f"gone {time.time()}\n"})
        root = self.system.upload(tree)
        digest = self.system.upload(tree / "f")
        self.system.blob_path(self.system.dir / "data", digest).unlink()
        # a known tree: the client has no bytes to send again
        run = self.system.sh("cat f || exit 3", "--input-digest", root)
        self.assertEqual(run.code, 125, "an I/O error is not the command's exit code")
        self.assertIn(digest.split("/")[0], run.err)

    def test_corrupt_blob_reaches_no_command(self):
        tree = self.system.tree("bad", {"f": f"corrupt {time.time()}\n" * 100})
        root = self.system.upload(tree)
        path = self.system.blob_path(self.system.dir / "data", self.system.upload(tree / "f"))
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[7] ^= 1
        path.write_bytes(data)
        run = self.system.sh("cat f; exit 0", "--input-digest", root)
        self.assertEqual(run.code, 125)
        self.assertEqual(run.text, "")

    def mended_by_the_client(self, command, target, harm):
        """The server's copy of one blob is harmed; run sends it again, and all is well."""
        name = f"mend-{abs(hash((command, target, harm)))}"
        tree = self.system.tree(name, {
            "d/inside": f"inside {name} {time.time()}\n",
            "f": ("exec", "#!/bin/echo ran\n" + "x" * 9000 + f"{name} {time.time()}\n")})
        self.system.upload(tree)
        path = self.system.blob_path(self.system.dir / "data", self.system.upload(tree / target))
        if harm == "lost":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.chmod(0o644)
            path.write_bytes(data)
        run = self.assert_ok(self.system.sh(command + "; exit 0", "--input", tree))
        self.assertFalse(run.report["cached"])
        return run.text, tree

    def test_every_kind_of_touch_is_mended_by_the_client(self):
        mmap = ("/usr/bin/python3 -c 'import mmap; f = open(\"f\", \"rb\"); "
                "print(chr(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[7]))'")
        for harm in ("lost", "corrupt"):
            for command, target, want in (
                    ("test -e d/inside && echo there", "d", "there\n"),
                    ("ls d", "d", "inside\n"),
                    ("tail -c 9 d/inside | wc -c", "d/inside", "9\n"),
                    ("head -n 1 f", "f", "#!/bin/echo ran\n"),
                    (mmap, "f", "e\n"),
                    ("./f", "f", "ran ./f\n")):
                with self.subTest(harm=harm, command=command):
                    text, _ = self.mended_by_the_client(command, target, harm)
                    self.assertEqual(text, want)

    def test_server_serves_a_blob_that_was_only_touched(self):
        tree = self.system.tree("touched", {"f": f"touched {time.time()}\n"})
        self.system.upload(tree)
        path = self.system.blob_path(self.system.dir / "data", self.system.upload(tree / "f"))
        os.utime(path, (1, 1))
        run = self.assert_ok(self.system.sh("cat f", "--input", tree))
        self.assertEqual(run.text, (tree / "f").read_text())

    def test_missing_command_blob_is_sent_again(self):
        script = f"echo {time.time()}"
        first = self.assert_ok(self.system.sh(script, "--no-cache"))
        action = first.report["action"]
        self.system.blob_path(self.system.dir / "data", action).unlink()
        self.assert_ok(self.system.sh(script, "--no-cache"))

    def test_killed_worker_leaves_nothing_and_its_job_runs_elsewhere(self):
        marker = f"41{os.getpid()}3"
        own = System()
        self.addCleanup(own.close)
        first = own.start_worker()
        client = own.popen("run", "--no-cache", "--env", "PATH=/bin", "--", "/bin/sh", "-c",
                           f"test -e /build/never || sleep {marker} & wait; echo done")
        wait_until(sleepers(marker), "the command's start")
        second = own.start_worker()
        first.popen.kill()
        first.popen.wait()
        self.assertEqual(mounts_below(first.cache), [])
        wait_until(lambda: len(sandboxes_with(marker)) == 1 and
                   any(second.pid == p for q in sandboxes_with(marker) for p in ancestors(q)),
                   "the job on the second worker")
        for pid in sandboxes_with(marker):
            os.kill(pid, signal.SIGKILL)
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out), (0, b"done\n"), err)
        third = own.start_worker(cache=first.cache)
        self.assertEqual(list((third.cache / "actions").iterdir()), [])
        left = [p.name for p in (third.cache / "staging").iterdir()
                if not p.name.startswith(f"{third.pid}.")]
        self.assertEqual(left, [])

    def test_killed_server_is_survived_by_client_and_worker(self):
        own = System()
        self.addCleanup(own.close)
        worker = own.start_worker()
        marker = f"42{os.getpid()}3"
        client = own.popen("run", "--no-cache", "--env", "PATH=/bin", "--", "/bin/sh", "-c",
                           f"echo begun; sleep 1; : {marker}; echo done")
        wait_until(lambda: "running" in worker.err(), "the command's start")
        own.server.popen.kill()
        own.server.popen.wait()
        own.start_server(listen=own.address)
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out), (0, b"begun\ndone\n"), err)
        self.assertIsNone(worker.popen.poll())

    def test_killed_client_in_the_middle_of_an_upload(self):
        tree = self.system.tree("half", {f"f{i}": os.urandom(300000) for i in range(60)})
        client = self.system.popen("upload", tree)
        time.sleep(0.05)
        client.kill()
        client.communicate()
        digest = self.system.upload(tree)
        dest = self.system.dir / "half-back"
        self.assert_ok(self.system.lazyroot("download", digest, dest))
        for i in range(60):
            self.assertEqual((dest / f"f{i}").read_bytes(), (tree / f"f{i}").read_bytes())

    def test_killed_client_job_runs_on_and_can_be_waited_for(self):
        run = self.system.lazyroot("run", "--detach", "--no-cache", "--env", "PATH=/bin", "--",
                                   "/bin/sh", "-c", "sleep 0.5; echo still")
        waiter = self.system.popen("wait", run.text.strip())
        time.sleep(0.1)
        waiter.kill()
        waiter.communicate()
        self.assertEqual(self.system.lazyroot("wait", run.text.strip()).text, "still\n")

    def test_killed_bubblewrap_is_no_build_failure(self):
        marker = f"43{os.getpid()}3"
        client = self.system.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        wait_until(sleepers(marker), "the command's start")
        # found first, killed then: with the outer one the inner one goes. (With the inner one,
        # the command's init, the command was killed, says the outer one: that is a result.)
        first = sandboxes_with(marker)
        victims = [parent for pid in first for parent in ancestors(pid)
                   if b"bwrap" in system.command_line(parent).split(b"\0")[0]]
        for pid in reversed(victims):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # an infrastructure failure is tried again: the command comes back
        wait_until(lambda: set(sandboxes_with(marker)) - set(first), "the command's second start")
        for pid in sandboxes_with(marker):
            os.kill(pid, signal.SIGTERM)
        client.communicate(timeout=system.PATIENCE)
        self.assertEqual(client.returncode, 143)

    def test_terminated_worker_finishes_what_runs(self):
        worker = self.system.start_worker("--platform", "drain=me")
        client = self.system.popen("run", "--no-cache", "--platform", "drain=me", "--env",
                                   "PATH=/bin", "--", "/bin/sh", "-c", "sleep 1; echo finished")
        wait_until(lambda: "running" in worker.err(), "the command's start")
        self.assertEqual(worker.stop(), 0)
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out), (0, b"finished\n"), err)
        self.assertEqual(mounts_below(worker.cache), [])

    def test_second_signal_ends_the_worker_now(self):
        marker = f"44{os.getpid()}3"
        worker = self.system.start_worker("--platform", "drain=now")
        client = self.system.popen("run", "--no-cache", "--platform", "drain=now", "--",
                                   "/bin/sleep", marker)
        wait_until(sleepers(marker), "the command's start")
        worker.popen.terminate()
        wait_until(lambda: "once more" in worker.err(), "the worker's word")
        self.assertEqual(worker.stop(), 0)
        self.assertEqual(sandboxes_with(marker), [])
        client.kill()
        client.communicate()


def ancestors(pid):
    found = []
    while pid > 1:
        try:
            stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rsplit(")", 1)[1].split()[1])
        found.append(pid)
    return found


class MachineTest(unittest.TestCase):
    """Machines that lack something: each gets words that name it."""

    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.system = System()

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def worker_says(self, *command, cache=None, prefix=()):
        run = subprocess.run(
            [*prefix, str(BIN / "lazyroot-worker"), "--server", self.system.address, "--cache",
             str(cache or self.system.dir / "machine-cache"), *command],
            capture_output=True, text=True, timeout=system.PATIENCE)
        self.assertNotEqual(run.returncode, 0)
        return run.stderr

    def test_without_root(self):
        said = self.worker_says(prefix=("setpriv", "--reuid=65534", "--clear-groups"))
        self.assertIn("root", said)

    def test_without_dev_fuse(self):
        said = self.worker_says(prefix=("unshare", "-m", "sh", "-c",
                                        'mount -t tmpfs none /dev && exec "$@"', "sh"))
        self.assertIn("/dev/fuse", said)

    def test_cache_on_overlayfs(self):
        base = self.system.dir / "ovl"
        for name in ("lower", "upper", "work", "merged"):
            (base / name).mkdir(parents=True)
        script = (f"mount -t overlay none -o lowerdir={base}/lower,upperdir={base}/upper,"
                  f'workdir={base}/work {base}/merged && exec "$@"')
        said = self.worker_says(cache=base / "merged/cache",
                                prefix=("unshare", "-m", "sh", "-c", script, "sh"))
        self.assertIn("overlayfs", said)
        self.assertIn(str(base / "merged/cache"), said)

    def test_without_bubblewrap(self):
        said = self.worker_says(prefix=("unshare", "-m", "sh", "-c",
                                        'mount --bind /dev/null /usr/bin/bwrap && exec "$@"', "sh"))
        self.assertIn("bwrap", said)

    def test_sandbox_that_cannot_be(self):
        said = self.worker_says(prefix=("unshare", "-m", "sh", "-c",
                                        'mount --bind /bin/false /usr/bin/bwrap && exec "$@"', "sh"))
        self.assertIn("commands cannot be isolated", said)
        self.assertIn("user namespaces", said)

    def test_users_that_actions_must_not_be(self):
        for name in ("root", "0", "nobody", "65534", "no-such-user", "4294967295", "1x", ""):
            with self.subTest(name):
                self.assertIn(f"--user {name}", self.worker_says("--user", name))

    def test_user_outside_and_inside(self):
        """Each file that a command finds or makes is its own, whoever it is outside."""
        worker = self.system.start_worker("--user", "12345", "--platform", "pool=user")
        marker = f"71{os.getpid()}3"
        client = self.system.popen(
            "run", "--no-cache", "--platform", "pool=user", "--input",
            self.system.tree("owned", {"d/f": "x"}), "--output", "o/made", "--env",
            "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
            "touch o/made; find . ! -user 1000 -o ! -group 1000; id -u; id -g; echo > /dev/stderr;"
            f"sleep {marker}")
        pid, = wait_until(lambda: sandboxes_with(marker), "the command's start")
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        self.assertRegex(status, r"Uid:(\s+12345){4}\nGid:(\s+12345){4}\n(.*\n)?Groups:\s*\n")
        os.kill(pid, signal.SIGTERM)
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out.decode()), (143, "1000\n1000\n"), err)
        self.assertEqual(worker.stop(), 0)

    def test_resolver_in_run_is_there_with_a_network(self):
        """As systemd-resolved has it: /etc/resolv.conf is a link to a file in /run."""
        own = self.system.dir / "etc"
        for name in ("upper", "work"):
            (own / name).mkdir(parents=True)
        script = (f"mount -t tmpfs none /run && mkdir /run/names && mount -t overlay none -o "
                  f"lowerdir=/etc,upperdir={own}/upper,workdir={own}/work /etc && "
                  "echo nameserver 192.0.2.1 > /run/names/stub && echo no > /run/names/other && "
                  'ln -sf ../run/names/stub /etc/resolv.conf && exec "$@"')
        worker = self.system.start_worker("--platform", "pool=names", "--allow", "network",
                                          prefix=("unshare", "-m", "sh", "-c", script, "sh"))
        words = ["cat /etc/resolv.conf; ls /run/names", "--no-cache", "--platform", "pool=names"]
        run = self.system.sh(*words, "--platform", "network=on")
        self.assertEqual((run.code, run.text), (0, "nameserver 192.0.2.1\nstub\n"), run.err)
        self.assertNotEqual(self.system.sh(*words).code, 0)
        self.assertEqual(worker.stop(), 0)

    def test_two_programs_on_one_directory(self):
        run = subprocess.run([BIN / "lazyroot-server", "--listen", "grpc://127.0.0.1:0", "--data",
                              self.system.dir / "data"], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(str(self.system.server.pid), run.stderr)

    def test_address_in_use(self):
        run = subprocess.run([BIN / "lazyroot-server", "--listen", self.system.address, "--data",
                              self.system.dir / "other-data"], capture_output=True, text=True,
                             timeout=60)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn(self.system.address.split("//")[1], run.stderr)

    def test_unknown_instance(self):
        said = self.worker_says("--instance", "nowhere")
        self.assertIn("nowhere", said)

    def test_missing_options(self):
        for args, word in ((["--cache", "/tmp/x"], "--server"), (["--server", "x:1"], "--cache")):
            run = subprocess.run([BIN / "lazyroot-worker", *args], capture_output=True, text=True,
                                 timeout=60)
            self.assertEqual(run.returncode, 2)
            self.assertIn(word, run.stderr)

    def small_disk(self, megabytes):
        image = self.system.dir / "disk.img"
        point = self.system.dir / "disk"
        point.mkdir(exist_ok=True)
        with open(image, "wb") as f:
            f.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, point], check=True)
        self.addCleanup(lambda: subprocess.run(["umount", "-l", point], check=True))
        return point

    def test_full_cache_disk_fails_the_job_and_not_the_worker(self):
        disk = self.small_disk(40)
        worker = self.system.start_worker(cache=disk / "cache")
        tree = self.system.tree("toolarge", {f"f{i}": os.urandom(15 << 20) for i in range(4)})
        run = self.system.sh("cat f0 f1 f2 f3 | wc -c", "--input", tree)
        if run.code == 0:  # evicting made room in time: right, too
            self.assertEqual(run.text.strip(), str(60 << 20))
        else:
            self.assertEqual(run.code, 125, run.err)
        run = self.system.sh("head -c 100000000 /dev/zero > big || rm big; echo kept going")
        self.assertIn("kept going", run.text)
        self.assertEqual(self.system.sh("echo well").text, "well\n")
        self.assertIsNone(worker.popen.poll())
        self.assertEqual(worker.stop(), 0)


if __name__ == "__main__":
    system.main()
