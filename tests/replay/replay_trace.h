/*
 * A trace in memory (its form: trace.py), and a store whose Directories are all at hand
 * and whose blobs come one by one. Of a blob's bytes there is what the scanners found in
 * it, which the replay's own scan_run() tells again.
 *
 * Threads: one.
 */
#pragma once

#include "lib/base/htab.h"
#include "lib/tree/tree.h"
#include "predict/foresight.h"

struct replay_blob {
	struct hnode by_digest;
	struct digest digest;
	struct buf found; /* "KIND TEXT", each with a NUL behind it */
	struct buf raw;   /* its own bytes, where the trace has them */
	bool is_held;
	bool is_read; /* the command opens it */
	void *item;   /* under way: replay_way.c's */
};

struct replay_open {
	int64_t after_ns; /* the open before */
	char *path;
	struct replay_blob *blob; /* NULL: a directory */
};

struct replay_trace {
	char *name;
	char *about;
	char *mount;
	char *workdir;
	char *path;
	bool has_mtimes;
	char **words;
	size_t n_words;
	size_t words_cap;
	struct digest root;
	struct htab dirs;
	struct htab by_digest;
	struct replay_blob **blobs; /* by their numbers */
	size_t n_blobs;
	size_t blobs_cap;
	struct replay_open *opens;
	size_t n_opens;
	size_t opens_cap;
	int64_t end_ns;  /* after the last open */
	int64_t warm_ns; /* all of it */
	int64_t read_bytes;
	size_t n_read;
	int64_t declared_bytes;
	struct foresight_world world;
};

/* Ends the program where the text is none. */
void replay_trace_read(struct replay_trace *trace, char *text);
void replay_trace_forget(struct replay_trace *trace); /* nothing is held any more */
struct replay_blob *replay_trace_find(const struct replay_trace *trace,
				      const struct digest *digest);
void replay_trace_deinit(struct replay_trace *trace);
