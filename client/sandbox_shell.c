/*
 * Owns one command with its caller's descriptors: an overlay as a job has it, but no
 * pipes, no clock, and outputs only as a whole.
 *
 * On a terminal the command is in our session and, at first, in our foreground process
 * group; a shell makes groups of its own, as it does anywhere. ^C and ^\ are for the
 * command: between it and us everybody ignores them (program_serve.c), and so must our
 * caller. Afterwards the terminal is as it was, and its foreground is ours.
 *
 * Threads: main; a signal's kills.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>

#include "client/namespaces.h"
#include "client/sandbox_impl.h"
#include "client/sandbox_site.h"
#include "fuse/capture.h"
#include "fuse/overlay.h"
#include "lib/base/alloc.h"
#include "worker/action/job_stage.h"

#define SHELL_CAPTURE_MAX ((size_t)1 << 30) /* bytes of names and Directories */

struct shell {
	const struct sandbox_shell_config *config;
	struct store_pin *pin; /* of the root; NULL: it may go meanwhile */
	struct sandbox_site site;
	struct view_root *root;
	struct overlay *overlay;
	struct layout layout;
	struct sandbox *sandbox;
	struct termios terminal;
	bool has_terminal_state;
};

static void shell_deinit(struct shell *shell)
{
	sandbox_free(shell->sandbox);
	layout_deinit(&shell->layout);
	overlay_free(shell->overlay);
	view_root_put(shell->root);
	sandbox_site_deinit(&shell->site);
	store_pin_free(shell->pin);
}

static void shell_kill(void *shell)
{
	sandbox_kill(((struct shell *)shell)->sandbox);
}

/* Staging */

/* As a worker does; and the working directory is made as the parent of an output would
 * be. */
static struct error *shell_prepare(const struct shell *shell)
{
	static const atomic_bool never;
	const struct sandbox_shell_config *config = shell->config;
	_cleanup_free_ char *below = alloc_printf("%s/-", config->workdir);
	_cleanup_free_ struct plan_output *outputs =
		alloc_array(config->n_outputs + 1, sizeof(*outputs));
	struct plan plan = {.workdir = config->workdir, .outputs = outputs};

	for (; plan.n_outputs < config->n_outputs; plan.n_outputs++)
		outputs[plan.n_outputs] = config->outputs[plan.n_outputs];
	if (*config->workdir)
		outputs[plan.n_outputs++] = (struct plan_output){.path = below};
	return job_stage_prepare(&plan, &shell->site.job.user,
				 overlay_merged_fd(shell->overlay), &never);
}

static struct error *shell_layout(struct shell *shell)
{
	const struct sandbox_shell_config *config = shell->config;
	const char *merged = overlay_merged(shell->overlay);
	const struct layout_config layout = {
		.merged = merged,
		.merged_fd = overlay_merged_fd(shell->overlay),
		.root_path = config->root_path ? config->root_path : LAYOUT_ROOT,
		.dir = shell->site.actions_dir,
		.prefix = merged,
		.etc = shell->site.etc_dir,
		.uid = config->uid,
		.gid = config->gid,
		.with_network = config->with_network,
	};

	return layout_make(&layout, &shell->layout);
}

static struct error *shell_stage(struct shell *shell)
{
	char name[DIGEST_STRING_MAX];
	_cleanup_free_ char *lower = alloc_printf("%s/%s", shell->site.mount_dir,
						  digest_name(shell->config->root, name));
	_cleanup_free_ char *dir = alloc_printf("%s/fs", shell->site.actions_dir);
	/* what one leaves goes with the process, in which there may be others */
	static unsigned int number;
	_cleanup_free_ char *merged = alloc_printf("%s/%u", namespaces_dir(), number++);
	const struct overlay_config overlay = {
		.lower = lower, .dir = dir, .merged = merged, .is_left = true};
	struct error *err;

	shell->root = view_root_get(shell->site.job.view, shell->config->root);
	err = overlay_mount(&overlay, &shell->overlay);
	if (!err)
		err = shell_prepare(shell);
	return err ? err : shell_layout(shell);
}

/* Running */

static void shell_keep_terminal(struct shell *shell)
{
	shell->has_terminal_state =
		shell->config->is_terminal &&
		tcgetattr(shell->config->fds[0], &shell->terminal) == 0;
}

