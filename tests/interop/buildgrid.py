"""BuildGrid in the place of our server: its SQL scheduler on PostgreSQL, and the last version that
takes SQLite on that. All of it in the tree. And what our worker as its bot and our client as its
client have to do on either."""
import os
import signal
import subprocess
import time

import forky
import system
from bazel import Workspace
from forky import Forky
from system import PATIENCE, sandboxes_with, wait_until

CONFIG = """
server:
  - !channel
    address: "127.0.0.1:{port}"
    insecure-mode: true
authorization:
  method: none
connections:
  - !sql-connection &sql
    connection-string: {database}
{pool}
storages:
  - !disk-storage &storage
    path: {directory}/cas
caches:
  - !lru-action-cache &cache
    storage: *storage
    max-cached-refs: 256
    allow-updates: true
schedulers:
  - !sql-scheduler &scheduler
    sql: *sql
    action-cache: *cache
    storage: *storage
    property-set: !dynamic-property-set
      match-property-keys: [OSFamily, ISA, pool]
      wildcard-property-keys: []
    bot-session-keepalive-timeout: 10
    session-expiry-timer-interval: 1
    poll-interval: 0.2
    bot-poll-interval: 0.2
    assigners:
      - !priority-age-assigner
        count: 1
        interval: 0.2
instances:
  - name: ""
    services:
      - !action-cache
        cache: *cache
      - !execution
        scheduler: *scheduler
      - !bots
        scheduler: *scheduler
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
thread-pool-size: 100
"""

# its migrations are PostgreSQL's
CREATE = """import sys, sqlalchemy, buildgrid.server.sql.models as models
models.Base.metadata.create_all(sqlalchemy.create_engine(sys.argv[1]))"""


class PostgreSQL:
    """A cluster of its own, with nobody's data in it."""
    program = "/opt/buildgrid/bin/bgd"
    pool = "    pool-size: 10\n    max-overflow: 20"

    def __init__(self, grid):
        self.grid, self.port = grid, forky.free_port()
        grid.dir.chmod(0o755)
        self.process = None
        self.ok("""
            install -d -o postgres -g postgres sql
            cd sql
            $AS initdb -D . -A trust --no-sync
        """)
        self.process = grid.start_inside("sql", [
            "bash", "-euc", f"cd sql; exec $AS postgres -D . -p {self.port} -c "
            "listen_addresses=127.0.0.1 -c fsync=off -k $PWD"], env=self.env())
        wait_until(lambda: "ready to accept" in self.process.err(), "PostgreSQL")
        self.ok("""
            $AS createuser $AT -s bgd
            $AS createdb $AT -O bgd bgd
        """)
        self.url = f"postgresql://bgd@127.0.0.1:{self.port}/bgd"
        self.ok(f"{self.program} migrate apply {self.url}")

    def env(self):
        (path,) = (forky.TREE / "usr/lib/postgresql").iterdir()
        return {"AS": "setpriv --reuid=postgres --regid=postgres --clear-groups env "
                f"PATH={path / 'bin'}:/usr/bin:/bin".replace(str(forky.TREE), ""),
                "AT": f"-h 127.0.0.1 -p {self.port}"}

    def ok(self, script):
        run = self.grid.inside(script, env=self.env())
        if run.code:
            raise forky.system.Failed(run.text + run.err)
        return run

    def commits(self):
        return int(self.ok("$AS psql $AT -U bgd -tA -c \"select xact_commit from "
                           "pg_stat_database where datname='bgd'\" bgd").text)

    def close(self):
        self.process.stop(signal.SIGINT)  # it would wait for whoever is connected


class SQLite:
    program = "/opt/buildgrid-sqlite/bin/bgd"
    pool = ""

    def __init__(self, grid):
        self.url = f"sqlite:///{grid.inner()}/bgd.db"
        run = grid.inside(f"/opt/buildgrid-sqlite/bin/python -c '{CREATE}' {self.url}")
        if run.code:
            raise forky.system.Failed(run.err)

    def close(self):
        pass


class Grid(Forky):
    def __init__(self, database_class):
        self.database_class = database_class
        self.database = None
        super().__init__()

    def start_server(self, listen=None):
        if not self.database:
            self.address = "grpc://127.0.0.1:%d" % forky.free_port()
            self.database = self.database_class(self)
            (self.dir / "config.yml").write_text(CONFIG.format(
                port=self.address.rsplit(":", 1)[1], database=self.database.url,
                directory=self.inner(), pool=self.database.pool))
        self.server = self.start_inside("server", [self.database.program, "server", "start",
                                                   f"{self.inner()}/config.yml"])
        wait_until(self.answers, "BuildGrid")
        return self.server

    def answers(self):
        if self.server.popen.poll() is not None:
            raise forky.system.Failed(self.server.err()[-3000:])
        return self.lazyroot("capabilities", "--rpc-timeout", "2s").code == 0

    def environment(self, env=None, address=None):
        return {**super().environment(env, address), "LAZYROOT_INSTANCE": ""}

    def start_worker(self, *args, **kwargs):
        return super().start_worker(*args, server=self.address, instance="", **kwargs)

    def close(self):
        for process in sorted(self.processes, key=lambda p: p is self.server):
            if self.database and process is getattr(self.database, "process", None):
                continue
            end(process)
        self.database.close()
        super().close()


def end(process):
    """BuildGrid may take its time over calls that last; ours may not, and does not."""
    if not process.name.startswith("server"):
        process.stop()
        return
    if process.popen.poll() is None:
        process.popen.terminate()
    try:
        process.popen.wait(10)
    except subprocess.TimeoutExpired:
        process.popen.kill()
        process.popen.wait()


