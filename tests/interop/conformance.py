#!/usr/bin/env python3
"""The statements of docs/protocol.md about a server, asked of any server: ours, or in the tree
buildbox-casd, BuildGrid and `just execute`. Run by hand; the table goes into docs/protocol.md.

    tests/interop/conformance.py            ours and the three
    tests/interop/conformance.py ADDRESS    that one, with our side by side

Each test of tests/integration/test_server_{cas,bytestream,actions,execution} is a run of its own
against the address (LAZYROOT_TEST_SERVER), with the empty instance; words of errors may differ,
codes not. A test asks for a whole behaviour, and may hold more than its statement does: where
another server fails, its first difference is told with -v. The tests of execution play a bot, as
our server gives leases to it: they say nothing of servers that do that in another way, or have no
Bots.
"""
import collections
import os
import re
import subprocess
import sys

import forky
from buildgrid import Grid, PostgreSQL
from compare import Casd
from system import TOP, wait_until

PROGRAMS = ("cas", "bytestream", "actions", "execution")
TESTS = TOP / "build/release/tests"
SECONDS = 60


def statements():
    """(program, test, numbers of its statements)"""
    for program in PROGRAMS:
        text = (TOP / f"tests/integration/test_server_{program}.c").read_text()
        for test in re.findall(r"cmocka_unit_test\((test_\w+)\)", text):
            numbers = re.match(r"test_((?:\d+_)+)", test)
            if numbers:
                yield program, test, [int(n) for n in numbers[1].strip("_").split("_")]


def ask(address, program, test):
    """None where it passes; else its first difference."""
    try:
        run = subprocess.run(
            [TESTS / f"test_server_{program}", test], capture_output=True, text=True,
            timeout=SECONDS, env={**os.environ, "LAZYROOT_TEST_SERVER": address,
                                  "LAZYROOT_BIN": str(forky.BIN)})
    except subprocess.TimeoutExpired:
        return f"no end within {SECONDS} s"
    if run.returncode == 0:
        return None
    said = [line for line in (run.stdout + run.stderr).splitlines()
            if line.startswith("[  ERROR") or "rror:" in line]
    return re.sub(r"^\[[^]]*\] ---? *", "", said[0]) if said else f"ended with {run.returncode}"


class Just(forky.Forky):
    """just execute in the place of our server."""

    def start_server(self, listen=None):
        port = forky.free_port()
        self.address = f"grpc://127.0.0.1:{port}"
        self.server = self.start_inside("server", [
            "justbuild", "execute", "--compatible", "--local-build-root",
            f"{self.inner()}/executor", "-p", str(port)])
        wait_until(lambda: self.lazyroot("capabilities", "--rpc-timeout", "2s").code == 0, "just")

    def environment(self, env=None, address=None):
        return {**super().environment(env, address), "LAZYROOT_INSTANCE": ""}


class Ours(forky.Forky):
    def __init__(self):
        super().__init__(("--instance", "", "--instance", "some/where", "--timeout-max", "1h"))


def servers(arguments):
    yield "lazyroot", Ours, PROGRAMS
    if arguments:
        yield arguments[0], None, PROGRAMS
        return
    yield "buildbox-casd", lambda: Casd("buildbox-run-hosttools"), PROGRAMS[:-1]
    yield "BuildGrid", lambda: Grid(PostgreSQL), PROGRAMS[:-1]
    yield "just execute", Just, PROGRAMS[:-1]


def main():
    verbose = "-v" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "-v"]
    kept = collections.defaultdict(dict)
    names = []
    for name, make, programs in servers(arguments):
        names.append(name)
        server = make() if make else None
        try:
            for program, test, numbers in statements():
                if program not in programs:
                    continue
                difference = ask(server.address if server else name, program, test)
                for number in numbers:
                    kept[number].setdefault(name, []).append(difference is None)
                if difference and verbose:
                    print(f"{name}: {test}: {difference}", file=sys.stderr, flush=True)
        finally:
            if server:
                server.server.popen.kill()  # some take their time over calls that broke off
                server.close()
    print("| # | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for number in sorted(kept):
        marks = ("–" if n not in kept[number] else "yes" if all(kept[number][n]) else
                 "in part" if any(kept[number][n]) else "no" for n in names)
        print(f"| {number} | " + " | ".join(marks) + " |")
    print("| all | " + " | ".join(
        f"{sum(all(row.get(n, [False])) for row in kept.values())} of "
        f"{sum(n in row for row in kept.values())}" for n in names) + " |")


if __name__ == "__main__":
    main()
