#!/usr/bin/env python3
"""The figures of the design's budgets, each as numbers taken in turn in one run.

    tests/bench/bench.py [FIGURE]...
        staging true warm upload compile capture outputs throughput memory sync

Needs root, /dev/fuse and the release build. Prints medians with [min .. max]: on a shared
machine trust ratios, not digits.
"""
import argparse
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import system  # noqa: E402
from system import BIN, System  # noqa: E402

TESTS = BIN.parent / "tests"


def show(name, values, unit="ms"):
    print(f"  {name:58s} {statistics.median(values):9.2f} {unit}  "
          f"[{min(values):.2f} .. {max(values):.2f}], n={len(values)}")
    return statistics.median(values)


def show_ratio(name, a, b):
    ratios = [x / y for x, y in zip(a, b)]
    print(f"  {name:58s} {statistics.median(ratios):9.3f}     "
          f"[{min(ratios):.3f} .. {max(ratios):.3f}]")


def timed(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def make_files(root, n, total_bytes, per_dir=50, seed=1):
    """n files of about the sizes a source tree with some binaries has."""
    rng = random.Random(seed)
    weights = [rng.lognormvariate(0, 1.6) for _ in range(n)]
    scale = total_bytes / sum(weights)
    block = rng.randbytes(1 << 20)
    for i, weight in enumerate(weights):
        directory = root / f"d{i // per_dir // 20}" / f"e{i // per_dir}"
        if i % per_dir == 0:
            directory.mkdir(parents=True, exist_ok=True)
        size = int(weight * scale)
        with open(directory / f"f{i}", "wb") as f:
            f.write(i.to_bytes(8, "little"))
            while size > 0:
                f.write(block[:min(size, len(block))])
                size -= len(block)


class Bench:
    def __init__(self):
        self.system = System()
        self.worker = self.system.start_worker("--slots", "2")

    def close(self):
        self.system.close()

    def big_digest(self, n_files):
        """A tree of n_files as copies of one directory: cheap to make, and as large to stage."""
        base = self.system.tree("thousand", {f"f{i}": f"{i}\n" for i in range(1000)})
        if n_files == 1000:
            return self.system.upload(base)
        digest = self.system.upload(base)
        inputs = [a for i in range(n_files // 1000)
                  for a in ("--input-digest", f"{digest}=d{i // 100}/e{i}")]
        run = self.system.lazyroot("run", *inputs, "--no-cache", "--", "/bin/true")
        assert run.code == 0, run.err
        run = self.system.run(*inputs, "--no-cache", "--", "/bin/true")
        action = self.system.lazyroot("action", "--json", run.report["action"])
        import json
        return json.loads(action.text)["input_root"]

    def staging(self):
        print("staging a root seen before (overlay and output parents)")
        digests = {n: self.big_digest(n) for n in (1000, 1000000)}
        values = {n: [] for n in digests}
        for _ in range(3):
            for n in digests:
                self.system.run("--input-digest", digests[n], "--no-cache", "--", "/bin/true")
        for _ in range(40):
            for n in digests:
                run = self.system.run("--input-digest", digests[n], "--no-cache", "--", "/bin/true")
                values[n].append(run.report["time_ms"]["staging"])
        for n in digests:
            show(f"{n:,} files", values[n])
        print(f"  {'ratio of medians, 1,000,000 / 1,000':58s} "
              f"{statistics.median(values[1000000]) / statistics.median(values[1000]):9.3f}")

    def true(self):
        print("true with a 25,000-file root, not cached, through server and worker")
        tree = self.system.dir / "t25k"
        make_files(tree, 25000, 50 << 20)
        digest = self.system.upload(tree)
        args = ("--input-digest", digest, "--no-cache", "-q", "--", "/bin/true")
        run = self.system.run(*args)
        for _ in range(5):
            self.system.lazyroot("run", *args)
        show("lazyroot run --input-digest", [timed(lambda: self.system.lazyroot("run", *args))
                                             for _ in range(40)])
        local = ("--input", tree, "--no-cache", "-q", "--", "/bin/true")
        self.system.lazyroot("run", *local)
        time.sleep(3)
        self.system.lazyroot("run", *local)
        show("lazyroot run --input DIR (walks 25,000 files)",
             [timed(lambda: self.system.lazyroot("run", *local)) for _ in range(10)])
        out = subprocess.run([TESTS / "bench_true", self.system.address, run.report["action"],
                              "300"], capture_output=True, text=True, check=True).stdout
        show("client that keeps its connection", [int(x) / 1e3 for x in out.split()][20:])

    def in_overlay(self, lower, script):
        """The same script in the same sandbox, over a plain overlay on ext4."""
        base = self.system.dir / "plain"
        for name in ("upper", "work", "merged"):
            (base / name).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "overlay", "none", "-o",
                        f"lowerdir={lower},upperdir={base}/upper,workdir={base}/work,volatile,"
                        "xino=on,metacopy=on,redirect_dir=on", base / "merged"], check=True)
        try:
            return subprocess.run(
                ["bwrap", "--unshare-all", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin",
                 "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64",
                 "--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
                 "--bind", base / "merged", "/build", "--chdir", "/build", "--clearenv",
                 "--setenv", "PATH", "/usr/bin:/bin", "/bin/bash", "-c", script],
                capture_output=True, text=True, check=True).stdout
        finally:
            subprocess.run(["umount", base / "merged"], check=True)
            shutil.rmtree(base)

    def compare(self, name, tree, digest, script, rounds):
        clocked = f"s=$(date +%s%N); {script}; e=$(date +%s%N); echo $(((e-s)/1000))"
        ours, plain = [], []
        for i in range(rounds + 1):
            a = self.system.run("--input-digest", digest, "--no-cache", "--env",
                                "PATH=/usr/bin:/bin", "--", "/bin/bash", "-c", clocked)
            assert a.code == 0, a.err
            b = self.in_overlay(tree, clocked)
            if i:
                ours.append(int(a.text.split()[-1]) / 1e3)
                plain.append(int(b.split()[-1]) / 1e3)
        print(f" {name}")
        show("lazy mount", ours)
        show("overlay over ext4", plain)
        show_ratio("speed in the mount / on ext4", plain, ours)

    def warm(self):
        print("warm work in the mount against the same overlay over ext4")
        tree = self.system.dir / "warm"
        for part in ("lib", "proto", "fuse", "worker"):
            shutil.copytree(system.TOP / part, tree / "src" / part)
        shutil.copytree(system.TOP / "build/release/proto/gen", tree / "src/gen")
        shutil.copytree("/usr/include", tree / "usr/include", symlinks=True)
        (tree / "src/t.cc").write_text("#include <map>\n#include <regex>\n#include <string>\n"
                                       "int main() { std::map<std::string, int> m; "
                                       "return std::regex_match(\"x\", std::regex(\"x\")) + m[\"\"]; }\n")
        digest = self.system.upload(tree)
        flags = "-nostdinc -isystem /usr/lib/gcc/x86_64-linux-gnu/12/include " \
                "-isystem usr/include -isystem usr/include/x86_64-linux-gnu"
        self.compare("gcc: 12 files of lazyroot, headers from the tree", tree, digest,
                     "for f in src/lib/base/{alloc,arena,buf,error,file,htab,log,pool,wire}.c "
                     "src/lib/tree/{digest,tree,treebuild}.c; do gcc -std=gnu17 -O1 -D_GNU_SOURCE "
                     f"-DLAZYROOT_VERSION=1 -Isrc -Isrc/gen {flags} -c $f -o o.o || exit 1; done", 8)
        self.compare("g++: <map>, <regex>", tree, digest,
                     f"g++ -nostdinc++ -isystem usr/include/c++/12 -isystem "
                     f"usr/include/x86_64-linux-gnu/c++/12 {flags} -c src/t.cc -o t.o", 8)
        self.compare("find", tree, digest, "find . > /dev/null", 25)
        self.compare("find -size +0", tree, digest, "find . -size +0 > /dev/null", 25)
        self.compare("read every file", tree, digest,
                     "find . -type f -print0 | xargs -0 cat > /dev/null", 10)

    def upload(self):
        print("upload of 25,000 files, 1.5 GB, to a server on loopback")
        tree = self.system.dir / "u25k"
        make_files(tree, 25000, 1500 << 20)
        cold, unchanged, sums, copies = [], [], [], []
        for i in range(3):
            own = System()
            home = {"XDG_CACHE_HOME": str(own.dir / "home")}
            cold.append(timed(lambda: own.lazyroot("upload", "-q", tree, env=home)))
            if i == 0:
                time.sleep(3)
                own.lazyroot("upload", "-q", tree, env=home)
            for _ in range(5):
                unchanged.append(timed(lambda: own.lazyroot("upload", "-q", tree, env=home)))
            own.close()
            sums.append(timed(lambda: subprocess.run(
                f"find {tree} -type f -print0 | xargs -0 -P 2 -n 500 sha256sum > /dev/null",
                shell=True, check=True)))
            copies.append(timed(lambda: subprocess.run(
                ["cp", "-r", tree, self.system.dir / f"copy{i}"], check=True)))
            shutil.rmtree(self.system.dir / f"copy{i}")
        show("cold", cold)
        show("unchanged", unchanged)
        show("sha256sum of all, two at a time", sums)
        show("cp -r of the tree", copies)
        show_ratio("cold upload / cp -r", cold, copies)

    def compile(self):
        print("cold compile: bytes fetched for bytes opened (see also tools/demo)")
        tree = self.system.dir / "cc"
        shutil.copytree("/usr/include", tree / "usr/include", symlinks=True)
        shutil.copytree(system.TOP / "lib", tree / "src/lib")
        run = self.system.run(
            "--input", tree, "--no-cache", "--env", "PATH=/usr/bin:/bin", "--", "/bin/bash", "-c",
            "for f in alloc arena buf error file htab log; do gcc -nostdinc -isystem "
            "/usr/lib/gcc/x86_64-linux-gnu/12/include -isystem usr/include -isystem "
            "usr/include/x86_64-linux-gnu -D_GNU_SOURCE -Isrc -c src/lib/base/$f.c -o o.o; done")
        assert run.code == 0, run.err
        report = run.report
        print(f"  opened {report['opened']['files']:,} of {report['input']['files']:,} files, "
              f"{report['opened']['bytes']:,} bytes; fetched {report['fetched']['bytes']:,} bytes in "
              f"{report['fetched']['round_trips']} round trips; "
              f"waited {report['time_ms']['waiting_for_data']:.1f} ms")
        print(f"  {'fetched / opened':58s} "
              f"{report['fetched']['bytes'] / report['opened']['bytes']:9.3f}")

    def capture(self):
        print("capture: 10 files changed below an output directory of 10, or of 10,000 inputs")
        values = {}
        for n in (10, 10000):
            n_dirs = max(10, n // 50)
            tree = self.system.tree(f"cap{n}", {f"out/s{i % n_dirs}/f{i}": f"{n} {i}\n" * 50
                                                for i in range(n)})
            script = "for i in 0 1 2 3 4 5 6 7 8 9; do echo changed > out/s$i/f$i; done"
            values[n] = []
            for i in range(12):
                run = self.system.sh(script, "--input", tree, "--no-cache", "--output", "out",
                                     "--no-download")
                assert run.code == 0, run.err
                if i > 1:
                    values[n].append(run.report["time_ms"]["capture"])
            show(f"{n:,} inputs", values[n])
            print(f"    fetched {run.report['fetched']['bytes']:,} bytes in the last run")
        show_ratio("ratio, 10,000 / 10", values[10000], values[10])

    def outputs(self):
        print("capture of 10,000 small outputs, against hashing and copying them once")
        script = ("mkdir -p out; i=0; while [ $i -lt 10000 ]; do echo $i $$ > out/f$i; "
                  "i=$((i+1)); done")
        ours, plain = [], []
        for i in range(6):
            got = self.system.dir / "outputs-got"
            run = self.system.run("--no-cache", "--output", "out", "--download", got, "--env",
                                  "PATH=/usr/bin:/bin", "--", "/bin/bash", "-c", script)
            assert run.code == 0, run.err
            copy = self.system.dir / "outputs-copy"
            cost = timed(lambda: (
                subprocess.run(f"find {got} -type f -print0 | xargs -0 sha256sum > /dev/null",
                               shell=True, check=True),
                subprocess.run(["cp", "-r", got, copy], check=True)))
            shutil.rmtree(got)
            shutil.rmtree(copy)
            if i:
                ours.append(run.report["time_ms"]["capture"])
                plain.append(cost)
        show("capture", ours)
        show("sha256sum and cp -r", plain)
        show_ratio("capture / hash and copy", ours, plain)

    def throughput(self):
        print("300 trivial actions, 2 slots: actions a second, and where the time goes")
        run = self.system.run("--no-cache", "--", "/bin/true")
        command = [TESTS / "bench_true", self.system.address, run.report["action"], "150"]
        for name, n in (("one client", 1), ("two clients", 2), ("four clients", 4)):
            rates = []
            for _ in range(3):
                start = time.perf_counter()
                running = [subprocess.Popen(command[:-1] + [str(300 // n)],
                                            stdout=subprocess.DEVNULL) for _ in range(n)]
                assert all(p.wait() == 0 for p in running)
                rates.append(300 / (time.perf_counter() - start))
            show(name, rates, "/s")
        steps = {}
        for _ in range(30):
            run = self.system.run("--no-cache", "--", "/bin/true")
            for key, value in run.report["time_ms"].items():
                steps.setdefault(key, []).append(value)
            steps.setdefault("all, as the client sees it", []).append(run.report["wall_ms"])
        for key, values in steps.items():
            show(f"  step: {key}", values)

    def rss(self):
        text = pathlib.Path(f"/proc/{self.worker.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    def memory(self):
        print("memory of the worker")
        run = self.system.run("--no-cache", "--", "/bin/true")
        command = [TESTS / "bench_true", self.system.address, run.report["action"]]
        print(f"  {'at the start':58s} {self.rss():9.1f} MB")
        done = 0
        for n in (1000, 2000, 5000, 10000):
            subprocess.run([*command, str(n - done)], stdout=subprocess.DEVNULL, check=True)
            done = n
            print(f"  {f'after {n:,} actions':58s} {self.rss():9.1f} MB")
        digest = self.big_digest(1000000)
        run = self.system.run("--input-digest", digest, "--no-cache", "--env", "PATH=/usr/bin:/bin",
                              "--", "/bin/sh", "-c", "find . -size +0 | wc -l", timeout=900)
        assert run.code == 0, run.err
        print(f"  {'after a walk over 1,000,000 files (' + run.text.strip() + ' names)':58s} "
              f"{self.rss():9.1f} MB")

    def sync(self):
        """What a promise costs: a server for each --sync, asked in turn."""
        print("uploads by --sync: 2,000 small files; 20 of one small file each, one by one;")
        print("the same by eight clients at once; true over a kept connection")
        modes = ("none", "batch", "blob")
        servers = {mode: System(["--sync", mode]) for mode in modes}
        values = {}
        for own in servers.values():
            own.start_worker("--slots", "1")
        for i in range(6):
            for mode, own in servers.items():
                trees = own.dir / f"t{i}"
                make_files(trees / "many", 2000, 8 << 20, seed=i)
                one = [own.tree(f"t{i}/one{k}", {"f": f"{i} {k} {mode}\n"}) for k in range(28)]
                for n in (trees / "many").rglob("f*"):
                    n.write_bytes(n.read_bytes() + f"{i} {mode}".encode())
                run = own.run("--no-cache", "-q", "--", "/bin/true")
                out = subprocess.run([TESTS / "bench_true", own.address, run.report["action"],
                                      "40"], capture_output=True, text=True, check=True).stdout
                took = {
                    "2,000 files": timed(lambda: own.upload(trees / "many")),
                    "one by one": timed(lambda: [own.upload(t) for t in one[:20]]) / 20,
                    "eight at once": timed(lambda: [p.communicate() for p in [
                        own.popen("upload", t) for t in one[20:]]]),
                    "true": statistics.median(int(x) / 1e3 for x in out.split()),
                }
                for key, value in took.items():
                    if i:
                        values.setdefault((key, mode), []).append(value)
        for own in servers.values():
            own.close()
        for key in ("2,000 files", "one by one", "eight at once", "true"):
            for mode in modes:
                show(f"{key}, {mode}", values[key, mode])
            for mode in modes[1:]:
                show_ratio(f"{key}, {mode} / none", values[key, mode], values[key, "none"])


FIGURES = ["staging", "true", "warm", "upload", "compile", "capture", "outputs", "throughput",
           "memory", "sync"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    figures = parser.parse_args().figures or FIGURES
    for figure in figures:
        if figure not in FIGURES:
            parser.error(f"{figure} is none of the figures: {', '.join(FIGURES)}")
    bench = Bench()
    try:
        print(f"load average at start: {os.getloadavg()[0]:.2f}")
        for figure in figures:
            getattr(bench, figure)()
    finally:
        bench.close()


main()
