#!/usr/bin/env python3
"""What foresight brings over the recorded traces, in simulated time: no network, no command.

    tests/replay/replay.py [--rtt MS,...] [--rate MBIT] [--json | --table | --sources] [NAME...]

Prints each predictor of each trace: its time, as multiples of the oracle's, bytes as multiples of
those read, precision (of the files wished for, how many were read), recall (of those read, how many
were wished for) and calls. --table and --sources print what docs/foresight.md has.
"""
import argparse
import collections
import concurrent.futures
import json
import lzma
import os
import pathlib
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]
REPLAY = pathlib.Path(os.environ.get("LAZYROOT_BIN", TOP / "build/release/bin")).parent / "tests/replay"
TRACES = TOP / "tests/replay/traces"
SOURCES = ("certain", "learned", "derived", "seen")
PREDICTORS = ("none", "eager", "oracle", "first", "again",
              *(f"only-{s}" for s in SOURCES), *(f"without-{s}" for s in SOURCES if s != "learned"))


def run(path, rtt, rate, predictors=PREDICTORS):
    """Predictor -> what came of it."""
    text = lzma.decompress(path.read_bytes())
    done = subprocess.run([REPLAY, "--rtt", str(rtt), "--rate", str(rate), *predictors], input=text,
                          stdout=subprocess.PIPE, check=True)
    out = {}
    for row in done.stdout.decode().splitlines():
        name, predictor, *numbers = row.split("\t")
        ms, warm, calls, size, n_read, read, n_all, declared, *counts = map(float, numbers)
        useful, late, wasted = (sum(counts[i:12:3]) for i in range(3))
        out[predictor] = {
            "trace": name, "predictor": predictor, "rtt_ms": rtt, "ms": ms, "warm_ms": warm,
            "calls": int(calls), "bytes": int(size), "bytes_read": int(read), "files_read": int(n_read),
            "files": int(n_all), "bytes_declared": int(declared),
            "precision": (useful + late) / (useful + late + wasted) if useful + late + wasted else 1,
            "recall": (useful + late) / (useful + late + counts[12]) if useful + late + counts[12] else 1,
            "missed": int(counts[12]), "late": int(late), "wasted": int(wasted),
            "sources": {s: dict(zip(("useful", "late", "wasted"), map(int, counts[3 * i:3 * i + 3])))
                        for i, s in enumerate(SOURCES)}}
    for one in out.values():
        one["times_oracle"] = one["ms"] / out["oracle"]["ms"]
        one["times_read"] = one["bytes"] / one["bytes_read"] if one["bytes_read"] else 1
    return out


def run_all(names, rtts, rate, predictors=PREDICTORS):
    """(trace, rtt) -> predictor -> what came of it."""
    paths = sorted(p for p in TRACES.glob("*.xz") if not names or p.stem in names)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = {(p.stem, rtt): pool.submit(run, p, rtt, rate, predictors) for p in paths for rtt in rtts}
    return {key: job.result() for key, job in jobs.items()}


def show(outcomes):
    for (name, rtt), by in outcomes.items():
        warm = by["oracle"]["warm_ms"]
        print(f"{name}, {rtt:g} ms: warm {warm:.0f} ms, reads {by['oracle']['files_read']} of "
              f"{by['oracle']['files']} files, {by['oracle']['bytes_read'] / 1e6:.1f} of "
              f"{by['oracle']['bytes_declared'] / 1e6:.1f} MB")
        for predictor, one in by.items():
            print(f"  {predictor:16s} {one['ms']:9.0f} ms {one['times_oracle']:7.2f} x oracle "
                  f"{one['bytes'] / 1e6:7.1f} MB {one['times_read']:6.2f} x read  "
                  f"precision {one['precision']:.2f} recall {one['recall']:.2f} {one['calls']:5d} calls  "
                  f"late {one['late']} wasted {one['wasted']} missed {one['missed']}")


def by_trace(outcomes):
    out = collections.defaultdict(dict)
    for (name, rtt), by in outcomes.items():
        out[name][rtt] = by
    return out


def table(outcomes, rtts):
    print("| action | reads, of declared files | of bytes | oracle | "
          + " | ".join(f"{r:g} ms: none | eager | first | again" for r in rtts) + " |")
    print("|---" * (4 + 4 * len(rtts)) + "|")
    for name, by in by_trace(outcomes).items():
        one = by[rtts[0]]["oracle"]
        cells = [name, f"{one['files_read']} of {one['files']}",
                 f"{100 * one['bytes_read'] / one['bytes_declared']:.1f} %",
                 " / ".join(f"{by[r]['oracle']['ms']:.0f}" for r in rtts) + " ms"]
        for rtt in rtts:
            cells += [f"{by[rtt][p]['times_oracle']:.2f}" for p in ("none", "eager", "first", "again")]
        print("| " + " | ".join(cells) + " |")


def sources(outcomes, rtts):
    chosen = [p for p in PREDICTORS if "-" in p]
    for rtt in rtts:
        print(f"| action, {rtt:g} ms | none | " + " | ".join(chosen) + " | first | again |")
        print("|---" * (4 + len(chosen)) + "|")
        for name, by in by_trace(outcomes).items():
            print(f"| {name} | " + " | ".join(f"{by[rtt][p]['times_oracle']:.2f}"
                                              for p in ("none", *chosen, "first", "again")) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rtt", default="10,50")
    parser.add_argument("--rate", type=float, default=1000)
    how = parser.add_mutually_exclusive_group()
    for name in ("json", "table", "sources"):
        how.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    rtts = [float(r) for r in args.rtt.split(",")]
    outcomes = run_all(args.names, rtts, args.rate)
    if args.json:
        print(json.dumps([one for by in outcomes.values() for one in by.values()], indent=1))
    elif args.table:
        table(outcomes, rtts)
    elif args.sources:
        sources(outcomes, rtts)
    else:
        show(outcomes)


if __name__ == "__main__":
    main()
