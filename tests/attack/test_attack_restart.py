"""What a server finds when it starts, and what clients say of themselves: databases that somebody made
up, and RequestMetadata of any size. Whatever stands there, it serves, and soon."""
import os
import random
import sqlite3
import struct
import time
import unittest

from attack import (BOTS, REAPI, Peer, data, digest_of, field, fields, is_sanitized, number,
                    peak_rss)
from system import System, need_root, wait_until

OPERATIONS = "/google.longrunning.Operations/"
METADATA = "build.bazel.remote.execution.v2.requestmetadata-bin"
SESSION, JOB, OPERATION = 1, 2, 3
TABLE = ("CREATE TABLE records (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL,"
         " head BLOB NOT NULL, response BLOB NOT NULL)")
N_ROWS = 3000 if is_sanitized() else 30000


def name_of(i, action):
    return f"{i:08x}-0000-4000-8000-000000000000-{field(digest_of(action), 1).decode()}-{len(action)}"


def job_of(i, action, extra=b""):
    """A job's record, which would be right."""
    return (data(2, bytes.fromhex(field(digest_of(action), 1).decode())) + number(3, len(action))
            + data(4, action) + number(7, i) + number(9, 10**9) + number(10, 1) + extra)


class RestartTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need_root()

    def setUp(self):
        self.system = System(("--grant", "local=all"))
        self.addCleanup(self.system.close)
        self.file = self.system.dir / "data/operations.sqlite"

    def start_with(self, make):
        """A server that starts on a database that make(connection) wrote; serves."""
        self.system.server.stop()
        for end in ("", "-wal", "-shm"):
            path = self.file.with_name(self.file.name + end)
            if path.exists():
                path.unlink()
        with sqlite3.connect(self.file) as db:
            make(db)
        db.close()
        server = self.system.start_server(listen=self.system.address)
        with Peer(self.system.address) as peer:
            name = self.execute(peer, os.urandom(8))
            peer.call(OPERATIONS + "GetOperation", data(1, name))
        if not is_sanitized():
            self.assertLess(peak_rss(server.pid), 700 << 20)
        return server

    def execute(self, peer, salt, metadata=()):
        """The name of a detached operation."""
        action = (data(1, peer.put(data(1, "/bin/true"))) + data(2, peer.put(b"")) + data(9, salt))
        stream = peer.channel.unary_stream(REAPI + "Execution/Execute")(
            data(6, peer.put(action)), timeout=60,
            metadata=(("lazyroot-detached", "1"), *metadata))
        name = field(next(iter(stream)), 1).decode()
        stream.cancel()
        return name

    # ---- databases

    def rows(self, *rows):
        def make(db):
            db.execute(TABLE)
            db.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)
        return self.start_with(make)

    def test_rows_of_random_bytes(self):
        rng = random.Random(7)
        server = self.rows(*((i + 1, rng.randint(-1, 5), rng.randbytes(rng.randint(0, 300)),
                              rng.randbytes(rng.randint(0, 300))) for i in range(N_ROWS)))
        self.assertIn("are not taken", server.err())

    def test_rows_of_other_types(self):
        self.rows((-5, JOB, b"", b""), (2**63 - 1, JOB, b"", b""), (0, OPERATION, b"", b""),
                  (1, "a job", "text", 3), (2, 2.5, 17, "x"), (3, SESSION, "text", ""))

    def test_jobs_in_the_worst_order(self):
        """Each before all that were read, and two operations each that ended before the last."""
        rows = []
        for i in range(N_ROWS):
            action = b"a%d" % i
            rows.append((i + 1, JOB, job_of(N_ROWS - i, action), b""))
            rows.append((N_ROWS + 2 * i + 1, OPERATION,
                         data(1, name_of(2 * i, action)) + data(2, "c%d" % (i % 50)) + number(3, i + 1)
                         + number(4, 1), b""))
            rows.append((N_ROWS + 2 * i + 2, OPERATION,
                         data(1, name_of(2 * i + 1, action))
                         + number(6, (time.time_ns() - i * 10**6)), b""))
        start = time.monotonic()
        server = self.rows(*rows)
        self.assertIn(f" {N_ROWS} jobs wait", server.err())
        if not is_sanitized():
            self.assertLess(time.monotonic() - start, 30)

    def test_one_job_for_too_many_operations(self):
        action = b"a"
        rows = [(1, JOB, job_of(1, action), b"")]
        rows += [(i + 2, OPERATION, data(1, name_of(i, action)) + number(3, 1) + number(4, 1), b"")
                 for i in range(25000)]
        server = self.rows(*rows)
        self.assertIn("5000 records", server.err())

    def test_responses_without_end(self):
        response = data(1, data(5, b"x" * (15 << 20)))
        server = self.rows(*((i + 1, OPERATION, data(1, name_of(i, b"a")) + number(6, time.time_ns()),
                              response) for i in range(8 if is_sanitized() else 40)))
        self.assertIsNone(server.popen.poll())

    def test_a_row_larger_than_any_message(self):
        server = self.rows((1, JOB, b"x" * (200 << 20), b""))
        self.assertIn("begin anew", server.err())

    def test_leases_that_cannot_be(self):
        bot = (data(1, "s") + data(3, "bot") + data(4, "host:local") + number(6, 1))
        leased = number(13, 1) + data(14, "lease") + number(15, 1) + number(16, 2**62)
        rows = [(1, SESSION, bot, b"")]
        for i in range(4):
            action = b"l%d" % i
            rows += [(10 + i, JOB, job_of(i, action, leased), b""),
                     (20 + i, OPERATION, data(1, name_of(i, action)) + number(3, 10 + i)
                      + number(4, 1), b"")]
        server = self.rows(*rows)
        self.assertIn("3 jobs wait, 1 run", server.err())
        with Peer(self.system.address) as peer:
            lease = data(7, "lease") + number(2, 2)
            told = peer.call(BOTS + "UpdateBotSession", data(1, "s") + data(2, data(1, "s")
                             + data(2, "bot") + number(3, 1) + data(5, lease)), timeout=3)
            self.assertEqual([field(v, 7) for n, v in fields(told) if n == 5], [b"lease"])
            # nor by a new session; but one that says what it holds keeps that
            session = data(2, "bot") + number(3, 1) + data(5, lease)
            opened = peer.call(BOTS + "CreateBotSession", data(2, data(2, "other") + data(5, lease)))
            self.assertEqual([v for n, v in fields(opened) if n == 5], [])
            opened = peer.call(BOTS + "CreateBotSession", data(2, session + data(5, data(7, "none")
                                                               + number(2, 2))))
            self.assertEqual([field(v, 7) for n, v in fields(opened) if n == 5], [b"lease"])
            self.assertEqual(peer.status(BOTS + "CreateBotSession", data(2, session + data(
                5, lease) * 3000)), "INVALID_ARGUMENT")

    def test_a_trigger_a_view_and_another_table(self):
        for more in ("CREATE TRIGGER t AFTER DELETE ON records BEGIN DELETE FROM records; END",
                     "CREATE INDEX i ON records (kind)", "CREATE TABLE more (x)"):
            def make(db, more=more):
                db.execute(TABLE)
                db.execute(more)
            self.assertIn("begin anew", self.start_with(make).err())

        def endless(db):
            db.execute("CREATE VIEW records AS WITH RECURSIVE r(id) AS (SELECT 1 UNION ALL"
                       " SELECT id + 1 FROM r) SELECT id, 2 AS kind, x'' AS head, x'' AS response"
                       " FROM r")
        self.assertIn("begin anew", self.start_with(endless).err())

    def test_a_schema_that_lies(self):
        def make(db):
            db.execute(TABLE)
            db.execute("INSERT INTO records VALUES (1, 2, x'00', x'00')")
            db.execute("PRAGMA writable_schema=1")
            db.execute("UPDATE sqlite_master SET rootpage=1")
        self.assertIn("begin anew", self.start_with(make).err())

    def test_a_link_in_its_place(self):
        victim = self.system.dir / "victim"
        victim.write_bytes(b"precious")
        self.system.server.stop()
        self.file.unlink()
        self.file.symlink_to(victim)
        self.system.start_server(listen=self.system.address)
        self.assertEqual(victim.read_bytes(), b"precious")
        self.assertFalse(self.file.is_symlink())

    # ---- RequestMetadata

    def metadata_of(self, name):
        """What GetOperation tells of who asked."""
        with Peer(self.system.address) as peer:
            operation = peer.call(OPERATIONS + "GetOperation", data(1, name))
        metadata = field(field(operation, 2), 2)
        partial = field(metadata, 5, b"")
        found = [any_ for n, any_ in fields(partial) if n == 11]
        return [field(a, 2) for a in found if field(a, 1).endswith(b".RequestMetadata")]

    def test_request_metadata_is_kept_with_the_operation(self):
        said = (data(1, data(1, "bazel") + data(2, "7")) + data(3, "invocation") + data(6, "//a:b"))
        with Peer(self.system.address) as peer:
            name = self.execute(peer, b"1", ((METADATA, said),))
            self.execute(peer, b"2", ((METADATA, data(3, "another")),))
        self.assertEqual(self.metadata_of(name), [said])
        wait_until(lambda: self.n_kept() == 2, "both in the file")
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        self.system.start_server(listen=self.system.address)
        self.assertEqual(self.metadata_of(name), [said])
        with Peer(self.system.address) as peer:
            for filter_, n in (("tool_invocation_id=invocation", 1), ("target_id=//a:b", 1),
                               ("correlated_invocations_id=invocation", 0), ("", 2)):
                listed = peer.call(OPERATIONS + "ListOperations", data(1, filter_))
                self.assertEqual(len([1 for n_, _ in fields(listed) if n_ == 1]), n, filter_)

    def n_kept(self):
        with sqlite3.connect(f"file:{self.file}?mode=ro", uri=True) as db:
            return db.execute("SELECT COUNT(*) FROM records WHERE kind=3").fetchone()[0]

    def test_request_metadata_that_is_none_or_too_large(self):
        with Peer(self.system.address) as peer:
            for value in (b"\xff\xff\xff", b"\x00", data(3, "x" * 5000),
                          data(3, "a") * 20000):
                name = self.execute(peer, os.urandom(8), ((METADATA, value),))
                self.assertEqual(self.metadata_of(name), [])
            kept = data(3, "x" * 4000)
            name = self.execute(peer, os.urandom(8), ((METADATA, kept),))
            self.assertEqual(self.metadata_of(name), [kept])
            status = peer.status(REAPI + "Execution/Execute", b"", metadata=(
                (METADATA, b"x" * (1 << 20)),))
            self.assertIn(status, ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"))
        with Peer(self.system.address) as peer:
            self.execute(peer, os.urandom(8))

    def test_request_metadata_counts_as_its_clients_bytes(self):
        """4 KB each, of as many as a client may have, are bounded like all that it leaves here."""
        value = data(3, "x" * 4000)
        with Peer(self.system.address) as peer:
            action = peer.put(data(1, peer.put(data(1, "/bin/true"))) + data(2, peer.put(b"")))
            streams = []
            execute = peer.channel.unary_stream(REAPI + "Execution/Execute")
            for _ in range(900):
                stream = execute(data(6, action), timeout=60, metadata=(
                    ("lazyroot-detached", "1"), (METADATA, value)))
                streams.append(stream)
            for stream in streams:
                next(iter(stream))
                stream.cancel()
        self.assertLess(peak_rss(self.system.server.pid), 700 << 20)


if __name__ == "__main__":
    unittest.main(verbosity=2)
