"""Foresight through the real programs, the storage 10 ms away: what an action costs in round
trips, never in time. What is learned stays, is shared, and is only ever a hint: lost blobs,
damaged databases and hostile profiles cost bytes at most."""
import hashlib
import os
import pathlib
import shutil
import signal
import sqlite3
import sys
import time
import unittest

import system
from far import Far
from system import System, counts, delta, fuse_only, metrics, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "attack"))
from attack import REAPI, Peer, data, digest_of, number  # noqa: E402

READ = REAPI + "ContentAddressableStorage/BatchReadBlobs"
TREE = REAPI + "ContentAddressableStorage/GetTree"
STREAM = "/google.bytestream.ByteStream/Read"
SHARING = ("--grant", "local=all")  # which has the right to write action results
RTT_MS = 10


class FarCase(unittest.TestCase):
    """A server of its own for a class, seen from afar; each test starts its workers."""
    server_args = ()
    bits = 10 ** 9

    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.system = System(cls.server_args)
        cls.far = Far(cls.system.address, RTT_MS, cls.bits)

    @classmethod
    def tearDownClass(cls):
        cls.system.close()
        cls.far.close()

    def setUp(self):
        self.workers = []

    def tearDown(self):
        for worker in list(self.workers):
            self.stop(worker)

    def worker(self, *args, **kwargs):
        worker = self.system.start_worker("--cas", self.far.address, "--slots", "1", *args,
                                          **kwargs)
        self.workers.append(worker)
        return worker

    def stop(self, worker, number=signal.SIGTERM):
        if worker in self.workers:
            self.workers.remove(worker)
        if number == signal.SIGKILL:
            worker.popen.kill()
            worker.popen.wait()
        else:
            self.assertEqual(worker.stop(), 0)
        self.system.processes.remove(worker)

    def again(self, worker, *args, keep_profiles=True):
        """The same worker without its blobs, as if new but for what it learned."""
        self.stop(worker)
        gone = ["blobs", "index.sqlite", "index.sqlite-wal", "index.sqlite-shm"]
        if not keep_profiles:
            gone += [p.name for p in worker.cache.glob("profiles.sqlite*")]
        for name in gone:
            path = worker.cache / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        return self.worker(*args, cache=worker.cache)

    def run_on(self, root, *command, output=(), code=0):
        words = [w for o in output for w in ("--output", o)]
        run = self.system.run("--input-digest", root, "--no-cache", "-q", "--no-download",
                              "--env", "PATH=/usr/bin:/bin", *words, "--", *command)
        self.assertEqual(run.code, code, run.err)
        return run

    def trips(self, *args, **kwargs):
        return self.run_on(*args, **kwargs).report["fetched"]["round_trips"]

    def upload(self, name, files):
        tree = self.system.tree(name, files)
        root = self.system.upload(tree)
        shutil.rmtree(tree)
        return root


def small_files(n, stamp):
    return {f"tree/d{i // 300}/e{i // 30 % 10}/f{i}.txt": f"{stamp} {i}\n" * 40
            + ("needle\n" if i % 7 == 0 else "") for i in range(n)}


GREP = ("/usr/bin/grep", "-rc", "needle", "tree", "--include=*")
N_HEADERS = 200
GCC = ("/usr/bin/gcc", "-nostdinc", "-Iinc", "-isystem", "sys", "-c")


def headers():
    """A tree of includes, two below each, eight levels deep; every third is a system header."""
    def place(i):
        return f"sys/s{i % 7}/h{i}.h" if i % 3 == 0 else f"inc/i{i % 5}/h{i}.h"

    def include(i):
        return f"#include <{place(i).split('/', 1)[1]}>\n"

    files = {}
    for i in range(N_HEADERS):
        below = [include(k) for k in (2 * i + 1, 2 * i + 2) if k < N_HEADERS]
        files[place(i)] = f"#ifndef H{i}\n#define H{i}\n" + "".join(below) + f"enum {{ e{i} }};\n#endif\n"
    return files, include(0)


# names that nothing but running it tells, each in a directory of its own
SCATTERED = "i=0; while [ $i -lt 40 ]; do cat d$i/f$((i * 7 % 10)); i=$((i + 1)); done"


def scattered(stamp):
    return {f"d{i}/f{k}": f"{stamp} {i} {k}\n" for i in range(40) for k in range(10)}


def scattered_text(stamp):
    return "".join(f"{stamp} {i} {i * 7 % 10}\n" for i in range(40))


