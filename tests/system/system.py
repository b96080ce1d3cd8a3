"""The real programs, started and watched: what the system tests stand on.

A System is one scratch directory with a server and workers of its own on loopback. Everything
it starts is ended by process id; after each test nothing may be left: no process, no mount, no
file in a cache's actions or staging directories.

Other tests run at the same time. So what a test mounts lies in a mount namespace of its own
(own_mounts), a server that comes back has kept its port, and whoever switches the kernel to
FUSE over io_uring keeps other workers from starting meanwhile (transport).
"""
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("LAZYROOT_BIN", TOP / "build/release/bin")).resolve()
# Sanitized programs are slow, and so is a machine that does much else; waiting longer makes no
# test pass that should fail.
PATIENCE = 120
# The kernel's, for all: whether workers that start are offered FUSE over io_uring.
URING = pathlib.Path("/sys/module/fuse/parameters/enable_uring")


class Failed(AssertionError):
    pass


def wait_until(condition, what, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise Failed(f"waited in vain for {what}")


def own_mounts():
    """From here on this process has a mount namespace of its own. A worker that starts copies
    the mounts that it finds: what another test had mounted just then would stay in use for as
    long as that worker lives."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private = 0x20000, 1 << 18 | 1 << 14  # CLONE_NEWNS; MS_PRIVATE | MS_REC
    if libc.unshare(new_namespace) or libc.mount(None, b"/", None, private, None):
        raise OSError(ctypes.get_errno(), "a mount namespace of its own")


@contextlib.contextmanager
def transport(wants_uring):
    """FUSE over io_uring for the workers that start meanwhile, or surely not: the kernel has one
    switch for all. worker_launch() of the integration tests takes the same lock."""
    if not wants_uring and not URING.exists():
        yield
        return
    with open(URING, "rb") as switch:
        fcntl.flock(switch, fcntl.LOCK_EX if wants_uring else fcntl.LOCK_SH)
        before = URING.read_text().strip()
        try:
            if wants_uring:
                URING.write_text("Y")
            yield
        finally:
            if wants_uring:
                URING.write_text(before)


class Port:
    """A port of loopback that stays ours while a server comes and goes: it is bound, which a
    server may do once more, and nobody is given it who asks for any."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.address = "grpc://127.0.0.1:%d" % self.socket.getsockname()[1]

    def close(self):
        self.socket.close()


class Process:
    """A program whose output goes to files, so that it never blocks and can be read later."""

    def __init__(self, name, args, directory, env=None):
        self.name = name
        self.out_path = directory / f"{name}.out"
        self.err_path = directory / f"{name}.err"
        with open(self.out_path, "wb") as out, open(self.err_path, "ab") as err:
            self.popen = subprocess.Popen(
                [str(a) for a in args], stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})})
        self.pid = self.popen.pid

    def out(self):
        return self.out_path.read_text(errors="replace")

    def err(self):
        return self.err_path.read_text(errors="replace")

    def wait_line(self, prefix):
        def look():
            for line in self.out().splitlines():
                if line.startswith(prefix):
                    return line
            if self.popen.poll() is not None:
                raise Failed(f"{self.name} ended with {self.popen.returncode}: {self.err()[-2000:]}")
        return wait_until(look, f'"{prefix}" from {self.name}')

    def check_sanitizers(self):
        """What a sanitized program found; others say no such thing."""
        found = re.search(r"(ERROR|WARNING): \w+Sanitizer|runtime error: ", self.err())
        if found:
            raise Failed(f"{self.name}: {self.err()[found.start():][:6000]}")

    def stop(self, number=signal.SIGTERM):
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            code = self.popen.wait(PATIENCE)
            self.check_sanitizers()
            return code
        except subprocess.TimeoutExpired:
            self.popen.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(PATIENCE)  # one that the kernel holds is a failure, no hang
            raise Failed(f"{self.name} does not end: {self.err()[-2000:]}")


