"""Random trees of the differential oracle, on disk and as REAPI Directories.

Everything is bytes: names need not be text. A tree that carries node properties cannot be
written to a disk and uploaded, so its Directory messages are encoded here, by hand, and
uploaded as plain blobs.
"""
import hashlib
import os
import pathlib

DEFAULT_MTIME = (1321009871, 0)  # of inputs without an mtime: fuse/view.h, README

PLAIN_NAMES = [b"a", b"b", b"c", b"d", b"lib", b"src", b"main.c", b"x.h", b"Makefile", b"out.o"]
ODD_NAMES = [
    b"with space", b"new\nline", b"-dash", b"%41", b"caf\xc3\xa9", b"\xe2\x82\xac", b"\xc3\xbf\x01",
    b"...", b".hidden", b"*", b"$(x)", b"quote'\"", b"back\\slash", b"tab\there", b"~",
    b"wh", b".wh.a", b".wh..opq", b"trusted.overlay.opaque", b"work", b"upper"]


class Node:
    def __init__(self, kind, content=b"", executable=False, mtime=None, mode=None):
        self.kind = kind  # "f", "d", "l"
        self.content = content  # of a file; a link's target
        self.executable = executable
        self.mtime = mtime  # node properties, or None
        self.mode = mode

    def copy(self):
        return Node(self.kind, self.content, self.executable, self.mtime, self.mode)

    @property
    def permissions(self):
        if self.kind == "d":
            return 0o755 if self.mode is None else self.mode
        return (0o755 if self.executable else 0o644) if self.mode is None else self.mode


def join(parent, name):
    return parent + b"/" + name if parent else name


class Tree:
    """path -> Node; b"" is the root."""

    def __init__(self, rng, home, with_properties):
        self.rng = rng
        self.home = home  # where the command sees it: for absolute links
        self.nodes = {b"": Node("d")}
        self.contents = [b"", b"equal\n", self.bytes(4096), self.bytes(70000)]
        self.with_properties = with_properties
        self.grow(b"", 0)
        for extra in rng.sample(
                [self.deep, self.wide, self.repeat, self.repeat, self.links, self.empty, self.big],
                rng.randint(2, 6)):
            extra()
        if with_properties:
            self.add_properties()

    def bytes(self, n):
        return self.rng.randbytes(n)

    def name(self, parent):
        r = self.rng.random()
        if r < 0.6:
            name = self.rng.choice(PLAIN_NAMES)
        elif r < 0.8:
            name = self.rng.choice(ODD_NAMES)
        elif r < 0.85:
            name = self.rng.choice([b"L", b"\xc3\xbc"]) * self.rng.choice([100, 127])
        elif r < 0.88:
            name = b"N" * 255
        else:
            name = b"n%d" % self.rng.randrange(1000)
        return name if join(parent, name) not in self.nodes else b"%d_" % len(self.nodes)

    def file(self):
        r = self.rng.random()
        if r < 0.4:
            content = self.rng.choice(self.contents)
        elif r < 0.6:
            content = self.bytes(self.rng.choice([1, 100, 4095, 4097, 8192]))
        else:
            content = b"text %d\n" % self.rng.randrange(10**6) * self.rng.randint(1, 40)
        if self.rng.random() < 0.1:
            return Node("f", b"#!/bin/sh\nexit %d\n" % self.rng.randrange(100), True)
        return Node("f", content, self.rng.random() < 0.2)

    def target(self):
        known = self.rng.choice(list(self.nodes))
        return self.rng.choice([
            known or b".", self.home + b"/" + known, b"../" + known, b".", b"..", b"/", b"/nowhere",
            b"missing", b"./" + known + b"/", b"/etc/hostname", b"/proc/self/cwd/" + known,
            b"x" * self.rng.choice([200, 3000, 4000]), b"//" + known, b"\xc3\xbf",
            b"a/../b"])[:4095]

    def grow(self, parent, depth):
        for _ in range(self.rng.randint(1, 7)):
            path = join(parent, self.name(parent))
            r = self.rng.random()
            if r < 0.55:
                self.nodes[path] = self.file()
            elif r < 0.65:
                self.nodes[path] = Node("l", self.target())
            else:
                self.nodes[path] = Node("d")
                if depth < 4 and self.rng.random() < 0.7:
                    self.grow(path, depth + 1)

    def directories(self):
        return [p for p, n in self.nodes.items() if n.kind == "d"]

    def deep(self):
        path = b""
        long_names = self.rng.random() < 0.5
        for i in range(self.rng.randint(8, 40)):
            path = join(path, b"deep%d" % i + (b"_" * 60 if long_names else b""))
            if len(path) > 3000:
                break
            self.nodes[path] = Node("d")
            if self.rng.random() < 0.4:
                self.nodes[join(path, b"leaf")] = self.file()

    def wide(self):
        path = join(self.rng.choice(self.directories()), b"wide")
        self.nodes[path] = Node("d")
        for i in range(self.rng.choice([40, 40, 300, 300, 1200])):
            self.nodes[join(path, b"w%d" % i)] = Node("f", self.rng.choice(self.contents[:2]))

    def repeat(self):
        """A subtree that is there already, once more under another name."""
        source = self.rng.choice(self.directories())
        parent = self.rng.choice(self.directories())
        if not source or (parent + b"/").startswith(source + b"/"):
            return
        target = join(parent, b"copy%d" % len(self.nodes))
        if len(target) > 3000:
            return
        for path, node in list(self.nodes.items()):
            if path == source or path.startswith(source + b"/"):
                self.nodes[target + path[len(source):]] = node.copy()

    def links(self):
        parent = self.rng.choice(self.directories())
        loop = [(b"loop1", b"loop2"), (b"loop2", b"loop1"), (b"self", b"self"),
                (b"up", b".."), (b"here", b"."), (b"dangling", b"no/such")]
        for name, target in loop:
            self.nodes.setdefault(join(parent, name), Node("l", target))
        for i in range(self.rng.randint(1, 6)):
            self.nodes[join(parent, b"link%d" % i)] = Node("l", self.target())

    def empty(self):
        for _ in range(3):
            path = join(self.rng.choice(self.directories()), b"empty%d" % len(self.nodes))
            self.nodes[path] = Node("d")

    def big(self):
        size = self.rng.choice([300_000, 1_500_000, 3_000_001])
        path = join(self.rng.choice(self.directories()), b"big%d" % len(self.nodes))
        self.nodes[path] = Node("f", self.bytes(size))

    def add_properties(self):
        for path, node in self.nodes.items():
            if self.rng.random() < 0.3:
                node.mtime = (self.rng.randrange(1, 1_400_000_000),
                              self.rng.choice([0, 1, 999_999_999, 123_456_789]))
            if node.kind == "f" and self.rng.random() < 0.2:
                node.mode = self.rng.choice([0o644, 0o600, 0o755, 0o555, 0o444, 0o640, 0o777])
                node.executable = bool(node.mode & 0o100)
            if node.kind == "d" and self.rng.random() < 0.1:
                node.mode = self.rng.choice([0o755, 0o700, 0o555, 0o1777])

    def write(self, top, times=True):
        """The tree on disk, as a command shall see it."""
        top = os.fsencode(top)
        for path, node in self.nodes.items():  # parents come first
            full = join(top, path) if path else top
            if node.kind == "d":
                os.makedirs(full, exist_ok=True)
            elif node.kind == "l":
                os.symlink(node.content, full)
            else:
                with open(full, "wb") as f:
                    f.write(node.content)
        self.settle(top)

    def settle(self, top):
        top = os.fsencode(top)
        for path in sorted(self.nodes, key=len, reverse=True):
            node = self.nodes[path]
            full = join(top, path) if path else top
            seconds, nanos = node.mtime or DEFAULT_MTIME
            if node.kind != "l":
                os.chmod(full, node.permissions)
            os.utime(full, ns=(seconds * 10**9 + nanos,) * 2, follow_symlinks=False)

    def add(self, path, node):
        self.nodes[path] = node


