"""The actions whose traces the replay has: roots made of this machine's tools, and of files of
our own."""
import pathlib
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/bench"), str(TOP / "tests/system")]
import bench_far  # noqa: E402
from bench_far import copy_packages  # noqa: E402

LIBC = ("libc6", "libgcc-s1", "libstdc++6", "zlib1g")
SHELL = ("dash", "coreutils", "libselinux1", "libpcre2-8-0", "libacl1", "libattr1", "libgmp10",
         "grep", "sed", "mawk", "findutils", "diffutils")
TOOLCHAIN = ("gcc-12", "cpp-12", "g++-12", "gcc", "g++", "cpp", "gcc-12-base", "libgcc-12-dev",
             "libstdc++-12-dev", "libc6-dev", "linux-libc-dev", "binutils",
             "binutils-x86-64-linux-gnu", "binutils-common", "libbinutils", "libctf0",
             "libctf-nobfd0", "libcc1-0", "libisl23", "libmpc3", "libmpfr6", "libgmp10", "libzstd1",
             "libjansson4", "libgprofng0", "libasan8", "libubsan1", "perl-base")


def write(root, files):
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


class Action:
    workdir = ""
    path = "/usr/bin:/bin"
    env = ()
    responses = ()
    is_root = True
    may_fail = False


class C(Action):
    """gcc -O2 -c"""
    name = "c"
    command = ("/usr/bin/gcc", "-O2", "-Iinclude", "-c", "src/x.c", "-o", "out/x.o")

    def make(self, root):
        copy_packages(root, *LIBC, *SHELL, *TOOLCHAIN)
        write(root, {
            "src/x.c": '#include <errno.h>\n#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\n'
                       '#include <string.h>\n#include <sys/socket.h>\n#include <sys/stat.h>\n'
                       '#include <unistd.h>\n#include "own/a.h"\nint main(void) { return A + puts("x"); }\n',
            "include/own/a.h": '#pragma once\n#include "b.h"\n#define A B\n',
            "include/own/b.h": "#pragma once\n#include <stdint.h>\n#define B INT32_C(0)\n",
            **{f"include/own/other{i}.h": f"#define O {i}\n" for i in range(200)}})


class Cxx(Action):
    """g++ -O1 -c, many headers"""
    name = "cxx"
    command = bench_far.Gxx.command

    def make(self, root):
        bench_far.Gxx().make(root)


class CxxHeaders(Action):
    """g++ -c, only headers in the root"""
    name = "cxx-headers"
    is_root = False
    command = bench_far.Headers.command

    def make(self, root):
        bench_far.Headers().make(root)


class Link(Action):
    """g++ of 300 objects, response file"""
    name = "link"
    command = ("/usr/bin/g++", "@objects.rsp", "-o", "out/x")
    responses = ("objects.rsp",)

    def make(self, root):
        copy_packages(root, *LIBC, *SHELL, *TOOLCHAIN)
        (root / "o").mkdir()
        for i in range(300):
            subprocess.run(["gcc", "-x", "c", "-c", "-", "-o", root / f"o/f{i}.o"], check=True,
                           input=f"int f{i}(void) {{ return {i}; }}\n" + ("int main(void) { return 0; }\n" * (i == 0)),
                           text=True)
        write(root, {"objects.rsp": "".join(f"o/f{i}.o\n" for i in range(300))})


class Rust(Action):
    """rustc of a crate of five modules"""
    name = "rust"
    command = ("/usr/rust/bin/rustc", "--edition", "2021", "--crate-type", "lib", "-O", "src/lib.rs",
               "--out-dir", "out")

    def make(self, root):
        copy_packages(root, *LIBC, *SHELL)
        sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True,
                                 check=True).stdout.strip()
        shutil.copytree(sysroot, root / "usr/rust", symlinks=True,
                        ignore=shutil.ignore_patterns("share", "etc", "src", "rust-analyzer*", "*miri*"))
        mods = ("alpha", "beta", "gamma", "delta")
        write(root, {"src/lib.rs": "".join(f"pub mod {m};\n" for m in mods) +
                     "use std::collections::HashMap;\npub fn f() -> HashMap<u32, u32> { HashMap::new() }\n",
                     **{f"src/{m}.rs": f"pub fn {m}() -> usize {{ {i} }}\n" for i, m in enumerate(mods)},
                     "src/delta.rs": "pub mod inner;\npub fn delta() {}\n",
                     "src/delta/inner.rs": "pub fn inner() {}\n"})


class Go(Action):
    """go build of a program of two packages"""
    name = "go"
    command = ("/usr/local/go/bin/go", "build", "-o", "out/x", "./cmd")
    env = ("GOCACHE=/tmp/go", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local", "GOPATH=/tmp/gopath",
           "GOPROXY=off", "CGO_ENABLED=0", "GOTELEMETRY=off")

    def make(self, root):
        shutil.copytree("/usr/local/go", root / "usr/local/go", symlinks=True,
                        ignore=shutil.ignore_patterns("testdata", "*_test.go"))
        write(root, {"go.mod": "module example.org/x\n\ngo 1.20\n",
                     "cmd/main.go": 'package main\n\nimport (\n\t"fmt"\n\n\t"example.org/x/own"\n)\n\n'
                                    "func main() { fmt.Println(own.Name()) }\n",
                     "own/own.go": 'package own\n\nimport "strings"\n\nfunc Name() string { return strings.ToUpper("x") }\n'})


