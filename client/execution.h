/*
 * One execution as a client sees it: Execute, WaitExecution after a break, Execute again
 * where the operation is lost, all bounded (docs/protocol.md).
 *
 * Threads: main runs it; the signal thread of interrupt.h may cancel it.
 */
#pragma once

#include "client/client.h"
#include "client/live.h"

/* The options of the verbs that wait for an execution, and their defaults. */
#define EXECUTION_PATIENCE                                                               \
	{                                                                                \
		.silence_ns = 120 * NS_PER_S, .give_up_ns = 24 * 3600 * NS_PER_S         \
	}
#define EXECUTION_OPTIONS(p)                                                             \
	{"silence",                                                                      \
	 0,                                                                              \
	 OPTION_DURATION,                                                                \
	 "DURATION",                                                                     \
	 "how long the service may say nothing before it is asked again (default: 2m)",  \
	 NULL,                                                                           \
	 &(p)->silence_ns,                                                               \
	 0,                                                                              \
	 0},                                                                             \
	{                                                                                \
		"give-up", 0, OPTION_DURATION, "DURATION",                               \
			"how long to wait for the result in all (default: 24h)", NULL,   \
			&(p)->give_up_ns, 0, 0                                           \
	}

enum execution_stage {
	EXECUTION_SENT, /* no more is known */
	EXECUTION_CACHE_CHECK,
	EXECUTION_QUEUED,
	EXECUTION_RUNNING,
	EXECUTION_DONE,
};
/* For people. */
const char *execution_stage_text(enum execution_stage stage);

struct execution_outcome {
	struct arena arena; /* owns response */
	char *operation;    /* its name */
	char *note;         /* what the service said last of why it waits, or NULL */
	struct say_few notes;
	const Reapi__ExecuteResponse *response;
	bool has_answered; /* metadata came since it was begun, or waited for again */
	bool has_action;   /* … and named it: */
	struct digest action;
};
void execution_outcome_deinit(struct execution_outcome *outcome);

struct execution_config {
	struct client *client;
	const struct digest *action;
	bool skip_cache_lookup;
	int32_t priority; /* of REAPI: lower runs first */
	struct execution_patience {
		int64_t silence_ns; /* of a stream; then the operation is asked for anew
				     */
		int64_t give_up_ns; /* all of it; then it is cancelled */
	} patience;
	bool is_left;     /* whoever interrupts us or loses patience leaves it running */
	bool is_detached; /* leave after the first message: only operation is filled in */
	/* The stage that a message tells, known before or not, and how many run before it
	 * (0: none, or it is not told); may be NULL. Main. */
	void (*stage)(void *ctx, enum execution_stage stage, int64_t n_behind);
	/* Blobs were missing at the server: upload again. NULL: that is an error. */
	struct error *(*resend)(void *ctx);
	void *ctx;
	struct live *live; /* shows what the command says meanwhile; may be NULL */
};

/* Main; each returns when the operation is over, or was given up (DEADLINE_EXCEEDED). The
 * service's errors come back as errors, but for DEADLINE_EXCEEDED with a result, which
 * stays in outcome->response->status. Whoever gets an outcome deinits it. */
struct error *execution_run(const struct execution_config *config,
			    struct execution_outcome *out);
/* NOT_FOUND: the service does not know the operation. */
struct error *execution_wait(const struct execution_config *config, const char *operation,
			     struct execution_outcome *out);
/* Any thread; waits for the service's answer, ten seconds at most. */
struct error *execution_cancel(struct client *client, const char *operation);