# REAPI Directories, as protobuf has them on the wire.

def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value) if value else b""
    return varint(number << 3 | 2) + varint(len(value)) + value


def digest_of(blob):
    return hashlib.sha256(blob).hexdigest(), len(blob)


def digest_message(digest):
    return field(1, digest[0].encode()) + field(2, digest[1])


def properties_message(node):
    out = b""
    if node.mtime:
        out += field(2, field(1, node.mtime[0]) + field(2, node.mtime[1]))
    if node.mode is not None:
        out += field(3, field(1, node.mode))
    return out


def encode(tree):
    """The root's digest, and every Directory message."""
    children = {path: [] for path, node in tree.nodes.items() if node.kind == "d"}
    for path in tree.nodes:
        if path:
            parent, _, name = path.rpartition(b"/")
            children[parent].append((name, path))
    digests = {}
    blobs = set()
    for path in sorted(children, key=lambda p: p.count(b"/") + bool(p), reverse=True):
        files = dirs = links = b""
        for name, child in sorted(children[path]):
            node = tree.nodes[child]
            extra = properties_message(node)
            if node.kind == "f":
                message = field(1, name) + field(2, digest_message(digest_of(node.content)))
                message += field(4, int(node.executable))
                files += field(1, message + (field(6, extra) if extra else b""))
            elif node.kind == "l":
                message = field(1, name) + field(2, node.content)
                links += field(3, message + (field(4, extra) if extra else b""))
            else:
                dirs += field(2, field(1, name) + field(2, digest_message(digests[child])))
        own = properties_message(tree.nodes[path])
        blob = files + dirs + links + (field(5, own) if own else b"")
        digests[path] = digest_of(blob)
        blobs.add(blob)
    return digests[b""], blobs


def parse(message):
    """(number, value) of each field; nested messages stay bytes."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        else:
            length = number()
            yield key >> 3, message[at:at + length]
            at += length


def strip(load, digest):
    """The digest of the same tree without any node properties. load: digest -> bytes."""
    out = b""
    for number, value in parse(load(digest)):
        if number == 5:
            continue
        inner = list(parse(value))
        if number == 2:
            child = dict(parse(dict(inner)[2]))
            child = strip(load, (child[1].decode(), child.get(2, 0)))
            inner = [(1, dict(inner)[1]), (2, digest_message(child))]
        drop = {1: 6, 2: None, 3: 4}[number]
        out += field(number, b"".join(field(n, v) for n, v in inner if n != drop))
    return digest_of(out)
