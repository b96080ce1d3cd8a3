#!/usr/bin/env python3
"""What the lazyroot command costs by itself, beside what would do the same without it.

    tests/bench/bench_client.py [--rounds N]

Told are milliseconds (least and median of N, the commands of a row run in turn) and what is
between them: a run of true in namespaces and in bubblewrap alone; a shell over 25,000 files to
its prompt; a cached run, of no input and of 25,000 files, here and through a service, and a walk
over those files; a pull of 10,000 small files from near and from 20 ms away, in round trips.
Needs root, /dev/fuse, the release build, bubblewrap and a static C library; on a machine with
other work, `chrt -r 10` before it keeps that out of the figures.
"""
import argparse
import contextlib
import os
import pathlib
import pty
import shutil
import statistics
import subprocess
import sys
import time

os.environ.setdefault("LAZYROOT_BIN", str(
    pathlib.Path(__file__).resolve().parents[2] / "build/release/bin"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "system"))
from proxy import DelayProxy  # noqa: E402
from system import BIN, System  # noqa: E402

LAZYROOT = str(BIN / "lazyroot")
RTT_MS = 20


def took(command, **kwargs):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **kwargs)
    return 1000 * (time.perf_counter() - start)


def prompt(command, **_):
    """Until a shell on a terminal of its own asks for a command."""
    start = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    said = b""
    while b"$ " not in said and b"# " not in said:
        said += os.read(terminal, 4096)
    ms = 1000 * (time.perf_counter() - start)
    os.write(terminal, b"exit\n")
    with contextlib.suppress(OSError):  # the end of a terminal
        while os.read(terminal, 4096):
            pass
    os.waitpid(pid, 0)
    os.close(terminal)
    return ms


def row(title, rounds, commands, measure=took, before=None, **kwargs):
    """commands: name -> words. The medians."""
    found = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            if before:
                before()
            found[name].append(measure(command, **kwargs))
    print(title)
    for name, ms in found.items():
        print(f"    {name:34} {min(ms):7.1f} {statistics.median(ms):7.1f} ms", flush=True)
    return [statistics.median(ms) for ms in found.values()]


def make_tree(path, n_dirs, n_files):
    for d in range(n_dirs):
        (path / f"d{d}").mkdir(parents=True)
        for f in range(n_files):
            (path / f"d{d}" / f"f{f}").write_text(f"{d} {f}\n")


def make_true(path):
    """A root with nothing but a static true, and where bubblewrap mounts."""
    for name in ("proc", "dev"):
        (path / name).mkdir(parents=True)
    subprocess.run(["gcc", "-O1", "-static", "-xc", "-o", path / "true", "-"], check=True,
                   input=b"int main(void) { return 0; }")


def bench_here(system, rounds):
    root, tree = system.dir / "root", system.dir / "tree"
    make_true(root)
    make_tree(tree, 250, 100)
    time.sleep(0.1)  # what was written just now is not known by its times
    run = [LAZYROOT, "run", "--quiet", "--sandbox", "namespaces"]
    service = [LAZYROOT, "run", "--quiet", "--server", system.address]
    env = {**os.environ, "XDG_CACHE_HOME": str(system.dir / "home")}
    alone, ours = row("true, a static program", rounds, {
        "bubblewrap": ["bwrap", "--unshare-all", "--bind", root, "/", "--proc", "/proc", "--dev",
                       "/dev", "/true"],
        "lazyroot run --sandbox namespaces": [*run, "--no-cache", "-i", root, "--", "./true"],
        "lazyroot --version": [LAZYROOT, "--version"]}, env=env)[:2]
    print(f"    {ours - alone:.1f} ms more")
    files = ["-i", tree, "--", "true"]
    for command in (run, service):
        took([*command, *files], env=env)
        took([*command, "--", "true"], env=env)
    row("cached, no input", rounds, {"here": [*run, "--", "true"],
                                     "a service's": [*service, "--", "true"]}, env=env)
    walk, *ours = row("cached, 25,000 files", rounds, {
        "find -size (the walk)": ["find", tree, "-size", "+1000k"],
        "here": [*run, *files], "a service's": [*service, *files]}, env=env)
    print(f"    {ours[0] / walk:.1f} and {ours[1] / walk:.1f} times the walk")
    artifact = [LAZYROOT, "run", "--quiet", "--sandbox", "namespaces", "--artifact", "tree",
                "--output", "copy", "-i", f"{tree}=copy", "--", "touch", "copy/new"]
    took(artifact, env=env, cwd=system.dir)
    os.environ.update(env, PS1="$ ")
    row("to the prompt, 25,000 files", rounds, {
        "bash": ["bash", "--norc"],
        "lazyroot shell": [LAZYROOT, "shell", "--quiet", "tree"]}, measure=prompt)


def bench_pull(system, rounds):
    tree, home = system.dir / "small", system.dir / "home"
    make_tree(tree, 100, 100)
    env = {**os.environ, "XDG_CACHE_HOME": str(home)}
    took([LAZYROOT, "run", "--quiet", "--sandbox", "namespaces", "--artifact", "small",
          "--artifacts", f"{system.address},push", "--output", "copy", "--no-download",
          "-i", f"{tree}=copy", "--", "touch", "copy/new"], env=env)
    far = DelayProxy(system.address, RTT_MS / 2000)
    ours = row("pull of 10,000 files", rounds, {
        name: [LAZYROOT, "pull", "--quiet", "--artifacts", address, "small"]
        for name, address in (("near", system.address), (f"{RTT_MS} ms away", far.address))},
        before=lambda: shutil.rmtree(home), env=env)
    far.close()
    print(f"    {(ours[1] - ours[0]) / RTT_MS:.1f} round trips more")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    system = System(("--grant", "local=all"))
    system.start_worker()
    print(f"{'':38} {'least':>7} {'median':>7}")
    try:
        bench_here(system, args.rounds)
        bench_pull(system, max(3, args.rounds // 4))
    finally:
        system.close()


if __name__ == "__main__":
    main()
