"""A soak: clients ask for actions without a pause while workers, clients, the server and connections
are killed at random. Every action ends in its one right result, to the last byte.

LAZYROOT_SOAK_SECONDS says for how long (300); LAZYROOT_SOAK_SEED repeats the choices, not their
moments."""
import collections
import hashlib
import os
import random
import shutil
import subprocess
import threading
import time
import unittest

import system
from crash import mounts_anywhere
from proxy import DelayProxy
from system import System, descendants, need_root, wait_until

SECONDS = float(os.environ.get("LAZYROOT_SOAK_SECONDS", 300))
SEED = int(os.environ.get("LAZYROOT_SOAK_SEED", time.time()))
N_CLIENTS = 4
N_TREES = 12
# What a client may hear where the machine, not the action, is at fault: an action whose workers
# were killed twice is not handed on again, and it is for the person to ask for it once more.
MAY_BE_ASKED_AGAIN = ("workers died while they ran this action",)


class Soak:
    def __init__(self, case):
        self.case = case
        self.system = case.system
        self.random = random.Random(SEED)
        self.until = time.monotonic() + SECONDS
        self.counts = collections.Counter()
        self.wrong = []
        self.lock = threading.Lock()
        self.proxies = [DelayProxy(self.system.address, 0) for _ in range(2)]
        self.workers = [self.start_worker(i) for i in range(2)]
        self.trees = [self.make_tree(i) for i in range(N_TREES)]

    def start_worker(self, i):
        """One of the two comes to the server through a proxy, whose connections are cut."""
        server = self.proxies[0].address if i else self.system.address
        return self.system.start_worker("--slots", "2", name=f"soak{i}", server=server)

    def make_tree(self, i):
        files = {f"d{j}/f": f"{SEED} {i} {j}\n" * self.random.choice((1, 100, 20000))
                 for j in range(4)}
        return self.system.tree(f"tree{i}", files), files

    def is_over(self):
        return time.monotonic() > self.until or self.wrong

    # ---- what is asked for ----

    def reading(self, choice, _n):
        tree, files = self.trees[choice.randrange(N_TREES)]
        said = "".join(text for _, text in sorted(files.items()))
        return (["--input", tree], "cat d*/f | sha256sum", 0,
                hashlib.sha256(said.encode()).hexdigest() + "  -\n", {})

    def making(self, choice, n):
        tree, files = self.trees[choice.randrange(N_TREES)]
        return (["--input", tree, "--output", "o"],
                "mkdir -p o/deep; cp d1/f o/deep/copy; rm d2/f; cat d0/f d3/f > o/two", 0, "",
                {"o/deep/copy": files["d1/f"], "o/two": files["d0/f"] + files["d3/f"]})

    def lasting(self, choice, n):
        return (["--env", f"N={n}"], f"sleep {choice.uniform(0.2, 3):.2f}; echo $N", 0, f"{n}\n", {})

    def failing(self, choice, n):
        return (["--env", f"N={n}"], "echo said $N; exit 3", 3, f"said {n}\n", {})

    def options(self, choice):
        return (choice.choice(([], ["--no-cache"], ["--rerun"]))
                + choice.choice(([], ["--stream-logs"])))

    # ---- clients ----

    def client(self, i):
        choice = random.Random(SEED * 100 + i)
        n = 0
        while not self.is_over():
            n += 1
            what = choice.choice((self.reading, self.making, self.lasting, self.failing))
            args, script, code, said, outputs = what(choice, f"{i}.{n // 2}")
            try:
                self.run(choice, i, [*args, *self.options(choice)], script, code, said, outputs)
            except Exception as error:  # all that is no right result
                with self.lock:
                    self.wrong.append(f"client {i}, run {n}, {what.__name__}: {error}")

    def run(self, choice, i, args, script, code, said, outputs):
        dest = self.system.dir / f"dest{i}"
        while True:
            shutil.rmtree(dest, ignore_errors=True)
            address = choice.choice((self.system.address, self.proxies[1].address))
            process = subprocess.Popen(
                [str(system.BIN / "lazyroot"), "run", *map(str, args), "--download", str(dest),
                 "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", script],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                cwd=self.system.dir, env=self.system.environment(address=address))
            if choice.random() < 0.1:
                try:
                    process.communicate(timeout=choice.uniform(0, 1.5))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                with self.lock:
                    self.counts["clients killed"] += 1
                continue
            out, err = process.communicate(timeout=system.PATIENCE * 3)
            if process.returncode == 125 and any(m in err.decode() for m in MAY_BE_ASKED_AGAIN):
                with self.lock:
                    self.counts["asked again"] += 1
                continue
            break
        found = {path: (dest / path).read_text() if (dest / path).exists() else None
                 for path in outputs}
        # where a worker was lost, what its command said is on the screen, too, and said to be void
        text = out.decode()
        if b"counts no more" in err or b"is not what its result has" in err:
            text = text[-len(said):] if said else ""
        if (process.returncode, text) != (code, said) or found != outputs:
            raise AssertionError(f"{process.returncode} instead of {code}, {out[:200]!r} instead of "
                                 f"{said[:200]!r}, outputs right: {found == outputs}; "
                                 f"{err[-1500:].decode(errors='replace')}")
        with self.lock:
            self.counts["runs"] += 1

    # ---- what happens to them ----

    def kill_worker(self):
        i = self.random.randrange(2)
        self.workers[i].popen.kill()
        self.workers[i].popen.wait()
        time.sleep(self.random.uniform(0, 1))
        self.workers[i] = self.start_worker(i)

    def kill_server(self):
        self.system.server.popen.kill()
        self.system.server.popen.wait()
        time.sleep(self.random.uniform(0, 1))
        self.system.start_server()

    def cut(self):
        self.random.choice(self.proxies).cut()

    def torment(self):
        while not self.is_over():
            time.sleep(self.random.uniform(0.5, 5))
            what = self.random.choices((self.cut, self.kill_worker, self.kill_server), (4, 2, 2))[0]
            what()
            self.counts[what.__name__] += 1

    def close(self):
        for proxy in self.proxies:
            proxy.close()


class SoakTest(unittest.TestCase):
    def setUp(self):
        need_root()
        self.system = System()
        self.addCleanup(self.system.close)

    def test_every_action_ends_in_its_one_right_result(self):
        soak = Soak(self)
        self.addCleanup(soak.close)
        threads = [threading.Thread(target=soak.client, args=(i,)) for i in range(N_CLIENTS)]
        for thread in threads:
            thread.start()
        soak.torment()
        for thread in threads:
            thread.join()
        print(f"seed {SEED}: {dict(soak.counts)}")
        self.assertEqual(soak.wrong, [], f"seed {SEED}")
        self.assertGreater(soak.counts["runs"], SECONDS / 10, soak.counts)
        for worker in soak.workers:
            worker.stop()
            self.assertEqual(mounts_anywhere(worker.cache), [])
            wait_until(lambda w=worker: not descendants(w.pid), "its processes to end")


if __name__ == "__main__":
    system.main()