class Run:
    def __init__(self, completed):
        self.code = completed.returncode
        self.out = completed.stdout
        self.err = completed.stderr.decode(errors="replace")

    @property
    def text(self):
        return self.out.decode(errors="replace")


class System:
    def __init__(self, server_args=(), parent="/var/tmp"):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="lazyroot-system-", dir=parent))
        self.processes = []
        self.server_args = list(server_args)
        self.n_workers = 0
        self.address = None
        self.port = Port()
        self.start_server()

    def start_server(self, listen=None):
        self.server = Process("server", [
            BIN / "lazyroot-server", "--listen", listen or self.port.address, "--data",
            self.dir / "data", *self.server_args], self.dir)
        self.processes.append(self.server)
        self.address = self.server.wait_line("listening on ").split(" ", 2)[2]
        return self.server

    def start_worker(self, *args, name=None, cache=None, server=None, wait=True, env=None,
                     prefix=(), uring=False):
        self.n_workers += 1
        name = name or f"worker{self.n_workers}"
        with transport(uring):
            worker = Process(name, [
                *prefix, BIN / "lazyroot-worker", "--server", server or self.address, "--cache",
                cache or self.dir / f"{name}-cache", "--name", name, "--log", "info,job=debug",
                *args], self.dir, env=env)
            worker.cache = pathlib.Path(cache or self.dir / f"{name}-cache")
            self.processes.append(worker)
            if wait:
                worker.wait_line("ready ")
        return worker

    def lazyroot(self, verb, *args, env=None, timeout=PATIENCE * 2, cwd=None, address=None):
        return Run(subprocess.run(
            [str(BIN / "lazyroot"), verb, *[str(a) for a in args]], capture_output=True,
            stdin=subprocess.DEVNULL, timeout=timeout, cwd=cwd or self.dir,
            env=self.environment(env, address)))

    def environment(self, env=None, address=None):
        return {**os.environ, "LAZYROOT_SERVER": address or self.address,
                "XDG_CACHE_HOME": str(self.dir / "home"), **(env or {})}

    def popen(self, verb, *args, **kwargs):
        return subprocess.Popen(
            [str(BIN / "lazyroot"), verb, *[str(a) for a in args]], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=self.dir,
            env=self.environment(kwargs.pop("env", None)), **kwargs)

    def upload(self, path, *args):
        run = self.lazyroot("upload", *args, path)
        if run.code:
            raise Failed(f"upload: {run.err}")
        return run.text.strip()

    def tree(self, name, files):
        """files: path -> text, bytes, ("link", target), ("exec", text) or None (directory)."""
        root = self.dir / name
        root.mkdir(parents=True, exist_ok=True)
        for path, content in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                target.mkdir(exist_ok=True)
            elif isinstance(content, tuple) and content[0] == "link":
                target.symlink_to(content[1])
            elif isinstance(content, tuple):
                target.write_text(content[1])
                target.chmod(0o755)
            elif isinstance(content, bytes):
                target.write_bytes(content)
            else:
                target.write_text(content)
        return root

    def run(self, *args, report=True, **kwargs):
        """lazyroot run; the report, where there is one, in .report."""
        path = self.dir / "report.json"
        path.unlink(missing_ok=True)
        extra = ["--report", path] if report else []
        run = self.lazyroot("run", *extra, *args, **kwargs)
        run.report = json.loads(path.read_text()) if path.exists() else None
        return run

    def sh(self, script, *args, **kwargs):
        return self.run(*args, "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c", script,
                        **kwargs)

    def blob_path(self, store, digest):
        digest = digest.split("/")[0]
        return pathlib.Path(store) / "blobs" / digest[:2] / digest

    def close(self):
        # a worker may have something to report, so the server goes last; each is ended, whatever
        # becomes of the others
        failed = []
        for process in sorted(self.processes, key=lambda p: p.name.startswith("server")):
            try:
                process.stop()
            except Failed as error:
                failed.append(error)
        self.port.close()
        if failed:
            raise failed[0]
        shutil.rmtree(self.dir)