class RoundTripsTest(FarCase):
    def test_grep_over_3000_files_first_ever(self):
        root = self.upload("grep", small_files(3000, "first"))
        self.worker("--foresight", "local")
        run = self.run_on(root, *GREP)
        self.assertEqual(run.report["opened"]["files"], 3000)
        self.assertEqual(run.text.count(":1\n"), len(range(0, 3000, 7)))
        self.assertLessEqual(run.report["fetched"]["round_trips"], 60)
        self.assertLessEqual(run.report["fetched"]["bytes"], 2 * run.report["opened"]["bytes"]
                             + (1 << 20))

    def test_compile_first_ever_again_and_another_source(self):
        files, first = headers()
        text = first + "int x = e0 + e199;\n"
        root = self.upload("compile", {**files, "src/m.c": text})
        other = self.upload("other", {**files, "src/other.c": "/* another */\n" + text})
        worker = self.worker("--foresight", "local")
        run = self.run_on(root, *GCC, "src/m.c", "-o", "out/m.o", output=["out/m.o"])
        self.assertEqual(run.report["opened"]["files"], N_HEADERS + 1)
        self.assertLessEqual(run.report["fetched"]["round_trips"], 40)
        derived = run.report["foresight"]["derived"]
        self.assertGreater(derived["useful"]["files"] + derived["late"]["files"], 150)
        worker = self.again(worker, "--foresight", "local")
        run = self.run_on(root, *GCC, "src/m.c", "-o", "out/m.o", output=["out/m.o"])
        self.assertLessEqual(run.report["fetched"]["round_trips"], 12)
        learned = run.report["foresight"]["learned"]
        self.assertGreater(learned["useful"]["files"] + learned["late"]["files"], 150)
        # a new source file of the same shape has the profile of those before it
        self.again(worker, "--foresight", "local")
        self.assertLessEqual(self.trips(other, *GCC, "src/other.c", "-o", "out/other.o",
                                        output=["out/other.o"]), 12)

    def test_off_fetches_one_by_one(self):
        root = self.upload("off", scattered("off"))
        worker = self.worker("--foresight", "off")
        run = self.run_on(root, "/bin/sh", "-c", SCATTERED)
        self.assertEqual(run.text, scattered_text("off"))
        self.assertGreaterEqual(run.report["fetched"]["round_trips"], 40)
        self.assertNotIn("foresight", run.report)
        self.assertEqual(list(worker.cache.glob("profiles*")), [])

    def test_warm_runs_fetch_nothing_and_ask_nothing(self):
        root = self.upload("warm", {**small_files(300, "warm"), **scattered("warm")})
        worker = self.worker("--foresight", "local")
        script = SCATTERED + "; grep -rc needle tree"
        for _ in range(2):
            self.run_on(root, "/bin/sh", "-c", script)
        wait_until(lambda: counts(worker), "the job's counters")
        before = counts(worker)
        run = self.run_on(root, "/bin/sh", "-c", script)
        wait_until(lambda: counts(worker) != before, "the job's counters")
        cost = delta(before, counts(worker))
        self.assertEqual(fuse_only(cost), {})
        self.assertEqual([cost.get(k, 0) for k in (READ, TREE, STREAM)], [0, 0, 0])
        self.assertEqual([run.report["fetched"][k] for k in ("blobs", "round_trips")], [0, 0])
        self.assertEqual(run.report["opened"]["files"], 340)
        self.assertEqual(run.report["foresight"]["missed"]["files"], 0)


