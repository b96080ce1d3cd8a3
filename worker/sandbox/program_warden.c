/*
 * lazyroot-sandbox warden DIR: waits for the death of the process that started it, then
 * aborts the FUSE mounts at or below DIR, and ends. See warden.h.
 *
 * The kernel signals the death of the thread that started us (PR_SET_PDEATHSIG). Whoever
 * ends services signals each process of one, too, while the worker drains: so a signal is
 * only a reason to look. One thread.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "worker/sandbox/program.h"

#define WARDEN_PATH_MAX 4096
#define WARDEN_LOOKS    200 /* of 10 ms each: a thread that dies is no zombie yet */

/* The state of a process: a letter, 0 where there is none. */
static char warden_state(pid_t pid)
{
	char path[64], text[512];
	const char *name_end;
	FILE *file;
	size_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	n = fread(text, 1, sizeof(text) - 1, file);
	(void)fclose(file);
	text[n] = '\0';
	name_end = strrchr(text, ')');
	return name_end && name_end[1] == ' ' ? name_end[2] : 0;
}

/* Its first thread has ended, or all of it. */
static bool warden_is_dead(pid_t pid)
{
	char state = warden_state(pid);

	return getppid() != pid || state == 0 || state == 'Z' || state == 'X';
}

static bool warden_is_dying(pid_t pid)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	for (int i = 0; i < WARDEN_LOOKS; i++) {
		if (warden_is_dead(pid))
			return true;
		(void)nanosleep(&pause, NULL);
	}
	return false;
}

/* In place: mountinfo writes blanks and backslashes of paths as three octal digits. */
static void warden_unescape(char *path)
{
	char *to = path;

	for (const char *from = path; *from; to++) {
		if (from[0] == '\\' && from[1] && from[2] && from[3]) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 |
				     (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static bool warden_is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* One line of mountinfo: the fifth word is the path, the first behind " - " the type. */
static void warden_abort(char *line, const char *dir)
{
	const char *type = strstr(line, " - fuse");
	char *save = NULL;
	char *word = strtok_r(line, " ", &save);

	for (int i = 1; word && i < 5; i++)
		word = strtok_r(NULL, " ", &save);
	if (!type || !word)
		return;
	warden_unescape(word);
	/* aborted even where it is busy and stays */
	if (warden_is_below(word, dir) &&
	    umount2(word, MNT_FORCE | UMOUNT_NOFOLLOW) < 0 && errno != EBUSY)
		perror("lazyroot-sandbox: abort a mount");
}

static void warden_abort_all(const char *dir)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;

	while (file && getline(&line, &size, file) > 0)
		warden_abort(line, dir);
	free(line);
	if (file)
		(void)fclose(file);
}

int program_warden(const char *dir)
{
	pid_t parent = getppid();
	sigset_t all;
	int number;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)close_range(3, ~0u, 0);
	if (chdir("/") < 0 || prctl(PR_SET_PDEATHSIG, SIGUSR1) < 0) {
		perror("lazyroot-sandbox: wait for the worker's end");
		return PROGRAM_BROKEN;
	}
	while (!warden_is_dead(parent)) { /* before the first signal, too */
		if (sigwait(&all, &number) == 0 && number == SIGUSR1 &&
		    warden_is_dying(parent))
			break;
	}
	warden_abort_all(dir);
	return 0;
}
