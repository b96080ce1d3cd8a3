#!/usr/bin/python3
"""What a cached Execute takes while 200 clients keep two slots busy with 2,000 actions.

    tests/bench/bench_load.py [ROUNDS]

Needs root, the release build and Debian's python3-grpcio. One process asks for cached results,
one after the other, as fast as it gets them: alone, then beside the load, which another process
makes. Told are median and p99 of both, the ratio p99 to median beside the load (5 is the most
that it should be), how long the 2,000 took, and the peak memory of server and worker. All share
the processors of this machine.
"""
import concurrent.futures
import os
import pathlib
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "attack"))
os.environ.setdefault("LAZYROOT_BIN", str(
    pathlib.Path(__file__).resolve().parents[2] / "build/release/bin"))
from attack import REAPI, Peer, data, digest_of, field, peak_rss, shell  # noqa: E402
from system import System  # noqa: E402

N_CLIENTS, N_EACH = 200, 10


def upload(peer, text):
    peer.put(b"")
    return peer.put(data(1, peer.put(shell(f"echo {text}"))) + data(2, digest_of(b"")))


def execute(peer, action):
    last = list(peer.server_stream(REAPI + "Execution/Execute", data(6, action), timeout=300))[-1]
    assert field(field(field(field(last, 5), 2), 1), 4, 0) == 0


def load(address):
    with Peer(address) as peer:
        actions = [upload(peer, f"{time.time_ns()} {i}") for i in range(N_CLIENTS * N_EACH)]
    gate = threading.Barrier(N_CLIENTS)

    def client(i):
        with Peer(address) as mine:
            gate.wait()
            for action in actions[i * N_EACH:(i + 1) * N_EACH]:
                execute(mine, action)
    print("begins", flush=True)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(N_CLIENTS) as pool:
        list(pool.map(client, range(N_CLIENTS)))
    print(time.monotonic() - start, flush=True)


def measure(peer, action, goes_on):
    took = []
    while goes_on(len(took)):
        start = time.perf_counter()
        execute(peer, action)
        took.append(1000 * (time.perf_counter() - start))
    took.sort()
    return statistics.median(took), took[len(took) * 99 // 100], len(took)


def main():
    if len(sys.argv) > 2:
        return load(sys.argv[2])
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    system = System()
    try:
        worker = system.start_worker("--slots", "2")
        with Peer(system.address) as peer:
            action = upload(peer, "cached")
            execute(peer, action)
            for _ in range(rounds):
                alone = measure(peer, action, lambda n: n < 1000)
                other = subprocess.Popen([sys.executable, "-B", __file__, "load", system.address],
                                         stdout=subprocess.PIPE, text=True)
                other.stdout.readline()
                beside = measure(peer, action, lambda n: other.poll() is None)
                print(f"cached Execute alone {alone[0]:.2f} ms, p99 {alone[1]:.2f}; beside the "
                      f"load {beside[0]:.2f} ms, p99 {beside[1]:.2f} ({beside[2]} calls): p99 is "
                      f"{beside[1] / beside[0]:.1f} x the median; 2,000 actions in "
                      f"{float(other.stdout.read()):.1f} s; peak "
                      f"{peak_rss(system.server.popen.pid) >> 20} MB server, "
                      f"{peak_rss(worker.popen.pid) >> 20} MB worker", flush=True)
    finally:
        system.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
