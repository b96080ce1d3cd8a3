/*
 * A worker in this process under a scheduler that the test plays: an implementation of
 * worker/source/source.h, whose leases the test makes up and whose news it reads. Server
 * and blobs are real. Needs root and /dev/fuse; the process gets a mount namespace of its
 * own.
 */
#pragma once

#include "worker/source/source.h"

struct play;

struct play *play_new(const char *server, const char *own_instance);
/* The kernel ends the mount of this name; waits until the worker knows. */
void play_lose_mount(struct play *play, const char *name);
/* A page of the worker's metrics; the caller's. */
char *play_metrics(struct play *play);
/* Drains the worker, which has to end well. */
void *play_free(struct play *play);

struct play_lease {
	const char *id;
	const char *instance;
	struct digest action;
	Reapi__DigestFunction__Value digest_function;
};
void play_offer(struct play *play, const struct play_lease *lease);
void play_cancel(struct play *play, const char *id);
/* Both at once: the worker hears of the end while it begins. */
void play_offer_and_cancel(struct play *play, const struct play_lease *lease);
/* Waits until a lease's story has this word. */
void play_await(struct play *play, const char *id, const char *word);

/* What the worker told of a lease until its report: "fetching running uploading OK", or
 * the code's name in the end. Waits for the report. */
const char *play_story(struct play *play, const char *id);
/* The report's ActionResult, its bytes; and its message, "" where it ran. */
struct slice play_result(struct play *play, const char *id);
const char *play_message(struct play *play, const char *id);
