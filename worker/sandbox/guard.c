/*
 * Owns the watching of one command's limits. Three kinds of enforcement:
 *
 *   the kernel    memory and processes in cgroups; the size of /tmp and of each file
 *   looks         CPU time, log sizes, disk: each at the moment when its limit could be
 *                 reached at the earliest, so that a short command is never looked at
 *   afterwards    what the kernel counted (OOM kills, refused forks), and once more what
 *                 was looked at
 *
 * Space below the input root is found by walking what was written, a step a look: at most
 * a fiftieth of the time goes into it, however much was written, and after the command's
 * end as long as it takes. Files that are open but have no name are asked of the
 * processes. What only a message between two of them holds is not seen; each file alone
 * is bounded by RLIMIT_FSIZE. Where all of it lies on a file system of that size
 * (upper.h), nothing is walked: space ends by itself, and the file system knows how many
 * files it has.
 */
#include "worker/sandbox/guard.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "lib/base/clock.h"

#define LOG_MODULE "guard"
#include "lib/base/log.h"

#define GUARD_BYTES_PER_MS (4LL << 20) /* no command writes faster than 4 GiB/s */
#define GUARD_LOG_MIN_NS   (10 * NS_PER_MS)
#define GUARD_CPU_MIN_NS   (10 * NS_PER_MS)
#define GUARD_MEMORY_NS    (250 * NS_PER_MS)
#define GUARD_DISK_MIN_NS  (50 * NS_PER_MS)
#define GUARD_TMP_RETRY_NS (5 * NS_PER_MS) /* until bubblewrap has mounted it */
#define GUARD_DISK_STEP_NS (2 * NS_PER_MS)
#define GUARD_DISK_END_NS  (30 * NS_PER_S) /* for all of it, after the end */
#define GUARD_DISK_SHARE   50 /* one part of so many may be spent on walking */
#define GUARD_ROOT_INODES  64 /* mount points and links of the sandbox itself */
#define GUARD_EXIT_XCPU    (128 + SIGXCPU)
#define GUARD_EXIT_XFSZ    (128 + SIGXFSZ)

static bool guard_has(const struct guard *guard, enum limits_kind kind)
{
	return guard->config.limits->of[kind] != LIMITS_NONE;
}

/* Whether what is written lies on a file system as large as the limit. */
static bool guard_has_own_disk(const struct guard *guard)
{
	return guard->config.disk_fd >= 0;
}

static bool guard_counts_disk(const struct guard *guard)
{
	return (guard_has(guard, LIMITS_DISK) && !guard_has_own_disk(guard)) ||
	       guard_has(guard, LIMITS_INODES);
}

static void guard_pass(struct guard *guard, enum limits_kind kind)
{
	guard->passed_mask |= 1u << kind;
	guard->due_ns[kind] = CLOCK_NEVER;
}

/* The time in which n bytes can be written at the earliest. */
static int64_t guard_writing_ns(int64_t n)
{
	return n / GUARD_BYTES_PER_MS * NS_PER_MS;
}

static int64_t guard_max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Files of the disk, since the command's start. */
static int64_t guard_disk_inodes(const struct guard *guard)
{
	struct statfs fs;

	if (!guard_has_own_disk(guard) || fstatfs(guard->config.disk_fd, &fs) < 0)
		return 0;
	return (int64_t)(fs.f_files - fs.f_ffree) - guard->disk_inodes;
}

/* Beginning */

static struct error *guard_limit_cgroups(struct guard *guard,
					 struct sandbox_config *sandbox)
{
	const struct guard_config *config = &guard->config;
	static const enum limits_kind kinds[CGROUP_CONTROLLER_N] = {
		[CGROUP_MEMORY] = LIMITS_MEMORY, [CGROUP_PIDS] = LIMITS_PROCESSES};
	struct error *err = NULL;

	for (enum cgroup_controller i = 0; !err && i < CGROUP_CONTROLLER_N; i++) {
		if (config->cgroups->how[i] == CGROUP_V2 && guard_has(guard, kinds[i]))
			err = cgroup_limit(config->cgroup, i,
					   config->limits->of[kinds[i]]);
	}
	if (!err && config->cgroup_v1)
		err = cgroup_v1_begin(config->cgroup_v1,
				      config->limits->of[LIMITS_MEMORY],
				      config->limits->of[LIMITS_PROCESSES]);
	if (config->cgroups->how[CGROUP_MEMORY] == CGROUP_NOT &&
	    guard_has(guard, LIMITS_MEMORY))
		sandbox->rlimits.data_bytes = (rlim_t)config->limits->of[LIMITS_MEMORY];
	if (config->cgroups->how[CGROUP_PIDS] == CGROUP_NOT &&
	    guard_has(guard,
		      LIMITS_PROCESSES)) /* the namespace's first is counted, too */
		sandbox->rlimits.processes =
			(rlim_t)config->limits->of[LIMITS_PROCESSES] + 1;
	return err;
}