class Javac(Action):
    """javac of 40 classes"""
    name = "javac"
    path = "/usr/lib/jvm/java/bin:/usr/bin"
    command = ("/usr/lib/jvm/java/bin/javac", "-d", "out", "@sources")
    responses = ("sources",)

    def make(self, root):
        copy_packages(root, *LIBC, "libfontconfig1", "libjpeg62-turbo", "liblcms2-2")
        home = pathlib.Path(shutil.which("javac")).resolve().parent.parent
        shutil.copytree(home, root / "usr/lib/jvm/java", ignore_dangling_symlinks=True)
        names = [f"src/own/C{i}.java" for i in range(40)]
        write(root, {"sources": "".join(f"{n}\n" for n in names),
                     **{n: "package own;\nimport java.util.*;\npublic class "
                           f"C{i} {{ List<String> a = new ArrayList<>(); int n() {{ return {i}; }} }}\n"
                        for i, n in enumerate(names)}})


class Python(Action):
    """python3 importing the usual"""
    name = "python"
    command = bench_far.Python.command

    def make(self, root):
        bench_far.Python().make(root)


class PythonTests(Action):
    """python3 -m unittest of a package"""
    name = "python-tests"
    command = ("/usr/bin/python3.11", "-B", "-m", "unittest", "discover", "-s", "tests", "-t", ".")

    def make(self, root):
        bench_far.Python().make(root)
        write(root, {"own/__init__.py": "", "tests/__init__.py": "",
                     **{f"own/m{i}.py": "import json, re\n" + (f"from own import m{i - 1}\n" if i % 4 else "") +
                        f"def f():\n    return {i}\n" for i in range(40)},
                     **{f"own/unused{i}.py": f"V = {i}\n" for i in range(40)},
                     **{f"tests/test_m{i}.py": f"import unittest\nfrom own import m{i}\n\n"
                        f"class T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(m{i}.f(), {i})\n"
                        for i in range(0, 40, 2)},
                     **{f"tests/data/d{i}.json": f"{i}\n" for i in range(100)}})


class Node(Action):
    """node bundling 120 modules"""
    name = "node"
    command = ("/usr/bin/node", "build/bundle.js", "src/main.js", "out/bundle.js")

    def make(self, root):
        copy_packages(root, *LIBC)
        (root / "usr/bin").mkdir(parents=True, exist_ok=True)
        shutil.copy2("/usr/bin/node", root / "usr/bin/node")
        npm = pathlib.Path("/usr/lib/node_modules/npm/node_modules")
        shutil.copytree(npm, root / "node_modules", symlinks=True)
        write(root, {
            "build/bundle.js":
                "const fs = require('fs'), path = require('path');\n"
                "const semver = require('semver');\nconst chalk = require('supports-color');\n"
                "const resolve = require('./resolve');\n"
                "const seen = new Map();\nfunction add(file) {\n  if (seen.has(file)) return;\n"
                "  const text = fs.readFileSync(file, 'utf8');\n  seen.set(file, text);\n"
                "  for (const m of text.matchAll(/require\\('(\\.[^']*)'\\)/g)) add(resolve(file, m[1]));\n}\n"
                "add(process.argv[2]);\n"
                "fs.writeFileSync(process.argv[3], [...seen.values()].join('\\n') + semver.valid('1.2.3'));\n",
            "build/resolve.js": "const path = require('path');\n"
                                "module.exports = (f, n) => path.join(path.dirname(f), n + '.js');\n",
            "src/main.js": "".join(f"require('./m/m{i}');\n" for i in range(0, 120, 3)),
            **{f"src/m/m{i}.js": (f"require('./m{i + 1}');\n" if i % 3 < 2 else "") + f"exports.v = {i};\n"
               for i in range(120)},
            **{f"src/m/other{i}.js": f"exports.v = {i};\n" for i in range(120)}})


class Grep(Action):
    """grep -r over 3,000 files"""
    name = "grep"
    is_root = False
    command = bench_far.Grep.command

    def make(self, root):
        bench_far.Grep().make(root)


class Tar(Action):
    """tar of 2,000 files"""
    name = "tar"
    command = ("/usr/bin/tar", "--sort=name", "-cf", "out/x.tar", "tree")

    def make(self, root):
        copy_packages(root, *LIBC, *SHELL, "tar")
        for i in range(2000):
            write(root, {f"tree/d{i % 40}/{'abc'[i % 3]}{i}.dat": f"{i}\n" * (20 + i % 400)})


class Find(Action):
    """find -name '*.h' -exec cat, one file of four"""
    name = "find"
    command = ("/usr/bin/find", "tree", "-name", "*.h", "-exec", "cat", "{}", "+")

    def make(self, root):
        copy_packages(root, *LIBC, *SHELL)
        for i in range(2400):
            ending = ("c", "h", "txt", "o")[i % 4]
            write(root, {f"tree/d{i // 200}/f{i}.{ending}": f"{i}\n" * (20 + i % 300)})


class Configure(Action):
    """configure that autoconf made"""
    name = "configure"
    command = ("/bin/sh", "./configure", "--cache-file=/dev/null")

    def make(self, root):
        copy_packages(root, *LIBC, *SHELL, *TOOLCHAIN)
        write(root, {"configure.ac": "AC_INIT([x], [1])\nAC_PROG_CC\nAC_CHECK_HEADERS([sys/epoll.h zlib.h])\n"
                                     "AC_CHECK_FUNCS([strlcpy memfd_create])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n",
                     "Makefile.in": "CC = @CC@\nDEFS = @DEFS@\n", "x.c": "int x;\n"})
        (root / "usr/bin/awk").symlink_to("mawk")
        subprocess.run(["autoconf"], cwd=root, check=True)
        shutil.rmtree(root / "autom4te.cache")


ACTIONS = [kind() for kind in (C, Cxx, CxxHeaders, Link, Rust, Go, Javac, Python, PythonTests, Node,
                               Grep, Tar, Find, Configure)]
