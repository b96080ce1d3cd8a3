/*
 * A result under a name. What the name stands for is one Directory, so that whoever keeps
 * that with all below it keeps the whole artifact:
 *
 * outputs/   the outputs, where --download would have put them
 * stdout     of the command; not there where it is empty
 * stderr     the same
 * action     the Action: the file's digest is the action's
 * command    its Command
 * result     the ActionResult, as the service gave it
 *
 * It is told elsewhere by the URI that artifact_uri() makes (docs/artifacts.md).
 *
 * Threads: main; but for checking and making URIs all block on disk and network.
 */
#pragma once

#include "client/artifact_names.h"
#include "client/client.h"
#include "client/declared.h"

#define ARTIFACT_NAME_MAX 512

/* Begins as paths do: "." or "/". A tree that is called so is a directory here. */
bool artifact_is_path(const char *text);
/* INVALID_ARGUMENT: it is too long, empty, no text, or looks like a path or a digest. */
struct error *artifact_check_name(const char *name);
char *artifact_uri(const char *name); /* the caller frees */

struct artifact_source {
	const Reapi__ActionResult *result;
	struct declared declared;
	struct slice action, command; /* encoded */
};
/* Makes the Directories of an artifact and puts them into the user's store; and brings
 * there what it names, from the service. After client_open_fetch(). */
struct error *artifact_make(struct client *client, const struct artifact_source *source,
			    struct digest *root_out);

/* The root that a name stands for here. NOT_FOUND says how to get it. */
struct error *artifact_root(struct client *client, const char *name,
			    struct digest *root_out);
/* The tree of its outputs. Opens the store and the fetcher, of the service where one is
 * named; what the store has lost comes from there. */
struct error *artifact_find(struct client *client, const char *name,
			    struct digest *tree_out);

/* A digest as people write it, or a name that is known here: INVALID_ARGUMENT where it is
 * neither. Nothing is fetched; digest_out is set where it is a digest. */
struct error *artifact_check_text(struct client *client, const char *text,
				  struct digest *digest_out, bool *is_digest_out);
/* The same, and of a name the tree of that artifact's outputs. */
struct error *artifact_or_digest(struct client *client, const char *text,
				 struct digest *out);

/* How much of a tree may be met: RESOURCE_EXHAUSTED where there is more. */
struct artifact_limits {
	size_t bytes;    /* of its Directories */
	int64_t entries; /* Directories, and names of files */
};
struct artifact_limits artifact_limits(const struct client *client); /* the usual ones */
/* All blobs of a tree, each once; the caller frees. The first n_dirs_out (may be NULL)
 * are its Directories. */
struct error *artifact_blobs(struct dircache *dirs, const struct digest *root,
			     struct artifact_limits limits, struct digest **blobs_out,
			     size_t *n_out, size_t *n_dirs_out);
/* Brings those of the blobs that the store lacks into it. Where some are not found the
 * first is an error, after all others have come: another service may have the rest. What
 * else fails ends it. */
struct error *artifact_bring(struct fetch *fetch, const struct digest *blobs, size_t n);
