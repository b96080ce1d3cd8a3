#!/usr/bin/env python3
"""Records what actions open of their roots, for the replay.

    tests/replay/record.py [NAME...]

Each action of actions.py runs three times over a root of its own, which a server of its own has
and lazyroot mounts, in an overlay as the worker makes one: directories are listed in the order in
which it lists them. The third run, all warm, is what the trace has. Traces go to
tests/replay/traces. Needs root, /dev/fuse, the release build, and this machine's tools, whose files
are the roots.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import actions
import trace
from system import System

TOP = pathlib.Path(__file__).resolve().parents[2]
TESTS = pathlib.Path(os.environ.get("LAZYROOT_BIN", TOP / "build/release/bin")).parent / "tests"

RUN = r"""
set -e
mount -t tmpfs tmpfs "$1/upper"
mkdir "$1/upper/u" "$1/upper/w"
mount -t overlay -o "lowerdir=$1/lower,upperdir=$1/upper/u,workdir=$1/upper/w" overlay "$1/merged"
mkdir -p "$1/merged/out"
if [ "$2" = / ]; then
	inside=$1/merged
	mkdir -p "$inside/proc" "$inside/dev" "$inside/tmp"
	mount --rbind /proc "$inside/proc"
	mount --rbind /dev "$inside/dev"
	mount -t tmpfs tmpfs "$inside/tmp"
fi
shift 2
exec env -i HOME=/tmp LANG=C.UTF-8 "$@"
"""


def run(directory, action, mount):
    command = [f"PATH={action.path}", *action.env, TESTS / "replay_watch", directory / "merged",
               directory / "merged" if mount == "/" else "/",
               "/" + action.workdir if mount == "/" else f"{mount}/{action.workdir}",
               *action.command]
    done = subprocess.run(["unshare", "-m", "sh", "-c", RUN, "sh", str(directory), mount,
                           *map(str, command)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode > 1 or (done.returncode and not action.may_fail):
        raise RuntimeError(f"{action.name}: {done.returncode} {done.stderr[-3000:]}")
    return done.stdout


def times(directory, action, mount):
    """What the third run opens, and whether files keep their times."""
    system = System()
    try:
        lower = directory / "lower"
        mounted = system.lazyroot("mount", system.upload(directory / "root"), lower, timeout=600)
        if mounted.code:
            raise RuntimeError(mounted.err)
        for _ in range(3):
            text = run(directory, action, mount)
        name = next(p.relative_to(directory / "root") for p in (directory / "root").rglob("*")
                    if p.is_file() and not p.is_symlink())
        has_times = (lower / name).stat().st_mtime == (directory / "root" / name).stat().st_mtime
        subprocess.run(["umount", lower], check=True)
        return text, has_times
    finally:
        system.close()


def record(action):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-trace-", dir="/var/tmp"))
    root = directory / "root"
    path = TOP / "tests/replay/traces" / f"{action.name}.xz"
    try:
        for name in ("root", "lower", "merged", "upper"):
            (directory / name).mkdir()
        action.make(root)
        text, has_times = times(directory, action, "/" if action.is_root else str(directory / "merged"))
        tree = trace.Tree(root)
        head = [("name", action.name), ("about", action.__doc__),
                ("mount", "/" if action.is_root else "/root"), ("workdir", action.workdir),
                ("path", action.path), ("mtimes", int(has_times)), *(("arg", word) for word in action.command)]
        opened = trace.opens(text, tree)
        trace.write(path, head, [tree.lines, trace.scans(
            tree, TESTS / "scan_print", [root / p for p in action.responses]), opened])
        print(f"{action.name}: {tree.n_files} files, {tree.n_bytes / 1e6:.1f} MB, opened "
              f"{len(opened) - 1}, trace of {path.stat().st_size} bytes", flush=True)
    finally:
        shutil.rmtree(directory)


def main():
    for action in actions.ACTIONS:
        if len(sys.argv) == 1 or action.name in sys.argv[1:]:
            record(action)


main()