def counts(worker):
    """Requests of a worker so far, as its last job's end logged them."""
    lines = [line for line in worker.err().splitlines() if " counts " in line]
    found = re.findall(r"(\S+)=(\d+)", lines[-1]) if lines else []
    return {k: int(v) for k, v in found if "Bots/" not in k}


def metrics_url(worker):
    return wait_until(lambda: re.search(r"http://\S+/metrics", worker.err()),
                      "the word where metrics are").group()


def metrics(worker):
    """The worker's page of metrics, name{labels} -> value, where it is well-formed: each sample
    belongs to the name that HELP and TYPE opened, and counters are called so."""
    found, opened, kind = {}, None, None
    with urllib.request.urlopen(metrics_url(worker), timeout=PATIENCE) as reply:
        lines = reply.read().decode().splitlines()
    for help_line, line in zip([""] + lines, lines):
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            opened, kind = line.split()[2:]
            if not re.fullmatch(rf"# HELP {opened} \S.*", help_line):
                raise Failed(f"no HELP before {line}")
            continue
        sample = re.fullmatch(r'([a-z_]+)((?:\{(?:[a-z_]+="[^"\\]*",?)+\})?) ([0-9.]+)', line)
        if not sample or sample[1] != opened or (kind == "counter") != opened.endswith("_total"):
            raise Failed(f"a bad sample: {line}")
        if sample[1] + sample[2] in found:
            raise Failed(f"a sample twice: {line}")
        found[sample[1] + sample[2]] = float(sample[3])
    return found


def delta(before, after):
    return {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}


def fuse_only(some):
    """FUSE messages about paths. Mounting an overlay asks the lower layer once for the length
    of names it allows (STATFS), whatever the tree and whatever the command does."""
    return {k: v for k, v in some.items() if not k.startswith("/") and k != "STATFS"}


def descendants(pid):
    """Live processes whose cgroup or ancestry belongs to pid."""
    found = []
    children = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def cgroups_of(pid):
    """Directories that a worker made, in whatever hierarchy. Others' come and go meanwhile, which
    os.walk() does not mind."""
    return [pathlib.Path(top) / name for top, names, _ in os.walk("/sys/fs/cgroup")
            for name in names if name.startswith(f"lazyroot-{pid}-")]


def mounts_below(path):
    text = pathlib.Path("/proc/self/mountinfo").read_text()
    return [line for line in text.splitlines() if str(path) in line]


def command_line(pid):
    """The bytes of its arguments, none where it has ended meanwhile."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def is_warden(pid):
    """Of a worker, not of its slots."""
    return b"\0warden\0" in command_line(pid)


def sandboxes_with(marker):
    """Processes whose last argument is marker: what a command left, wherever it went. The
    programs that only pass the command on do not count."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            passed_on = any(w in os.path.basename(words[0]) for w in (b"lazyroot", b"bwrap"))
            if words[-1] == marker.encode() and not passed_on and words[0] != b"/proc/self/fd/6":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def skip_program(reason):
    """Ends this process with what ctest counts as skipped: CI has none of that."""
    print(f"skipped: {reason}", file=sys.stderr, flush=True)
    os._exit(77)  # whatever runs the tests: unittest and pytest take SystemExit for a failure


def need_root():
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        skip_program("system tests need root and /dev/fuse")


class SystemTest(unittest.TestCase):
    """One server and one worker for a class; subclasses name the worker's options."""
    worker_args = ()
    server_args = ()

    @classmethod
    def setUpClass(cls):
        need_root()
        cls.system = System(cls.server_args)
        cls.worker = cls.system.start_worker(*cls.worker_args)

    @classmethod
    def tearDownClass(cls):
        cls.system.close()

    def assert_ok(self, run):
        self.assertEqual(run.code, 0, run.err)
        return run


def main():
    unittest.main(verbosity=2)
