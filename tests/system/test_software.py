"""Common programs at work on inputs and outputs of an action, each with what it relies on a file
system for: times, locks, shared memory, renames over inputs, copies without reading."""
import system
from system import SystemTest

GIT = "export HOME=/tmp GIT_CONFIG_NOSYSTEM=1; git config --global user.email a@b; " \
      "git config --global user.name a; git config --global --add safe.directory '*'; "


class SoftwareTest(SystemTest):
    worker_args = ("--slots", "2", "--allow", "userns")

    def check(self, script, *args, want=None, **kwargs):
        run = self.assert_ok(self.system.run(
            *args, "--no-cache", "--env", "PATH=/usr/bin:/bin", "--", "/bin/sh", "-euc", script,
            timeout=180, **kwargs))
        if want is not None:
            self.assertEqual(run.text, want)
        return run

    def test_git_with_gc_and_worktrees(self):
        repo = self.system.tree("repo", {f"d{i % 3}/f{i}": f"{i}\n" * 50 for i in range(40)})
        self.check(GIT + """
            git init -q; git add .; git commit -qm one
            for i in 1 2 3 4; do echo $i >> d0/f0; git commit -qam $i; done
            git gc -q --prune=now; git repack -qad; git fsck --strict
            git worktree add -q ../build/wt HEAD~2; (cd wt; tail -n 1 d0/f0)
            git worktree remove wt; git mv d1 moved; git rm -qr d2; git stash -q
            git checkout -q HEAD~3; git checkout -q -; git log --oneline | wc -l
            git status --porcelain | wc -l; git clone -q . /tmp/clone; git -C /tmp/clone fsck > /dev/null
        """, "--input", repo, want="2\n5\n0\n")

    def test_a_repository_that_is_an_input(self):
        repo = self.system.tree("bare", {"a": "a\n", "b/c": "c\n"})
        made = self.check(GIT + "git init -q; git add .; git commit -qm one; git gc -q",
                          "--input", repo, "--output", ".git", "--download",
                          self.system.dir / "got")
        self.assertEqual(made.code, 0)
        again = self.system.dir / "got"
        self.check(GIT + "git reset -q --hard; git fsck; git commit -q --allow-empty -m two; "
                   "git gc -q --prune=now; git log --oneline | wc -l", "--input", again,
                   want="2\n")

    def test_make_and_ninja_go_by_times(self):
        tree = self.system.tree("make", {
            "Makefile": "all: a b\na: a.c\n\tcp a.c a; echo a\nb: a\n\tcp a b; echo b\n",
            "build.ninja": "rule cp\n command = cp $in $out && echo $out\n"
                           "build x: cp a.c\nbuild y: cp x\n", "a.c": "1\n"})
        self.check("""
            make -s; make -s all | wc -l; sleep 1.1; echo 2 > a.c; make -s; cat b; touch -d '1 hour ago' b
            make -s; ninja --quiet; ninja; sleep 1.1; echo 3 > a.c; ninja --quiet; cat y
        """, "--input", tree, want="a\nb\n0\na\nb\n2\nb\nx\ny\nninja: no work to do.\nx\ny\n3\n")

    def test_sqlite_in_wal_mode(self):
        self.check("""cat > t.py <<'P'
import multiprocessing, sqlite3
def work(n):
    db = sqlite3.connect("db", timeout=60, isolation_level=None)
    for i in range(50):
        db.execute("insert into t values (?, ?)", (n, i))
if __name__ == "__main__":
    db = sqlite3.connect("db")
    print(db.execute("pragma journal_mode=wal").fetchone()[0])
    db.execute("create table t (n, i)")
    db.commit()
    with multiprocessing.Pool(4) as pool:
        pool.map(work, range(4))
    print(db.execute("select count(*), sum(i) from t").fetchone())
    print(db.execute("pragma integrity_check").fetchone()[0])
P
            /usr/bin/python3 t.py""", want="wal\n(200, 4900)\nok\n")

    def test_sqlite_on_an_input(self):
        tree = self.system.tree("db", {"x": "x"})
        self.check("/usr/bin/python3 -c 'import sqlite3; d = sqlite3.connect(\"db\"); "
                   "d.execute(\"create table t (a)\"); d.execute(\"insert into t values (1)\"); "
                   "d.commit()'", "--input", tree, "--output", "db", "--download",
                   self.system.dir / "dbs")
        self.check("/usr/bin/python3 -c 'import sqlite3; d = sqlite3.connect(\"db\"); "
                   "d.execute(\"pragma journal_mode=wal\"); "
                   "d.execute(\"insert into t values (2)\"); d.commit(); "
                   "print(d.execute(\"select sum(a) from t\").fetchone()[0])'",
                   "--input", self.system.dir / "dbs", want="3\n")

    def test_venv_and_compileall(self):
        tree = self.system.tree("py", {f"p/m{i}.py": f"V = {i}\n" for i in range(30)}
                                | {"p/__init__.py": ""})
        self.check("""
            /usr/bin/python3 -m compileall -q p; ls p/__pycache__ | wc -l
            /usr/bin/python3 -m venv --without-pip env
            env/bin/python -c 'import sys; print(sys.prefix != sys.base_prefix)'
            env/bin/python -c 'from p import m7; print(m7.V, m7.__cached__.endswith(".pyc"))'
            sleep 1.1; echo 'V = 70' > p/m7.py; env/bin/python -c 'from p import m7; print(m7.V)'
        """, "--input", tree, want="31\nTrue\n7 True\n70\n")

    def test_memory_shared_through_files(self):
        tree = self.system.tree("shm", {"in": "." * 8192})
        self.check("""cat > t.py <<'P'
import mmap, os
for name in ("in", "new"):
    with open(name, "a+b") as f:
        f.truncate(8192)
    with open(name, "r+b") as f:
        ours = mmap.mmap(f.fileno(), 8192)
        child = os.fork()
        if not child:
            theirs = mmap.mmap(os.open(name, os.O_RDWR), 8192)
            theirs[4096:4100] = b"said"
            theirs.flush()
            os._exit(0)
        os.waitpid(child, 0)
        print(name, ours[4096:4100].decode(), open(name, "rb").read()[4096:4100].decode())
        ours[0:2] = b"me"
        print(os.pread(f.fileno(), 2, 0).decode(), os.stat(name).st_size)
P
            /usr/bin/python3 t.py""", "--input", tree,
                   want="in said said\nme 8192\nnew said said\nme 8192\n")

    def test_copies_without_reading(self):
        tree = self.system.tree("copy", {"in": "x" * 300000, "d/f": "f" * 5000})
        self.check("""
            cp in a; cp --reflink=auto in b; cp -a d e; install -m 644 in c; cat in > f
            dd if=in of=g bs=64k status=none; mv a h; ln in i; cp -l in j; tar cf - d | tar xf - -C /tmp
            /usr/bin/python3 -c 'import os, shutil; a = os.open("in", 0); b = os.open("k", 66, 420)
try: n = os.copy_file_range(a, b, 300000)
except OSError: n = os.sendfile(b, a, 0, 300000)  # EXDEV: as every tool does then
print(n); shutil.copyfile("in", "l"); os.sendfile(os.open("m", 66, 420), a, 0, 300000)'
            for f in b c f g h i j k l m; do cmp in $f; done; cmp d/f e/f; cmp d/f /tmp/d/f; echo same
        """, "--input", tree, want="300000\nsame\n")

    def test_a_walk_that_deletes_while_directories_are_copied_up(self):
        tree = self.system.tree("walk", {
            f"a/b{i}/c{j}/d{k}/f": f"{i}{j}{k}" for i in range(6) for j in range(6)
            for k in range(4)})
        self.check("""
            find . -type f -exec sh -c 'for f; do touch "$(dirname "$f")/new"; rm "$f"; done' _ {} +
            find . -name new | wc -l; find . -name f | wc -l
            find . -depth -type d -name 'c*' -exec rm -r {} +; find . -type f | wc -l
            mv a z; find z -type d | wc -l; rm -r z; ls -A | wc -l
        """, "--input", tree, want="144\n0\n0\n7\n0\n")

    def test_sandboxes_within_the_sandbox(self):
        self.check("""
            unshare -Ur sh -c 'id -u; mount -t tmpfs none /tmp; touch /tmp/x; ls /tmp'
            bwrap --ro-bind / / --tmpfs /tmp --unshare-pid --proc /proc sh -c 'echo $$; ls /tmp | wc -l'
        """, want="0\nx\n2\n0\n")


if __name__ == "__main__":
    system.main()
