/*
 * What a command says, for who reads along while it runs: its stdout and stderr, from the
 * files where they are kept, written into log streams (ByteStream) as they grow. It is
 * for the eyes: the result has all of it, whatever becomes of this, and no command and no
 * result waits for it, but for a moment at the end.
 *
 * A command that is over soon, or says nothing, costs no call where the scheduler allows
 * that.
 *
 * Threads: a log's owner, one at a time; the logs' own threads read and send.
 */
#pragma once

#include "lib/rpc/chan.h"

#define LIVE_LOG_STREAMS 2 /* stdout, stderr */

struct live_logs; /* those of one worker */
struct live_log;  /* one command's */

/* chan: borrowed, to whoever named the streams. As many logs are sent at once as there
 * are threads. */
struct error *live_logs_new(struct rpc_chan *chan, unsigned int n_threads,
			    struct live_logs **out);
/* All logs are free. */
void *live_logs_free(struct live_logs *logs);
CLEANUP_DEFINE(struct live_logs, live_logs_free)

/* Names to write by, copied. may_be_left_out: the streams end by themselves, so that an
 * empty one need not be written. */
struct live_log *live_log_new(struct live_logs *logs,
			      const char *const names[static LIVE_LOG_STREAMS],
			      bool may_be_left_out);
/* The command begins; dir_fd (copied) will have the files "stdout" and "stderr". */
void live_log_begin(struct live_log *log, int dir_fd);
void live_log_complete(struct live_log *log); /* they have all; returns at once */
/* Where readers are served already, they have all before this returns, or it takes too
 * long. */
void *live_log_free(struct live_log *log);
CLEANUP_DEFINE(struct live_log, live_log_free)
