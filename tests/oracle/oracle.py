#!/usr/bin/env python3
"""The differential oracle: an action's view of its inputs against a plain copy of them.

For each seed a random tree is uploaded, and two random scripts run at once as actions over it,
each in an overlay of its own over the one lazy mount. The same scripts run under the same
bubblewrap options over `cp -a` copies on ext4. Equal must be: what every step returned, its
errno and what it read; the listing of the whole tree at the end; the exit status; and the
digest of the captured root, with `lazyroot upload` of what the plain run left. What differs on
purpose is the table in README.md.

    oracle.py --seeds 1..40          replayable; a difference is minimised and printed
    oracle.py --endless              from a random seed on, until one fails
    oracle.py --seconds 60           as many seeds from --seeds' first as fit
    oracle.py --data-path passthrough --keep
"""
import argparse
import ctypes
import difflib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]
import scripts  # noqa: E402
import system  # noqa: E402
import trees  # noqa: E402

OPS = pathlib.Path(os.environ.get("LAZYROOT_OPS", system.BIN.parent / "tests/oracle_ops"))
HOST = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/libx32", "/opt"]


NO_TIMES = ("--mtimes", "never")  # the plain copy has the worker's default ones


def can_uring():
    return system.URING.exists() and os.access(system.URING, os.W_OK)


OUTSIDE = 61183  # whom the worker's actions are outside


def give(top):
    """All of it to whom commands are."""
    subprocess.run(["chown", "-hR", f"{OUTSIDE}:{OUTSIDE}", top], check=True)


def sandbox(root, root_path, workdir, uid, arguments, before=()):
    """bubblewrap as worker/sandbox/sandbox.c calls it, over any directory; options may stand before
    those."""
    args = ["setpriv", f"--reuid={OUTSIDE}", f"--regid={OUTSIDE}", "--clear-groups",
            "bwrap", *before, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
            "--new-session", "--die-with-parent", "--clearenv", "--cap-drop", "ALL",
            "--hostname", "lazyroot", "--uid", str(uid), "--gid", "1000", "--unshare-net"]
    if root_path == "/":
        args += ["--bind", root, "/"]
    else:
        for path in HOST:
            if os.path.islink(path):
                args += ["--symlink", os.readlink(path), path]
            else:
                args += ["--ro-bind-try", path, path]
    args += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    if root_path == "/":
        args += ["--ro-bind", "/sys", "/sys"]
    else:
        args += ["--bind", root, root_path]
    return [*args, "--chdir", workdir, "--", *arguments]


class Case:
    """A tree and how it is seen: everything that a seed decides but the scripts."""

    def __init__(self, seed):
        self.seed = seed
        self.rng = random.Random(seed)
        self.root_path = self.rng.choice(["/build", "/build", "/", "/some/where else"])
        self.workdir = "w" if self.root_path == "/" or self.rng.random() < 0.2 else ""
        self.uid = self.rng.choice([1000, 1000, 0, 4321])
        home = os.path.join(self.root_path, self.workdir).rstrip("/")
        self.home = home
        with_properties = self.rng.random() < 0.25
        self.tree = trees.Tree(self.rng, os.fsencode(home), with_properties)
        self.scripts = [scripts.Scripter(self.rng, self.tree).run(self.rng.choice([60, 200]))
                        for _ in range(2)]


class Outcome:
    def __init__(self, code, out, digest, err=""):
        self.code, self.out, self.digest, self.err = code, out, digest, err

    def __eq__(self, other):
        return (self.code, self.out, self.digest) == (other.code, other.out, other.digest)


def without_identity(out):
    """Under pressure an input that was written may change its inode number, once (README),
    so hard links are not told, nor can ops.c tell whose time overlayfs will set."""
    out = re.sub(rb"(?m) group\d+|(?<=same = )\d+", b"", out)
    return re.sub(rb"(\bf[0-7]{4} u\d+ g\d+ s\d+ n\d+ )m\S+", rb"\1", out)


