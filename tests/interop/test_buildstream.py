"""BuildStream builds on our worker through our server, and finds there what it built."""
import os
import signal

import forky
from buildstream import Project, remote
from system import sandboxes_with, wait_until

EXECUTE = "Execution/Execute"
CANCEL = "Operations/CancelOperation"

# gcc with what it needs, as links to the tree's own files, and 20,000 headers
SYSROOT = r"""
mkdir -p big/usr/lib64
for name in bin lib lib64; do ln -s usr/$name big/$name; done
take() { cp -al --parents "$@" big; }
cd big && for d in $(seq 0 99); do
    mkdir -p usr/include/many/d$d
    for h in $(seq 0 199); do
        echo "#define MANY_${d}_$h $((d * 10 + h * 60))" >usr/include/many/d$d/h$h.h
    done
done
cd ..
for tool in sh gcc as ld cat cp mkdir chmod; do
    at=/usr/bin/$tool
    while :; do
        take $at
        [ -L $at ] || break
        at=$(cd /usr/bin && realpath -s "$(readlink $at)")
    done
    ldd $at
done | grep -o '/[^ ]*' >libraries
take /usr/include/*.h /usr/include/x86_64-linux-gnu /usr/include/linux /usr/include/asm-generic
take /usr/lib/gcc
cc1=$(gcc -print-prog-name=cc1)
take $cc1 $(gcc -print-prog-name=collect2) $(gcc -print-prog-name=lto-wrapper)
plugin=$(gcc -print-file-name=liblto_plugin.so)
take $plugin $(realpath $plugin)
ldd $cc1 | grep -o '/[^ ]*' >>libraries
cd /usr/lib/x86_64-linux-gnu
ls $PWD/*crt*.o $PWD/libgcc_s.so.1 $PWD/libc.so* $PWD/libc_nonshared.a $PWD/libm.so* \
    $PWD/libmvec.so* >>$OLDPWD/libraries
cd $OLDPWD
sed 's,^/lib,/usr/lib,' libraries | sort -u | while read -r library; do
    take $library $(realpath $library)
done
"""


