/*
 * What names mean on this machine: artifacts.sqlite beside the user's store, shared by
 * the user's commands. Losing it loses the names; the blobs are the store's.
 *
 * Threads: main.
 */
#pragma once

#include "client/local.h"

struct artifact_names;

struct artifact_name {
	const char *name; /* borrowed */
	struct digest root;
	int64_t made_s;    /* wall's clock, seconds */
	int64_t expires_s; /* 0: never */
};

/* Made where it is missing; one that is damaged is set aside. */
struct error *artifact_names_open(struct local *local, struct artifact_names **out);
void *artifact_names_close(struct artifact_names *names);
CLEANUP_DEFINE(struct artifact_names, artifact_names_close)

/* A later one of a name replaces it. */
struct error *artifact_names_put(struct artifact_names *names,
				 const struct artifact_name *name);
/* *found_out false: it has none, or one that is over. name of *out is the argument. */
struct error *artifact_names_get(struct artifact_names *names, const char *name,
				 struct artifact_name *out, bool *found_out);
/* *found_out: whether there was one. */
struct error *artifact_names_remove(struct artifact_names *names, const char *name,
				    bool *found_out);
/* In order of name, those that are over left out. An error of fn ends it. */
struct error *artifact_names_each(struct artifact_names *names,
				  struct error *(*fn)(void *ctx,
						      const struct artifact_name *name),
				  void *ctx);