class BuildGridTests:
    """On either database."""

    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.grid = Grid(cls.database)
        cls.addClassCleanup(cls.grid.close)

    def worker(self, slots, *args):
        worker = self.grid.start_worker("--slots", str(slots), *args,
                                        name=f"bot-{slots}-{time.time_ns()}")
        self.addCleanup(worker.stop)
        return worker

    def many(self, n, script="echo $N"):
        """n different runs at once; (exit code, stdout) of each."""
        runs = [self.grid.popen("run", "--no-cache", "--env", f"N={i}.{time.time_ns()}", "--env",
                                "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", script)
                for i in range(n)]
        return [(run.communicate(timeout=PATIENCE), run.returncode) for run in runs]

    def check_slots(self, slots):
        worker = self.worker(slots)
        self.assertIn("Remote Workers API", worker.err())  # what it found, in its log
        for (out, err), code in self.many(8):
            self.assertEqual(code, 0, err.decode())
            self.assertRegex(out.decode(), r"^\d\.\d+\n$")

    def test_one_slot(self):
        self.check_slots(1)

    def test_two_slots(self):
        self.check_slots(2)

    def test_eight_slots(self):
        self.check_slots(8)

    def test_slots_are_used_at_once_and_cancel(self):
        """The second job passes while the first one runs."""
        self.worker(2)
        marker = forky.marker()
        first = self.grid.popen("run", "--no-cache", "--", "/bin/sleep", marker)
        wait_until(lambda: sandboxes_with(marker), "the first job")
        (out, err), code = self.many(1)[0]
        self.assertEqual(code, 0, err.decode())
        first.send_signal(signal.SIGINT)
        self.assertEqual(first.wait(PATIENCE), 130)
        first.communicate()
        wait_until(lambda: not sandboxes_with(marker), "the end of what was cancelled")

    def test_outputs_failures_and_the_cache(self):
        self.worker(1)
        tree = self.grid.tree("in", {"a": f"{time.time_ns()}\n", "d/b": "b\n"})
        dest = self.grid.dir / "out"
        run = self.grid.run("--input", tree, "--output", "o", "--download", dest, "--", "/bin/sh",
                            "-c", "/bin/cat a d/b > o; echo said; exit 3")
        self.assertEqual((run.code, run.text), (3, "said\n"), run.err)
        self.assertEqual((dest / "o").read_text(), (tree / "a").read_text() + "b\n")
        same = ("--input", tree, "--", "/bin/cat", "a")
        self.assertFalse(self.grid.run(*same).report["cached"])
        again = self.grid.run(*same)
        self.assertTrue(again.report["cached"], again.err)

    def test_restart(self):
        """A job that runs meanwhile comes to its end, and what waits is given out later."""
        worker = self.worker(2)
        marker = forky.marker()
        run = self.grid.popen("run", "--no-cache", "--env", "PATH=/bin", "--", "/bin/sh", "-c",
                              f"sleep {marker}; echo outlived")
        wait_until(lambda: sandboxes_with(marker), "the job")
        self.grid.kill_server()
        self.grid.start_server()
        forky.end_until_over(marker, run)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, out), (0, b"outlived\n"), err.decode())
        for (out, err), code in self.many(2):
            self.assertEqual(code, 0, err.decode())
        self.assertIsNone(worker.popen.poll())

    def test_lease_of_a_dead_worker_expires(self):
        """BuildGrid gives its job to the next one."""
        marker = forky.marker()
        first = self.grid.start_worker("--slots", "1", name=f"dies-{time.time_ns()}")
        run = self.grid.popen("run", "--no-cache", "--env", "PATH=/bin", "--", "/bin/sh", "-c",
                              f"sleep {marker}; echo later")
        wait_until(lambda: sandboxes_with(marker), "the job")
        first.popen.kill()
        first.popen.wait()
        self.worker(1)
        forky.end_until_over(marker, run)
        out, err = run.communicate(timeout=PATIENCE)
        self.assertEqual((run.returncode, out), (0, b"later\n"), err.decode())

    def test_trexe_and_recc(self):
        self.worker(2)
        self.grid.tree("c", {"m.c": f"int main(void) {{ return {os.getpid() % 100}; }}\n"})
        run = self.grid.inside("""
            cd c
            trexe --remote=$ADDRESS --platform-properties=OSFamily=linux --input-path=m.c \
                --output-path=o --d=$HOME/trexe /bin/sh -c 'wc -l < m.c > o'
            cat $HOME/trexe/o
            export RECC_SERVER=$ADDRESS RECC_REMOTE_PLATFORM_OSFamily=linux
            RECC_LOG_LEVEL=info recc /usr/bin/gcc -c m.c -o m.o
            gcc m.o -o m; ./m || echo $?
        """)
        self.assertEqual((run.code, run.text.split()), (0, ["1", str(os.getpid() % 100)]), run.err)
        self.assertNotIn("locally", run.err)

    def test_bazel(self):
        self.worker(2)
        space = Workspace(self.grid)
        self.addCleanup(space.close)
        run = space.bazel(f"build {space.remote(instance='')} "
                          "//pkg:two //pkg:usetree //pkg:dangling")
        self.assertEqual(run.code, 0, run.err[-4000:])
        self.assertRegex(run.err, r"5 remote")
        self.assertEqual(space.out("pkg/two/a.txt"), "HELLO BAZEL\n")
