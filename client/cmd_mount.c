/*
 * lazyroot mount: a tree, or with no digest every tree by its digest, as a read-only file
 * system. Goes into the background once it is mounted, unless -f; ends when it is
 * unmounted (fusermount3 -u, umount) or by a signal.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "client/subject.h"
#include "fuse/session.h"
#include "lib/base/alloc.h"

struct mount_verb {
	struct client client;
	bool is_foreground;
	const char *text;   /* what names the tree, or NULL */
	struct digest root; /* of that tree, once it is known */
	const char *path;
	int ready_fd; /* the parent waits for a byte; -1: none waits */
};

static bool mount_is_fuse(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC;
}

/* What lies below a mount is out of sight until it ends: it must be nothing. A mount on
 * top of another would hide that, too. */
static struct error *mount_check_place(const char *path)
{
	_cleanup_free_ char *above = alloc_printf("%s/..", path);
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool is_empty = true;
	struct stat st;
	struct stat st_above;

	if (!dir)
		return error_errno(errno, "mount on %s", path);
	while (is_empty && (entry = readdir(dir)))
		is_empty = strcmp(entry->d_name, ".") == 0 ||
			   strcmp(entry->d_name, "..") == 0;
	(void)closedir(dir);
	if (stat(path, &st) < 0 || stat(above, &st_above) < 0)
		return error_errno(errno, "mount on %s", path);
	if (st.st_dev != st_above.st_dev && mount_is_fuse(path))
		return error_new(ERROR_FAILED_PRECONDITION,
				 "%s is mounted on already: fusermount3 -u %s ends that",
				 path, path);
	if (!is_empty)
		return error_new(ERROR_FAILED_PRECONDITION,
				 "%s is not empty: what it holds would be hidden", path);
	return NULL;
}

/* The digest of the tree, for whoever waits. */
static void mount_say_ready(struct mount_verb *verb)
{
	char text[DIGEST_STRING_MAX] = "";
	int null;

	if (verb->ready_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		(void)dup2(null, 0);
		(void)dup2(null, 1);
		(void)dup2(null, 2);
		(void)close(null);
	}
	if (verb->text)
		(void)digest_format(&verb->root, text);
	if (write(verb->ready_fd, text, sizeof(text)) < 0)
		_exit(CLIENT_FAILED);
	(void)close(take_fd(verb->ready_fd));
}

static void mount_print_json(const struct mount_verb *verb)
{
	client_print_json(
		json_pack("{s:o,s:o}", "digest",
			  verb->text ? client_json_digest(&verb->root) : json_null(),
			  "mounted", client_json_bytes(slice_of(verb->path))));
}

static struct error *mount_serve(struct mount_verb *verb, int signal_fd)
{
	_cleanup_(session_freep) struct session *session = NULL;
	_cleanup_(store_pin_freep) struct store_pin *pin = NULL;
	_cleanup_(view_freep) struct view *view = view_new(verb->client.dirs);
	struct session_config config = {.view = view,
					.path = verb->path,
					.want_uring = true,
					.is_inspection = true};
	struct error *err = NULL;

	view_limit(view, verb->client.entries_max);
	if (verb->text) {
		err = subject_root(&verb->client, verb->text, &verb->root);
		config.only_root = &verb->root;
	}
	if (!err && verb->text)
		pin = local_pin_tree(&verb->client.local, &verb->root);
	if (!err)
		err = session_start(&config, &session);
	if (err)
		return err;
	mount_say_ready(verb);
	if (verb->is_foreground && verb->client.is_json) {
		mount_print_json(verb);
		say_flush();
	}
	if (verb->is_foreground && !verb->client.is_quiet)
		say("mounted on %s; ends with fusermount3 -u or Ctrl-C", verb->path);
	struct pollfd fds[] = {{.fd = signal_fd, .events = POLLIN},
			       {.fd = session_end_fd(session), .events = POLLIN}};

	while (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno == EINTR)
		;
	session = session_free(session); /* before its view */
	return NULL;
}

static int mount_run(struct mount_verb *verb)
{
	_cleanup_fd_ int signal_fd = -1;
	sigset_t signals;
	struct error *err;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGTERM);
	(void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
	err = verb->text ? subject_check(&verb->client, verb->text) : NULL;
	if (!err)
		err = client_open_fetch(&verb->client);
	if (err)
		return client_fail_start("mount", err, CLIENT_FAILED);
	err = mount_serve(verb, signal_fd);
	return client_fail("mount", err, CLIENT_FAILED);
}

/* The parent's end: 0 once the child has mounted, else what the child said. */
static int mount_wait(struct mount_verb *verb, int ready_fd, pid_t child)
{
	char text[DIGEST_STRING_MAX];
	int status = 0;
	ssize_t n;

	do
		n = read(ready_fd, text, sizeof(text));
	while (n < 0 && errno == EINTR);
	if (n == sizeof(text)) {
		if (*text)
			error_free(digest_parse(text, &verb->root));
		if (verb->client.is_json)
			mount_print_json(verb);
		return 0;
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status)
							: CLIENT_FAILED;
}

/* Forks before any thread is there: gRPC's would not survive it. */
static int mount_detach(struct mount_verb *verb)
{
	int fds[2];
	pid_t child;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return client_fail("mount", error_errno(errno, "make a pipe"),
				   CLIENT_FAILED);
	child = fork();
	if (child < 0)
		return client_fail("mount", error_errno(errno, "fork"), CLIENT_FAILED);
	if (child > 0) {
		(void)close(fds[1]);
		return mount_wait(verb, fds[0], child);
	}
	(void)close(fds[0]);
	(void)setsid();
	verb->ready_fd = fds[1];
	return mount_run(verb);
}

static void mount_verb_deinit(struct mount_verb *verb)
{
	client_deinit(&verb->client);
}

int cmd_mount(int argc, char **argv)
{
	_cleanup_(mount_verb_deinit) struct mount_verb verb = {.client = CLIENT_INIT,
							       .ready_fd = -1};
	const struct option_def defs[] = {
		{"foreground", 'f', OPTION_FLAG, NULL, "stay in the foreground", NULL,
		 &verb.is_foreground, 0, 0},
		CLIENT_ENTRIES_OPTION(&verb.client),
		CLIENT_OPTIONS(&verb.client),
	};
	const struct option_program program = {
		.name = "lazyroot mount",
		.usage = "[TREE] MOUNTPOINT",
		.summary = "Shows a tree as files, each fetched when it is first read. "
			   "Without TREE,\nMOUNTPOINT/HASH-SIZE is that Directory. The "
			   "attribute user.digest tells a file's\ndigest." SUBJECT_HELP,
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int operands;
	int code;
	struct error *err;

	if (!client_parse_operands(&program, argc, argv, 1, 2,
				   "name one MOUNTPOINT, and perhaps a TREE before it",
				   &operands, &code))
		return code;
	verb.text = argc - operands == 2 ? argv[operands] : NULL;
	verb.path = argv[argc - 1];
	err = mount_check_place(verb.path);
	if (err)
		return client_fail("mount", err, CLIENT_FAILED);
	return verb.is_foreground ? mount_run(&verb) : mount_detach(&verb);
}