class Oracle:
    def __init__(self, options):
        self.options = options
        self.system = system.System()
        self.worker = self.system.start_worker(
            "--data-path", options.data_path, "--slots", "2", "--allow", "uid",
            uring=options.uring)
        if options.uring and "FUSE over io_uring" not in self.worker.err():
            raise system.Failed(f"no io_uring: {self.worker.err()}")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-oracle-", dir="/var/tmp"))
        self.dir.chmod(0o711)  # the plain run is not root's
        self.number = 0
        self.n_steps = 0
        self.n_actions = 0

        self.n_presses = 0
        self.is_closing = threading.Event()
        self.presser = threading.Thread(target=self.press, daemon=True)
        if options.pressure:
            self.presser.start()

    def press(self):
        """As where memory is short, but for our mounts alone: a remount makes the kernel
        forget every name and inode that nobody uses just now."""
        libc = ctypes.CDLL(None, use_errno=True)
        remount, read_only = 32, 1 | 2 | 4 | 32
        # a thread of its own may enter the worker's mounts, once it shares no cwd
        libc.unshare(0x200)
        space = os.open(f"/proc/{self.worker.pid}/ns/mnt", os.O_RDONLY)
        libc.setns(space, 0)
        os.close(space)
        while not self.is_closing.wait(0.01):
            mounts = pathlib.Path(f"/proc/{self.worker.pid}/mountinfo").read_text()
            for line in mounts.splitlines():
                target, kind = line.split()[4], line.split(" - ")[1].split()[0]
                if target.startswith(str(self.worker.cache)):
                    self.n_presses += libc.mount(
                        None, os.fsencode(target), None,
                        remount if kind == "overlay" else read_only, None) == 0

    def close(self):
        self.is_closing.set()
        if self.options.pressure:
            self.presser.join()
        self.system.close()
        if not self.options.keep:
            remove(self.dir)

    def check(self, case, lists):
        """Runs the scripts in actions, at once, and in copies; [(action, plain)…]."""
        self.number += 1
        where = self.dir / str(self.number)
        top = where / "in"
        home = top / case.workdir
        home.mkdir(parents=True)
        case.tree.write(home)
        (home / ".oracle").mkdir()
        shutil.copy(OPS, home / ".oracle/ops")
        os.chmod(home / ".oracle/ops", 0o755)
        for i, lines in enumerate(lists):
            (home / f".oracle/script{i}").write_text("\n".join(lines) + "\n")
        inputs = self.inputs(case, where, top)
        actions = [self.start_action(case, inputs, where, i) for i in range(len(lists))]
        plain = [self.run_plain(case, where, i) for i in range(len(lists))]
        pairs = [(self.end_action(*action), p) for action, p in zip(actions, plain)]
        for _, outcome in pairs:  # equal nonsense proves nothing
            if outcome.err.startswith("ops:"):
                raise system.Failed(f"seed {case.seed}: {outcome.err}")
        if self.options.pressure:
            for outcome in [o for pair in pairs for o in pair]:
                outcome.out = without_identity(outcome.out)
        if not self.options.keep:
            remove(where)
        return pairs

    def inputs(self, case, where, top):
        if not case.tree.with_properties:
            return ["--input", top]
        self.system.upload(top, *NO_TIMES)  # the files' bytes
        full = trees.Tree.__new__(trees.Tree)
        full.nodes = {b"": trees.Node("d")}
        prefix = os.fsencode(case.workdir)
        for path, node in case.tree.nodes.items():
            full.nodes[trees.join(prefix, path) if path else prefix] = node
        home = top / case.workdir
        oracle = trees.join(prefix, b".oracle")
        full.nodes[oracle] = trees.Node("d")
        for file in (home / ".oracle").iterdir():
            full.nodes[trees.join(oracle, os.fsencode(file.name))] = trees.Node(
                "f", file.read_bytes(), file.name == "ops")
        digest, blobs = trees.encode(full)
        messages = where / "directories"
        messages.mkdir()
        for i, blob in enumerate(blobs):
            (messages / str(i)).write_bytes(blob)
        self.system.upload(messages)
        return ["--input-digest", f"{digest[0]}/{digest[1]}"]

    def start_action(self, case, inputs, where, i):
        report = where / f"report{i}"
        download = where / f"out{i}"
        download.mkdir()
        args = [*inputs, *NO_TIMES, "--rerun", "-q", "--report", report, "--download", download,
                "--output", ".", "--platform", f"unixUID={case.uid}", "--platform",
                f"InputRootAbsolutePath={case.root_path}", "--timeout", "120s",
                *(["--workdir", case.workdir] if case.workdir else []), "--",
                ".oracle/ops", f".oracle/script{i}"]
        process = self.system.popen("run", *[str(a) for a in args])
        return process, report, download

    def end_action(self, process, report, download):
        self.n_actions += 1
        out, err = process.communicate(timeout=300)
        err = err.decode(errors="replace")
        if not report.exists():
            return Outcome(process.returncode, out, None, err)
        action = json.loads(report.read_text())["action"]
        digest = self.cached_digest(action) if process.returncode == 0 else None
        brought = self.system.upload(download, *NO_TIMES)
        if digest and self.strip(digest) != brought:
            return Outcome(process.returncode, out, f"result {digest}, downloaded {brought}", err)
        return Outcome(process.returncode, out, brought, err)

    def cached_digest(self, action):
        said = self.system.lazyroot("action", action, "--json")
        return json.loads(said.out)["result"]["directories"][0]["root"]

    def strip(self, digest):
        """As if no input had had node properties; also checks that every blob is there."""
        def load(d):
            if not d[1]:  # everybody has the empty blob
                return b""
            return self.system.blob_path(self.system.dir / "data", d[0]).read_bytes()
        text, size = digest.split("/")
        return "{}/{}".format(*trees.strip(load, (text, int(size))))

    def run_plain(self, case, where, i):
        copy = where / f"plain{i}"
        subprocess.run(["cp", "-a", where / "in", copy], check=True)
        home = copy / case.workdir
        case.tree.settle(home)
        give(copy)
        for path in [*(home / ".oracle").iterdir(), home / ".oracle", home, copy]:
            if path != home or not case.tree.nodes[b""].mtime:
                os.utime(path, (trees.DEFAULT_MTIME[0],) * 2)
        try:
            run = subprocess.run(
                sandbox(str(copy), case.root_path, case.home or "/", case.uid,
                        [".oracle/ops", f".oracle/script{i}"]),
                stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        except subprocess.TimeoutExpired as why:  # a step of ours waits for ever
            return Outcome(124, why.stdout or b"", None, "plain: still runs after 120 s")
        code = run.returncode if run.returncode >= 0 else 128 - run.returncode
        return Outcome(code, run.stdout, self.system.upload(home, *NO_TIMES), run.stderr.decode())

    # Verdicts

    def seed(self, seed):
        """True where all was equal."""
        case = Case(seed)
        pairs = self.check(case, case.scripts)
        self.n_steps += sum(len(s) for s in case.scripts)
        for i, (action, plain) in enumerate(pairs):
            if action != plain:
                self.explain(case, i, action, plain)
                return False
        return True

    def explain(self, case, i, action, plain):
        print(f"seed {case.seed}, script {i}: the action and the plain copy differ")
        show(action, plain)
        lines = case.scripts[i]
        if not self.options.no_minimise:
            lines = self.minimise(case, lines)
            pair = self.check(case, [lines])[0]
            print(f"smallest script that shows it ({case.root_path}, workdir "
                  f"{case.workdir or '.'}, uid {case.uid}"
                  f"{', node properties' if case.tree.with_properties else ''}):")
            print("\n".join("  " + line[:400] for line in lines))
            show(*pair)

    def minimise(self, case, lines):
        """Drops steps for as long as a difference of the same kind stays."""
        def kind_of(some):
            return difference(*self.check(case, [some])[0])

        wanted = kind_of(lines)

        def fails(some):
            return kind_of(some) == wanted

        if not wanted:
            print("alone it does not differ: what the other script did at once matters")
            return lines
        size = max(len(lines) // 2, 1)
        until = time.monotonic() + self.options.minimise_seconds
        while time.monotonic() < until:
            at = 0
            before = len(lines)
            while at < len(lines) and time.monotonic() < until:
                fewer = lines[:at] + lines[at + size:]
                if fails(fewer):
                    lines = fewer
                else:
                    at += size
            if size == 1 and len(lines) == before:
                break
            size = max(size // 2, 1)
        return lines


def difference(action, plain):
    """What differs first, as a word; None where nothing does."""
    if action.code != plain.code:
        return "exit status"
    for a, p in zip(action.out.splitlines(), plain.out.splitlines()):
        if a != p:
            words = p.split()
            return words[1] if words and words[0].isdigit() else "listing"
    if action.out != plain.out:
        return "length"
    return None if action == plain else "digest"


def show(action, plain):
    if action.code != plain.code:
        print(f"  exit status: action {action.code}, plain {plain.code}")
        print(f"  action said: {action.err[-1500:]}\n  plain said: {plain.err[-500:]}")
    if action.digest != plain.digest:
        print(f"  captured root: action {action.digest}, plain {plain.digest}")
    a, p = (o.out.decode(errors="replace").splitlines() for o in (action, plain))
    for line in list(difflib.unified_diff(p, a, "plain", "action", lineterm="", n=0))[:40]:
        print("  " + line[:600])
    sys.stdout.flush()


def remove(path):
    """Also what has no permissions; as root they do not matter."""
    subprocess.run(["rm", "-rf", "--", path], check=True)


def options_of(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", default="1..40", help="FIRST..LAST or one")
    parser.add_argument("--endless", action="store_true")
    parser.add_argument("--seconds", type=float, help="stop after this time, wherever it is")
    parser.add_argument("--data-path", default="page-cache", choices=["page-cache", "passthrough"])
    parser.add_argument("--uring", action="store_true", help="FUSE over io_uring")
    parser.add_argument("--pressure", action="store_true",
                        help="empty the kernel's caches of our mounts all the time")
    parser.add_argument("--keep", action="store_true", help="leave the trees")
    parser.add_argument("--no-minimise", action="store_true")
    parser.add_argument("--minimise-seconds", type=float, default=120)
    parser.add_argument("--go-on", action="store_true", help="after a difference, too")
    return parser.parse_args(arguments)


def seeds_of(options):
    first, _, last = options.seeds.partition("..")
    if options.endless:
        at = random.SystemRandom().randrange(10**9)
        while True:
            yield at
            at += 1
    at = int(first)
    while options.seconds or at <= int(last or first):
        yield at
        at += 1


def main():
    options = options_of(sys.argv[1:])
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        print("skipped: the oracle needs root and /dev/fuse")
        return 77
    if options.uring and not can_uring():
        print("this kernel has no FUSE over io_uring that could be turned on: by classic FUSE")
        options.uring = False
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    system.own_mounts()
    start = time.monotonic()
    oracle = Oracle(options)
    said = [line for line in oracle.worker.err().splitlines() if "data path" in line]
    print(*said, sep="\n", flush=True)
    bad = []
    n = 0
    try:
        for seed in seeds_of(options):
            if options.seconds and time.monotonic() - start > options.seconds:
                break
            if n % 20 == 0:
                print(f"seed {seed}: {n} done, {time.monotonic() - start:.0f} s", flush=True)
            n += 1
            if not oracle.seed(seed):
                bad.append(seed)
                if not options.go_on:
                    break
    except KeyboardInterrupt:
        pass
    finally:
        if options.keep:
            print(f"trees are in {oracle.dir}")
        oracle.close()
    print(f"{options.data_path}: {n} seeds, {oracle.n_actions} actions, {oracle.n_steps} steps, "
          f"{time.monotonic() - start:.0f} s; differ: {bad or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
