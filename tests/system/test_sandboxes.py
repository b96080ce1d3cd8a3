"""One Action, three places: namespaces, plain and remote give the same outputs, exit code, stdout,
stderr and ActionResult, but for execution_metadata; as root and, where it runs here, as anybody.
"""
import contextlib
import json
import os
import pathlib
import shutil
import sqlite3
import stat
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "attack"))
from attack import REAPI, Peer, data, digest, fields, number  # noqa: E402
from system import BIN, PATIENCE, System, main, need_root, own_mounts  # noqa: E402

ANYBODY = 54321  # no user of this machine
METADATA = 9  # ActionResult.execution_metadata
LOGS = (5, 7)  # stdout_raw, stderr_raw
INLINE_MAX = 16 << 10  # of those that a worker sends in full
HERE = ("namespaces", "plain")

FILES = {
    "a.txt": "first\n", "b.txt": "second\n", "run.sh": ("exec", "#!/bin/sh\necho ran $1\n"),
    "link": ("link", "a.txt"), "dangling": ("link", "nowhere"), "dirlink": ("link", "dir"),
    "dir/one": "1\n", "dir/two": "2\n", "dir/deep/three": "3\n", "empty": None,
    "big": b"0123456789abcdef" * 20000,
}


class Action:
    def __init__(self, name, script, *outputs, code=0, args=(), cached=True):
        self.name, self.script, self.outputs = name, script, outputs
        self.code, self.args, self.cached = code, args, cached

    def words(self):
        words = [word for output in self.outputs for word in ("--output", output)]
        return [*words, *self.args, "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-c",
                self.script]


