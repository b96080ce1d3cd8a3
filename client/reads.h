/*
 * What runs of a command read of its input root, and what of it they never touched: from
 * the profile that workers share (docs/foresight.md). Threads: main.
 */
#pragma once

#include "client/client.h"
#include "predict/profile.h"

struct reads {
	struct profile profile;
	struct digest root;
};

/* NOT_FOUND: no worker has shared one (yet); asks again until patience_ns is over. */
struct error *reads_load(struct client *client, const struct digest *command,
			 const struct digest *root, int64_t patience_ns,
			 struct reads *out);
void reads_deinit(struct reads *reads);
/* Text by directory to a stream of ours (say.h), or the document. Both load what is
 * missing of the root's Directories on the way. */
struct error *reads_print(struct client *client, const struct reads *reads,
			  bool to_stderr);
struct error *reads_json(struct client *client, const struct reads *reads,
			 json_t **json_out);
