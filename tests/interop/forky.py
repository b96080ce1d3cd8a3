#!/usr/bin/env python3
"""The Debian forky tree in which other people's clients and engines live, and our programs beside
them: what the interop tests stand on, over system.py.

The tree lies in build/forky (2 GB), is made once, by package name, and kept; it is made again
where RECIPE changed. A program enters it as the real root of a mount namespace of its own
(enter()), since bubblewrap and buildbox-casd refuse a chroot. The network is the machine's.

As a program it makes the tree, and then runs a command in it.
"""
import argparse
import collections
import contextlib
import fcntl
import hashlib
import itertools
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import system  # noqa: E402
from system import BIN, PATIENCE, TOP, Process, Run, System  # noqa: E402

TREE = TOP / "build/forky"
LOG = TOP / "build/forky.log"
HERE = pathlib.Path(__file__).resolve().parent
markers = itertools.count(10)
LONG = os.environ.get("LAZYROOT_TEST_LONG") == "1"
TRIES = 5

PACKAGES = """buildstream buildbox bazel-bootstrap justbuild postgresql bubblewrap busybox-static
    gcc g++ git lzip python3-venv python3-pip ca-certificates""".split()
# Below /opt in the tree, a virtual environment each. 0.2.53 is the last whose scheduler takes
# SQLite.
PYTHON = {"buildgrid": "buildgrid==0.9.1", "buildgrid-sqlite": "buildgrid==0.2.53"}

ENTER = r"""
mount --bind "$TREE" "$TREE"; cd "$TREE"
mount --rbind /proc proc; mount --rbind /sys sys; mount --rbind /dev dev
pivot_root . .oldroot; cd /; umount -l /.oldroot
cd "$1"; shift
exec env -i "$@"
"""
# Nothing starts while packages are configured, and nothing is synced: an unfinished tree is
# made anew. openjdk's postinst wants /proc.
INSTALL = r"""
mount -t proc proc "$TREE/proc"
exec chroot "$TREE" sh -euc '
    export DEBIAN_FRONTEND=noninteractive
    apt="apt-get -q -o Acquire::Retries=$TRIES -o DPkg::Options::=--force-unsafe-io"
    mkdir -p /etc/postgresql-common
    echo create_main_cluster = false >/etc/postgresql-common/createcluster.conf
    printf "#!/bin/sh\nexit 101\n" >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    dpkg --configure -a
    $apt update
    $apt install -y --no-install-recommends "$@"
    apt-get clean' sh "$@"
"""
RECIPE = hashlib.sha256(repr((PACKAGES, PYTHON, INSTALL)).encode()).hexdigest()


def enter(command, cwd="/", **env):
    """The command line that runs a command in the tree: one process all the way."""
    env = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
           "TERM": "dumb", **env}
    return ["env", f"TREE={TREE}", "unshare", "--mount", "--propagation", "private", "--", "sh",
            "-euc", ENTER, "sh", str(cwd), *[f"{k}={v}" for k, v in env.items()],
            *map(str, command)]


# ---- making it --------------------------------------------------------------------------------

def logged(what, command, tries=1, **kwargs):
    """Runs a step of the making; where it fails, what it said of packages is the failure."""
    for left in reversed(range(tries)):
        with open(LOG, "ab") as log:
            began = log.tell()
            done = subprocess.run(list(map(str, command)), stdout=log, stderr=log,
                                  stdin=subprocess.DEVNULL, **kwargs)
        if done.returncode == 0:
            return
        if left:
            time.sleep(5)
    said = LOG.read_bytes()[began:].decode(errors="replace").splitlines()
    named = [line for line in said if re.match(r"(E|W|ERROR|error)\b.*:", line)]
    raise SystemExit(f"interop: {what} failed ({LOG}):\n" + "\n".join((named or said)[-15:]))


