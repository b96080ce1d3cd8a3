/*
 * A file that appears once it is whole. Until then it has no name, or where the file
 * system knows no such files one of chance beside its place: a writer who is killed
 * leaves nothing, or nothing that looks like it.
 *
 * Threads: one at a time.
 */
#pragma once

#include "lib/base/error.h"

struct newfile {
	char *path;
	char *temporary; /* its name until then, or for a moment; NULL: it has none */
	int fd;
};
#define NEWFILE_INIT                                                                     \
	{                                                                                \
		.fd = -1                                                                 \
	}

/* For the caller to write, and nobody else to read until it is named. */
struct error *newfile_open(const char *path, struct newfile *out);
/* With the rights that the process's mask leaves. Replaces what stands there, or, unless
 * is_forced, ALREADY_EXISTS. */
struct error *newfile_name(struct newfile *file, bool is_forced);
void newfile_deinit(struct newfile *file); /* what has not been named is gone */
