#!/usr/bin/env python3
"""What the scanners find is what the languages' own tools say, over the files of this machine.

    scan_agrees.py SCAN_PRINT [NAME]...

Of Pythons it asks Debian's; with LAZYROOT_TEST_LONG=1 all from 3.8 to 3.13 along PATH. Each
check_NAME prints what it compared, and what disagrees; exits 1 where anything does.
"""
import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

PROGRAM = None
SHOWN_MAX = 10


def scan(paths):
    """Path -> [(kind, text)]."""
    run = subprocess.run([PROGRAM], input="".join(f"{p}\n" for p in paths), capture_output=True,
                         text=True, errors="surrogateescape", check=True)
    found, now = collections.OrderedDict(), None
    for line in run.stdout.split("\n")[:-1]:
        kind, _, text = line.partition(" ")
        if kind == "=":
            now = found[text] = []
        else:
            now.append((kind, text))
    return found


def compare(name, wanted, got):
    """Prints what differs between two mappings; how many keys do."""
    bad = [key for key in wanted if wanted[key] != got.get(key)]
    for key in bad[:SHOWN_MAX]:
        print(f"{name}: {key}\n  wanted {wanted[key]}\n  got    {got.get(key)}")
    print(f"{name}: {len(wanted)} files, {sum(map(len, wanted.values()))} names, {len(bad)} disagree")
    return len(bad) + (not wanted)


def check_elf():
    """Interpreters, paths and libraries, as readelf tells them."""
    paths = []
    for top in ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"):
        for path in sorted(pathlib.Path(top).glob("*")):
            if path.is_file() and not path.is_symlink() and path.open("rb").read(4) == b"\x7fELF":
                if path.suffix != ".o":
                    paths.append(str(path))
    wanted = {}
    for path in paths:
        text = subprocess.run(["readelf", "-dl", "--wide", path], capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "LC_ALL": "C"}).stdout
        names = [("interpreter", n) for n in re.findall(r"program interpreter: (.*)\]", text)]
        run = re.findall(r"\(RUNPATH\).*\[(.*)\]", text) or re.findall(r"\(RPATH\).*\[(.*)\]", text)
        names += [("runpath", n) for n in ":".join(run).split(":") if n]
        names += [("library", n) for n in
                  re.findall(r"\((?:NEEDED|FILTER|AUXILIARY)\).*?\[(.*)\]", text)]
        wanted[path] = names
    return compare("elf", wanted, scan(paths))


def search_path(compiler):
    """Where a compiler looks for <x>, and its own version of a few sources."""
    run = subprocess.run([compiler, "-E", "-v", "-x", "c++" if "++" in compiler else "c", "/dev/null"],
                         capture_output=True, text=True)
    body = run.stderr.partition("#include <...> search starts here:\n")[2]
    return [os.path.normpath(line.strip()) for line in body.partition("End of")[0].splitlines()]


def closure(source, dirs):
    """All that is included from a source by what the scanner says."""
    seen, todo = {}, [(source, None)]
    while todo:
        found = scan([path for path, _ in todo])
        places = dict(todo)
        seen.update(places)
        todo = []
        for path, names in found.items():
            for kind, text in names:
                first = [os.path.dirname(path)] if kind == "quoted" else []
                rest = dirs[dirs.index(places[path]) + 1:] if kind == "next" and places[path] else dirs
                for place in first + rest:
                    other = os.path.normpath(os.path.join(place, text))
                    if os.path.isfile(other):
                        if other not in seen and other not in dict(todo):
                            todo.append((other, place if place in dirs else None))
                        break
    return set(seen) - {source}


