/*
 * The input root of a run: local directories and known trees, merged. What must be
 * uploaded for it is collected here.
 *
 * Threads: main.
 */
#pragma once

#include "client/tree_upload.h"

struct inputs;

/* INVALID_ARGUMENT where a place leaves the root or a tree is neither a digest nor a
 * name: before anything is read or sent. */
struct error *inputs_check(struct client *client, const struct option_list *dirs,
			   const struct option_list *digests);
/* "DIR[=AT]" of --input and "TREE[=AT]" of --input-digest. No input at all is an empty
 * root. Reads and hashes the directories; after client_connect(). changes is borrowed as
 * long as the inputs live. */
struct error *inputs_build(struct client *client, const struct option_list *dirs,
			   const struct option_list *digests,
			   struct tree_upload_changes *changes, struct inputs **out);
void *inputs_free(struct inputs *inputs);
CLEANUP_DEFINE(struct inputs, inputs_free)
/* Whether its files have times, which outputs are to have, too. */
bool inputs_have_mtimes(const struct inputs *inputs);
const struct digest *inputs_root(const struct inputs *inputs);
/* Uploads all of it and the further blobs. May be called again when blobs are missing:
 * then known trees are sent, too, as far as the user's store has them. Where files
 * changed, they are in changes: see tree_upload_settle(), then build anew. */
struct error *inputs_upload(struct client *client, struct inputs *inputs,
			    const struct blob_source *more, size_t n_more,
			    struct tree_upload_changes *changes);
/* The same into the local store, where they stay while *pin lives (store_pin.h; NULL:
 * that cannot be had, which was said). */
struct error *inputs_store(struct client *client, const struct inputs *inputs,
			   const struct blob_source *more, size_t n_more,
			   struct tree_upload_changes *changes, struct store_pin **pin);
/* Uploads what the storage lacks of a tree that is in the user's store. */
struct error *inputs_send_known(struct client *client, const struct digest *root);
