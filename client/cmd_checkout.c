/*
 * lazyroot checkout: a tree into a directory or a tar archive, after commands have run in
 * it that make it whole (ldconfig and the like). The destination is touched last, by
 * rename.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/client.h"
#include "client/destination.h"
#include "client/interrupt.h"
#include "client/progress.h"
#include "client/sandbox.h"
#include "client/subject.h"
#include "client/tarball.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/newfile.h"

#define CHECKOUT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct checkout_verb {
	struct client client;
	int stream_fd; /* of tar, where that is no file; or -1 */
	struct subject subject;
	struct option_list integrate; /* commands, in their order */
	char *tar;                    /* "-": standard output; NULL: no archive */
	bool is_forced;
	const char *dest; /* NULL with tar */
};

static void checkout_verb_deinit(struct checkout_verb *verb)
{
	cleanup_fd(&verb->stream_fd);
	subject_deinit(&verb->subject);
	option_list_deinit(&verb->integrate);
	free(verb->tar);
	client_deinit(&verb->client);
}

static bool checkout_is_streamed(const struct checkout_verb *verb)
{
	return verb->tar && strcmp(verb->tar, "-") == 0;
}

/* Integration */

/* The tree as it is after one command, as root of all that it sees. */
static struct error *checkout_integrate(struct checkout_verb *verb, const char *command,
					int null_fd)
{
	const char *const arguments[] = {"/bin/sh", "-c", command};
	const struct sandbox_variable path = {"PATH", CHECKOUT_PATH};
	const struct sandbox_shell_config config = {
		.client = &verb->client,
		.root = &verb->subject.root,
		.root_path = "/",
		.workdir = "",
		.arguments = arguments,
		.n_arguments = ARRAY_SIZE(arguments),
		.variables = &path,
		.n_variables = 1,
		/* standard output is the archive's, or a document's */
		.fds = {null_fd, STDERR_FILENO, STDERR_FILENO},
		.is_saved = true,
	};
	struct sandbox_shell_end end;
	struct error *err = sandbox_shell(&config, &end);

	if (!err && end.exit_code)
		err = error_new(ERROR_FAILED_PRECONDITION,
				"it ended with %d: nothing is checked out",
				end.exit_code);
	if (err)
		return error_wrap(err, "--integrate \"%s\"", command);
	verb->subject.root = end.saved;
	return NULL;
}

static struct error *checkout_integrate_all(struct checkout_verb *verb)
{
	_cleanup_fd_ int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct error *err = NULL;

	if (null_fd < 0)
		return error_errno(errno, "open /dev/null");
	for (size_t i = 0; !err && i < verb->integrate.n; i++)
		err = checkout_integrate(verb, verb->integrate.items[i], null_fd);
	return err;
}

/* The outcome */

static void checkout_progress(void *ctx, int64_t n_done, int64_t n_total, int64_t bytes)
{
	const struct progress_count count = {n_done, n_total, bytes, 0};

	progress_update(ctx, &count);
}

static struct error *checkout_to_dir(struct checkout_verb *verb)
{
	struct client *client = &verb->client;
	_cleanup_(progress_endp) struct progress *progress =
		progress_begin(PROGRESS_CHECKING_OUT, client->is_quiet, client->is_json);
	const struct checkout_config config = {.dirs = client->dirs,
					       .pool = client->local.pool,
					       .progress = checkout_progress,
					       .ctx = progress,
					       .mtime_ns = clock_wall_ns(),
					       .entries_max = client->entries_max};

	return destination_put_tree(&config, &verb->subject.root, verb->is_forced,
				    verb->dest);
}

static struct error *checkout_to_file(struct checkout_verb *verb)
{
	_cleanup_(newfile_deinit) struct newfile file = NEWFILE_INIT;
	struct error *err = newfile_open(verb->tar, &file);

	if (!err)
		err = tarball_write(&verb->client, &verb->subject.root, verb->tar,
				    file.fd);
	return err ? err : newfile_name(&file, verb->is_forced);
}

static struct error *checkout_out(struct checkout_verb *verb)
{
	if (verb->dest)
		return checkout_to_dir(verb);
	if (verb->stream_fd >= 0)
		return tarball_write(&verb->client, &verb->subject.root, verb->tar,
				     verb->stream_fd);
	if (!checkout_is_streamed(verb))
		return checkout_to_file(verb);
	return client_written(STDOUT_FILENO,
			      tarball_write(&verb->client, &verb->subject.root, verb->tar,
					    STDOUT_FILENO));
}