static void guard_first_looks(struct guard *guard)
{
	const int64_t *of = guard->config.limits->of;
	int64_t now = guard->start_ns;

	if (guard_has(guard, LIMITS_MEMORY))
		guard->due_ns[LIMITS_MEMORY] = now + GUARD_MEMORY_NS;
	if (guard_has(guard, LIMITS_CPU_TIME) && guard->config.cgroup)
		guard->due_ns[LIMITS_CPU_TIME] =
			now + of[LIMITS_CPU_TIME] / sysconf(_SC_NPROCESSORS_ONLN);
	if (guard_has(guard, LIMITS_LOG_BYTES))
		guard->due_ns[LIMITS_LOG_BYTES] =
			now + guard_max(GUARD_LOG_MIN_NS,
					guard_writing_ns(of[LIMITS_LOG_BYTES]));
	/* early, since /tmp must be seen before it can have been filled */
	if (guard_has(guard, LIMITS_DISK) && !guard_has_own_disk(guard))
		guard->due_ns[LIMITS_DISK] = now + guard_writing_ns(of[LIMITS_DISK]);
	if (guard_has(guard, LIMITS_INODES))
		guard->due_ns[LIMITS_DISK] = now; /* both are one look */
}

struct error *guard_begin(struct guard *guard, const struct guard_config *config,
			  struct sandbox_config *sandbox)
{
	*guard = GUARD_INIT;
	guard->config = *config;
	guard->start_ns = clock_mono_ns();
	guard->usage = CGROUP_USAGE_INIT;
	for (size_t i = 0; i < LIMITS_N; i++)
		guard->due_ns[i] = CLOCK_NEVER;
	disk_walk_init(&guard->walk, config->upper_fd);
	guard->disk_inodes = guard_disk_inodes(guard);
	sandbox->rlimits = (struct sandbox_rlimits){RLIM_INFINITY, RLIM_INFINITY,
						    RLIM_INFINITY, RLIM_INFINITY};
	if (guard_has(guard, LIMITS_DISK)) {
		sandbox->tmp_bytes = config->limits->of[LIMITS_DISK];
		/* a byte more, so that a file as large as allowed is none too large */
		sandbox->rlimits.file_bytes = (rlim_t)config->limits->of[LIMITS_DISK] + 1;
	}
	if (guard_has(guard, LIMITS_CPU_TIME) && !config->cgroup)
		sandbox->rlimits.cpu_seconds =
			(rlim_t)(config->limits->of[LIMITS_CPU_TIME] / NS_PER_S + 1);
	guard_first_looks(guard);
	return guard_limit_cgroups(guard, sandbox);
}

void guard_deinit(struct guard *guard)
{
	disk_walk_deinit(&guard->walk);
	for (size_t i = 0; i < ARRAY_SIZE(guard->tmp_fds); i++) {
		cleanup_fd(&guard->tmp_fds[i]);
		guard->tmp_fds[i] = -1;
	}
}

/* Looking */

static void guard_read_usage(struct guard *guard)
{
	if (guard->config.cgroup)
		cgroup_read_usage(guard->config.cgroup, &guard->usage);
	if (guard->config.cgroup_v1)
		cgroup_v1_read_usage(guard->config.cgroup_v1, &guard->usage);
}

static void guard_look_memory(struct guard *guard, int64_t now)
{
	guard->due_ns[LIMITS_MEMORY] = now + GUARD_MEMORY_NS;
	guard_read_usage(guard);
	if (guard->usage.n_oom_kills > 0)
		guard_pass(guard, LIMITS_MEMORY);
}

static void guard_look_cpu(struct guard *guard, int64_t now)
{
	int64_t used = cgroup_cpu_us(guard->config.cgroup) * 1000;
	int64_t left = guard->config.limits->of[LIMITS_CPU_TIME] - used;

	guard->due_ns[LIMITS_CPU_TIME] =
		now + guard_max(GUARD_CPU_MIN_NS, left / sysconf(_SC_NPROCESSORS_ONLN));
	if (left <= 0)
		guard_pass(guard, LIMITS_CPU_TIME);
}

static int64_t guard_log_bytes(const struct guard *guard)
{
	int64_t total = 0;

	for (size_t i = 0; i < 2; i++) {
		struct stat st;

		if (fstat(guard->config.log_fds[i], &st) == 0)
			total += st.st_size;
	}
	return total;
}

