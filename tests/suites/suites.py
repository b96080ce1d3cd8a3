#!/usr/bin/env python3
"""Suites that others wrote, run inside an action and on a plain overlayfs over ext4.

pjdfstest (398 tests of what POSIX promises), fsx (random reads, writes, maps and
truncations of one file, each checked), stress-ng's file-system class and fio with verification.
Each runs twice, with equal arguments, as the same user under the same bubblewrap options: as an
action over a lazy mount, and over an overlay of a plain directory with the same mount options.
Nothing may fail in the action that passes there. pjdfstest, which wants all of root's rights,
runs a second time as root, on an overlay over the worker's own mount. What only reads runs on
`lazyroot mount` as well. What fails in both places is overlayfs's or the sandbox's: a character
device 0:0 is a whiteout and cannot be made, and in an action there is nobody else to give a file
to.

    suites.py [SUITE…]                  a short form: what ctest runs
    suites.py --install                 what crates have to be built, and no suite
    suites.py --long --minutes 30       again and again, with other seeds, larger
    suites.py --data-path passthrough
"""
import argparse
import concurrent.futures
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "oracle"), str(HERE.parent / "system")]
import oracle  # noqa: E402
import system  # noqa: E402
import trees  # noqa: E402

CARGO = system.TOP / "build/cache/cargo"
OVERLAY = "volatile,xino=on,metacopy=on,redirect_dir=on"  # as fuse/overlay.c mounts it
PJD_CONFIG = """
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"""
FSX_CONFIG = """
flen = 1000000
blockmode = %s
nosizechecks = %s
[weights]
close_open = %d
invalidate = 1
truncate = %d
fsync = 1
fdatasync = 1
posix_fallocate = %d
punch_hole = 2
sendfile = 2
posix_fadvise = 1
copy_file_range = 3
"""
# Needs a device of its own, privileges that no action has, or says nothing of a file system.
STRESS_SKIPPED = {"bind-mount", "binderfs", "eventfd", "ioprio", "procfs", "dup", "fanotify"}


def cargo_program(name):
    """A program of a crate, installed by its name on first use; None where that cannot be
    (Debian 12's own cargo is too old for both crates: rustup's, or any from 1.85 on)."""
    program = CARGO / "bin" / name
    CARGO.mkdir(parents=True, exist_ok=True)
    with open(CARGO / "lock", "w") as lock:  # one builds it, whoever else wants it waits
        fcntl.flock(lock, fcntl.LOCK_EX)
        return installed(program, name)


def installed(program, name):
    if not program.exists():
        cargo = shutil.which("cargo", path=f"{os.environ['PATH']}:{os.path.expanduser('~')}/"
                                           ".cargo/bin")
        if not cargo:
            return None
        subprocess.run([cargo, "install", "--quiet", "--locked", "--root", CARGO, name],
                       stdout=sys.stderr)
    return program if program.exists() else None


# Places: where a suite runs. Each runs a shell script in a copy of a tree and gives
# (exit status, what it said).

class InAction:
    name = "action"

    def __init__(self, world):
        self.world = world

    def run(self, tree, script, uid):
        run = self.world.system.run(
            "--input", tree, "--no-cache", "--no-download", "-q", "--platform", f"unixUID={uid}",
            "--env", "PATH=/usr/bin:/bin", "--env", "HOME=/tmp", "--", "/bin/sh", "-c", script,
            timeout=3600)
        return run.code, run.out.decode(errors="replace") + run.err


class OnOverlay:
    name = "overlay on ext4"

    def __init__(self, world):
        self.world = world

    def run(self, tree, script, uid):
        oracle.give(tree)
        with self.world.overlay(tree) as merged:
            os.chown(merged, oracle.OUTSIDE, oracle.OUTSIDE)
            command = oracle.sandbox(
                merged, "/build", "/build", uid, ["/bin/sh", "-c", script],
                ["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp"])
            command.remove("--clearenv")
            run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, env={})
        return run.returncode, run.stdout.decode(errors="replace")


