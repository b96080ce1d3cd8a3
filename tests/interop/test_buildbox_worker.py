"""buildbox's worker takes jobs from our server, beside or instead of ours. It needs a
buildbox-casd in between."""
import os
import signal
import subprocess

import forky
from system import PATIENCE, sandboxes_with, wait_until

BOT = """
buildbox-casd --cas-remote=$ADDRESS --cas-instance=dev --bind=unix:$HOME/$NAME.casd $HOME/$NAME &
casd=$!
until [ -e $NAME.casd ]; do sleep 0.05; done
buildbox-worker --bots-remote=$ADDRESS --bots-instance=dev \
    --logstream-remote=$ADDRESS --logstream-instance=dev \
    --cas-remote=unix:$HOME/$NAME.casd --cas-instance= --buildbox-run=/usr/bin/$RUNNER \
    --platform OSFamily=linux --platform ISA=x86-64 --platform pool=$NAME \
    --concurrent-jobs=$JOBS $NAME &
worker=$!
echo $worker >$NAME.pid
end() { kill $worker; wait $worker; kill $casd; wait $casd; exit 0; }
trap 'end 2>/dev/null || exit 0' TERM
wait $casd
"""


class OtherWorkerTest(forky.InteropTest):
    wants_worker = False

    def start_bot(self, name, runner="buildbox-run-hosttools", jobs=1):
        """A worker of theirs and its casd, which mounts what it stages: both in one namespace.
        What is returned ends both."""
        bot = self.forky.start_inside(name, ["bash", "-euc", BOT], env={
            "NAME": name, "RUNNER": runner, "JOBS": str(jobs)})
        wait_until(lambda: f'"{name}" is here' in self.forky.server.err()
                   or bot.popen.poll() is not None, "the bot")
        self.assertIsNone(bot.popen.poll(), bot.err()[-3000:])
        return bot

    def kill_bot(self, name):
        os.kill(int((self.forky.dir / f"{name}.pid").read_text()), signal.SIGKILL)

    def on(self, pool, script, *args):
        return ("run", "--platform", "OSFamily=linux", "--platform", f"pool={pool}", "--env",
                "PATH=/usr/bin:/bin", "--no-cache", *args, "--", "/bin/sh", "-c", script)

    def test_jobs_outputs_and_exit_codes(self):
        bot = self.start_bot("simple", jobs=2)
        tree = self.forky.tree("in", {"f": "hi\n", "d/g": "ho\n"})
        got = self.forky.dir / "got"
        self.ok(self.forky.lazyroot(*self.on(
            "simple", "cat f d/g > o; mkdir -p e; cp f e/f", "--input", tree, "--output", "o",
            "--output", "e", "--download", got)))
        self.assertEqual(((got / "o").read_text(), (got / "e/f").read_text()), ("hi\nho\n", "hi\n"))
        run = self.forky.lazyroot(*self.on("simple", "echo said; echo complained >&2; exit 3"))
        self.assertEqual((run.code, run.text), (3, "said\n"))
        self.assertIn("complained", run.err)
        runs = [self.forky.popen(*self.on("simple", f"echo {i}")) for i in range(20)]
        self.assertEqual([run.communicate(timeout=PATIENCE)[0] for run in runs],
                         [b"%d\n" % i for i in range(20)])
        self.assertEqual(bot.stop(), 0)

    def test_cancel(self):
        bot = self.start_bot("cancelled")
        marker = forky.marker()
        run = self.forky.popen(*self.on("cancelled", f"exec sleep {marker}"))
        wait_until(lambda: sandboxes_with(marker), "the command")
        run.send_signal(signal.SIGINT)
        self.assertEqual(run.wait(PATIENCE), 130)
        run.communicate()
        wait_until(lambda: not sandboxes_with(marker), "the end of what was cancelled")
        self.assertEqual(self.forky.lazyroot(*self.on("cancelled", "exit 4")).code, 4)
        bot.stop()

    def test_logs_come_while_it_runs(self):
        """Its logs go to our server's streams, and to whoever reads them."""
        bot = self.start_bot("talks")
        out, marker = self.forky.dir / "talks.run", forky.marker()
        with open(out, "wb") as pipe:
            run = subprocess.Popen(
                [forky.BIN / "lazyroot", *self.on("talks", f"echo early; sleep {marker}; echo late",
                                                  "--stream-logs")],
                stdout=pipe, stderr=subprocess.PIPE, env=self.forky.environment())
            wait_until(lambda: out.read_text() == "early\n" or run.poll() is not None, "the log")
        self.assertTrue(sandboxes_with(marker))
        forky.end_all(marker)
        _, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, out.read_text()), (0, "early\nlate\n"), err.decode())
        bot.stop()

    def test_lost_bot_and_another_takes_over(self):
        """What a bot ran that died is run again, by the next one that may."""
        self.start_bot("lost")
        marker = forky.marker()
        run = self.forky.popen(*self.on("lost", f"sleep {marker}; echo done"))
        wait_until(lambda: sandboxes_with(marker), "the command")
        self.kill_bot("lost")
        forky.end_all(marker)
        self.forky.start_worker("--platform", "pool=lost", name="ours")
        wait_until(lambda: sandboxes_with(marker), "the command again")
        forky.end_all(marker)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, out), (0, b"done\n"), err.decode())

    def test_beside_ours(self):
        """Each gets what only it can have."""
        self.start_bot("theirs", runner="buildbox-run-bubblewrap")
        self.forky.start_worker("--platform", "pool=ours", name="ours-beside")
        run = self.forky.run("--platform", "pool=ours", "--no-cache", "--", "/bin/echo", "ours")
        self.assertEqual((run.text, run.report["worker"]), ("ours\n", "ours-beside"))
        busybox = (forky.TREE / "usr/bin/busybox").read_bytes()
        tree = self.forky.tree("root", {"bin/sh": busybox})
        (tree / "bin/sh").chmod(0o755)
        run = self.ok(self.forky.lazyroot(*self.on("theirs", "echo theirs", "--input", tree)))
        self.assertEqual(run.text, "theirs\n")
