"""What a worker's start finds in a cache directory that something else wrote to: no wrong byte is
served, and the worker goes on."""
import os
import random
import shutil
import sqlite3

import system
from crash import CrashCase, flip

class DamagedCacheTest(CrashCase):
    """What a start finds in a cache directory that something else wrote to."""

    def setUp(self):
        super().setUp()
        self.worker = self.system.start_worker()
        self.run_whole()

    def blobs(self):
        return sorted(p for p in (self.worker.cache / "blobs").glob("??/*"))

    def restart(self, harm, clean):
        if clean:
            self.assertEqual(self.worker.stop(), 0)
        else:
            self.kill(self.worker)
        harm()
        again = self.system.start_worker(cache=self.worker.cache, name=self.worker.name + "b")
        for _ in range(2):
            self.run_whole("--no-cache")
        self.assert_clean(again, self.worker)
        self.assertEqual(again.stop(), 0)
        # and once more, as the mended cache is found
        self.system.start_worker(cache=self.worker.cache, name=self.worker.name + "c")
        self.run_whole("--no-cache")

    def flip_all(self):
        for i, path in enumerate(self.blobs()):
            flip(path, i * 7)

    def truncate_all(self):
        for i, path in enumerate(self.blobs()):
            path.chmod(0o644)
            os.truncate(path, path.stat().st_size * (i % 3) // 3)

    def remove_half(self):
        for path in self.blobs()[::2]:
            path.unlink()

    def remove_all(self):
        shutil.rmtree(self.worker.cache / "blobs")

    def garble_names(self):
        """Every blob under the name of another one of its size class; strangers between."""
        paths = self.blobs()
        for one, other in zip(paths[::2], paths[1::2]):
            data, more = one.read_bytes(), other.read_bytes()
            one.chmod(0o644)
            other.chmod(0o644)
            one.write_bytes(more)
            other.write_bytes(data)
        (self.worker.cache / "blobs/00").mkdir(exist_ok=True)
        (self.worker.cache / "blobs/00/stranger").write_text("x")
        (self.worker.cache / "blobs/stranger").write_text("x")

    def index(self):
        return self.worker.cache / "index.sqlite"

    def remove_index(self):
        for path in self.worker.cache.glob("index.sqlite*"):
            path.unlink()

    def garble_index(self):
        self.remove_index()
        self.index().write_bytes(random.Random(5).randbytes(100000))

    def truncate_index(self):
        os.truncate(self.index(), self.index().stat().st_size // 2 + 11)

    def overwrite_index(self):
        with open(self.index(), "r+b") as f:
            for page in range(1, self.index().stat().st_size // 4096):
                f.seek(page * 4096)
                f.write(b"\xa5" * 200)

    def lie_in_index(self):
        """An index in order, whose sizes are not those of the files."""
        with sqlite3.connect(self.index()) as db:
            table, = next(iter(db.execute(
                "select name from sqlite_master where type = 'table' and sql like '%size%'")))
            db.execute(f"update {table} set size = size + 1")
        db.close()

    def leave_half_written(self):
        half = self.worker.cache / "staging/999999.1"
        half.mkdir()
        (half / "7").write_bytes(os.urandom(70000))
        path = self.blobs()[0]
        data = path.read_bytes()
        path.unlink()
        (half / path.name).write_bytes(data[:-1])


for _harm in ("flip_all", "truncate_all", "remove_half", "remove_all", "garble_names",
              "remove_index", "garble_index", "truncate_index", "overwrite_index", "lie_in_index",
              "leave_half_written"):
    for _clean in (True, False):
        def _test(self, harm=_harm, clean=_clean):
            self.restart(getattr(self, harm), clean)
        setattr(DamagedCacheTest,
                f"test_{_harm}_after_{'a_clean_end' if _clean else 'kill_9'}", _test)


if __name__ == "__main__":
    system.main()