ACTIONS = [
    Action("nothing", ":"),
    Action("a file", "echo made > out", "out"),
    Action("an empty file", ": > out", "out"),
    Action("a program", "cp run.sh out; ./out x", "out"),
    Action("a mode", "echo x > out; chmod 755 out", "out"),
    Action("a large file", "cat big big > out", "out"),
    Action("a directory", "mkdir -p out/x/y; echo 1 > out/a; echo 2 > out/x/y/b; mkdir out/e",
           "out"),
    Action("an empty directory", "mkdir out", "out"),
    Action("a link to a file", "ln -s a.txt out", "out"),
    Action("a link to a directory", "ln -s dir out", "out"),
    Action("a dangling link", "ln -s no/where out", "out"),
    Action("links in a directory", "mkdir out; ln -s ../a.txt out/l; ln -s . out/self", "out"),
    Action("an absent output", "echo x > other", "out"),
    Action("many outputs", "for i in 1 2 3 4 5; do echo $i > o$i; done", "o1", "o2", "o3", "o4",
           "o5", "o6"),
    Action("outputs one in another", "mkdir -p out/in; echo x > out/in/f", "out", "out/in",
           "out/in/f"),
    Action("a parent is made", "echo x > p/q/out", "p/q/out"),
    Action("a FIFO is left out", "mkdir out; mkfifo out/pipe; echo x > out/f", "out"),
    Action("an input is an output", ":", "a.txt", "dir", "link"),
    Action("an input is written over", "echo changed > a.txt; echo more >> dir/one", "a.txt",
           "dir"),
    Action("an input is touched", "touch a.txt dir/one; chmod +x dir/two", "a.txt", "dir"),
    Action("an input is removed", "rm -r dir/deep; rm b.txt", "dir", "b.txt"),
    Action("a directory is emptied", "rm -r dir/*", "dir"),
    Action("a directory becomes a file", "rm -r dir; echo f > dir", "dir"),
    Action("a file becomes a directory", "rm a.txt; mkdir a.txt; echo f > a.txt/f", "a.txt"),
    Action("directories change places", "mv dir x; mkdir dir; mv x/deep dir/moved; mv x dir/x",
           "dir"),
    Action("files change places", "mv a.txt t; mv b.txt a.txt; mv t b.txt", "a.txt", "b.txt"),
    Action("a hard link", "ln a.txt out; ln big bigger", "out", "bigger"),
    Action("the whole root", "echo x > made; rm b.txt", ""),
    Action("words on stdout", "echo out; printf 'no end'"),
    Action("words on stderr", "echo err >&2"),
    Action("much on stdout", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"),
    Action("bytes on stdout", "printf '\\000\\377\\001'"),
    Action("it fails", "echo why >&2; echo part > out; exit 3", "out", code=3),
    Action("it fails with 255", "exit 255", code=255),
    Action("it is killed", "echo x > out; kill -KILL $$", "out", code=137),
    Action("it ends by SIGTERM", "kill -TERM $$", code=143),
    Action("no such program", "exec /no/such/program", code=127),
    Action("it runs out of time", "echo begun; echo x > out; sleep 1000", "out",
           args=("--timeout", "1s"), code=124),
    Action("from a working directory", "pwd | sed 's,.*/,,'; cat one > out", "out",
           args=("--workdir", "dir")),
    Action("an output above", "echo x > ../out; echo y > here", "../out", "here",
           args=("--workdir", "dir/deep")),
    Action("its environment", "env | sort | grep -v ^PWD=", args=("--env", "B=2", "--env", "A=1")),
    Action("what it leaves behind ends", "sleep 1000 & echo $! > /dev/null; echo x > out", "out"),
    Action("times are kept", "cp -p a.txt out; echo x > dir/new; touch -d @1111 dir/new dir", "out", "dir", "a.txt",
           args=("--mtimes", "always")),
    Action("times of untouched trees", "touch -d @1234567890.5 dir/one", "dir", "empty", "link",
           args=("--mtimes", "always")),
    Action("it reads a link", "cat link; cat dirlink/one; ls dirlink"),
    Action("an output below a link", "echo x > dirlink/out", "dirlink/out"),
    Action("not to be cached", "echo x > out", "out", args=("--no-cache",), cached=False),
]


AT_SLASH = ("--platform", "InputRootAbsolutePath=/", "--mtimes", "never")
WHOLE = [
    Action("a root of its own", "echo x > /made; cat /etc/word > out; echo $PWD", "made", "out",
           args=AT_SLASH),
    Action("the devices", "echo x > /dev/null; echo y > /tmp/y; read z < /tmp/y; echo $z",
           args=AT_SLASH),
    Action("all of it", "echo x > /made; echo y > /tmp/y", "", args=AT_SLASH),
    Action("it is written over", "echo more >> /etc/word; mkdir -p /a/b", "etc", "a",
           args=AT_SLASH),
    Action("from within", "cat word > ../out", "../out", args=(*AT_SLASH, "--workdir", "etc")),
]


def whole_root(system):
    """A root that is all that a command sees: a shell, cat, mkdir and what they need."""
    root = system.tree("whole", {"etc/word": "word\n"})
    for program in ("sh", "cat", "mkdir"):
        path = os.path.realpath(shutil.which(program))
        libraries = subprocess.run(["ldd", path], capture_output=True, text=True, check=True)
        words = [word for word in libraries.stdout.split() if word.startswith("/")]
        for source, to in [(path, f"/bin/{program}"), *((word, word) for word in words)]:
            target = root / to.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return root


def stripped(result):
    """The fields of an ActionResult without what each place says of itself; and without long logs
    in full, which a server that is asked to adds to what it keeps."""
    return [(n, value) for n, value in fields(result)
            if n != METADATA and not (n in LOGS and len(value) > INLINE_MAX)]


class Sandboxes:
    """One user's view of the places: a home for each that runs here, so that none finds what
    another left."""

    def __init__(self, system, bin_dir, prefix=(), owner=0):
        self.system, self.bin, self.prefix = system, bin_dir, prefix
        self.dir = system.dir / f"user{owner}"
        self.dir.mkdir()
        os.chown(self.dir, owner, owner)

    def home(self, place):
        return self.dir / place

    def run(self, place, *args, verb="run", server=None, sandbox=True):
        env = {k: v for k, v in os.environ.items() if not k.startswith("LAZYROOT_")}
        env["XDG_CACHE_HOME"] = str(self.home(place))
        words = [*self.prefix, self.bin / "lazyroot", verb]
        words += ["--server", server] if server else []
        words += ["--sandbox", place] if sandbox else []
        return subprocess.run([str(word) for word in [*words, *args]], capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=PATIENCE, env=env, cwd="/")

    def document(self, place, *args, **kwargs):
        run = self.run(place, "--json", "--no-download", *args, **kwargs)
        if not run.stdout:
            raise AssertionError(f"{place}: {run.returncode}: {run.stderr!r}")
        found = json.loads(run.stdout)
        return run, {key: found.get(key) for key in
                     ("exit_code", "action", "outputs", "stdout", "stderr", "missing_outputs",
                      "error", "notes")}

    def result(self, place, action):
        """The ActionResult's bytes in the place's own action cache, or None. (What failed is kept
        beside it, for `shell --result`.)"""
        with contextlib.closing(sqlite3.connect(
                self.home(place) / "lazyroot/actions.sqlite")) as cache:
            rows = cache.execute("SELECT result FROM results WHERE hash = ? AND instance = ''",
                                 (bytes.fromhex(action.split("/")[0]),)).fetchall()
        return rows[0][0] if rows else None


def anybody(system):
    """For a user who is nobody in particular: programs that he can reach, and the right to
    /dev/fuse, in this test's own mounts."""
    bin_dir = system.dir / "bin"
    bin_dir.mkdir()
    for name in ("lazyroot", "lazyroot-sandbox"):
        shutil.copy2(BIN / name, bin_dir / name)
    system.dir.chmod(0o755)
    device = system.dir / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, os.stat("/dev/fuse").st_rdev)
    device.chmod(0o666)
    subprocess.run(["mount", "--bind", device, "/dev/fuse"], check=True)
    return Sandboxes(system, bin_dir, ("setpriv", f"--reuid={ANYBODY}", f"--regid={ANYBODY}",
                                       "--clear-groups"), ANYBODY)


