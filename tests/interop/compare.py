#!/usr/bin/env python3
"""How long one action takes by each client on each server: milliseconds, the median of many.
Run by hand on a quiet machine; the table goes into docs/protocol.md.

Client, server and runner are on this machine. The runner is our worker under our server and under
BuildGrid (PostgreSQL), buildbox's own under buildbox-casd (its local execution).
"""
import argparse
import itertools
import statistics
import time

import forky
from bazel import Workspace
from buildgrid import Grid, PostgreSQL
from buildstream import Project
from system import wait_until

number = itertools.count()


class Casd(forky.Forky):
    """buildbox-casd in the place of our server: it executes by itself."""

    def __init__(self, runner):
        self.runner = runner
        super().__init__()

    def start_server(self, listen=None):
        self.address = f"grpc://127.0.0.1:{forky.free_port()}"
        self.server = self.start_inside("server", [
            "buildbox-casd", f"--bind={self.host_port}", f"--buildbox-run=/usr/bin/{self.runner}",
            f"{self.inner()}/casd"])
        wait_until(lambda: self.lazyroot("capabilities", "--rpc-timeout", "2s").code == 0, "casd")

    def environment(self, env=None, address=None):
        return {**super().environment(env, address), "LAZYROOT_INSTANCE": ""}

    def start_worker(self, *args, **kwargs):
        pass


def median_ms(step, times):
    """Of steps that nobody has seen before, the first not counted; or why there is none."""
    took = []
    for _ in range(times + 1):
        began = time.monotonic()
        run = step(next(number))
        took.append(1000 * (time.monotonic() - began))
        if run.code:
            return next((line for line in run.err.splitlines() if "ERROR" in line), run.err[-300:])
    return f"{statistics.median(took[1:]):7.0f} ms"


def lazyroot(system, _):
    tree = system.tree("in", {"f": "x\n"})
    return lambda n: system.lazyroot(
        "run", "--input", tree, "--output", "o", "--download", system.dir / "o", "--env",
        "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", f"cat f > o; echo {n} >> o")


def trexe(system, instance):
    system.tree("in", {"f": "x\n"})
    return lambda n: system.inside(
        f"cd in; trexe --remote=$ADDRESS --instance={instance} --d=$HOME/o --input-path=f "
        "--platform-properties=OSFamily=linux --output-path=o "
        f"/bin/sh -c 'cat f > o; echo {n} >> o'")


def bazel(system, instance):
    space = system.space = Workspace(system)

    def build(n):
        (space.dir / "pkg/in.txt").write_text(f"number {n}\n")
        return space.bazel(f"build {space.remote(instance=instance)} //pkg:upper")
    return build


def buildstream(system, instance):
    project = Project(system)
    project.configure("one", execution=system.http, instance=instance)
    if project.bst("one", "build", "base.bst").code:
        raise SystemExit("base.bst")

    def build(n):
        (project.dir / "src/hello.txt").write_text(f"number {n}\n")
        return project.bst("one", "build", "hello.bst")
    return build


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("times", type=int, nargs="?", default=15, help="actions of each kind")
    times = parser.parse_args().times
    for client in (lazyroot, trexe, bazel, buildstream):
        root = "/" if client is buildstream else "/build"
        runner = "bubblewrap" if client is buildstream else "hosttools"
        for name, make, instance in (
                ("lazyroot-server", forky.Forky, "dev"),
                ("BuildGrid", lambda: Grid(PostgreSQL), ""),
                ("buildbox-casd", lambda: Casd(f"buildbox-run-{runner}"), "")):
            system = make()
            try:
                system.start_worker("--allow", "uid", "--allow", "gid", root=root)
                took = median_ms(client(system, instance), times)
                print(f"{client.__name__:12} {name:16} {took}", flush=True)
            finally:
                if hasattr(system, "space"):
                    system.space.close()
                system.close()


if __name__ == "__main__":
    main()
