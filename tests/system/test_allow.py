"""What an action may ask for or do is the operator's to grant: each --allow both ways, inside real
actions. A worker that grants nothing stands beside one that grants all."""
import time

import system
from system import SystemTest

ALL = ("network", "uid", "gid", "userns", "ptrace", "io_uring", "userfaultfd")

# Each prints the errno's name of one call; NR is the number of the call on this machine.
CALLS = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *name, long result)
{
	printf("%s %s\n", name, result < 0 ? strerrorname_np(errno) : "OK");
	fflush(stdout);
}

/* A namespace that a call makes is not for those after it. */
#define in_child(name, call)                                                             \
	do {                                                                             \
		pid_t child_ = fork();                                                   \
		if (!child_) {                                                           \
			say(name, call);                                                 \
			_exit(0);                                                        \
		}                                                                        \
		waitpid(child_, NULL, 0);                                                \
	} while (0)

#ifdef __x86_64__
/* The system calls of i386, which any program can make. */
static long call32(long nr, long a, long b)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b)
			 : "memory", "r8", "r9", "r10", "r11");
	if (result < 0 && result > -4096) {
		errno = (int)-result;
		return -1;
	}
	return result;
}
#endif

int main(void)
{
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	pid_t other = fork();
	long result;

	if (!other) {
		sleep(600);
		_exit(0);
	}
	say("attach", ptrace(PTRACE_ATTACH, other, 0, 0));
	kill(other, SIGKILL);
	waitpid(other, NULL, __WALL);
	other = fork();
	if (!other) {
		sleep(600);
		_exit(0);
	}
	say("seize", ptrace(PTRACE_SEIZE, other, 0, 0));
	kill(other, SIGKILL);
	waitpid(other, NULL, __WALL);
	say("io_uring", syscall(SYS_io_uring_setup, 0, 0));
	say("userfaultfd", syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
	say("bpf", syscall(SYS_bpf, 0, 0, 0));
	say("perf", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0));
	say("key", syscall(SYS_keyctl, 0, -3, 0, 0, 0));
#ifdef __x86_64__
	say("x32 uring", syscall(0x40000000 | SYS_io_uring_setup, 0, 0));
	in_child("x32 unshare", syscall(0x40000000 | SYS_unshare, CLONE_NEWUSER));
	say("i386 uring", call32(425, 0, 0));
	say("i386 clone3", call32(435, 0, 0));
	say("i386 keyctl", call32(288, 0, -3));
	say("i386 attach", call32(26, PTRACE_ATTACH, 99999));
	result = call32(120, CLONE_NEWUSER | SIGCHLD, 0);
	if (!result)
		_exit(0);
	say("i386 clone", result);
	in_child("i386 unshare", call32(310, CLONE_NEWUSER, 0));
#endif
	result = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (!result)
		_exit(0);
	say("clone", result);
	result = syscall(SYS_clone3, &args, sizeof(args));
	if (!result)
		_exit(0);
	say("clone3", result);
	in_child("unshare", unshare(CLONE_NEWUSER));
	return 0;
}
"""
EPERM = ("attach", "seize", "bpf", "perf", "clone", "unshare", "i386 attach", "i386 clone",
         "i386 unshare", "x32 unshare")
ENOSYS = ("io_uring", "userfaultfd", "key", "clone3", "x32 uring", "i386 uring", "i386 clone3",
          "i386 keyctl")


class AllowTest(SystemTest):
    worker_args = ("--platform", "pool=strict", "--slots", "1")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.generous = cls.system.start_worker(
            "--platform", "pool=generous", "--slots", "1",
            *(word for name in ALL for word in ("--allow", name)))
        cls.calls = cls.system.tree("calls", {"calls.c": CALLS})

    def on(self, pool, script, *args):
        return self.system.sh(script, "--no-cache", "--platform", f"pool={pool}", *args)

    # what is asked for

    def test_what_is_not_granted_is_refused_at_once_and_by_name(self):
        for asked, grant in (("network=on", "--allow network"), ("unixUID=0", "--allow uid=0"),
                             ("unixGID=7", "--allow gid=7")):
            start = time.monotonic()
            run = self.on("strict", "true", "--platform", asked)
            self.assertEqual(run.code, 125, run.err)
            for word in (asked, "is not granted by this worker", grant):
                self.assertIn(word, run.err)
            self.assertLess(time.monotonic() - start, 30)
            self.assert_ok(self.on("generous", "true", "--platform", asked))

    def test_what_is_granted_anyway(self):
        run = self.assert_ok(self.on("strict", "id -u; id -g", "--platform", "network=off",
                                     "--platform", "unixUID=1000", "--platform", "unixGID=1000",
                                     "--platform", "InputRootAbsolutePath=/src"))
        self.assertEqual(run.text, "1000\n1000\n")

    def test_a_range_of_ids(self):
        worker = self.system.start_worker("--platform", "pool=range", "--allow", "uid=0-9")
        self.assertEqual(self.on("range", "id -u", "--platform", "unixUID=9").text, "9\n")
        self.assertIn("unixUID=10", self.on("range", "id", "--platform", "unixUID=10").err)
        self.assertIn("unixGID=9", self.on("range", "id", "--platform", "unixGID=9").err)
        self.assertEqual(worker.stop(), 0)

    def test_a_worker_that_grants_it_can_be_asked_for(self):
        run = self.assert_ok(self.system.sh("ls /sys/class/net | wc -l; cat /proc/net/dev | wc -l",
                                            "--no-cache", "--platform", "allow=network",
                                            "--platform", "network=on"))
        self.assertTrue(run.text)

    def test_words_that_are_no_grants(self):
        for words, said in ((("--allow", "everything"), "everything"),
                            (("--allow", "uid=9-1"), "uid"), (("--allow", "network=1"), "network")):
            with self.assertRaisesRegex(system.Failed, said):
                self.system.start_worker(*words)

    # what a command does

    def said(self, pool):
        run = self.assert_ok(self.on(pool, "gcc -o calls calls.c && ./calls", "--input",
                                     self.calls))
        return dict(line.rsplit(" ", 1) for line in run.text.splitlines())

    def test_calls_that_are_refused(self):
        said = self.said("strict")
        for name in EPERM:
            # a kernel without x32 has none of its calls
            self.assertIn(said.get(name, "EPERM"),
                          ("EPERM", "ENOSYS") if name.startswith("x32") else ("EPERM",), name)
        for name in ENOSYS:
            self.assertEqual(said.get(name, "ENOSYS"), "ENOSYS", name)

    def test_calls_that_are_granted(self):
        said = self.said("generous")
        for name in ("attach", "seize", "userfaultfd", "clone", "clone3", "unshare"):
            self.assertIn(said[name], ("OK", "EINVAL"), name)
        self.assertIn(said["io_uring"], ("EINVAL", "EFAULT"))
        self.assertEqual((said["bpf"], said["perf"], said["key"]), ("EPERM", "EPERM", "ENOSYS"),
                         "these nobody grants")

    def test_a_sandbox_in_a_sandbox(self):
        script = ("bwrap --ro-bind / / --unshare-user --tmpfs /tmp --proc /proc -- "
                  "sh -c 'echo inside > /tmp/x; cat /tmp/x'")
        self.assertEqual(self.assert_ok(self.on("generous", script)).text, "inside\n")
        self.assertNotEqual(self.on("strict", script).code, 0)
        self.assertNotEqual(self.on("strict", "unshare -Ur true").code, 0)
        self.assert_ok(self.on("generous", "unshare -Ur true"))

    def test_threads_start_without_clone3(self):
        run = self.assert_ok(self.on(
            "strict", "/usr/bin/python3 -c 'import threading; t = threading.Thread("
            "target=lambda: print(\"thread\")); t.start(); t.join()'"))
        self.assertEqual(run.text, "thread\n")

    def test_debuggers_on_their_own_children(self):
        for tool, script, said in (
                ("gdb", "gcc -g -o calls calls.c && gdb -batch -ex 'break say' -ex run -ex bt "
                        "./calls", "main ()"),
                ("strace", "strace -f -e trace=execve sh -c 'cat /dev/null' 2>&1", "execve(")):
            self.assertEqual(self.on("strict", f"command -v {tool}").code, 0, "tools/setup tests")
            run = self.assert_ok(self.on("strict", script, "--input", self.calls))
            self.assertIn(said, run.text + run.err)


if __name__ == "__main__":
    system.main()
