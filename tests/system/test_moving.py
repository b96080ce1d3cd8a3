"""Trees that change while they are read: what vanished was never there, what changed is read
again, and each file that comes back is one that stood there at some moment."""
import os
import threading
import unittest

import system
from system import SystemTest

ROUNDS = 15


class Mover:
    """Runs step(n) in a loop, on a thread of its own, until the block ends."""

    def __init__(self, *steps):
        self.steps = steps
        self.stop = threading.Event()
        self.failures = []

    def _run(self, step):
        n = 0
        try:
            while not self.stop.is_set():
                step(n)
                n += 1
        except OSError as error:
            self.failures.append(error)

    def __enter__(self):
        self.threads = [threading.Thread(target=self._run, args=(s,)) for s in self.steps]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def content(n, size=3000):
    """Files that are either all one letter or torn."""
    return bytes([65 + n % 26]) * size


class MovingTest(SystemTest):
    def make(self, name):
        return self.system.tree(name, {**{f"d{i}/f{j}": f"{i}{j}" for i in range(10)
                                          for j in range(20)},
                                       "edited": content(0), "log": "", "large": content(0, 3 << 20)})

    def temporaries(self, tree):
        def step(n):
            path = tree / f"d{n % 10}" / f".tmp{n}"
            path.write_bytes(b"t")
            below = tree / f"d{n % 10}" / f"sub{n}"
            below.mkdir()
            (below / "x").write_bytes(b"x")
            os.unlink(path)
            os.unlink(below / "x")
            os.rmdir(below)
        return step

    def saves(self, path, size=3000):
        def step(n):
            new = path.with_name(path.name + ".new")
            new.write_bytes(content(n, size))
            os.replace(new, path)
            self.stop_for(0.002)
        return step

    def rewrites(self, path):
        def step(n):
            path.write_bytes(content(n, 1000 + n % 50))
            self.stop_for(0.01)
        return step

    @staticmethod
    def stop_for(seconds):
        threading.Event().wait(seconds)

    def check(self, digest, *paths):
        for path, size in paths:
            got = self.assert_ok(self.system.lazyroot("cat", digest, path)).out
            self.assertLessEqual(len(set(got)), 1, f"{path} is torn")
            if size is not None:
                self.assertEqual(len(got), size)

    def test_upload_while_temporary_files_come_and_go(self):
        tree = self.make("temporaries")
        with Mover(self.temporaries(tree)) as mover:
            for _ in range(ROUNDS):
                self.assert_ok(self.system.lazyroot("upload", tree))
        self.assertEqual(mover.failures, [])

    def test_upload_while_an_editor_saves(self):
        tree = self.make("saves")
        with Mover(self.saves(tree / "edited"), self.saves(tree / "large", 3 << 20)) as mover:
            for _ in range(ROUNDS):
                run = self.assert_ok(self.system.lazyroot("upload", tree))
                self.check(run.text.strip(), ("edited", 3000), ("large", 3 << 20))
        self.assertEqual(mover.failures, [])

    def test_upload_while_a_file_is_rewritten_in_place(self):
        tree = self.make("rewrites")
        with Mover(self.rewrites(tree / "edited")) as mover:
            for _ in range(ROUNDS):
                run = self.assert_ok(self.system.lazyroot("upload", tree))
                self.check(run.text.strip(), ("edited", None))
        self.assertEqual(mover.failures, [])

    def test_upload_of_the_one_file_that_is_saved(self):
        tree = self.make("one")
        with Mover(self.saves(tree / "edited")):
            for _ in range(ROUNDS):
                digest = self.assert_ok(self.system.lazyroot("upload", tree / "edited")).text
                self.assertEqual(digest.strip().split("/")[1], "3000")

    def test_run_gets_files_of_one_moment(self):
        tree = self.make("run")
        other = self.system.tree("run-other", {"x": "x"})
        with Mover(self.saves(tree / "edited"), self.temporaries(tree),
                   self.rewrites(tree / "log")) as mover:
            for n in range(ROUNDS):
                run = self.assert_ok(self.system.sh(
                    "fold -w1 edited | sort -u | wc -l; wc -c < edited; cat in/x",
                    "--input", tree, "--input", f"{other}=in", "--no-cache"))
                self.assertEqual(run.text.split(), ["1", "3000", "x"])
        self.assertEqual(mover.failures, [])

    def test_what_becomes_another_kind_is_looked_at_again(self):
        tree = self.make("kinds")

        def step(n):
            path = tree / "kind"
            if n % 3 == 0:
                path.mkdir()
                (path / "f").write_bytes(b"f")
                (path / "f").unlink()
                path.rmdir()
            elif n % 3 == 1:
                path.symlink_to("edited")
                path.unlink()
            else:
                path.write_bytes(b"x")
                path.unlink()
        with Mover(step):
            for _ in range(ROUNDS):
                self.assert_ok(self.system.lazyroot("upload", tree))

    def test_what_never_holds_still_is_named(self):
        tree = self.make("restless")
        os.truncate(tree / "large", 256 << 20)  # reading it takes longer than writers pause
        fd = os.open(tree / "large", os.O_WRONLY)

        def step(n):
            os.pwrite(fd, content(n, 4096), 0)
        with Mover(step, step):
            run = self.system.lazyroot("upload", tree)
        os.close(fd)
        self.assertEqual(run.code, 1)
        self.assertIn("large", run.err)
        self.assertIn("hold still", run.err)
        self.assertEqual(run.text, "")


if __name__ == "__main__":
    system.main()
