/*
 * What a command finds in an input root that is its "/" where nothing can be mounted
 * there: the usual devices and /tmp, made by us and removed before it is captured.
 *
 * Threads: main. Needs root.
 */
#pragma once

#include "lib/base/error.h"

#define PLAIN_ROOT_MADE_MAX 8

struct plain_root {
	const char *made[PLAIN_ROOT_MADE_MAX]; /* paths, in this order */
	size_t n_made;
};

/* What is there already stays as it is; no link is followed. */
struct error *plain_root_make(struct plain_root *root, int root_fd);
/* Also what a command put into a /tmp of ours. */
void plain_root_tidy(struct plain_root *root, int root_fd);
void plain_root_deinit(struct plain_root *root);
