#!/usr/bin/env python3
"""What distance costs: cold actions with the storage far from the worker, as multiples of what
an oracle would pay, which downloads exactly the files that the action reads in one go and then
runs it warm.

    tests/bench/bench_far.py [--rtt MS,...] [--rows NAME,...] [--rounds N] [--off]
        rows: gxx headers python grep mind

Each row is run in turn: first ever (nothing known), again with the cache emptied (a profile
known), new (emptied, and another source, or other files), warm; second is a worker's first run
that has only what another one shared. --off adds a worker that foresees nothing, its first, new
and warm runs. Needs root, /dev/fuse, the release build and this machine's compiler and Python,
whose files are the input roots.
"""
import argparse
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
import system  # noqa: E402
from far import Far  # noqa: E402
from system import System  # noqa: E402


def package_files(*packages):
    listed = subprocess.run(["dpkg", "-L", *packages], capture_output=True, text=True).stdout
    return [pathlib.Path(line) for line in listed.splitlines() if line.startswith("/")]


def copy_packages(root, *packages):
    """What packages have below /usr and /lib, at their own paths, the root merged as Debian's."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for path in package_files(*packages):
        parts = path.parts[1:]
        if parts and parts[0] in ("bin", "sbin", "lib", "lib64"):
            parts = ("usr",) + parts
        target = root.joinpath(*parts)
        if "doc" in parts or "man" in parts or target.exists() or target.is_symlink():
            continue
        if path.is_symlink() or path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)


SOURCE = """#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <thread>
#include <vector>
int main(int argc, char **argv)
{
	std::map<std::string, std::vector<int>> m;
	for (int i = 0; i < argc; i++)
		m[argv[i]].push_back(i);
	std::regex r("a+b");
	for (auto &p : m)
		std::cout << p.first << std::regex_match(p.first, r) << p.second.size();
}
"""


OTHER = """#include <deque>
#include <fstream>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>
int main()
{
	std::unordered_map<std::string, std::set<int>> m;
	std::deque<std::unique_ptr<int>> d;
	std::ifstream f("x");
	m["a"].insert((int)d.size());
	std::cout << m.size() << f.good();
}
"""


class Gxx:
    """g++ -O1 -c, the toolchain in the root."""
    platform = ("--platform", "InputRootAbsolutePath=/")
    command = ("/usr/bin/g++", "-O1", "-c", "src/x.cc", "-o", "out/x.o")
    output = ("--output", "out/x.o")

    def make(self, root):
        copy_packages(root, "gcc-12", "cpp-12", "g++-12", "gcc", "g++", "cpp", "gcc-12-base",
                      "libgcc-12-dev", "libstdc++-12-dev", "libc6-dev", "linux-libc-dev", "libc6",
                      "binutils", "binutils-x86-64-linux-gnu", "binutils-common", "libbinutils",
                      "libctf0", "libctf-nobfd0", "libcc1-0", "libisl23", "libmpc3", "libmpfr6",
                      "libgmp10", "zlib1g", "libzstd1", "libgcc-s1", "libstdc++6", "libjansson4",
                      "libgprofng0", "libasan8", "libubsan1", "coreutils", "dash", "perl-base")
        (root / "src").mkdir()
        (root / "src/x.cc").write_text(SOURCE)

    def change(self, root):
        (root / "src/y.cc").write_text(OTHER)
        return [word.replace("x.", "y.") for word in self.command]


class Headers:
    """g++ -c, only the headers in the root."""
    platform = ()
    command = ("/usr/bin/g++", "-nostdinc", "-nostdinc++", "-isystem", "include/c++/12",
               "-isystem", "include/x86_64-linux-gnu/c++/12", "-isystem", "gcc/include",
               "-isystem", "include/x86_64-linux-gnu", "-isystem", "include", "-c", "src/x.cc",
               "-o", "out/x.o")
    output = ("--output", "out/x.o")

    def make(self, root):
        (root / "src").mkdir(parents=True)
        (root / "src/x.cc").write_text(SOURCE)
        shutil.copytree("/usr/include", root / "include", symlinks=True,
                        ignore_dangling_symlinks=True)
        shutil.copytree("/usr/lib/gcc/x86_64-linux-gnu/12/include", root / "gcc/include")

    change = Gxx.change


class Python:
    """python3 importing the usual."""
    platform = ("--platform", "InputRootAbsolutePath=/")
    command = ("/usr/bin/python3.11", "src/x.py")
    output = ()

    def make(self, root):
        copy_packages(root, "python3.11-minimal", "python3.11", "libpython3.11-minimal",
                      "libpython3.11-stdlib", "libc6", "zlib1g", "libexpat1", "libssl3", "libffi8",
                      "libbz2-1.0", "liblzma5", "libsqlite3-0", "libncursesw6", "libtinfo6",
                      "libreadline8", "libuuid1", "libnsl2", "libtirpc3", "libcrypt1", "libdb5.3")
        for cache in pathlib.Path("/usr/lib/python3.11").rglob("__pycache__/*.pyc"):
            target = root / cache.relative_to("/")
            if (target.parent.parent / (cache.name.split(".")[0] + ".py")).exists():
                target.parent.mkdir(exist_ok=True)
                shutil.copy2(cache, target)
        (root / "src").mkdir()
        (root / "src/x.py").write_text(
            "import argparse, asyncio, collections, concurrent.futures, csv, ctypes, datetime\n"
            "import decimal, email.mime.multipart, fractions, hashlib, html.parser, http.client\n"
            "import http.server, inspect, json, logging.handlers, multiprocessing, pathlib, pickle\n"
            "import random, re, shutil, sqlite3, ssl, statistics, subprocess, tarfile, tempfile\n"
            "import threading, tomllib, typing, unittest.mock, urllib.request, uuid\n"
            "import xml.etree.ElementTree, xmlrpc.client, zipfile\n"
            "print(len(__import__('sys').modules))\n")


class Grep:
    """grep -r over 3,000 small files."""
    platform = ()
    command = ("/usr/bin/grep", "-rc", "needle", "tree", "--include=*")
    output = ()

    def make(self, root):
        for i in range(3000):
            path = root / "tree" / f"d{i // 300}" / f"e{i // 30 % 10}" / f"f{i}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{i}\n" * 80 + ("needle\n" if i % 7 == 0 else ""))


class Mind:
    """300 of 2,000 files, each run those that a list names: the second list has none of the first."""
    platform = ()
    command = ("/bin/sh", "-c", "cat $(cat names) | sha256sum")
    output = ()

    def make(self, root):
        self.names = [f"tree/d{i % 40}/f{i}" for i in range(2000)]
        random.Random(1).shuffle(self.names)
        for name in self.names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name * 500)
        (root / "names").write_text("\n".join(self.names[:300]))

    def change(self, root):
        (root / "names").write_text("\n".join(self.names[300:600]))
        return self.command


ROWS = {"gxx": Gxx, "headers": Headers, "python": Python, "grep": Grep, "mind": Mind}


class Bench:
    def __init__(self, row, rtt_ms):
        self.row = row
        self.system = System(("--grant", "local=all"))  # workers share their profiles
        root = self.system.dir / "root"
        root.mkdir()
        row.make(root)
        self.root = self.system.upload(root)
        self.changed = None
        if hasattr(row, "change"):
            command = row.change(root)
            self.changed = self.system.upload(root), command
        shutil.rmtree(root)
        self.far = Far(self.system.address, rtt_ms)
        self.n = 0

    def close(self):
        self.system.close()
        self.far.close()

    def worker(self, *args):
        self.n += 1
        name = f"w{self.n}"
        return self.system.start_worker("--cas", self.far.address, "--slots", "1", *args,
                                        name=name)

    def stop(self, worker):
        worker.stop()
        self.system.processes.remove(worker)

    def run(self, root=None, command=None):
        output = [word.replace("x.", "y.") for word in self.row.output] if root else self.row.output
        start = time.perf_counter()
        run = self.system.run("--input-digest", root or self.root, "--no-cache", "-q",
                              *self.row.platform, "--env", "PATH=/usr/bin:/bin", *output, "--",
                              *(command or self.row.command))
        took = time.perf_counter() - start
        if run.code > 1:
            raise RuntimeError(run.err + run.text)
        return took * 1e3, run.report

    def empty(self, worker, *args):
        """The same worker, as if new but for what it learned."""
        self.stop(worker)
        for name in ("blobs", "index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
            path = worker.cache / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self.n += 1
        return self.system.start_worker("--cas", self.far.address, "--slots", "1", *args,
                                        name=f"w{self.n}", cache=worker.cache)

    def bulk(self, worker):
        """Downloads what the action read, in one go, into an empty store."""
        reads = self.reads_tree(worker)
        times = []
        for i in range(3):
            home = self.system.dir / f"bulk{i}"
            start = time.perf_counter()
            run = self.system.lazyroot("download", reads, self.system.dir / f"bulk{i}.tree",
                                       address=self.far.address,
                                       env={"XDG_CACHE_HOME": str(home)})
            times.append((time.perf_counter() - start) * 1e3)
            if run.code:
                raise RuntimeError(run.err)
            shutil.rmtree(home)
            shutil.rmtree(self.system.dir / f"bulk{i}.tree")
        return statistics.median(times)

    def reads_tree(self, worker):
        """A tree of exactly the blobs that are in a worker's cache after the action."""
        tree = self.system.dir / "reads"
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        for i, blob in enumerate(sorted((worker.cache / "blobs").rglob("*"))):
            if blob.is_file():
                (tree / str(i // 1000)).mkdir(exist_ok=True)
                shutil.copyfile(blob, tree / str(i // 1000) / str(i))
        return self.system.upload(tree)


def line(name, took, oracle, warm, report):
    fetched, opened = report["fetched"], report["opened"]
    told = " ".join(f"{k}={sum(s[k]['files'] for s in report['foresight'].values() if k in s)}"
                    for k in ("useful", "late", "wasted")) if "foresight" in report else ""
    print(f"    {name:12s} {took:8.0f} ms  {took / oracle:6.2f} x oracle {took / warm:7.2f} x warm "
          f"{fetched['round_trips']:5d} trips {fetched['bytes'] / 1e6:7.1f} MB for "
          f"{opened['bytes'] / 1e6:6.1f} opened ({opened['files']})  {told}", flush=True)


def measure(b, way):
    """(warm, what bulk takes) of the row's own command, or of the changed one's."""
    worker = b.worker("--foresight", "off")
    b.run(*way)
    bulk = b.bulk(worker)
    warm = statistics.median(b.run(*way)[0] for _ in range(5))
    b.stop(worker)
    return warm, bulk


def bench(row, rtt_ms, rounds, with_off):
    b = Bench(row(), rtt_ms)
    try:
        ways = {"": (), "new": b.changed} if b.changed else {"": ()}
        known = {}
        for name, way in ways.items():
            warm, bulk = measure(b, way)
            known[name] = warm + bulk, warm
            print(f"  {row.__doc__} {name} RTT {rtt_ms} ms: warm {warm:.0f} ms, bulk {bulk:.0f}, "
                  f"oracle {warm + bulk:.0f} = {(warm + bulk) / warm:.2f} x warm", flush=True)

        def say(name, way=""):
            took, report = b.run(*ways[way])
            line(name, took, *known[way], report)

        for _ in range(rounds):
            for option in ("off", "local") if with_off else ("local",):
                args = "--foresight", option
                worker = b.worker(*args)
                say(f"{option} first")
                if option == "local":
                    worker = b.empty(worker, *args)
                    say(f"{option} again")
                if "new" in ways:
                    worker = b.empty(worker, *args)
                    say(f"{option} new", "new")
                say(f"{option} warm", "new" if "new" in ways else "")
                b.stop(worker)
            if "told" not in known:  # once for all workers that come
                known["told"] = True
                worker = b.worker()
                b.run()
                b.stop(worker)
            worker = b.worker()
            say("second")
            b.stop(worker)
    finally:
        b.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rtt", default="10,50")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--off", action="store_true")
    args = parser.parse_args()
    for rtt in args.rtt.split(","):
        for name in args.rows.split(","):
            bench(ROWS[name], float(rtt), args.rounds, args.off)


if __name__ == "__main__":
    main()
