/*
 * What a worker makes at its start, made for one command: a lazy mount, directories for
 * what is written, the tools. After namespaces_enter() and client_open_fetch().
 *
 * Threads: main.
 */
#pragma once

#include "client/client.h"
#include "client/scratch.h"
#include "worker/action/job.h"

struct sandbox_site {
	struct scratch scratch;
	char *mount_dir;
	char *actions_dir;
	char *etc_dir;
	struct sandbox_tools tools;
	struct cgroups cgroups; /* none: the pid namespace ends all */
	struct limits_policy limits;
	struct allow allow;
	struct buf filter;
	struct pool *background;
	struct sandbox_slot slot;
	struct job_site job; /* points to all of it */
	bool has_mask;       /* the process has another one meanwhile */
	mode_t mask;         /* its own umask(2) */
};

/* In place; what of it was made is there to be deinited, also where it fails.
 * has_terminal: the command keeps our terminal. */
struct error *sandbox_site_init(struct sandbox_site *site, struct client *client,
				bool has_terminal);
void sandbox_site_deinit(struct sandbox_site *site);