def base():
    mirrors = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True, text=True, check=True).stdout.split()
    mirror = next(m for m in mirrors if re.search(r"/debian/?$", m))
    script = pathlib.Path("/usr/share/debootstrap/scripts")
    if not (script / "forky").exists():  # of a debootstrap that is older
        (script / "forky").symlink_to("sid")
    fresh = TREE.with_suffix(".new")

    def bootstrap():
        shutil.rmtree(fresh, ignore_errors=True)
        logged("debootstrap of Debian forky",
               ["debootstrap", "--variant=minbase", "forky", fresh, mirror])
    for left in reversed(range(3)):
        try:
            bootstrap()
            break
        except SystemExit:
            if not left:
                raise
    for part in pathlib.Path("/etc/apt/apt.conf.d").iterdir():
        shutil.copy(part, fresh / "etc/apt/apt.conf.d")
    (fresh / ".oldroot").mkdir()
    fresh.rename(TREE)


def install_python(name, package):
    """By pip, as this machine would do it: with its settings, and whom it trusts."""
    if (TREE / "opt" / name).exists():
        shutil.rmtree(TREE / "opt" / name)
    env = {k: v for k, v in os.environ.items()
           if re.match(r"(?i)(pip|https?|no)_", k) and k != "PIP_FIND_LINKS"}
    authorities = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
    if authorities.exists():
        shutil.copy(authorities, TREE / "etc/ssl/certs")
        env["PIP_CERT"] = str(authorities)
    logged(f"python's venv for {package}",
           enter(["python3", "-m", "venv", f"/opt/{name}"]))
    logged(f"pip install {package}",
           enter([f"/opt/{name}/bin/pip", "install", "-q", "--no-cache-dir", "--retries", TRIES,
                  package], **env), tries=2)


