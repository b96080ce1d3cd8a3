/*
 * The real lazyroot-server as a child process for the tests that speak to it, and short
 * forms of what they say: blobs, actions, executions, and a bot that the test plays
 * itself.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/rpc/chan.h"
#include "lib/rpc/stream.h"
#include "lib/tree/hasher.h"

#define CAS_SERVICE     &reapi__content_addressable_storage__descriptor
#define BYTES_SERVICE   &bytestream__byte_stream__descriptor
#define ACTION_SERVICE  &reapi__action_cache__descriptor
#define EXEC_SERVICE    &reapi__execution__descriptor
#define OPS_SERVICE     &longrunning__operations__descriptor
#define BOTS_SERVICE    &bots__bots__descriptor
#define CAPS_SERVICE    &reapi__capabilities__descriptor
#define SERVER_ARGS_MAX 32

extern char **environ;

struct fixture {
	char dir[64];
	pid_t pid;
	int out_fd;
	char address[160];
	struct rpc_chan *chan;
	const char *const *more; /* options, or NULL */
	struct arena arena;      /* for replies; ends with the fixture */
};

/* ---- the process ---------------------------------------------------------------- */

/* Its stdout comes through *out_fd, its stderr is ours or, with err_fd, comes there. */
pid_t server_spawn(const char *const *args, int *out_fd, int *err_fd);

/* One line without its end; "" at the end of the output. */
void read_line(int fd, char *line, size_t size);

int wait_exit(pid_t pid);

void server_start(struct fixture *fixture);

int server_stop(struct fixture *fixture, int signum);

int fixture_setup_with(void **state, const char *const *more);

int fixture_setup(void **state);

int fixture_teardown(void **state);

/* ---- calls ---------------------------------------------------------------------- */

void assert_no_error(struct error *err);

void assert_error(struct error *err, enum error_code code, const char *part);

struct error *call(struct fixture *fixture, const ProtobufCServiceDescriptor *service,
		   const char *name, const ProtobufCMessage *request,
		   ProtobufCMessage **out);

/* ---- blobs ---------------------------------------------------------------------- */

struct digest digest_of(const void *data, size_t len);

Reapi__Digest *wire_of_digest(struct fixture *fixture, const struct digest *digest);

/* Uploads one blob; the digest as a wire message. */
Reapi__Digest *put_blob(struct fixture *fixture, const void *data, size_t len);

Reapi__Digest *put_text(struct fixture *fixture, const char *text);

Reapi__Digest *put_message(struct fixture *fixture, const ProtobufCMessage *message);

/* A blob that nobody uploads. */
Reapi__Digest *absent_blob(struct fixture *fixture);

char *unique_text(struct fixture *fixture, const char *what);

/* ByteStream.Read of a whole resource into out. */
struct error *read_resource(struct fixture *fixture, const char *name, int64_t offset,
			    int64_t limit, struct buf *out);