class LearnedTest(FarCase):
    def test_what_a_command_read_itself_is_all_that_it_is_given(self):
        """Others of its shape read other files: a warm run fetches none of them."""
        files = {f"d{i % 7}/f{i}": f"{i}\n" * 300 for i in range(120)}
        for n, name in enumerate(("one", "two")):
            files[f"{name}.txt"] = "".join(f"d{i % 7}/f{i}\n" for i in range(n, 120, 2))
        files["run.sh"] = "while read name; do cat $name; done <$1\n"
        root = self.upload("others", files)
        worker = self.worker()
        self.run_on(root, "/bin/sh", "run.sh", "one.txt")
        worker = self.again(worker)
        new = self.run_on(root, "/bin/sh", "run.sh", "two.txt")
        self.assertGreater(new.report["foresight"]["learned"]["wasted"]["files"], 30,
                           "they are of one shape")
        worker = self.again(worker)
        run = self.run_on(root, "/bin/sh", "run.sh", "two.txt")
        self.assertEqual(run.text, new.text)
        self.assertGreater(run.report["foresight"]["learned"]["useful"]["files"], 30)
        self.assertEqual([s["wasted"]["files"] for s in run.report["foresight"].values()
                          if s.get("wasted", {}).get("files")], [])
        self.assertEqual(self.trips(root, "/bin/sh", "run.sh", "two.txt"), 0)

    def test_profiles_outlive_the_worker_and_its_death(self):
        root = self.upload("learned", scattered("learned"))
        worker = self.worker("--foresight", "local")
        script = SCATTERED + "; sleep 0.3"
        first = self.trips(root, "/bin/sh", "-c", script)
        worker = self.again(worker, "--foresight", "local")
        self.assertLessEqual(self.trips(root, "/bin/sh", "-c", script), min(12, first // 2))
        # killed in the middle of its prefetching
        worker = self.again(worker, "--foresight", "local")
        client = self.system.popen("run", "--input-digest", root, "--no-cache", "--env",
                                   "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", script)
        # not before: a worker that dies while it mounts waits for itself, in the kernel
        wait_until(lambda: any(system.command_line(pid).startswith(b"/bin/sh")
                               for pid in system.descendants(worker.pid)), "the command's start")
        self.stop(worker, signal.SIGKILL)
        worker = self.worker("--foresight", "local", cache=worker.cache)
        out, err = client.communicate(timeout=system.PATIENCE)
        self.assertEqual((client.returncode, out.decode()), (0, scattered_text("learned")), err)
        self.assertEqual(list(worker.cache.glob("*.damaged")), [])

    def test_a_damaged_database_is_set_aside(self):
        root = self.upload("damaged", scattered("damaged"))
        worker = self.worker("--foresight", "local")
        self.run_on(root, "/bin/sh", "-c", SCATTERED)
        self.stop(worker)
        path = worker.cache / "profiles.sqlite"
        self.assertTrue(path.exists())
        path.write_bytes(b"damage" * 5000)
        for name in ("profiles.sqlite-wal", "profiles.sqlite-shm"):
            (worker.cache / name).unlink(missing_ok=True)
        worker = self.worker("--foresight", "local", cache=worker.cache)
        run = self.run_on(root, "/bin/sh", "-c", SCATTERED)
        self.assertEqual(run.text, scattered_text("damaged"))
        self.assertEqual(worker.err().count(" warn profiles "), 1)
        self.assertTrue((worker.cache / "profiles.sqlite.damaged").exists())
        self.stop(worker)
        with sqlite3.connect(path) as db:  # and it learns again
            self.assertGreater(db.execute("SELECT count(*) FROM profiles").fetchone()[0], 0)
        db.close()

    def test_a_lost_blob_that_is_not_read_is_nobodys_loss(self):
        stamp = f"lost {time.time()}\n"
        tree = self.system.tree("lost", {"lost": stamp, "kept": "kept\n"})
        root = self.system.upload(tree)
        digest = self.system.upload(tree / "lost")
        self.system.blob_path(self.system.dir / "data", digest).unlink()
        self.worker("--foresight", "local")
        # it is wished for, since the command names it
        run = self.run_on(root, "/bin/sh", "-c", "test -e lost; cat kept; sleep 0.2")
        self.assertEqual(run.text, "kept\n")
        run = self.run_on(root, "/bin/sh", "-c", "cat lost", code=125)
        self.assertIn(digest.split("/")[0], run.err)


class NarrowTest(FarCase):
    """A way that is narrow enough to be met in the middle of it."""
    bits = 10 ** 8

    def test_cancel_leaves_nothing_queued(self):
        n, size = 300, 200 << 10
        root = self.upload("narrow", {f"d/f{i:03}": os.urandom(size) for i in range(n)})
        worker = self.worker("--foresight", "local", "--metrics", "127.0.0.1:0")
        words = [f"d/f{i:03}" for i in range(n)]
        client = self.system.popen("run", "--input-digest", root, "--no-cache", "--env",
                                   "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                                   "sleep 100 || cat " + " ".join(words))

        def fetched():
            return metrics(worker)["lazyroot_fetch_bytes_total"]

        wait_until(lambda: fetched() > 4 * size, "the first of what was foreseen")
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=system.PATIENCE)
        wait_until(lambda: not any((worker.cache / "actions").iterdir()), "the action's end")

        def is_quiet():
            before = fetched()
            time.sleep(0.5)
            return fetched() == before

        wait_until(is_quiet, "the end of what was under way")
        self.assertLess(fetched(), n * size / 2)
        # and the worker is there for the next
        run = self.run_on(self.upload("next", {"f": "next\n"}), "/bin/cat", "f")
        self.assertEqual(run.text, "next\n")


def profile_key(kind, what):
    """The digest under which a profile is shared, as a Digest message."""
    return digest_of(b"lazyroot profile 1 " + kind + b"\0" + what)


def shape(*words):
    return profile_key(b"shape", b"".join(w.encode() + b"\0" for w in words))


def leb(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def profile(paths, runs=8):
    out, before = b"LZP\1" + leb(runs), b""
    for path in map(str.encode, paths):
        n = len(os.path.commonprefix([path, before]))
        out += leb(n) + leb(len(path) - n) + path[n:] + leb(1) + bytes([255, 8])
        before = path
    return out


class SharedTest(FarCase):
    server_args = SHARING

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.peer = Peer(cls.system.address)

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        super().tearDownClass()

    def known(self, key):
        return self.peer.status(REAPI + "ActionCache/GetActionResult", data(2, key)) == "OK"

    def poison(self, key, result):
        self.peer.call(REAPI + "ActionCache/UpdateActionResult", data(2, key) + data(3, result))

    def test_another_worker_profits(self):
        root = self.upload("shared", scattered("shared"))
        worker = self.worker()
        first = self.trips(root, "/bin/sh", "-c", SCATTERED)
        self.assertGreaterEqual(first, 40)
        wait_until(lambda: self.known(shape("/bin/sh", "-c", SCATTERED)), "the shared profile")
        self.stop(worker)
        self.worker()
        run = self.run_on(root, "/bin/sh", "-c", SCATTERED)
        self.assertEqual(run.text, scattered_text("shared"))
        learned = run.report["foresight"]["learned"]
        self.assertGreater(learned["useful"]["files"], 20)
        self.assertLessEqual(run.report["fetched"]["round_trips"], 12)

    def test_local_shares_nothing(self):
        root = self.upload("local", scattered("local"))
        script = ":; " + SCATTERED
        worker = self.worker("--foresight", "local")
        self.run_on(root, "/bin/sh", "-c", script)
        self.stop(worker)  # whatever it had to tell is told
        self.assertFalse(self.known(shape("/bin/sh", "-c", script)))

    def test_poisoned_profiles_cost_no_more_than_the_budget(self):
        """The budget is an eighth of the cache; the result is the command's, whatever comes."""
        n, size = 400, 100 << 10
        files = {f"in/f{i:03}": os.urandom(64) + bytes(size - 64) for i in range(n)}
        root = self.upload("poison", {**files, "a.txt": "one\n", "b.dat": "two\n"})
        cache, budget = 64 << 20, 8 << 20
        everything = [f"in/f{i:03}" for i in range(n)] + [f"no/such/{i}" for i in range(19600)]
        huge = profile([f"no/{i}" for i in range(20000)]) + bytes(2 << 20)
        self.peer.put(huge)
        wrong = (data(2, data(1, "b.dat") + data(2, digest_of(b"x"))) + number(4, 7)
                 + data(5, b"wrong\n") + data(7, b"wrong\n"))
        poisons = {
            "all": data(5, profile(everything)),
            "one too many": data(5, profile([f"no/{i}" for i in range(20001)])),
            "garbage": data(5, os.urandom(5000)),
            "cut off": data(5, profile(everything)[:-1]),
            "climbing": data(5, profile(["../../etc/passwd"])),
            "huge": data(6, digest_of(huge)),
            "lost": data(6, digest_of(os.urandom(100))),
            "wrong": wrong,
            "empty": b"",
        }
        for name, result in poisons.items():
            with self.subTest(name):
                script = f"cat a.txt b.dat; sleep 0.5; : {name}"
                try:
                    self.poison(shape("/bin/sh", "-c", script), result)
                except Exception as error:  # the server itself may refuse it
                    self.assertIn("StatusCode", str(error))
                worker = self.worker("--cache-size", str(cache))
                run = self.run_on(root, "/bin/sh", "-c", script)
                self.assertEqual(run.text, "one\ntwo\n")
                self.assertLessEqual(run.report["fetched"]["bytes"], budget + (2 << 20))
                wasted = run.report["foresight"]["learned"]["wasted"]["bytes"]
                if name == "all":  # it is heard, as far as the budget goes
                    self.assertGreater(wasted, budget // 2)
                else:
                    self.assertEqual(wasted, 0)
                self.stop(worker)


class UnsharedTest(FarCase):
    """By default nobody may write action results."""

    def test_without_the_right_it_is_said_once(self):
        root = self.upload("unshared", scattered("unshared"))
        worker = self.worker()
        for i in range(4):
            self.run_on(root, "/bin/sh", "-c", f"{SCATTERED}; : {i}")
        self.stop(worker)
        said = [line for line in worker.err().splitlines() if "profiles" in line]
        self.assertEqual(len(said), 1, said)
        self.assertIn("profiles are not shared for now", said[0])
        self.assertIn("ac-write", said[0], "and what is missing")


if __name__ == "__main__":
    system.main()