class SandboxesTest(unittest.TestCase):
    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        need_root()
        own_mounts()
        cls.system = System()
        cls.system.start_worker()
        cls.tree = cls.system.tree("tree", FILES)
        cls.whole = whole_root(cls.system)
        cls.root = Sandboxes(cls.system, BIN)
        cls.anybody = anybody(cls.system)

    @classmethod
    def tearDownClass(cls):
        subprocess.run(["umount", "/dev/fuse"], check=True)
        cls.system.close()

    def words(self, action):
        tree = self.whole if action in WHOLE else self.tree
        return ["--rerun", "--input", tree, *action.words()]

    def remote_result(self, action):
        with Peer(self.system.address) as peer:
            return peer.call(REAPI + "ActionCache/GetActionResult",
                             data(2, digest(action)) + number(3, 1) + number(4, 1))

    def check(self, sandboxes, action, places=HERE):
        far, expected = self.root.document("remote", *self.words(action),
                                           server=self.system.address)
        self.assertEqual(far.returncode, action.code, far.stderr)
        for place in places:
            with self.subTest(action=action.name, place=place):
                run, found = sandboxes.document(place, *self.words(action))
                self.assertEqual(found, expected, run.stderr)
                self.assertEqual(run.returncode, action.code)
                if action.code == 0 and action.cached:
                    self.assertEqual(stripped(sandboxes.result(place, found["action"])),
                                     stripped(self.remote_result(found["action"])))
                else:
                    self.assertIsNone(sandboxes.result(place, found["action"]))

    def test_the_same_action_is_the_same_in_all_as_root(self):
        self.assertGreaterEqual(len(ACTIONS), 30)
        for action in ACTIONS:
            self.check(self.root, action)

    def test_the_same_action_is_the_same_in_all_as_anybody(self):
        for action in ACTIONS:
            self.check(self.anybody, action)

    def test_a_whole_root_is_the_same_in_all(self):
        for action in WHOLE:
            self.check(self.root, action)
            self.check(self.anybody, action, ("namespaces",))

    def test_a_root_elsewhere_is_the_same_in_namespaces(self):
        action = Action("elsewhere", "pwd; cat a.txt > out", "out",
                        args=("--platform", "InputRootAbsolutePath=/w/x"))
        self.check(self.root, action, ("namespaces",))
        self.check(self.anybody, action, ("namespaces",))

    def test_the_words_come_out_the_same(self):
        script = "echo out; echo err >&2; exit 5"
        for sandboxes in (self.root, self.anybody):
            for place in HERE:
                run = sandboxes.run(place, "-q", "--", "/bin/sh", "-c", script)
                self.assertEqual((run.returncode, run.stdout, run.stderr),
                                 (5, b"out\n", b"err\n"))


if __name__ == "__main__":
    main()
