/*
 * The real lazyroot-server and a real lazyroot-worker beside it, hand-made trees and
 * Commands, and what came of them. Needs root and /dev/fuse.
 *
 * LAZYROOT_TEST_DATA_PATH names the worker's data path, its default else.
 *
 * A gate is a socket on which a command waits until the test has done something: with the
 * property network=on it reaches our loopback.
 */
#pragma once

#include "tests/integration/bot_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "lib/base/clock.h"
#include "lib/base/wire.h"
#include "lib/rpc/any.h"
#include "lib/tree/tree.h"

#define WORKER_PATIENCE_MS 60000 /* nothing passes because of it */
#define PUT_BATCH          1000
#define ACT_LIST_MAX       16

struct worker {
	struct fixture server; /* first: what the server's tests do works here, too */
	char dir[64];          /* holds "cache" and "log" */
	pid_t pid;
	int out_fd;
};

void skip_without_fuse(void);

/* ---- the process ---------------------------------------------------------------- */

/* more: options beyond the usual, NULL at the end; or NULL. */
void worker_launch(struct worker *worker, const char *server, const char *const *more);

void worker_make_dir(struct worker *worker);

int worker_setup(void **state);

int worker_teardown(void **state);

/* ---- trees ---------------------------------------------------------------------- */

void dir_add_file_with(struct buf *dir, struct slice name, const Reapi__Digest *digest,
		       bool is_executable, struct slice props);

void dir_add_file(struct buf *dir, const char *name, const Reapi__Digest *digest);

void dir_add_program(struct buf *dir, const char *name, const Reapi__Digest *digest);

void dir_add_dir_raw(struct buf *dir, struct slice name, const Reapi__Digest *digest);

void dir_add_dir(struct buf *dir, const char *name, const Reapi__Digest *digest);

void dir_add_link_raw(struct buf *dir, struct slice name, struct slice target);

void dir_add_link(struct buf *dir, const char *name, const char *target);

/* Stores it, and empties the buffer for the next one. */
Reapi__Digest *dir_put(struct fixture *fixture, struct buf *dir);

Reapi__Digest *empty_root(struct fixture *fixture);

/* ---- actions -------------------------------------------------------------------- */

struct act {
	const char *const *arguments;   /* NULL at the end; or instead: */
	const char *script;             /* of /bin/sh */
	const char *const *environment; /* name, value, ..., NULL; scripts get a PATH */
	const char *workdir;            /* NULL: "" */
	const char *const *outputs;     /* paths, NULL at the end, as those below */
	const char *const *files;       /* output_files */
	const char *const *directories; /* output_directories */
	const char *const *node_properties;
	Reapi__Command__OutputDirectoryFormat format;
	Reapi__Digest *root;           /* NULL: empty */
	const char *const *properties; /* of the platform: name, value, ..., NULL */
	int64_t timeout_ms;
	const char *salt; /* NULL: one of its own, so that it runs */
};

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

Reapi__Digest *act_put(struct fixture *fixture, const struct act *act);

/* What came of an action. Pointers are the fixture's arena's, result is never NULL. */
struct outcome {
	int code; /* of ExecuteResponse.status */
	const char *message;
	Reapi__ExecuteResponse *response;
	Reapi__ActionResult *result;
};

struct outcome outcome_of(struct run *run);

struct run act_start(struct fixture *fixture, const struct act *act);

struct outcome act_run(struct fixture *fixture, const struct act *act);

/* A blob whole; the fixture's, with a NUL behind it. */
const char *get_blob(struct fixture *fixture, const Reapi__Digest *digest,
		     size_t *len_out);

const char *out_text(struct fixture *fixture, const struct outcome *outcome);

const char *err_text(struct fixture *fixture, const struct outcome *outcome);

/* It ran, with this exit code and on stdout this text (NULL: whatever it said). */
void assert_ran(struct fixture *fixture, const struct outcome *outcome, int exit_code,
		const char *out);

void assert_refused(const struct outcome *outcome, int code, const char *part);

Lazyroot__ReadReport *report_of(struct fixture *fixture, const struct outcome *outcome);

const Reapi__OutputFile *output_file(const struct outcome *outcome, const char *path);

const Reapi__OutputDirectory *output_dir(const struct outcome *outcome, const char *path);

const Reapi__OutputSymlink *output_link(const struct outcome *outcome, const char *path);

void assert_same_digest(const Reapi__Digest *a, const Reapi__Digest *b);

/* ---- gates ---------------------------------------------------------------------- */

struct gate {
	int listen_fd;
	int fd; /* of the command that stands before it */
	unsigned int port;
};

void gate_open(struct gate *gate);

/* A bash command that waits there. */
const char *gate_words(struct fixture *fixture, const struct gate *gate);

void gate_wait(struct gate *gate);

void gate_pass(struct gate *gate);

void gate_close(struct gate *gate);

/* An act whose script is bash's and may stand at gates. */
struct act act_bash(struct fixture *fixture, const char *script);

/* ---- what is left over ---------------------------------------------------------- */

/* Processes whose command line contains marker, sandbox and all. */
unsigned int count_processes(const char *marker);

/* A cancelled operation is over at once; its processes are soon afterwards. */
void assert_gone(const char *marker);

/* Actions are tidied up in the background: soon nothing is left of them. */
void assert_tidy(const struct worker *worker);
