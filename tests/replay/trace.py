"""A trace: an action, its root, what its files say of others, and what it opened when.

The file is text, compressed by xz. Lines are fields between tabs; a byte of % or below a space
is "%" and two hex digits. In order:

    lazyroot trace 1
    name NAME           what the table calls it
    mount PATH          where the command finds its root
    workdir PATH        from the root
    path PATHS          PATH of its environment
    mtimes N            1: the files have times of their own
    arg WORD            one a word
    d NAME              a directory, what is in it until its "u"; links and files:
    l NAME TARGET
    f NAME SIZE         of a content that comes for the first time, numbered from 0
    f NAME SIZE N       of content N again
    s N                 what the scanners found in content N, one a line:
    + KIND TEXT
    b N TEXT            content N is this: a response file
    o USEC PROGRAM PATH opened so long after the open before; "." is the root
    e USEC              and ended so long after the last

No digest is kept: a content is known by its number, and digests are made of that.
"""
import hashlib
import lzma
import os
import pathlib
import re
import subprocess

MAGIC = "lazyroot trace 1"


def escape(text):
    return re.sub(r"[%\x00-\x1f]", lambda m: f"%{ord(m.group()):02x}", text)


def line(*fields):
    return "\t".join(escape(str(f)) for f in fields) + "\n"


class Tree:
    """The lines of a root, and the first path of each content."""

    def __init__(self, root):
        self.lines, self.contents, self.kinds = [], {}, {".": "d"}
        self.first, self.n_files, self.n_bytes = [], 0, 0
        self.add(pathlib.Path(root), "")

    def add(self, path, name):
        for entry in sorted(os.scandir(path), key=lambda e: os.fsencode(e.name)):
            below = f"{name}{entry.name}"
            if entry.is_symlink():
                self.lines.append(line("l", entry.name, os.readlink(entry.path)))
            elif entry.is_dir():
                self.kinds[below] = "d"
                self.lines.append(line("d", entry.name))
                self.add(pathlib.Path(entry.path), below + "/")
                self.lines.append("u\n")
            elif entry.is_file():
                self.kinds[below] = "f"
                self.file(entry, below)

    def file(self, entry, name):
        with open(entry.path, "rb") as f:
            key = hashlib.file_digest(f, "sha256").digest() if hasattr(hashlib, "file_digest") \
                else hashlib.sha256(f.read()).digest()
        size = entry.stat().st_size
        self.n_files += 1
        self.n_bytes += size
        number = self.contents.get(key)
        if number is None:
            self.contents[key] = len(self.first)
            self.first.append(entry.path)
            self.lines.append(line("f", entry.name, size))
        else:
            self.lines.append(line("f", entry.name, size, number))


def scans(tree, scan_print, responses):
    """What the product's scanners find in each content."""
    run = subprocess.run([scan_print], input="".join(f"{p}\n" for p in tree.first),
                         capture_output=True, text=True, errors="surrogateescape", check=True)
    numbers = {path: n for n, path in enumerate(tree.first)}
    out, head = [], None
    for text in run.stdout.split("\n")[:-1]:
        kind, _, rest = text.partition(" ")
        if kind == "=":
            head = line("s", numbers[rest])
        else:
            if head:
                out.append(head)
            head = None
            out.append(line("+", kind, rest))
    for path in responses:
        out.append(line("b", numbers[str(path)], pathlib.Path(path).read_text()))
    return out


def opens(text, tree):
    """Each path of the tree once, as the worker tells foresight."""
    out, seen, before = [], set(), 0
    for row in text.splitlines():
        fields = row.split("\t")
        if fields[1] == "end":
            return out + [line("e", int(fields[0]) - before)]
        usec, program, path = int(fields[0]), fields[1], fields[2]
        if path in seen or path not in tree.kinds:
            continue
        seen.add(path)
        out.append(line("o", usec - before, program, path))
        before = usec
    raise RuntimeError("the command has no end")


def write(path, head, parts):
    text = MAGIC + "\n" + "".join(line(*h) for h in head) + "".join("".join(p) for p in parts)
    path.write_bytes(lzma.compress(text.encode(errors="surrogateescape"), preset=9 | lzma.PRESET_EXTREME))


def read(path):
    return lzma.decompress(path.read_bytes())
