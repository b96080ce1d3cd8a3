#!/usr/bin/python3
"""What one client's attack costs another: latency of a tiny put and a look-up beside each.

    tests/bench/bench_fair.py [ATTACK]...
        find_missing batch_update unread_reads unread_batches half_uploads slow_readers
        list_operations queue_flood

Needs root, the release build and Debian's python3-grpcio. What is measured is what the server
makes of an attack that comes from another machine, on a machine that has the server alone. Here
all share the processors, so the victim, a process of its own, is a real-time one (its own
machine would be idle), and the attacker, another, is ten nicer than the server: what it makes
the server do counts in full, what it does itself counts less. That the attacker is not starved
by this is seen in the last column: its calls a second, answered/refused, while the victim was
measured (an attack that only holds calls open has 0). What both still use of the machine is in
"other attacked": the same attack on another server of this machine.

Each line: the victim's p50 and p99 alone, then beside the attack, then beside the same attack
on another server, and the server's peak memory. The disk is whatever /var/tmp is on: with a
busy one, `unshare -m sh -c 'mount -t tmpfs tmpfs /var/tmp && tests/bench/bench_fair.py'` leaves
it out; `nice -n -15` before all holds other work of the machine off.
"""
import argparse
import hashlib
import mmap
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "attack"))
os.environ.setdefault("LAZYROOT_BIN", str(
    pathlib.Path(__file__).resolve().parents[2] / "build/release/bin"))
from attack import REAPI, Peer, data, digest, number, peak_rss  # noqa: E402
from system import System  # noqa: E402

CAS = REAPI + "ContentAddressableStorage/"
BYTES = "/google.bytestream.ByteStream/"
ATTACKS = ["find_missing", "batch_update", "unread_reads", "unread_batches", "half_uploads",
           "slow_readers", "list_operations", "queue_flood"]
ROUNDS = 400
ROUNDS_SECONDS = 5  # at least
SETTLE = 3
ATTACKER_NICE = 10


def digest_of(content):
    return f"{hashlib.sha256(content).hexdigest()}/{len(content)}"


def put(peer, content):
    peer.call(CAS + "BatchUpdateBlobs",
              data(2, data(1, digest(digest_of(content))) + data(2, content)))
    return digest_of(content)


THREADS_MAX = 1000


class Tally:
    """Calls of an attacker that were answered and refused: in a file's memory, so that whoever
    started it can look; a cell is one thread's."""

    def __init__(self, fd):
        os.ftruncate(fd, 16 * THREADS_MAX)
        self.cells = memoryview(mmap.mmap(fd, 16 * THREADS_MAX)).cast("q")

    def sums(self):
        return sum(self.cells[:THREADS_MAX]), sum(self.cells[THREADS_MAX:])


def forever(n, work):
    """n threads that do work(i) again and again, whatever comes of it."""
    may_go = threading.Event()
    cells = Attack.tally.cells

    def run(i):
        may_go.wait()
        while True:
            try:
                work(i)
                cells[i] += 1
            except Exception:  # refusals are what an attacker gets
                cells[THREADS_MAX + i] += 1
                time.sleep(0.001)
    for i in range(n):
        threading.Thread(target=run, args=(i,), daemon=True).start()
    may_go.set()