class BuildStreamTest(forky.InteropTest):
    """The input root is the whole file system of a command, partly read-only."""
    root = "/"
    worker_args = ("--allow", "uid", "--allow", "gid", "--slots", "4")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.project = Project(cls.forky)

    def bst(self, name, *words, code=0, **kwargs):
        run = self.project.bst(name, *words, **kwargs)
        self.assertEqual(run.code, code, run.err[-4000:])
        return run

    def start_slow(self, name):
        """An element's command that runs until it is ended; the build, and what shows that."""
        marker = forky.marker()
        self.project.element(f"{name}.bst", f"""
kind: manual
build-depends: [base.bst]
config:
  build-commands: ["sleep {marker} || true"]
  install-commands: ["echo done > %{{install-root}}/done"]
""")
        self.project.configure(name, execution=self.forky.http)
        build = self.project.start(name, "build", f"{name}.bst")
        wait_until(lambda: sandboxes_with(marker) or build.popen.poll() is not None, "the command")
        self.assertIsNone(build.popen.poll(), build.err()[-3000:])
        return build, marker

    def test_artifacts_are_those_of_a_local_build(self):
        self.project.configure("local")
        self.project.configure("far", execution=self.forky.http)
        self.bst("local", "build", "all.bst")
        with self.forky.counted() as calls:
            self.bst("far", "build", "all.bst")
        self.assertEqual(calls[EXECUTE], 2)
        self.assertEqual(calls["ActionCache/GetActionResult NOT_FOUND"], 2)
        for element in ("hello", "report", "base"):
            self.assertEqual(self.project.files("local", element),
                             self.project.files("far", element))
        report = self.bst("far", "artifact", "checkout", "--tar", "-", "report.bst")
        self.assertIn(b"HELLO FROM SOURCE\n", report.out)
        self.bst("far", "artifact", "checkout", "--directory", "out", "hello.bst")
        out = self.project.dir / "out/usr/share/demo"
        self.assertEqual((out / "HELLO").read_text(), "HELLO FROM SOURCE\n")
        self.assertEqual(os.readlink(out / "link"), "HELLO")
        shell = self.bst("far", "shell", "--build", "report.bst", "--", "cat",
                         "/usr/share/demo/HELLO")
        self.assertEqual(shell.text, "HELLO FROM SOURCE\n")
        with self.forky.counted() as calls:  # what is built is asked for, and not run again
            self.project.forget("far")
            self.bst("far", "build", "all.bst")
        self.assertEqual((calls[EXECUTE], calls["ActionCache/GetActionResult"]), (0, 2))

    def test_failing_command_is_shown_as_that(self):
        self.project.configure("fails", execution=self.forky.http)
        run = self.bst("fails", "build", "fails.bst", code=255)
        self.assertRegex(run.err, r"exit ?code 7")
        self.assertIn("about to fail", run.err)

    def test_local_sandbox_on_remote_storage(self):
        """Only storage is asked: nothing runs on a worker, no result is looked up."""
        self.project.configure("stored", cache={"storage-service": remote(self.forky.http)})
        with self.forky.counted() as calls:
            self.bst("stored", "build", "all.bst")
        self.assertEqual({c.split("/")[0] for c in calls},
                         {"Capabilities", "ContentAddressableStorage"})
        run = self.bst("stored", "artifact", "checkout", "--tar", "-", "report.bst")
        self.assertIn(b"HELLO FROM SOURCE\n", run.out)

    def test_interrupt_ends_the_command(self):
        with self.forky.counted() as calls:
            build, marker = self.start_slow("interrupted")
            build.stop(signal.SIGINT)
            wait_until(lambda: not sandboxes_with(marker), "the end of what was interrupted")
        self.assertEqual(calls[CANCEL], 1)

    def test_server_that_comes_back_meanwhile(self):
        """The build goes on by WaitExecution, and passes."""
        with self.forky.counted() as calls:
            build, marker = self.start_slow("outlives")
            self.forky.kill_server()
            self.forky.start_server()
            code = forky.end_until_over(marker, build.popen)
            self.assertEqual(code, 0, build.err()[-4000:])
        self.assertGreaterEqual(calls["Execution/WaitExecution"], 1)
        self.assertEqual(calls[EXECUTE], 0)  # the one there was ended with the server

    def test_four_builders(self):
        marker = forky.marker()
        for i in range(4):
            self.project.element(f"part{i}.bst", f"""
kind: manual
build-depends: [base.bst]
config:
  install-commands: ["echo {i} > %{{install-root}}/part{i}; sleep {marker} || true"]
""")
        self.project.element("parts.bst", "kind: stack\ndepends: [%s]\n" % ", ".join(
            f"part{i}.bst" for i in range(4)))
        self.project.configure("four", builders=4, execution=self.forky.http)
        with self.forky.counted() as calls:
            build = self.project.start("four", "build", "parts.bst")
            wait_until(lambda: len(sandboxes_with(marker)) == 4 or build.popen.poll() is not None,
                       "four commands at once")
            self.assertIsNone(build.popen.poll(), build.err()[-4000:])
            forky.end_all(marker)
            self.assertEqual(build.popen.wait(forky.PATIENCE), 0, build.err()[-4000:])
        self.assertEqual(calls[EXECUTE], 4)
        run = self.bst("four", "artifact", "checkout", "--tar", "-", "parts.bst")
        for i in range(4):
            self.assertIn(b"part%d" % i, run.out)

    @forky.long
    def test_compiles_in_a_root_of_20_000_files(self):
        """A real compiler and its headers, and many more that nobody includes."""
        self.inside(SYSROOT, cwd=self.project.path)
        n_files = sum(len(files) for _, _, files in os.walk(self.project.dir / "big"))
        self.assertGreater(n_files, 20_000)
        self.project.element("big.bst", "kind: import\nsources:\n- {kind: local, path: big}\n")
        (self.project.dir / "c").mkdir()
        (self.project.dir / "c/main.c").write_text("#include <stdio.h>\n" + "".join(
            f"#include <many/d{i}/h{i}.h>\n" for i in range(100)) +
            'int main(void) { return printf("%d\\n", MANY_7_7 + MANY_99_99) < 0; }\n')
        self.project.element("compiled.bst", """
kind: manual
build-depends: [big.bst]
sources:
- {kind: local, path: c}
config:
  build-commands: ["gcc -O2 -o main main.c", "./main > said"]
  install-commands: ["cp main said %{install-root}"]
""")
        self.project.configure("large", execution=self.forky.http)
        with self.forky.counted("unix") as calls:
            self.bst("large", "build", "compiled.bst")
        run = self.bst("large", "artifact", "checkout", "--tar", "-", "compiled.bst")
        self.assertIn(b"7420\n", run.out.replace(b"\0", b""))
        # about 250 are opened; of small ones foresight fetches many more, in few calls
        fetched = sum(1 for p in (self.worker.cache / "blobs").rglob("*") if p.is_file())
        self.assertLess(fetched, n_files / 2)
        self.assertLess(sum(calls.values()), 400)