static void guard_look_logs(struct guard *guard, int64_t now)
{
	int64_t left =
		guard->config.limits->of[LIMITS_LOG_BYTES] - guard_log_bytes(guard);

	guard->due_ns[LIMITS_LOG_BYTES] =
		now + guard_max(GUARD_LOG_MIN_NS, guard_writing_ns(left));
	if (left < 0)
		guard_pass(guard, LIMITS_LOG_BYTES);
}

/* Whether it is no mount of ours: seen from the process, its root is another. */
static bool guard_is_sandboxs(pid_t pid, int fd)
{
	struct stat root;
	struct stat own;
	struct stat st;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/root", pid);
	return stat(path, &root) == 0 && stat("/", &own) == 0 && fstat(fd, &st) == 0 &&
	       root.st_dev != own.st_dev && st.st_dev != root.st_dev;
}

/* Whether it is the sandbox's own, and not, until bubblewrap has made its mounts, the
 * host's or its own new root's. */
static bool guard_is_tmp(const struct guard *guard, enum guard_tmp which, pid_t pid,
			 int fd)
{
	int64_t wanted = which == GUARD_TMP_ROOT ? SANDBOX_ROOT_BYTES
						 : guard->config.limits->of[LIMITS_DISK];
	struct statfs fs;
	int64_t size;

	if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
		return false;
	size = (int64_t)fs.f_blocks * fs.f_bsize;
	if (wanted == LIMITS_NONE)
		return guard_is_sandboxs(pid, fd);
	return size >= wanted && size < wanted + fs.f_bsize;
}

/* Opens a file system of the sandbox's own, which stays to be seen after the command's
 * end. */
static void guard_find_tmp(struct guard *guard, enum guard_tmp which,
			   struct sandbox *sandbox)
{
	const char *const names[GUARD_TMP_N] = {
		[GUARD_TMP_TMP] = guard->config.tmp_at,
		[GUARD_TMP_SHM] = "/dev/shm",
		[GUARD_TMP_ROOT] = "/.",
	};
	int *fd = &guard->tmp_fds[which];
	pid_t pid = *fd < 0 ? sandbox_first_pid(sandbox) : 0;
	char path[PATH_MAX];

	if (!pid)
		return;
	(void)snprintf(path, sizeof(path), "/proc/%d/root%s", pid, names[which]);
	*fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd < 0 || guard_is_tmp(guard, which, pid, *fd))
		return;
	(void)close(*fd);
	*fd = -1;
}

static int64_t guard_tmp_bytes(const struct guard *guard)
{
	int64_t total = 0;

	for (size_t i = 0; i < ARRAY_SIZE(guard->tmp_fds); i++) {
		struct statfs fs;

		/* full: it refuses what would be over the limit */
		if (guard->tmp_fds[i] >= 0 && fstatfs(guard->tmp_fds[i], &fs) == 0)
			total += (int64_t)(fs.f_blocks - fs.f_bfree) * fs.f_bsize +
				 (fs.f_blocks && fs.f_bfree == 0);
	}
	return total;
}

static int64_t guard_tmp_inodes(const struct guard *guard)
{
	int64_t total = 0;

	for (size_t i = 0; i < ARRAY_SIZE(guard->tmp_fds); i++) {
		struct statfs fs;

		int64_t free_of_charge = i == GUARD_TMP_ROOT ? GUARD_ROOT_INODES : 1;

		if (guard->tmp_fds[i] >= 0 && fstatfs(guard->tmp_fds[i], &fs) == 0)
			total += guard_max(0, (int64_t)(fs.f_files - fs.f_ffree) -
						      free_of_charge);
	}
	return total;
}

static int64_t guard_disk_bytes(const struct guard *guard)
{
	return guard->walk.bytes + guard->held.bytes + guard_tmp_bytes(guard);
}

/* Takes note of what is passed; true where anything is. */
static bool guard_judge_disk(struct guard *guard)
{
	const int64_t *of = guard->config.limits->of;
	int64_t n_inodes = guard->walk.n_inodes + guard->held.n_inodes +
			   guard_tmp_inodes(guard) + guard_disk_inodes(guard);
	bool is_past = !guard_has_own_disk(guard) &&
		       (guard_disk_bytes(guard) > of[LIMITS_DISK] ||
			guard->walk.largest > of[LIMITS_DISK] ||
			guard->held.largest > of[LIMITS_DISK]);

	/* what cannot be counted, by its depth or in time, counts as too much */
	if (guard_has(guard, LIMITS_DISK) && (is_past || guard->walk.is_cut))
		guard_pass(guard, LIMITS_DISK);
	if (guard_has(guard, LIMITS_INODES) &&
	    (n_inodes > of[LIMITS_INODES] || guard->walk.is_cut))
		guard_pass(guard, LIMITS_INODES);
	return guard->passed_mask & (1u << LIMITS_DISK | 1u << LIMITS_INODES);
}

