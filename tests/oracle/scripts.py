"""Random scripts of operations for ops.c.

A scripter keeps a rough model of what the tree looks like by now, so that most steps hit
something; it need not be right, since a step that fails must fail alike on both sides.
Patterns of several steps are what real programs do (write beside and rename over, remove and
make again, rename a directory and write where it was) and where an overlay has to work.
"""
from trees import ODD_NAMES, PLAIN_NAMES, join


def spell(word):
    if isinstance(word, bytes):
        if not word:
            return "''"
        return "".join(chr(b) if 32 < b < 127 and b != 37 else f"%{b:02x}" for b in word)
    return str(word) or "''"


SLOTS = 6  # few, so that operations meet on a descriptor


class Scripter:
    def __init__(self, rng, tree):
        self.rng = rng
        self.home = tree.home
        self.kinds = {p: n.kind for p, n in tree.nodes.items() if p}
        self.kinds[b""] = "d"
        self.lines = []
        self.gone = []
        patterns = [
            (10, self.write_new), (10, self.edit), (8, self.save_over), (6, self.rename_any),
            (6, self.rename_dir), (5, self.make_again), (4, self.write_where_it_was),
            (5, self.hard_link), (4, self.replace_kind), (6, self.attributes),
            (4, self.empty_and_remove), (3, self.temporary), (4, self.holes), (3, self.mapped),
            (4, self.xattrs), (3, self.locks), (4, self.listing), (3, self.programs),
            (5, self.errors), (4, self.held), (3, self.elsewhere), (6, self.look),
            (2, self.notify), (2, self.copy_bytes), (3, self.exchange), (2, self.special),
            (2, self.whole_tree_away), (2, self.directory_modes), (2, self.identity)]
        self.patterns = [f for weight, f in patterns for _ in range(weight)]

    def step(self, *words):
        self.lines.append(" ".join(spell(w) for w in words))

    # Choices

    def of_kind(self, kind, below=None):
        found = [p for p, k in self.kinds.items()
                 if k in kind and p and (below is None or p.startswith(below + b"/"))]
        return self.rng.choice(found) if found else b"missing"

    def file(self):
        return self.of_kind("f")

    def any(self):
        return self.of_kind("fdl")

    def dir(self):
        return self.rng.choice([p for p, k in self.kinds.items() if k == "d"])

    def dir_path(self):
        return self.dir() or b"."

    def new(self, parent=None):
        parent = self.dir() if parent is None else parent
        r = self.rng.random()
        if r < 0.15 and self.gone:
            return self.rng.choice(self.gone)
        if r < 0.6:
            name = self.rng.choice(PLAIN_NAMES)
        elif r < 0.8:
            name = self.rng.choice(ODD_NAMES)
        elif r < 0.84:
            name = b"\xc3\xa4" * 127 + b"a"
        else:
            name = b"m%d" % self.rng.randrange(50)
        return join(parent, name)[:4000].decode(errors="ignore").encode()  # no cut character

    def slot(self):
        return self.rng.randrange(SLOTS)

    def size(self):
        return self.rng.choice([0, 1, 10, 100, 4095, 4096, 4097, 10000, 65536, 200000])

    def seed(self):
        return self.rng.randrange(1000)

    # The model

    def made(self, path, kind):
        if self.kinds.get(path.rpartition(b"/")[0]) == "d":
            self.kinds.setdefault(path, kind)

    def removed(self, path):
        if self.kinds.pop(path, None):
            self.gone = (self.gone + [path])[-30:]

    def moved(self, old, new):
        if old not in self.kinds or (new + b"/").startswith(old + b"/"):
            return
        for path in [p for p in self.kinds if p == old or p.startswith(old + b"/")]:
            kind = self.kinds.pop(path)
            if len(new) + len(path) < 4000:
                self.kinds[new + path[len(old):]] = kind
        self.gone = (self.gone + [old])[-30:]

    def remove_tree(self, path):
        """As rm -r does: what is below, deepest first."""
        for p in sorted([p for p in self.kinds if p.startswith(path + b"/")],
                        key=lambda p: -p.count(b"/"))[:60]:
            self.step("rmdir" if self.kinds[p] == "d" else "unlink", p)
            self.removed(p)
        self.step("rmdir", path)
        self.removed(path)

    # Patterns

    def write_new(self):
        path, slot = self.new(), self.slot()
        self.step("open", slot, self.rng.choice(["wc", "wcx", "bct", "wca", "bcx"]),
                  self.rng.choice(["0644", "0600", "0755", "0444", "0"]), path)
        self.step("write", slot, self.size(), self.rng.choice([-1, 0, 5, 5000]), self.seed())
        if self.rng.random() < 0.7:
            self.step("close", slot)
        self.made(path, "f")
        self.step("stat", path)

    def edit(self):
        """An input, changed in one of many ways."""
        path, slot = self.file(), self.slot()
        way = self.rng.randrange(6)
        if way == 0:
            self.step("truncate", path, self.size())
        elif way == 1:
            self.step("open", slot, self.rng.choice(["wa", "ba"]), 0, path)
            self.step("write", slot, self.size(), -1, self.seed())
        elif way == 2:
            self.step("open", slot, "wt", 0, path)
        elif way == 3:
            self.step("open", slot, "b", 0, path)
            self.step("read", slot, 100, 0)
            self.step("write", slot, self.rng.choice([1, 100]), self.rng.choice([0, 50]),
                      self.seed())
            self.step("read", slot, 100000, 0)
        elif way == 4:
            self.step("open", slot, "b", 0, path)
            self.step("ftruncate", slot, self.size())
            self.step("fstat", slot)
        else:  # opened for writing, not written
            self.step("open", slot, self.rng.choice(["w", "b", "bs"]), 0, path)
            self.step("fsync", slot)
        if way and self.rng.random() < 0.6:
            self.step("close", slot)
        self.step("lstat", path)
        self.step("lstat", path.rpartition(b"/")[0] or b".")

    def save_over(self):
        path, slot = self.file(), self.slot()
        temporary = path[:-1] + b"~" if len(path) > 1 else b"t~"
        self.step("open", slot, "wcx", "0600", temporary)
        self.step("write", slot, self.size(), -1, self.seed())
        self.step("fchmod", slot, self.rng.choice(["0644", "0755"]))
        if self.rng.random() < 0.5:
            self.step("fsync", slot)
        self.step("close", slot)
        if self.rng.random() < 0.4:
            self.step("rename", path, path + b".bak")
            self.made(path + b".bak", "f")
        self.step("rename", temporary, path)
        self.step("stat", path)

    def rename_any(self):
        old = self.any()
        new = self.any() if self.rng.random() < 0.4 else self.new()
        self.step(self.rng.choice(["rename", "rename", "rename", "noreplace"]), old, new)
        self.moved(old, new)
        self.step("lstat", new)
        self.step("lstat", old)

    def rename_dir(self):
        old = self.of_kind("d")
        new = self.rng.choice([self.new(), self.new(old), self.dir_path(),
                               self.new(old.rpartition(b"/")[0])])
        self.step("rename", old, new)
        self.moved(old, new)
        self.step("readdir", new)
        self.step("readdir", old.rpartition(b"/")[0] or b".")
        inside = self.of_kind("f", new)
        self.step("stat", inside)
        if self.rng.random() < 0.5:
            self.step("truncate", inside, 3)
        if self.rng.random() < 0.3:  # and once more
            other = self.new()
            self.step("rename", new, other)
            self.moved(new, other)
            self.step("readdir", other)

    def make_again(self):
        path = self.any()
        if self.kinds.get(path) == "d":
            self.remove_tree(path)
            self.step("mkdir", path, self.rng.choice(["0755", "0700"]))
            self.made(path, "d")
            if self.rng.random() < 0.6:
                self.write_into(path)
            self.step("readdir", path)
        else:
            self.step("unlink", path)
            self.removed(path)
            self.step("lstat", path)
            if self.rng.random() < 0.7:
                self.write_at(path)

    def write_at(self, path):
        slot = self.slot()
        self.step("open", slot, "wcx", "0644", path)
        self.step("write", slot, self.size(), -1, self.seed())
        self.step("close", slot)
        self.made(path, "f")

    def write_into(self, parent):
        for _ in range(self.rng.randint(1, 3)):
            self.write_at(self.new(parent))

    def write_where_it_was(self):
        old, new = self.of_kind("d"), self.new()
        self.step("rename", old, new)
        self.moved(old, new)
        self.step("mkdir", old, "0755")
        self.made(old, "d")
        self.write_into(old)
        self.step("readdir", old)
        self.step("readdir", new)
        if self.rng.random() < 0.3:
            self.remove_tree(new)

    def hard_link(self):
        path, new = self.of_kind("ffffl"), self.new()
        if self.rng.random() < 0.3:
            self.step("chmod", path, "0600")
        self.step("link", path, new)
        self.made(new, self.kinds.get(path, "f"))
        self.step("same", path, new)
        way = self.rng.randrange(5)
        if way == 0:
            self.step("truncate", new, self.size())
            self.step("lstat", path)
        elif way == 1:
            self.step("unlink", path)
            self.removed(path)
        elif way == 2:
            self.step("rename", path, new)  # does nothing
        elif way == 3:
            slot = self.slot()
            self.step("open", slot, "wa", 0, path)
            self.step("write", slot, 10, -1, self.seed())
            self.step("close", slot)
        self.step("lstat", new)

    def replace_kind(self):
        path = self.any()
        kind = self.kinds.get(path)
        if kind == "d":
            self.remove_tree(path)
        else:
            self.step("unlink", path)
            self.removed(path)
        way = self.rng.choice("fdl")
        if way == "f":
            self.write_at(path)
        elif way == "d":
            self.step("mkdir", path, "0755")
            self.made(path, "d")
            self.write_into(path)
        else:
            self.step("symlink", self.rng.choice([self.any(), b"..", b"/nowhere", self.home]), path)
            self.made(path, "l")
        self.step("lstat", path)

    def mode(self):
        return self.rng.choice(["0644", "0755", "0600", "0700", "0444", "0555", "04755", "02755",
                                "0111", "0", "0666", "0777", "0100", "01644"])

    def attributes(self):
        path = self.any()
        way = self.rng.randrange(5)
        if way < 2:
            self.step("chmod", path, self.mode())
        elif way == 2:
            self.step("utimes", path, self.rng.randrange(1, 1_400_000_000),
                      self.rng.choice([0, 1, 999999999]), self.rng.randrange(2))
        elif way == 3:
            self.step("chown", path, self.rng.choice([-1, 0, 1000, 4321]), self.rng.choice([-1, 1]))
        else:
            self.step("chmod", path, self.mode())
            self.step("utimes", path, 1234567890, 987654321, 1)
            new = self.new()
            self.step("rename", path, new)
            self.moved(path, new)
            path = new
        self.step("lstat", path)
        self.step("access", path, self.rng.randrange(8))
        slot = self.slot()
        self.step("open", slot, "", 0, path)
        self.step("read", slot, 100000, 0)

    def directory_modes(self):
        path = self.of_kind("d")
        self.step("chmod", path, self.rng.choice(["0", "0500", "0300", "0700", "01777", "02775"]))
        self.step("readdir", path)
        self.write_into(path)
        self.step("stat", self.of_kind("fdl", path))
        if self.rng.random() < 0.8:
            self.step("chmod", path, "0755")

    def empty_and_remove(self):
        self.remove_tree(self.of_kind("d"))

    def whole_tree_away(self):
        old, new = self.of_kind("d"), self.of_kind("d")
        self.step("rename", old, b"trash")
        self.moved(old, b"trash")
        self.step("rename", new, old)
        self.moved(new, old)
        self.remove_tree(b"trash")
        self.step("readdir", old)

    def temporary(self):
        slot, new = self.slot(), self.new()
        self.step("open", slot, "bT", "0640", self.dir_path())
        self.step("write", slot, self.size(), 0, self.seed())
        self.step("fstat", slot)
        self.step("linkfd", slot, new)
        self.step("read", slot, 1000, 0)
        self.made(new, "f")
        self.step("lstat", new)

    def holes(self):
        path, slot = self.rng.choice([self.file(), self.new()]), self.slot()
        self.step("open", slot, "bc", "0644", path)
        self.made(path, "f")
        for _ in range(self.rng.randint(1, 4)):
            offset = self.rng.choice([0, 4096, 8192, 100000, 1000000])
            way = self.rng.randrange(6)
            if way == 0:
                self.step("write", slot, self.size(), offset, self.seed())
            elif way == 1:
                self.step("fallocate", slot, self.rng.choice([0, 1, 3, 16, 17, 8, 32]), offset,
                          self.rng.choice([4096, 10000, 65536]))
            elif way == 2:
                self.step("ftruncate", slot, offset)
            elif way == 3:
                self.step("seek", slot, self.rng.choice(["set", "end", "data", "hole"]), offset)
            elif way == 4:
                self.step("read", slot, 50000, offset)
            else:
                self.step("fstat", slot)

    def mapped(self):
        path, slot = self.file(), self.slot()
        self.step("open", slot, self.rng.choice(["b", "b", ""]), 0, path)
        self.step("mmapr", slot, 100000, 0, self.rng.randrange(2))
        self.step("mmapw", slot, self.rng.choice([1, 4096, 5000, 100000]), self.rng.choice([0, 1]),
                  self.seed())
        self.step("mmapr", slot, 100000, 0, self.rng.randrange(2))
        self.step("read", slot, 100000, 0)
        self.step("stat", path)

    def xattrs(self):
        path = self.any()
        name = self.rng.choice([b"user.a", b"user.long" * 20, b"trusted.overlay.opaque",
                                b"trusted.overlay.redirect", b"user.overlay.whiteout",
                                b"user.overlay.opaque", b"security.x", b"nonsense"])
        self.step("listx", path)
        self.step("getx", path, name)
        self.step("setx", path, name, self.rng.choice([b"y", b"value", b"v" * 1000]))
        self.step("getx", path, name)
        self.step("listx", path)
        if self.rng.random() < 0.5:
            self.step("rmx", path, name)
            self.step("getx", path, name)
        self.step("lstat", path)

    def locks(self):
        path, slot = self.file(), self.slot()
        self.step("open", slot, self.rng.choice(["b", "b", ""]), 0, path)
        self.step("lock", slot, path, self.rng.choice(["flock", "posix", "ofd"]))

    def listing(self):
        path = self.dir_path()
        if self.rng.random() < 0.5:
            names = sorted(p for p in self.kinds if p.rpartition(b"/")[0] == path and p)
            self.step("rdchange", path, b"zz%d" % self.rng.randrange(1000))
            if len(names) > 2 and self.kinds[names[0]] != "d":
                self.removed(names[0])
        self.step("readdir", path)
        self.step("readdir", self.any())

    def programs(self):
        path = self.rng.choice([self.new(), self.file()])
        if self.rng.random() < 0.5:
            self.step("mkops", path)
            self.made(path, "f")
            self.step("exec", path, self.rng.randrange(200))
            self.step("busy", path)
        else:
            slot = self.slot()
            self.step("open", slot, "wct", "0755", path)
            self.step("close", slot)
            self.made(path, "f")
            self.step("exec", path, 0)
        self.step("exec", b"./" + self.file(), 3)
        self.step("busy", b".oracle/ops")
        if self.rng.random() < 0.5:
            self.step("chmod", path, self.mode())
            self.step("exec", path, 7)
            self.step("busy", path)

    def errors(self):
        f, d, slot = self.file(), self.of_kind("d"), self.slot()
        steps = [
            ("open", slot, "", 0, f + b"/below"), ("open", slot, "w", 0, d),
            ("open", slot, "wc", "0644", d), ("open", slot, "wc", "0644", f + b"/"),
            ("open", slot, "d", 0, f), ("open", slot, "n", 0, self.of_kind("l")),
            ("open", slot, "", 0, b"loop1"), ("open", slot, "", 0, self.of_kind("l")),
            ("open", slot, "", 0, b"x" * 256), ("open", slot, "wc", "0644", b"x" * 255),
            ("open", slot, "", 0, b"/".join([b"y" * 200] * 22)),
            ("mkdir", d, "0755"), ("mkdir", f + b"/x", "0755"), ("mkdir", b"no/such", "0755"),
            ("rmdir", d), ("rmdir", f), ("rmdir", join(d, b".")), ("rmdir", join(d, b"..")),
            ("rmdir", self.of_kind("l")), ("unlink", d), ("unlink", join(d, b"missing")),
            ("unlink", self.of_kind("l") + b"/"), ("rename", f, d), ("rename", d, f),
            ("rename", d, d), ("rename", f, f), ("rename", d, join(d, b"inside")),
            ("rename", join(d, b"missing"), f), ("rename", f, b"/tmp/away"), ("rename", b".", d),
            ("link", d, self.new()), ("link", f, f), ("link", b"missing", self.new()),
            ("symlink", b"t", f), ("symlink", b"", self.new()),
            ("symlink", b"t" * 4096, self.new()),
            ("readlink", f), ("readlink", d), ("truncate", d, 0), ("truncate", f, -1),
            ("lstat", f + b"/."), ("lstat", d + b"/"), ("stat", b""), ("access", b"missing", 0),
            ("chmod", b"missing", "0644"), ("utimes", b"missing", 5, 5, 1),
            ("noreplace", f, self.any()), ("exchange", f, b"missing"), ("exec", d, 1),
            ("exec", b"missing", 1), ("mmapw", 99, 1, 0, 1), ("open", slot, "bT", "0600", f),
            ("open", slot, "p", 0, f), ("read", slot, 10, 0), ("fstat", slot), ("readdir", f),
            ("mkdir", b"x" * 256, "0755"), ("rename", f, b"x" * 256), ("rename", d, b"x" * 256),
            (("open", slot, "D", 0, f), ("read", slot, 4096, 0), ("close", slot)),
            ("read", slot, 4096, 0), ("stat", b"..")]
        for _ in range(self.rng.randint(1, 6)):
            some = self.rng.choice(steps)
            for step in some if isinstance(some[0], tuple) else [some]:
                self.step(*step)

    def held(self):
        """A descriptor that outlives its name."""
        path, slot = self.file(), self.slot()
        self.step("open", slot, self.rng.choice(["", "b", "w"]), 0, path)
        way = self.rng.randrange(5)
        if way == 0:
            self.step("unlink", path)
            self.removed(path)
            self.step("linkfd", slot, self.new())
        elif way == 1:
            new = self.new()
            self.step("rename", path, new)
            self.moved(path, new)
            self.step("fsame", slot, new)
        elif way == 2:
            other = self.slot()
            self.step("open", other, "wa", 0, path)
            self.step("write", other, 100, -1, self.seed())
            self.step("fsame", slot, path)
        elif way == 3:
            self.step("chmod", path, self.mode())
            self.step("fsame", slot, path)
        else:
            self.step("truncate", path, 5)
        self.step("read", slot, 100000, 0)
        self.step("write", slot, 10, 3, self.seed())
        self.step("read", slot, 100000, 0)
        self.step("fstat", slot)

    def elsewhere(self):
        """From inside a directory, also one that moved or is gone."""
        path, slot = self.of_kind("d"), self.slot()
        self.step("open", slot, self.rng.choice(["d", "dp"]), 0, path)
        way = self.rng.randrange(3)
        if way == 0:
            new = self.new()
            self.step("rename", path, new)
            self.moved(path, new)
        elif way == 1:
            self.remove_tree(path)
        self.step("atslot", slot, "readdir", b".")
        self.step("atslot", slot, "open", self.slot(), "wc", "0644", b"made-here")
        self.step("atslot", slot, "lstat", b"..")
        self.step("at", self.dir_path(), "lstat", self.rng.choice([b"a", b"..", b"."]))
        self.step("at", self.dir_path(), "mkdir", b"below", "0755")

    def look(self):
        for _ in range(3):
            path = self.any()
            self.step("lstat", path)
            self.step("stat", path)
            if self.kinds.get(path) == "l":
                self.step("readlink", path)
            else:
                slot = self.slot()
                self.step("open", slot, "", 0, path)
                self.step("read", slot, 1 << 20, self.rng.choice([0, 0, 100]))
                self.step("close", slot)
        self.step("stat", self.rng.choice(self.gone) if self.gone else b"nothing")

    def notify(self):
        self.step("notify", self.rng.choice([self.file(), self.dir_path()]))

    def copy_bytes(self):
        a, b = self.slot(), self.slot()
        self.step("open", a, "", 0, self.file())
        path = self.new()
        self.step("open", b, "bc", "0644", path)
        self.made(path, "f")
        self.step("copy", a, b, self.size(), self.rng.choice([0, 100]), "send")

    def exchange(self):
        a, b = self.any(), self.any()
        self.step("exchange", a, b)
        if not (a + b"/").startswith(b + b"/") and not (b + b"/").startswith(a + b"/"):
            self.moved(a, b"\0swap")
            self.moved(b, a)
            self.moved(b"\0swap", b)
        self.step("lstat", a)
        self.step("lstat", b)

    def special(self):
        path = self.new()
        self.step("mknod", path, self.rng.choice(["fifo", "socket", "device"]))
        self.step("lstat", path)
        if self.rng.random() < 0.5:
            self.step("rename", path, self.file())

    def identity(self):
        a, b = self.file(), self.file()
        self.step("same", a, b)
        slot = self.slot()
        self.step("open", slot, "", 0, a)
        self.step("fsame", slot, a)
        self.step("open", self.slot(), "wa", 0, a)
        self.step("fsame", slot, a)
        self.step("same", a, a)

    def run(self, n_steps):
        while len(self.lines) < n_steps:
            self.rng.choice(self.patterns)()
        r = self.rng.random()
        if r < 0.06:
            self.step("exit", self.rng.randrange(1, 120))
        elif r < 0.1:
            self.step("kill", self.rng.choice([9, 15, 6]))
        return self.lines
