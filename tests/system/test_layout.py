"""What stands where for a command: roots in any place, roots with links where the sandbox has mount
points of its own, who is who, what the machine is called."""
import os
import shutil
import time

import system
from system import SystemTest

WHO = r"""
import grp, os, pwd, socket
me = pwd.getpwuid(os.getuid())
print(me.pw_name, me.pw_uid, me.pw_gid, me.pw_dir, grp.getgrgid(os.getgid()).gr_name)
open(os.path.join(me.pw_dir, "probe"), "w").close()
"""


class LayoutTest(SystemTest):
    worker_args = ("--slots", "1", "--allow", "uid", "--allow", "gid", "--allow", "network")

    def at(self, path, script="pwd; cat seed", *args, **kwargs):
        tree = self.system.tree("seeded", {"seed": "seed\n"})
        return self.system.sh(script, "--no-cache", "--input", tree, "--platform",
                              f"InputRootAbsolutePath={path}", *args, **kwargs)

    def refused(self, run, *words):
        self.assertEqual(run.code, 125, run.err)
        for word in words:
            self.assertIn(word, run.err)
        self.assertNotIn("bwrap", run.err)
        self.assertNotIn("again", run.err)  # no other try mends it

    def test_below_trees_of_the_hosts(self):
        for path in ("/usr/src/no/such/place", "/usr/new", "/etc/new/place", "/opt/new", "/opt",
                     "/usr/local", "/var/tmp/x", "/tmp/x", "/home/x", "/run/x", "/var/tmp", "/srv/a/b"):
            run = self.assert_ok(self.at(path))
            self.assertEqual(run.text, f"{path}\nseed\n", path)
        # through the host's own link
        run = self.assert_ok(self.at("/bin/new/x", "pwd -L; cat seed"))
        self.assertTrue(run.text.endswith("bin/new/x\nseed\n"), run.text)

    def test_the_hosts_tree_stays_around_it(self):
        run = self.assert_ok(self.at(
            "/usr/lib/new/x", "ls -d /usr/lib/new/* /usr/bin/env; echo x > out; cat out;"
            " touch /usr/lib/y 2>/dev/null && echo wrote; touch /usr/lib/new/y 2>/dev/null &&"
            " echo wrote; true", "--output", "out", "--download", self.system.dir / "got"))
        self.assertEqual(run.text, "/usr/bin/env\n/usr/lib/new/x\nx\n")
        self.assertEqual((self.system.dir / "got/out").read_text(), "x\n")

    @staticmethod
    def closed():
        """A place below a directory of the host's that is root's alone, where there is one."""
        found = [p for p in ("/etc/ssl/private", "/etc/polkit-1/rules.d")
                 if os.path.isdir(p) and not os.stat(p).st_mode & 1]
        return [(f"{p}/x", "Permission denied") for p in found]

    def test_what_cannot_be_is_said_at_once(self):
        for path, word in (("/proc/x", "/proc/x"), ("/dev/x", "/dev/x"), ("/dev", "/dev"),
                           ("/etc/passwd", "Not a directory"), ("/etc/passwd/x", "Not a directory"),
                           *self.closed()):
            start = time.monotonic()
            self.refused(self.at(path), path, word)
            self.assertLess(time.monotonic() - start, 30)

    def whole(self, files, script, *args, expect=0):
        """A root that is all there is: one static program, a link for what it needs of the host."""
        files = {"x": ("exec", "#!/no\n"), **files}
        tree = self.system.dir / f"root{len(list(self.system.dir.glob('root*')))}"
        self.system.tree(tree.name, files)
        shutil.copy("/bin/busybox", tree / "busybox")
        run = self.system.run("--no-cache", "--input", tree, "--platform",
                              "InputRootAbsolutePath=/", *args, "--", "/busybox", "sh", "-c", script)
        if expect == 0:
            self.assert_ok(run)
        return run

    MOUNTS = ("for d in tmp proc dev sys; do /busybox ls -d /$d/. >/dev/null || /busybox echo lost $d; done; "
              "/busybox cat /proc/self/comm; /busybox echo x > /tmp/x; /busybox cat /tmp/x; "
              "/busybox echo y > /dev/null; /busybox test -d /sys/kernel || /busybox echo no sys")

    def test_links_in_the_root(self):
        links = {"sysroot/tmp": None, "a/b/dev": None, "tmp": ("link", "sysroot/tmp"),
                 "dev": ("link", "/a/b/dev"), "proc": ("link", "../../a/../later/proc"),
                 "sys": ("link", "sys2"), "sys2": ("link", "/new/sys"), "later/proc": None}
        run = self.whole(links, self.MOUNTS, "--output", ".", "--download",
                         self.system.dir / "links")
        self.assertEqual(run.text, "busybox\nx\n")
        got = self.system.dir / "links"
        self.assertEqual((got / "tmp").readlink().as_posix(), "sysroot/tmp")
        self.assertFalse((got / "new").exists())  # made for the sandbox, and gone with it
        self.assertFalse((got / "etc").exists())
        self.assertEqual(list((got / "sysroot/tmp").iterdir()), [])

    def test_an_ostree_root(self):
        run = self.whole({"tmp": ("link", "sysroot/tmp"), "home": ("link", "var/home"),
                          "sysroot": None}, self.MOUNTS)
        self.assertEqual(run.text, "busybox\nx\n")

    def test_what_is_no_directory(self):
        for name in ("tmp", "proc", "dev", "sys"):
            self.refused(self.whole({name: "a file\n"}, "true", expect=1), f"/{name}",
                         "Not a directory")
        self.refused(self.whole({"tmp": ("link", "tmp2"), "tmp2": ("link", "tmp")}, "true", expect=1),
                     "/tmp", "symbolic links")
        self.refused(self.whole({"proc": ("link", "x2"), "dev": ("link", "x2"), "x2": None}, "true",
                                expect=1), "/proc and /dev are one directory")
        self.refused(self.whole({"tmp": ("link", "/")}, "true", expect=1), "/tmp")

    def test_roots_of_workers(self):
        for root in ("/usr/src/new/x", "/"):
            worker = self.system.start_worker("--root", root, "--platform", "pool=root")
            if root != "/":
                run = self.assert_ok(self.system.sh("pwd", "--platform", "pool=root"))
                self.assertEqual(run.text, root + "\n")
            self.assertEqual(worker.stop(), 0)
        worker = self.system.start_worker("--root", "/proc/x", wait=False)
        self.assertEqual(worker.popen.wait(60), 2)
        self.assertIn("--root: no input root can be at /proc/x", worker.err())

    def who(self, *args):
        run = self.assert_ok(self.system.run("--no-cache", *args, "--", "/usr/bin/python3", "-c", WHO))
        return run.text.strip()

    def test_who_a_command_is(self):
        self.assertEqual(self.who(), "build 1000 1000 /tmp build")
        self.assertEqual(self.who("--platform", "unixUID=0", "--platform", "unixGID=0"),
                         "root 0 0 /tmp root")
        self.assertEqual(self.who("--platform", "unixUID=1234567", "--platform", "unixGID=7"),
                         "build 1234567 7 /tmp build")
        self.assertEqual(self.who("--platform", "unixUID=65534"), "nobody 65534 1000 /tmp build")
        self.assertEqual(self.who("--platform", "network=on"), "build 1000 1000 /tmp build")
        run = self.assert_ok(self.system.sh("whoami; id -un; id -gn; wc -l < /etc/passwd"))
        self.assertEqual(run.text, "build\nbuild\nbuild\n5\n")

    def test_a_root_keeps_its_own_accounts(self):
        run = self.whole({"etc/passwd": "me:x:1000:1000::/me:/sh\n"}, "/busybox whoami; /busybox cat /etc/passwd")
        self.assertEqual(run.text, "me\nme:x:1000:1000::/me:/sh\n")

    def test_a_worker_with_a_narrow_umask(self):
        other = system.System()
        try:
            other.start_worker(prefix=("/bin/sh", "-c", 'umask 077; exec "$@"', "sh"))
            run = self.assert_ok(other.sh("umask; cat /etc/passwd | wc -l", "--no-cache"))
            self.assertEqual(run.text.split()[0], "0022")
        finally:
            other.close()

    def test_customary_places(self):
        run = self.assert_ok(self.system.sh(
            "for d in /var/tmp /run /home /tmp; do echo x > $d/x && cat $d/x; done"))
        self.assertEqual(run.text, "x\n" * 4)

    HOSTS = ("import socket as s; print(s.gethostbyname(s.gethostname()), s.gethostbyname('localhost'),"
             " s.getaddrinfo(s.gethostname(), 1, s.AF_INET)[0][4][0])")

    def test_the_host_name_resolves(self):
        for args in ((), ("--platform", "network=on"), ("--platform", "unixUID=5")):
            run = self.assert_ok(self.system.run("--no-cache", *args, "--", "/usr/bin/python3", "-c",
                                                 self.HOSTS))
            self.assertEqual(run.text, "127.0.0.1 127.0.0.1 127.0.0.1\n")

    PING = "/busybox hostname; /busybox cat /etc/hosts; for n in $(/busybox hostname) localhost; do /busybox nslookup $n " \
           ">/dev/null 2>&1; /busybox ping -c 1 -w 1 $n 2>&1 | /busybox head -1; done"

    def test_the_host_name_resolves_in_a_root_of_its_own(self):
        """As a program looks names up that needs nothing but the root."""
        for files, hosts in (({"etc/x": ""}, None), ({"etc/hosts": ""}, None),
                             ({"etc/hosts": "127.0.0.1 localhost\n"}, "127.0.0.1 localhost\n")):
            got = self.system.dir / "hosts-out"
            run = self.whole(files, self.PING, "--output", "etc", "--download", got)
            lines = run.text.splitlines()
            self.assertEqual(lines[0], "localhost" if hosts else "lazyroot")
            if hosts:
                self.assertIn(hosts, run.text)
            self.assertEqual(run.text.count("(127.0.0.1)"), 2, run.text)
            if "etc/hosts" in files:  # what it brought is what it was
                self.assertEqual((got / "etc/hosts").read_text(), files["etc/hosts"])
            else:
                self.assertFalse((got / "etc/hosts").exists())


if __name__ == "__main__":
    system.main()
