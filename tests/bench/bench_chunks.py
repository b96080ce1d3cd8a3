#!/usr/bin/env python3
"""What chunks bring: a file of 256 MB of which 1 % is changed, up and down, in bytes and in time,
against a server without them; and what they cost where all is new.

    tests/bench/bench_chunks.py [--rounds N] [--size MIB] [--rtt MS --bits BITS]

With --rtt, server and clients are so far apart (tests/bench/far.c). Needs root, /dev/fuse and the
release build. Prints medians with [min .. max]: on a shared machine trust ratios, not digits.
"""
import argparse
import json
import os
import pathlib
import random
import sqlite3
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from far import Far  # noqa: E402
from system import System, wait_until  # noqa: E402

PLACES = 4  # where it is changed


class Side:
    """A server, its worker and its client, with chunks or without."""

    def __init__(self, *server_args, rtt=0, bits=0):
        self.system = System(("--compression", "never", "--promise", "0", *server_args))
        self.far = Far(self.system.address, rtt, bits) if rtt else None
        self.address = self.far.address if self.far else self.system.address
        self.worker = self.system.start_worker("--cas", self.address, "--slots", "1",
                                               "--foresight", "off")

    def close(self):
        self.system.close()
        if self.far:
            self.far.close()

    def mapped(self, directory):
        try:
            with sqlite3.connect(f"file:{directory}/chunks.sqlite?mode=ro", uri=True) as db:
                return db.execute("SELECT MAX(id) FROM maps").fetchone()[0] or 0
        except sqlite3.OperationalError:
            return 0

    def settle(self, n):
        """What is looked for in the background is known."""
        wait_until(lambda: self.mapped(self.system.dir / "data") >= n and
                   self.mapped(self.worker.cache) >= n, "all chunks", 300)

    def up(self, content):
        """(ms, bytes sent, digest of a tree with the file)."""
        path = self.system.dir / "in" / "f"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        start = time.perf_counter()
        run = self.system.lazyroot("upload", "--json", path.parent, address=self.address)
        took = (time.perf_counter() - start) * 1e3
        assert run.code == 0, run.err
        found = json.loads(run.text)[0]
        digest = found["digest"]
        digest = digest if isinstance(digest, str) else f"{digest['hash']}/{digest['size']}"
        return took, found["sent_bytes"], digest

    def down(self, digest):
        """(ms waited for data, bytes fetched)."""
        run = self.system.sh("cat f >/dev/null", "--no-cache", "--input-digest", digest)
        assert run.code == 0, run.err
        return run.report["time_ms"]["waiting_for_data"], run.report["fetched"]["bytes"]


def show(name, values, unit):
    print(f"  {name:44s} {statistics.median(values):10.1f} {unit:3s} "
          f"[{min(values):.1f} .. {max(values):.1f}]")


def ratio(name, a, b):
    found = [x / y for x, y in zip(a, b)]
    print(f"  {name:44s} {statistics.median(found):10.4f}     "
          f"[{min(found):.4f} .. {max(found):.4f}]")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rtt", type=float, default=0)
    parser.add_argument("--bits", type=int, default=10 ** 9)
    args = parser.parse_args()
    size = args.size << 20
    sides = {"chunks": Side("--chunks", "always", rtt=args.rtt, bits=args.bits),
             "whole": Side("--chunks", "never", rtt=args.rtt, bits=args.bits)}
    values = {}
    rng = random.Random(1)
    print(f"load average at start: {os.getloadavg()[0]:.2f}")
    try:
        for i in range(args.rounds):
            content = bytearray(os.urandom(size))
            for version in ("new", "1 %"):
                if version == "1 %":
                    for _ in range(PLACES):
                        at = rng.randrange(size - size // 100)
                        content[at:at + size // 100 // PLACES] = os.urandom(
                            size // 100 // PLACES)
                for side in (list(sides) if i % 2 else list(sides)[::-1]):
                    ms, sent, digest = sides[side].up(content)
                    if side == "chunks":  # as if some time had passed
                        wait_until(lambda: sides[side].mapped(
                            sides[side].system.dir / "data") >= 2 * i + 1 + (version != "new"),
                            "the server's chunks", 300)
                    waited, fetched = sides[side].down(digest)
                    for key, value in (("up ms", ms), ("up MB", sent / 1e6),
                                       ("down ms", waited), ("down MB", fetched / 1e6)):
                        values.setdefault((version, key, side), []).append(value)
                    if side == "chunks":
                        sides[side].settle(2 * i + 1 + (version != "new"))
    finally:
        for side in sides.values():
            side.close()
    for version in ("new", "1 %"):
        for key in ("up ms", "up MB", "down ms", "down MB"):
            for side in sides:
                show(f"{version}: {key[:-3]}, {side}", values[version, key, side], key[-2:])
            ratio(f"{version}: {key}, chunks / whole", values[version, key, "chunks"],
                  values[version, key, "whole"])


main()