/* What is in the way is said before anything is done. */
static struct error *checkout_check(struct checkout_verb *verb)
{
	struct error *err = NULL;
	struct stat st;

	if (verb->tar && !checkout_is_streamed(verb))
		err = destination_open_stream(verb->tar, &verb->stream_fd);
	if (!err && verb->tar && stat(verb->tar, &st) == 0 && S_ISDIR(st.st_mode))
		return error_new(ERROR_ALREADY_EXISTS,
				 "--tar %s is a directory, and an archive is a file",
				 verb->tar);
	if (err || verb->is_forced || checkout_is_streamed(verb) || verb->stream_fd >= 0)
		return err;
	if (verb->dest)
		return destination_check(verb->dest, "--force replaces all of it");
	return access(verb->tar, F_OK) < 0
		       ? NULL
		       : error_new(ERROR_ALREADY_EXISTS,
				   "%s is there: --force replaces it", verb->tar);
}

/* Commands need namespaces, which are entered while there is one thread. */
static struct error *checkout_start(struct checkout_verb *verb)
{
	enum sandbox_place place = SANDBOX_NAMESPACES;
	struct error *err = checkout_check(verb);

	if (!err && verb->integrate.n)
		err = sandbox_settle(&verb->client, false, &place);
	if (!err)
		err = interrupt_start();
	return err ? err : client_open_fetch(&verb->client);
}

static int checkout_run(struct checkout_verb *verb, const char *text)
{
	const struct subject_wish wish = {.root_path = LAYOUT_ROOT};
	struct error *err = checkout_start(verb);

	if (!err)
		err = subject_find(&verb->client, text, &wish, &verb->subject);
	if (err)
		return client_fail_start("checkout", err, CLIENT_FAILED);
	err = checkout_integrate_all(verb);
	if (!err)
		err = checkout_out(verb);
	if (!err && verb->client.is_json)
		client_print_json(
			json_pack("{s:o,s:o}", "digest",
				  client_json_digest(&verb->subject.root), "dest",
				  client_json_bytes(slice_of(verb->dest ? verb->dest
									: verb->tar))));
	return client_fail("checkout", err, CLIENT_FAILED);
}

int cmd_checkout(int argc, char **argv)
{
	_cleanup_(checkout_verb_deinit) struct checkout_verb verb = {
		.client = CLIENT_INIT, .stream_fd = -1, .subject = SUBJECT_INIT};
	const struct option_def defs[] = {
		{"integrate", 0, OPTION_LIST, "COMMAND",
		 "run it first, in a sandbox of this machine with the tree as /; "
		 "repeated",
		 NULL, &verb.integrate, 0, 0},
		{"tar", 0, OPTION_STRING, "FILE",
		 "an archive instead of a directory (-: standard output), compressed as\n"
		 "its name ends: .gz, .tgz, .bz2, .xz or .zst",
		 NULL, &verb.tar, 0, 0},
		{"force", 0, OPTION_FLAG, NULL, "replace what is there, whatever it is",
		 NULL, &verb.is_forced, 0, 0},
		CLIENT_ENTRIES_OPTION(&verb.client),
		CLIENT_OPTIONS(&verb.client),
	};
	const struct option_program program = {
		.name = "lazyroot checkout",
		.usage = "[options] TREE [DEST]",
		.summary = "Puts a tree into the directory DEST or an archive, after "
			   "commands have run in it.\nWhere one of them fails nothing is "
			   "changed." SUBJECT_HELP,
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int operands;
	int code;

	if (!client_parse_operands(&program, argc, argv, 1, 2,
				   "name one TREE and one DEST (or --tar FILE)",
				   &operands, &code))
		return code;
	verb.dest = argc - operands == 2 ? argv[operands + 1] : NULL;
	if (!verb.dest == !verb.tar || (verb.dest && !*verb.dest) ||
	    (verb.tar && !*verb.tar))
		return client_usage("checkout",
				    "name one TREE and one DEST (or --tar FILE)");
	if (verb.dest && strcmp(verb.dest, "-") == 0)
		return client_usage("checkout",
				    "--tar - is standard output, and ./- a directory");
	if (verb.client.is_json && checkout_is_streamed(&verb))
		return client_usage("checkout", "--json and --tar - are both for "
						"standard output");
	return checkout_run(&verb, argv[operands]);
}
