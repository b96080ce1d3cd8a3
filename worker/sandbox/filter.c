/*
 * Owns the table of what is refused. Two answers: ENOSYS, as a kernel without the call
 * has it, where programs then do without; EPERM where only a use of it is refused.
 *
 * Always refused are keyrings, which know no namespace but the user's, so that actions of
 * one user could pass keys to each other by number, and what is for the machine's
 * administrator and has been a way into kernels: bpf, perf_event_open, kexec, modules.
 *
 * Refused unless granted: io_uring does what system calls do, past every filter.
 * userfaultfd makes races in the kernel easy to win. In a user namespace (userns) a
 * command has all capabilities: mounts, and the kernel's less trodden paths; clone3 takes
 * its flags where no filter sees them, and without it the C library uses clone. ptrace
 * means attaching to a process that is no child: one that asks to be traced, as under gdb
 * or strace, is one.
 *
 * What puts words into a terminal's input (TIOCSTI, TIOCLINUX) is refused, too: in a
 * shell the terminal is its user's, whose own shell would read them afterwards and obey.
 * The kernel takes an ioctl's number from the low half of its argument, and so must we.
 *
 * Threads: any.
 */
#include "worker/sandbox/filter.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define FILTER_BYTES_MAX 65536
#define FILTER_ALWAYS    ALLOW_N /* no grant lifts it */
#define FILTER_REQUEST   UINT32_MAX

struct filter_rule {
	int syscall;
	int errnum;
	enum allow_kind unless;
	enum {
		FILTER_ANY,
		FILTER_EQUAL,   /* the first argument */
		FILTER_HAS_BIT, /* it, too */
		FILTER_IOCTL,   /* the second, of which the kernel reads 32 bits */
	} on;
	uint64_t value;
};

#define REFUSE(name, errnum, unless)                                                     \
	{                                                                                \
		SCMP_SYS(name), errnum, unless, FILTER_ANY, 0                            \
	}

static const struct filter_rule filter_rules[] = {
	REFUSE(add_key, ENOSYS, FILTER_ALWAYS),
	REFUSE(request_key, ENOSYS, FILTER_ALWAYS),
	REFUSE(keyctl, ENOSYS, FILTER_ALWAYS),
	REFUSE(bpf, EPERM, FILTER_ALWAYS),
	REFUSE(perf_event_open, EPERM, FILTER_ALWAYS),
	REFUSE(kexec_load, EPERM, FILTER_ALWAYS),
	REFUSE(kexec_file_load, EPERM, FILTER_ALWAYS),
	REFUSE(init_module, EPERM, FILTER_ALWAYS),
	REFUSE(finit_module, EPERM, FILTER_ALWAYS),
	REFUSE(delete_module, EPERM, FILTER_ALWAYS),
	REFUSE(reboot, EPERM, FILTER_ALWAYS),
	REFUSE(swapon, EPERM, FILTER_ALWAYS),
	REFUSE(swapoff, EPERM, FILTER_ALWAYS),
	REFUSE(acct, EPERM, FILTER_ALWAYS),
	REFUSE(quotactl, EPERM, FILTER_ALWAYS),
	REFUSE(quotactl_fd, EPERM, FILTER_ALWAYS),
	REFUSE(open_by_handle_at, EPERM, FILTER_ALWAYS),
	REFUSE(iopl, EPERM, FILTER_ALWAYS),
	REFUSE(ioperm, EPERM, FILTER_ALWAYS),
	REFUSE(syslog, EPERM, FILTER_ALWAYS),
	REFUSE(io_uring_setup, ENOSYS, ALLOW_IO_URING),
	REFUSE(io_uring_enter, ENOSYS, ALLOW_IO_URING),
	REFUSE(io_uring_register, ENOSYS, ALLOW_IO_URING),
	REFUSE(userfaultfd, ENOSYS, ALLOW_USERFAULTFD),
	REFUSE(clone3, ENOSYS, ALLOW_USERNS),
	{SCMP_SYS(clone), EPERM, ALLOW_USERNS, FILTER_HAS_BIT, CLONE_NEWUSER},
	{SCMP_SYS(unshare), EPERM, ALLOW_USERNS, FILTER_HAS_BIT, CLONE_NEWUSER},
	{SCMP_SYS(ptrace), EPERM, ALLOW_PTRACE, FILTER_EQUAL, PTRACE_ATTACH},
	{SCMP_SYS(ptrace), EPERM, ALLOW_PTRACE, FILTER_EQUAL, PTRACE_SEIZE},
	{SCMP_SYS(ioctl), EPERM, FILTER_ALWAYS, FILTER_IOCTL, TIOCSTI},
	{SCMP_SYS(ioctl), EPERM, FILTER_ALWAYS, FILTER_IOCTL, TIOCLINUX},
};

/* Instruction sets that run on this processor besides our own. */
static const uint32_t filter_arches[] = {
#ifdef __x86_64__
	SCMP_ARCH_X86,
	SCMP_ARCH_X32,
#elif defined(__aarch64__)
	SCMP_ARCH_ARM,
#endif
	SCMP_ARCH_NATIVE,
};

bool filter_is_possible(void)
{
	return prctl(PR_GET_SECCOMP) >= 0;
}

static void filter_release(scmp_filter_ctx *filter)
{
	seccomp_release(*filter);
}

/* 0, or what libseccomp says: a negative errno. */
static int filter_add(scmp_filter_ctx filter, const struct filter_rule *rule)
{
	uint32_t action = SCMP_ACT_ERRNO((unsigned int)rule->errnum);

	switch (rule->on) {
	case FILTER_ANY:
		return seccomp_rule_add(filter, action, rule->syscall, 0);
	case FILTER_EQUAL:
		return seccomp_rule_add(filter, action, rule->syscall, 1,
					SCMP_A0(SCMP_CMP_EQ, rule->value, 0));
	case FILTER_HAS_BIT:
		return seccomp_rule_add(
			filter, action, rule->syscall, 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, rule->value, rule->value));
	case FILTER_IOCTL:
		return seccomp_rule_add(
			filter, action, rule->syscall, 1,
			SCMP_A1(SCMP_CMP_MASKED_EQ, FILTER_REQUEST, rule->value));
	}
	return -EINVAL;
}

static int filter_fill(scmp_filter_ctx filter, const struct allow *allow)
{
	int status =
		seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));

	for (size_t i = 0; !status && i < ARRAY_SIZE(filter_arches); i++) {
		status = seccomp_arch_add(filter, filter_arches[i]);
		if (status == -EEXIST)
			status = 0;
	}
	/* a tree, not a list: most calls pass few comparisons */
	if (!status)
		status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (size_t i = 0; !status && i < ARRAY_SIZE(filter_rules); i++) {
		const struct filter_rule *rule = &filter_rules[i];

		if (rule->unless == FILTER_ALWAYS || !allow_has(allow, rule->unless))
			status = filter_add(filter, rule);
	}
	return status;
}

struct error *filter_make(const struct allow *allow, struct buf *out)
{
	_cleanup_(filter_release) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	_cleanup_fd_ int fd = memfd_create("filter", MFD_CLOEXEC);
	int status;

	if (fd < 0)
		return error_errno(errno, "make a memory file");
	status = filter ? filter_fill(filter, allow) : -ENOMEM;
	if (!status)
		status = seccomp_export_bpf(filter, fd);
	if (status)
		return error_errno(-status, "make the filter of system calls");
	return file_read_fd(fd, FILTER_BYTES_MAX, out);
}
