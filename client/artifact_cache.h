/*
 * Artifacts in caches: services that keep what names stand for (index), the blobs
 * (storage), or both. What one of them cannot do the next may: each failure is a line on
 * stderr that names the cache.
 *
 * Threads: main; blocking.
 */
#pragma once

#include "client/artifact.h"
#include "client/endpoint.h"

struct artifact_caches {
	struct option_records records; /* of the option --artifacts */
	struct cache *list;            /* made by artifact_caches_open() */
	size_t n;
};

#define ARTIFACT_CACHES_INIT                                                             \
	{                                                                                \
		.records = {.keys = endpoint_keys_cache }                                \
	}
void artifact_caches_deinit(struct artifact_caches *caches);

#define ARTIFACT_CACHES_OPTION(c)                                                        \
	{                                                                                \
		"artifacts", 0, OPTION_RECORDS, "CACHE",                                 \
			"a cache of artifacts: URL[,push][,instance=NAME]\n"             \
			"[,type=index|storage|all][,token-file=FILE]…; repeated,\n"    \
			"asked in this order",                                           \
			"LAZYROOT_ARTIFACTS", &(c)->records, 0, 0                        \
	}

/* The start of a verb whose operands are names of artifacts: parses them, and opens the
 * caches. False: it is over, with *exit_out. */
bool artifact_caches_parse(struct artifact_caches *caches, struct client *client,
			   const struct option_program *program, int argc, char **argv,
			   int *operands_out, int *exit_out);
/* How one of n names ended, consumed: where there are others it is said, and keeps none
 * of them; then *code_out is CLIENT_FAILED. */
struct error *artifact_caches_go_on(const char *verb, struct error *err, int n,
				    int *code_out);
/* Reads the options; sends nothing. INVALID_ARGUMENT: what is wrong in them. */
struct error *artifact_caches_open(struct artifact_caches *caches, struct client *client);
/* How many take pushes. */
size_t artifact_caches_n_pushed_to(const struct artifact_caches *caches);

/* Finds the name and brings all of it into the user's store. NOT_FOUND: no cache has the
 * name; UNAVAILABLE: the blobs are in none. expires_s of name is its cache's. */
struct error *artifact_caches_pull(struct artifact_caches *caches, struct client *client,
				   struct artifact_name *name);
/* Blobs, then the name, to all that take pushes; *n_failed_out were said. An error is
 * one of here: the artifact is not whole, say. */
struct error *artifact_caches_push(struct artifact_caches *caches, struct client *client,
				   const struct artifact_name *name,
				   size_t *n_failed_out);
/* Takes the name back from all indexes that take pushes. */
void artifact_caches_forget(struct artifact_caches *caches, const char *name,
			    size_t *n_failed_out);
/* Tells fn of each index: its address, and what the name stands for there (NULL: it does
 * not know it). A cache that fails is said, and counts in *n_failed_out. */
void artifact_caches_ask(struct artifact_caches *caches, const char *name,
			 void (*fn)(void *ctx, const char *url,
				    const struct artifact_name *found),
			 void *ctx, size_t *n_failed_out);