def check_include():
    """Every file that the compiler opens is found, but for those that a macro names."""
    sources = {
        "gcc": ["stdio.h stdlib.h string.h unistd.h", "pthread.h sys/stat.h elf.h math.h",
                "openssl/evp.h sqlite3.h", "immintrin.h linux/fuse.h"],
        "g++": ["iostream", "vector map string memory", "regex thread chrono filesystem"],
    }
    n_bad = 0
    for compiler, lists in sources.items():
        dirs = search_path(compiler)
        for names in lists:
            with tempfile.TemporaryDirectory() as top:
                source = os.path.join(top, "a.cc" if compiler == "g++" else "a.c")
                pathlib.Path(source).write_text("".join(f"#include <{n}>\n" for n in names.split()))
                run = subprocess.run([compiler, "-M", source], capture_output=True, text=True)
                real = {os.path.normpath(p) for p in run.stdout.replace("\\\n", " ").split()[2:]}
                ours = closure(source, dirs)
            missed = real - ours - {"/usr/include/stdc-predef.h"}  # which the compiler adds
            n_bad += len(missed) + (not real)
            print(f"include: {compiler} {names}: {len(real)} real, {len(real & ours)} of them found, "
                  f"{len(ours - real)} more; missed {sorted(missed)}")
    return n_bad


PYTHON = r"""
import ast, dis, importlib.util, json, marshal, os, py_compile, sys, sysconfig, warnings

def names(level, name, members):
    base = "." * level + (name or "")
    yield base
    for member in members or ():
        if member != "*":
            yield base + ("" if base.endswith(".") else ".") + member

def of_code(code):
    before = []
    for one in dis.get_instructions(code):
        if one.opname == "IMPORT_NAME":
            yield from names(before[-2].argval, one.argval, before[-1].argval)
        if one.opname not in ("EXTENDED_ARG", "CACHE"):
            before = (before + [one])[-2:]

def of_source(node):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield alias.name
        elif isinstance(child, ast.ImportFrom):
            yield from names(child.level, child.module, [a.name for a in child.names])
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from of_source(child)

warnings.simplefilter("ignore")
out = {}
tops = [sysconfig.get_path("stdlib")] + sys.argv[2:]
for top, _, files in (step for start in tops for step in os.walk(start)):
    for name in sorted(files):
        path = os.path.join(top, name)
        if name.endswith(".pyc") and os.path.getsize(path) <= 1 << 20:
            data = open(path, "rb").read()
            if data[:4] == importlib.util.MAGIC_NUMBER:
                out[path] = [("module", n) for n in of_code(marshal.loads(data[16:]))]
        if not name.endswith(".py") or os.path.getsize(path) > 1 << 20:
            continue
        try:
            compiled = py_compile.compile(path, os.path.join(sys.argv[1], f"{len(out)}.pyc"),
                                          doraise=True)
            tree = ast.parse(open(path, "rb").read())
        except (SyntaxError, ValueError, py_compile.PyCompileError):
            continue  # some are there to fail
        data = open(compiled, "rb").read()
        if len(data) <= 1 << 20:
            out[compiled] = [("module", n) for n in of_code(marshal.loads(data[16:]))]
        out[path] = [("module", n) for n in of_source(tree)]
print(json.dumps(out))
"""


def check_python():
    """The imports of whole standard libraries, compiled and as source, as dis and ast say."""
    n_bad = 0
    is_long = os.environ.get("LAZYROOT_TEST_LONG")
    versions = range(8, 14) if is_long else []
    more = ["/usr/lib/python3"] if is_long else []
    pythons = [p for n in versions if (p := shutil.which(f"python3.{n}")) and
               subprocess.run([p, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0]
    for python in ["/usr/bin/python3"] + pythons:
        with tempfile.TemporaryDirectory() as top:
            run = subprocess.run([python, "-c", PYTHON, top, *more], capture_output=True,
                                 text=True, check=True)
            wanted = {path: [tuple(pair) for pair in pairs]
                      for path, pairs in json.loads(run.stdout).items()}
            got = {path: [n for n in names if n[0] == "module"]
                   for path, names in scan(wanted).items()}
        for ending in (".pyc", ".py"):
            n_bad += compare(f"{python} {ending}",
                             {k: v for k, v in wanted.items() if k.endswith(ending)}, got)
    return n_bad


def main():
    global PROGRAM
    PROGRAM = sys.argv[1]
    for tool in ("readelf", "gcc", "g++"):
        if not shutil.which(tool):
            print(f"skipped: no {tool}")
            return 77
    checks = {k[6:]: v for k, v in globals().items() if k.startswith("check_")}
    n_bad = sum(checks[name]() for name in sys.argv[2:] or checks)
    return 1 if n_bad else 0


sys.exit(main())