static void guard_look_disk(struct guard *guard, struct sandbox *sandbox, int64_t now)
{
	int64_t pause;
	bool is_done;

	if (guard_has_own_disk(guard)) { /* in no time */
		guard_find_tmp(guard, GUARD_TMP_ROOT, sandbox);
		guard->due_ns[LIMITS_DISK] =
			guard_judge_disk(guard) ? CLOCK_NEVER : now + GUARD_DISK_MIN_NS;
		return;
	}
	for (enum guard_tmp i = 0; i < GUARD_TMP_N; i++)
		guard_find_tmp(guard, i, sandbox);
	is_done = disk_walk_step(&guard->walk, GUARD_DISK_STEP_NS);
	disk_held_read(sandbox_first_pid(sandbox), &guard->held);
	pause = guard_max(GUARD_DISK_MIN_NS, (clock_mono_ns() - now) * GUARD_DISK_SHARE);
	if (guard_judge_disk(guard)) {
		guard->due_ns[LIMITS_DISK] = CLOCK_NEVER;
		return;
	}
	if (is_done) {
		int64_t left =
			guard->config.limits->of[LIMITS_DISK] - guard_disk_bytes(guard);

		if (!guard_has(guard, LIMITS_INODES))
			pause = guard_max(pause, guard_writing_ns(left));
		disk_walk_deinit(&guard->walk);
		disk_walk_init(&guard->walk, guard->config.upper_fd);
	}
	guard->due_ns[LIMITS_DISK] =
		now + (guard->tmp_fds[GUARD_TMP_TMP] < 0 ? GUARD_TMP_RETRY_NS : pause);
}

int64_t guard_due_ns(const struct guard *guard)
{
	int64_t due = CLOCK_NEVER;

	for (size_t i = 0; i < LIMITS_N; i++)
		if (guard->due_ns[i] < due)
			due = guard->due_ns[i];
	return due;
}

bool guard_look(struct guard *guard, struct sandbox *sandbox)
{
	int64_t now = clock_mono_ns();

	if (guard->due_ns[LIMITS_MEMORY] <= now)
		guard_look_memory(guard, now);
	if (guard->due_ns[LIMITS_CPU_TIME] <= now)
		guard_look_cpu(guard, now);
	if (guard->due_ns[LIMITS_LOG_BYTES] <= now)
		guard_look_logs(guard, now);
	if (guard->due_ns[LIMITS_DISK] <= now)
		guard_look_disk(guard, sandbox, now);
	return guard->passed_mask != 0;
}

/* Ending */

/* To the end: what an action leaves behind at its end no look had the time to see. */
static void guard_finish_disk(struct guard *guard)
{
	int64_t until = clock_mono_ns() + GUARD_DISK_END_NS;

	disk_walk_deinit(&guard->walk);
	disk_walk_init(&guard->walk, guard->config.upper_fd);
	guard->held = (struct disk_held){0}; /* all that was open is closed */
	if (!guard_has_own_disk(guard))
		while (!disk_walk_step(&guard->walk, GUARD_DISK_MIN_NS) &&
		       !guard_judge_disk(guard))
			guard->walk.is_cut |= clock_mono_ns() >= until;
	(void)guard_judge_disk(guard);
}

void guard_finish(struct guard *guard, struct sandbox *sandbox)
{
	const int64_t *of = guard->config.limits->of;

	guard_read_usage(guard);
	if (guard->usage.n_oom_kills > 0)
		guard->passed_mask |= 1u << (guard_has(guard, LIMITS_MEMORY)
						     ? (unsigned int)LIMITS_MEMORY
						     : LIMITS_MACHINE);
	if (guard_has(guard, LIMITS_PROCESSES) && guard->usage.n_refused_forks > 0)
		guard_pass(guard, LIMITS_PROCESSES);
	if (guard->usage.cpu_us >= 0 && guard->usage.cpu_us >= of[LIMITS_CPU_TIME] / 1000)
		guard_pass(guard, LIMITS_CPU_TIME);
	if (guard_log_bytes(guard) > of[LIMITS_LOG_BYTES])
		guard_pass(guard, LIMITS_LOG_BYTES);
	if (guard_counts_disk(guard))
		guard_finish_disk(guard);
	/* an OOM kill may have hit bubblewrap too: its silence is then no failure */
	if (guard->passed_mask & ~(1u << LIMITS_PROCESSES))
		sandbox_kill(sandbox);
}

void guard_judge(struct guard *guard, int exit_code)
{
	if (exit_code == GUARD_EXIT_XCPU && guard_has(guard, LIMITS_CPU_TIME))
		guard_pass(guard, LIMITS_CPU_TIME);
	if (exit_code == GUARD_EXIT_XFSZ && guard_has(guard, LIMITS_DISK))
		guard_pass(guard, LIMITS_DISK);
}