def make():
    """Makes what is missing of the tree; whoever comes meanwhile waits for it."""
    made = TREE / ".made"
    TREE.parent.mkdir(exist_ok=True)
    with open(TREE.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists() and made.read_text() == RECIPE:
            return
        LOG.unlink(missing_ok=True)
        if not TREE.exists():
            base()
        shutil.copy("/etc/resolv.conf", TREE / "etc")
        logged("apt-get in Debian forky",
               ["unshare", "--mount", "--propagation", "private", "--", "sh", "-euc", INSTALL,
                "sh", *PACKAGES], env={**os.environ, "TREE": str(TREE), "TRIES": str(TRIES)})
        for name, package in PYTHON.items():
            install_python(name, package)
        made.write_text(RECIPE)


# ---- our programs and theirs -------------------------------------------------------------------

def needed_libraries(program):
    """What a program of ours needs beside the C library, which the tree has newer."""
    out = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    paths = re.findall(r"=> (/\S+)", out)
    return [p for p in paths if not re.match(r"(libc|libm|ld-linux.*)\.so", os.path.basename(p))]


class Forky(System):
    """Our server on this machine, with the instances dev and other; workers and clients in the
    tree, all in one directory. Clients come by TCP, workers by a socket, so that the server's
    log tells their calls apart."""

    def __init__(self, server_args=()):
        make()
        self.given_args = ["--instance", "dev", "--instance", "other", "--grant", "local=all",
                           "--log", "info,call=debug", *server_args]
        self.has_programs = False
        try:
            super().__init__(parent=TREE / "var/tmp")
        except BaseException:
            self.close()
            raise

    def start_server(self, listen=None):
        self.server_args = ["--listen", f"unix:{self.dir}/w", *self.given_args]
        return super().start_server(listen)

    def kill_server(self):
        self.server.popen.kill()
        self.server.popen.wait()

    def inner(self, path=None):
        """A path of ours as it is in the tree."""
        return "/" + str((path or self.dir).relative_to(TREE))

    @property
    def http(self):
        return self.address.replace("grpc://", "http://")

    @property
    def host_port(self):
        return self.address.removeprefix("grpc://")

    def enter(self, command, cwd=None, env=None):
        return enter(command, cwd=cwd or self.inner(), HOME=self.inner(), ADDRESS=self.http,
                     HOST_PORT=self.host_port, **(env or {}))

    def inside(self, script, cwd=None, env=None, timeout=PATIENCE * 2):
        """A script of bash in the tree, to its end."""
        return Run(subprocess.run(self.enter(["bash", "-euc", script], cwd, env),
                                  capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout))

    def start_inside(self, name, command, cwd=None, env=None):
        """A program in the tree, which ends with the test."""
        process = Process(name, self.enter(command, cwd, env), self.dir)
        self.processes.append(process)
        return process

    def install_programs(self):
        """Worker and launcher into the tree, with the libraries of this machine that they want."""
        if self.has_programs:
            return
        self.has_programs = True
        (self.dir / "bin").mkdir()
        (self.dir / "lib").mkdir()
        for name in ("lazyroot-worker", "lazyroot-sandbox"):
            shutil.copy2(BIN / name, self.dir / "bin")
        for library in needed_libraries(BIN / "lazyroot-worker"):
            shutil.copy(library, self.dir / "lib")

    def start_worker(self, *args, name=None, server=None, instance="dev", root="/build",
                     wait=True):
        """In the tree, so that actions have its tools."""
        self.install_programs()
        self.n_workers += 1
        name = name or f"worker{self.n_workers}"
        with system.transport(False):
            worker = self.start_inside(name, [
                f"{self.inner()}/bin/lazyroot-worker", "--server",
                server or f"unix:{self.inner()}/w", "--instance", instance, "--cache",
                f"{self.inner()}/{name}-cache", "--name", name, "--root", root, "--log",
                "info,job=debug", *args], env={"LD_LIBRARY_PATH": self.inner() + "/lib"})
            worker.cache = self.dir / f"{name}-cache"
            if wait:
                worker.wait_line("ready ")
        return worker

    def environment(self, env=None, address=None):
        return {"LAZYROOT_INSTANCE": "dev", **super().environment(env, address)}

    def calls(self, peer="ipv4"):
        """The calls that ended so far at our server, by "Service/Method", and by
        "Service/Method STATUS" those that failed; clients' unless peer is "unix". Bots', of which
        there are more the longer it takes, are left out."""
        found = re.findall(rf" call /(?:\S+\.)?(\w+/\w+) (\w+) of {peer}:", self.server.err())
        return collections.Counter(m if status == "OK" else f"{m} {status}" for m, status in found
                                   if not m.startswith("Bots/"))

    @contextlib.contextmanager
    def counted(self, peer="ipv4"):
        """Calls of what runs inside the with."""
        before, counts = self.calls(peer), collections.Counter()
        yield counts
        counts.update(self.calls(peer) - before)

    def project(self, name):
        """A copy of projects/NAME in the tree; its path there."""
        shutil.copytree(HERE / "projects" / name, self.dir / name, symlinks=True,
                        dirs_exist_ok=True)
        return f"{self.inner()}/{name}"


class InteropTest(unittest.TestCase):
    """A class's own server, and a worker unless it wants none."""
    server_args = ()
    worker_args = ()
    root = "/build"
    wants_worker = True

    @classmethod
    def setUpClass(cls):
        system.need_root()
        cls.forky = Forky(cls.server_args)
        cls.addClassCleanup(cls.forky.close)
        if cls.wants_worker:
            cls.worker = cls.forky.start_worker(*cls.worker_args, root=cls.root)

    def ok(self, run):
        self.assertEqual(run.code, 0, f"{run.text[-3000:]}\n{run.err[-3000:]}")
        return run

    def inside(self, script, code=0, **kwargs):
        """A script in the tree that has to end so."""
        run = self.forky.inside(script, **kwargs)
        self.assertEqual(run.code, code, f"{run.text[-3000:]}\n{run.err[-3000:]}")
        return run


def end_until_over(marked, popen):
    """The same, also of those that begin later, until the client of theirs has ended; its code."""
    def is_over():
        end_all(marked)
        return popen.poll() is not None
    system.wait_until(is_over, "the client's end")
    return popen.returncode


def long(test):
    """A test that takes a minute: only with LAZYROOT_TEST_LONG=1."""
    return test if LONG else None


def free_port():
    """For a program that cannot say which one it took."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def marker():
    """Seconds that nobody else sleeps: whoever sleeps so is this test's command."""
    return f"47{next(markers)}.{os.getpid()}"


def end_all(marked):
    """Ends the `sleep` that a command waits for, or what a killed worker left."""
    for pid in system.sandboxes_with(marked):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    command = parser.parse_args().command
    system.need_root()
    make()
    if command:
        os.execvp("env", enter(command))


if __name__ == "__main__":
    main()