class Attack:
    """Each method attacks until the process is ended."""
    tally = None

    def __init__(self, address):
        self.address = address

    def find_missing(self):
        head, tail = data(2, digest("%064x/1234")).split(b"%064x")
        head = head[:1] + bytes([len(head) + 64 + len(tail) - 2]) + head[2:3] + bytes([64])
        request = b"".join(b"%b%064x%b" % (head, i, tail) for i in range(8 * 1024 * 1024 // 73))
        peers = [Peer(self.address) for _ in range(100)]
        forever(100, lambda i: peers[i].call(CAS + "FindMissingBlobs", request))

    def batch_update(self):
        peers = [Peer(self.address) for _ in range(20)]

        def work(i):
            content = os.urandom(4 << 20)[:-100_000]
            put(peers[i], content)
        forever(20, work)

    def unread_reads(self):
        self.unread(b"".join, 1000, 10)

    def unread(self, _, n, n_peers):
        with Peer(self.address) as peer:
            name = "blobs/" + put(peer, os.urandom(3 << 20))
        self.peers = [Peer(self.address) for _ in range(n_peers)]
        self.calls = [self.peers[i % n_peers].server_stream(
            BYTES + "Read", data(1, name), timeout=None) for i in range(n)]

    def unread_batches(self):
        with Peer(self.address) as peer:
            digests = [put(peer, os.urandom(1 << 20)) for _ in range(3)]
        request = b"".join(data(2, digest(d)) for d in digests)
        self.peers = [Peer(self.address) for _ in range(10)]
        self.calls = [self.peers[i % 10].channel.unary_unary(CAS + "BatchReadBlobs").future(request)
                      for i in range(1000)]

    def half_uploads(self):
        self.peers = [Peer(self.address) for _ in range(10)]
        content = os.urandom(64 << 10)

        def requests():
            hash_ = hashlib.sha256(os.urandom(16)).hexdigest()
            name = f"uploads/{uuid.uuid4()}/blobs/{hash_}/{64 << 20}"
            yield data(1, name) + data(10, content)
            time.sleep(5)
        forever(400, lambda i: self.peers[i % 10].client_stream(BYTES + "Write", requests()))

    def slow_readers(self):
        with Peer(self.address) as peer:
            name = "blobs/" + put(peer, os.urandom(3 << 20))
        self.peers = [Peer(self.address) for _ in range(10)]

        def work(i):
            for _ in self.peers[i % 10].server_stream(BYTES + "Read", data(1, name)):
                time.sleep(0.2)
        forever(200, work)

    def action(self, peer, i):
        command = put(peer, data(1, "true"))
        root = put(peer, b"x")
        return put(peer, data(1, digest(command)) + data(2, digest(root)) + number(7, 1) +
                   data(10, data(1, data(1, "nobody") + data(2, str(i)))))

    def list_operations(self):
        with Peer(self.address) as peer:
            for i in range(300):
                self.execute(peer, self.action(peer, i))
        peers = [Peer(self.address) for _ in range(8)]
        forever(8, lambda i: peers[i].call("/google.longrunning.Operations/ListOperations",
                                           number(2, 1000)))

    def execute(self, peer, action):
        call = peer.server_stream(REAPI + "Execution/Execute",
                                  data(6, digest(action)) + number(3, 1))
        next(iter(call))
        call.cancel()

    def queue_flood(self):
        peers = [Peer(self.address) for _ in range(8)]
        actions = [self.action(peers[0], i) for i in range(50)]
        forever(8, lambda i: self.execute(peers[i], actions[i]))


def rounds(address):
    """Milliseconds of each round of a victim, sorted."""
    out = []
    with Peer(address) as peer:
        for _ in range(20):
            put(peer, os.urandom(100))
        end = time.monotonic() + ROUNDS_SECONDS
        while len(out) < ROUNDS or time.monotonic() < end:
            content = os.urandom(100)
            start = time.perf_counter()
            put(peer, content)
            peer.call(CAS + "FindMissingBlobs", data(2, digest(digest_of(content))))
            out.append((time.perf_counter() - start) * 1e3)
    return sorted(out)


def victim(address):
    """rounds() of a process that has the processors whenever it wants them, as a client on a
    machine of its own has."""
    done = subprocess.run([sys.executable, __file__, "--victim", address], check=True,
                          stdout=subprocess.PIPE, text=True)
    return [float(line) for line in done.stdout.split()]


def beside(name, attacked, victims):
    """The victim's rounds, and the attacker's calls a second meanwhile: answered/refused."""
    with tempfile.TemporaryFile() as file:
        tally = Tally(file.fileno())
        with subprocess.Popen([sys.executable, __file__, "--attack", name, attacked,
                               str(file.fileno())], pass_fds=[file.fileno()],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as attacker:
            attacker.stdout.readline()
            time.sleep(SETTLE)
            try:
                before, start = tally.sums(), time.monotonic()
                values = victim(victims)
                after, end = tally.sums(), time.monotonic()
            finally:
                attacker.kill()
    return values, "/".join(f"{(b - a) / (end - start):.0f}" for a, b in zip(before, after))


def attack(name, address, fd):
    os.nice(ATTACKER_NICE)
    Attack.tally = Tally(int(fd))
    getattr(Attack(address), name)()
    print("begun", flush=True)
    time.sleep(600)


def show(values):
    return f"{values[len(values) // 2]:8.2f} {values[len(values) * 99 // 100]:9.2f}"


def main():
    if sys.argv[1:2] == ["--attack"]:
        attack(*sys.argv[2:])
    if sys.argv[1:2] == ["--victim"]:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        print(*rounds(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    names = parser.parse_args().attacks or ATTACKS
    for name in names:
        if name not in ATTACKS:
            parser.error(f"{name} is none of the attacks: {', '.join(ATTACKS)}")
    print(f"{'p50, p99 in ms':17s}{'alone':>18s}{'attacked':>18s}{'other attacked':>18s}"
          f"{'p99 x':>8s}{'other x':>8s}{'peak MB':>9s}{'calls/s':>16s}")
    for name in names:
        systems = [System(["--data-size", "1G", "--grant", "local=all"]) for _ in range(2)]
        try:
            alone = victim(systems[0].address)
            other, _ = beside(name, systems[1].address, systems[0].address)
            attacked, calls = beside(name, systems[0].address, systems[0].address)
            p99 = [v[len(v) * 99 // 100] for v in (alone, attacked, other)]
            print(f"{name:17s}{show(alone)}{show(attacked)}{show(other)}{p99[1] / p99[0]:8.1f}"
                  f"{p99[2] / p99[0]:8.1f}{peak_rss(systems[0].server.pid) >> 20:9d}"
                  f"{calls:>16s}", flush=True)
        finally:
            for system in systems:
                system.close()


main()