class AsRoot:
    """No sandbox: all of root's rights, on an overlay over the worker's mount or over ext4."""

    def __init__(self, world, is_lazy):
        self.world = world
        self.is_lazy = is_lazy
        self.name = "root on the lazy mount" if is_lazy else "root on ext4"

    def run(self, tree, script, uid):
        if not self.is_lazy:
            with self.world.overlay(tree) as merged:
                return self.shell(merged, script, [])
        digest = self.world.system.upload(tree).replace("/", "-")
        enter = ["nsenter", f"--mount=/proc/{self.world.worker.pid}/ns/mnt", "--"]
        with self.world.overlay(f"{self.world.lazy_mount()}/{digest}", enter) as merged:
            return self.shell(merged, script, enter)

    @staticmethod
    def shell(merged, script, enter):
        run = subprocess.run([*enter, "/bin/sh", "-c", f"cd '{merged}' && {{ {script} ;}}"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
        return run.returncode, run.stdout.decode(errors="replace")


class OverlayMount:
    def __init__(self, lower, top, enter):
        self.lower, self.top, self.enter = lower, top, enter

    def __enter__(self):
        for name in ("upper", "work", "merged"):
            os.mkdir(self.top / name)
        subprocess.run(
            [*self.enter, "mount", "-t", "overlay", "overlay", "-o",
             f"nosuid,nodev,noatime,lowerdir={self.lower},upperdir={self.top}/upper,"
             f"workdir={self.top}/work,{OVERLAY}", self.top / "merged"], check=True)
        return str(self.top / "merged")

    def __exit__(self, *_):
        subprocess.run([*self.enter, "umount", "-l", self.top / "merged"], check=True)


class World:
    def __init__(self, options):
        self.options = options
        self.system = system.System()
        self.worker = self.system.start_worker(
            "--data-path", options.data_path, "--slots", "2",
            *(word for name in ("uid", "gid", "userns", "ptrace", "io_uring", "userfaultfd")
              for word in ("--allow", name)), uring=options.uring)
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-suites-", dir="/var/tmp"))
        self.dir.chmod(0o755)  # some tests run as other users
        self.number = 0

    def close(self):
        self.system.close()
        oracle.remove(self.dir)

    def fresh(self):
        self.number += 1
        path = self.dir / str(self.number)
        path.mkdir()
        return path

    def overlay(self, lower, enter=()):
        return OverlayMount(lower, self.fresh(), list(enter))

    def lazy_mount(self):
        for line in pathlib.Path(f"/proc/{self.worker.pid}/mountinfo").read_text().splitlines():
            if " - fuse.lazyroot " in line and str(self.worker.cache) in line:
                return line.split()[4]
        raise system.Failed("the worker has no lazy mount")

    def tree(self, programs=(), files=None):
        """An input root with some programs and files; those are what gets written over."""
        top = self.fresh() / "tree"
        (top / "bin").mkdir(parents=True)
        for program in programs:
            shutil.copy2(program, top / "bin")
        for path, content in (files or {}).items():
            target = top / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return top


# Suites. Each gives {place: {test: outcome}}; an outcome is "ok", or what went wrong.

class Missing(Exception):
    """A program cannot be had here."""


def pjdfstest_at(world, places, uid):
    program = cargo_program("pjdfstest")
    if not program:
        raise Missing("no cargo that could install pjdfstest")
    tree = world.tree([program], {"pjd.toml": PJD_CONFIG, "in/kept": "an input\n"})

    def run(place):
        _, said = place.run(tree, "bin/pjdfstest -c pjd.toml -p in 2>&1", uid)
        found = dict(re.findall(r"(?m)^(\S+::\S+)\s+(ok|FAILED|skipped)", said))
        if len(found) < 300:
            raise system.Failed(f"pjdfstest on {place.name}: {said[-3000:]}")
        return found

    return everywhere(places, run)


def pjdfstest(world):
    return pjdfstest_at(world, [InAction(world), OnOverlay(world)], 0)


def pjdfstest_root(world):
    return pjdfstest_at(world, [AsRoot(world, True), AsRoot(world, False)], 0)


def everywhere(places, run):
    """run(place) in all places at once; {place's name: what it gave}."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return dict(zip([p.name for p in places], pool.map(run, places)))


def in_both(world, tree, script):
    return everywhere([InAction(world), OnOverlay(world)],
                      lambda place: exits(place.run(tree, script, 1000)[1]))


def exits(said):
    """test -> outcome, of a script that prints "result NAME STATUS" lines."""
    return {name: "ok" if status == "0" else f"exit {status}"
            for name, status in re.findall(r"(?m)^result (\S+) (\d+)$", said)}


def fsx(world):
    program = cargo_program("fsx")
    if not program:
        raise Missing("no cargo that could install fsx")
    n, seeds = (20_000, 4) if world.options.long else (1500, 2)
    tree = world.tree([program], {
        "grows.toml": FSX_CONFIG % ("false", "false", 2, 2, 1),
        "fixed.toml": FSX_CONFIG % ("true", "true", 0, 0, 0),
        "input": os.urandom(1_000_000), "input2": os.urandom(1_000_000)})
    script = ""
    for seed in range(world.options.seed, world.options.seed + seeds):
        for config, file in [("grows", "new"), ("grows", "input"), ("fixed", "input2")]:
            script += (f"bin/fsx -q -f {config}.toml -S {seed} -N {n} -P /tmp {file} "
                       f">log 2>&1; s=$?; [ $s = 0 ] || tail -n 20 log;"
                       f"echo; echo result {config}-{file}-{seed} $s\n")
    return in_both(world, tree, script)


def stress_ng(world):
    if not shutil.which("stress-ng"):
        raise Missing("no stress-ng")
    listed = subprocess.run(["stress-ng", "--class", "filesystem?"], capture_output=True).stdout
    names = [n for n in listed.decode().split(":", 1)[1].split() if n not in STRESS_SKIPPED]
    tree = world.tree(files={f"in/{i}": f"{i}\n" for i in range(20)})

    def run(some, seconds):
        how = "2 --timeout 10" if world.options.long else f"1 --timeout {seconds}"
        script = "cd in\n"
        for name in some:
            ops = "" if world.options.long else f"--{name}-ops 50 "
            script += (f"stress-ng --{name} {how} {ops}--verify --seed {world.options.seed} "
                       f"--temp-path . >../log 2>&1; s=$?; [ $s = 0 ] || tail -n 20 ../log;"
                       f"echo; echo result {name} $s\n")
        return in_both(world, tree, script)

    found = run(names, 1)
    ours, plain = found.values()
    for seconds in (5, 20):  # it fails where a busy machine let it achieve nothing in its time
        again = [name for name in names if worse(ours.get(name), plain.get(name))]
        if again:
            for place, outcomes in run(again, seconds).items():
                found[place].update(outcomes)
    return found


FIO = ["--rw=randrw --bs=4k --ioengine=psync", "--rw=rw --bs=64k --ioengine=mmap",
       "--rw=randwrite --bs=4k --ioengine=libaio --iodepth=8 --direct=1",
       "--rw=randrw --bsrange=512-20k --ioengine=sync --fsync=32",
       "--rw=randwrite --bs=8k --ioengine=psync --fallocate=none --ftruncate=1",
       "--rw=write --bs=128k --ioengine=splice", "--rw=randwrite --bs=4k --ioengine=io_uring"]


def fio(world):
    if not shutil.which("fio"):
        raise Missing("no fio")
    size = 256 if world.options.long else 4
    tree = world.tree(files={"input": os.urandom(size << 20)})
    script = ""
    for i, job in enumerate(FIO):
        job = job.replace("--ftruncate=1", "").strip()
        for file in ("new", "input"):
            script += (f"fio --name=v --filename={file} --size={size}M {job} --verify=crc32c "
                       f"--do_verify=1 --verify_fatal=1 --verify_state_save=0 "
                       f"--randseed={world.options.seed} "
                       f"--allow_file_create=1 >log 2>&1; s=$?; [ $s = 0 ] || tail -n 20 log;"
                       f"echo; echo result {i}-{file} $s\n")
    return in_both(world, tree, script)


def walk(top):
    """path -> what it is, of everything below top."""
    found = {}
    for directory, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            what = (oct(st.st_mode), st.st_mtime_ns)
            if os.path.islink(path):
                what += (os.readlink(path),)
            elif name in files:
                with open(path, "rb") as f:
                    what += (st.st_size, trees.digest_of(f.read()))
            found[os.path.relpath(path, top)] = what
    return found


def reading(world):
    """On `lazyroot mount`: random trees, walked and read; fio reads what it wrote elsewhere."""
    place, reference = "lazyroot mount", "ext4"
    found = {place: {}, reference: {}}
    for seed in range(world.options.seed, world.options.seed + (40 if world.options.long else 6)):
        tree = oracle.Case(seed).tree
        for node in tree.nodes.values():
            node.mtime = node.mode = None
        top = os.fsencode(world.fresh())
        tree.write(top)
        with Mounted(world, world.system.upload(os.fsdecode(top))) as mounted:
            same = walk(os.fsencode(mounted)) == walk(top)
        found[place][f"tree-{seed}"] = "ok" if same else "differs"
        found[reference][f"tree-{seed}"] = "ok"
    if not shutil.which("fio"):
        raise Missing("no fio")
    top = world.fresh()
    job = "--name=r --filename=data --bs=16k --verify=crc32c --verify_state_save=0 " \
          f"--size={256 if world.options.long else 16}M"
    subprocess.run(f"fio --directory={top} {job} --rw=write --do_verify=0 --ioengine=psync",
                   shell=True, check=True, stdout=subprocess.DEVNULL)
    with Mounted(world, world.system.upload(top)) as mounted:
        for name, directory in ((place, mounted), (reference, top)):
            for engine in ("psync", "mmap", "libaio --direct=1", "io_uring"):
                run = subprocess.run(
                    f"fio --readonly --directory={directory} {job} --rw=read --ioengine={engine}",
                    shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                found[name][f"fio-{engine.split()[0]}"] = \
                    "ok" if run.returncode == 0 else run.stdout.decode()[-300:]
    return found


class Mounted:
    def __init__(self, world, digest):
        self.world, self.digest, self.point = world, digest, world.fresh()

    def __enter__(self):
        run = self.world.system.lazyroot("mount", self.digest, self.point)
        if run.code:
            raise system.Failed(f"mount: {run.err}")
        return self.point

    def __exit__(self, *_):
        subprocess.run(["umount", self.point], check=True)


SUITES = {"pjdfstest": pjdfstest, "pjdfstest-root": pjdfstest_root, "fsx": fsx,
          "stress-ng": stress_ng, "fio": fio, "reading": reading}


# Verdicts

def is_failure(outcome):
    return outcome not in ("ok", "skipped")


def worse(ours, plain):
    """A test that did not run in the action at all is worse than any that did."""
    return ours != plain and (is_failure(ours) or ours == "skipped") and not is_failure(plain)


def judge(name, found):
    """Prints a line a place, and what is worse in the action; whether nothing is."""
    ours, plain = found.values()
    for place, outcomes in found.items():
        counts = {"ok": 0, "skipped": 0, "failed": 0}
        for outcome in outcomes.values():
            counts[outcome if outcome in counts else "failed"] += 1
        print(f"{name:15} {place:22} passed {counts['ok']:4}  failed {counts['failed']:4}  "
              f"skipped {counts['skipped']:4}")
    bad = [t for t in plain if worse(ours.get(t, "absent"), plain[t])]
    for test in bad:
        print(f"  WORSE {test}: {ours.get(test, 'absent')}, there {plain[test]}")
    for test in [t for t in ours if worse(plain.get(t, "absent"), ours[t])]:
        print(f"  better {test}: there {plain.get(test, 'absent')}")
    alike = [t for t in plain if is_failure(plain[t]) and t not in bad]
    if alike:
        print(f"  fail in both: {', '.join(alike) if len(alike) < 8 else len(alike)}")
    if not plain:
        print("  nothing ran")
    sys.stdout.flush()
    return not bad and bool(plain)


def run_once(world, names):
    good = True
    for name in names:
        start = time.monotonic()
        try:
            good = judge(name, SUITES[name](world)) and good
        except Missing as why:
            print(f"{name:15} not run: {why}: tools/setup tests installs it")
            good = False
        print(f"{name:15} {time.monotonic() - start:.0f} s", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(SUITES))
    parser.add_argument("--data-path", default="page-cache", choices=["page-cache", "passthrough"])
    parser.add_argument("--uring", action="store_true", help="FUSE over io_uring")
    parser.add_argument("--install", action="store_true", help="only get what suites are made of")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--minutes", type=float, default=0, help="go on for so long")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.install:
        return 0 if all([cargo_program(name) for name in ("pjdfstest", "fsx")]) else 1
    if options.uring and not oracle.can_uring():
        print("this kernel has no FUSE over io_uring that could be turned on: by classic FUSE")
        options.uring = False
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("skipped: the suites need root and /dev/fuse")
        return 77
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    system.own_mounts()
    start = time.monotonic()
    world = World(options)
    print(*[line for line in world.worker.err().splitlines() if "data path" in line], sep="\n",
          flush=True)
    try:
        good = run_once(world, options.suites or list(SUITES))
        while good and time.monotonic() - start < options.minutes * 60:
            options.seed += 1000
            print(f"seed {options.seed}")
            good = run_once(world, options.suites or list(SUITES))
    finally:
        world.close()
    print(f"{options.data_path}: {'nothing is worse in an action' if good else 'FAILED'}, "
          f"{time.monotonic() - start:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