static void shell_take_terminal(const struct shell *shell)
{
	sigset_t writes;
	sigset_t before;

	if (!shell->config->is_terminal)
		return;
	/* who is in the background is stopped for it, unless he does not listen */
	(void)sigemptyset(&writes);
	(void)sigaddset(&writes, SIGTTOU);
	(void)pthread_sigmask(SIG_BLOCK, &writes, &before);
	(void)tcsetpgrp(shell->config->fds[0], getpgrp());
	if (shell->has_terminal_state)
		(void)tcsetattr(shell->config->fds[0], TCSADRAIN, &shell->terminal);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static struct error *shell_start(struct shell *shell)
{
	const struct sandbox_shell_config *config = shell->config;
	const struct sandbox_config sandbox = {
		.launcher = shell->site.slot.launcher,
		.layout = &shell->layout,
		.workdir = config->workdir,
		.arguments = config->arguments,
		.n_arguments = config->n_arguments,
		.variables = config->variables,
		.n_variables = config->n_variables,
		.has_terminal = config->is_terminal,
		.stdin_fd = config->fds[0],
		.stdout_fd = config->fds[1],
		.stderr_fd = config->fds[2],
		.user = shell->site.job.user,
		.uid = config->uid,
		.gid = config->gid,
		.rlimits = {RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY},
		.filter = shell->site.job.filter,
	};

	return sandbox_start(&sandbox, &shell->sandbox);
}

static struct error *shell_wait(struct shell *shell, int *exit_out)
{
	struct pollfd fd = {.fd = sandbox_fd(shell->sandbox), .events = POLLIN};
	struct sandbox_end end = {0};
	struct error *err;

	while (poll(&fd, 1, -1) < 0 && errno == EINTR)
		;
	err = sandbox_wait(shell->sandbox, &end);
	if (!err)
		*exit_out = end.exit_code;
	return err;
}

static struct error *shell_run(struct shell *shell, int *exit_out)
{
	struct sandbox_interrupt interrupt;
	struct error *err;

	shell_keep_terminal(shell);
	err = shell_start(shell);
	if (err)
		return err;
	sandbox_interrupt_begin(&interrupt, shell_kill, shell);
	err = shell_wait(shell, exit_out);
	sandbox_interrupt_over(&interrupt);
	shell_take_terminal(shell);
	layout_tidy(&shell->layout, overlay_merged_fd(shell->overlay));
	sandbox_interrupt_end(&interrupt);
	return err;
}

/* What it left */

static struct error *shell_save(struct shell *shell, struct digest *out)
{
	const struct sandbox_shell_config *config = shell->config;
	const struct capture_config capture_config = {
		.upper_fd = overlay_upper_fd(shell->overlay),
		.root = config->root,
		.mount_path = config->root_path ? config->root_path : LAYOUT_ROOT,
		.dirs = config->client->dirs,
		.store = config->client->local.store,
		.pool = config->client->local.pool,
		.entries_max = config->client->entries_max,
		.memory_max = SHELL_CAPTURE_MAX,
	};
	_cleanup_(capture_result_deinit) struct capture_result result = {0};
	_cleanup_(capture_freep) struct capture *capture = NULL;
	struct error *err;

	overlay_detach(shell->overlay);
	capture = capture_new(&capture_config);
	err = capture_path(capture, "", false, &result);
	for (size_t i = 0; !err && i < capture_n_notes(capture); i++)
		say_escaped("lazyroot", capture_note(capture, i));
	if (!err)
		*out = result.digest;
	return error_wrap(err, "save the tree");
}

struct error *sandbox_shell(const struct sandbox_shell_config *config,
			    struct sandbox_shell_end *out)
{
	_cleanup_(shell_deinit) struct shell shell = {.config = config,
						      .site.scratch = SCRATCH_INIT};
	struct sandbox_shell_end end = {0};
	struct error *err = client_open_fetch(config->client);

	if (!err)
		shell.pin = local_pin_tree(&config->client->local, config->root);
	if (!err)
		err = sandbox_site_init(&shell.site, config->client, config->is_terminal);
	if (!err)
		err = shell_stage(&shell);
	if (!err)
		err = shell_run(&shell, &end.exit_code);
	if (!err && config->is_saved)
		err = shell_save(&shell, &end.saved);
	if (!err)
		*out = end;
	return err;
}
