/*
 * What the tests of fuse/ stand on: a private mount namespace, a store, a fake
 * CAS that has what a second store holds and can keep its answers back, and trees made
 * from real directories. Everything lies below one temporary directory and goes with it.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "fuse/view.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/cas/dircache.h"
#include "lib/rpc/chan.h"
#include "lib/tree/hasher.h"
#include "tests/fake/fake_cas.h"

#define assert_ok(expr)                                                                  \
	do {                                                                             \
		struct error *assert_err_ = (expr);                                      \
		if (assert_err_) {                                                       \
			print_error("%s\n", error_text(assert_err_));                    \
			error_free(assert_err_);                                         \
			fail();                                                          \
		}                                                                        \
	} while (0)

struct lazy {
	char *tmp;
	struct pool *pool;
	struct store *local;  /* the worker's */
	struct store *origin; /* what the server has */
	struct fake *fake;
	struct rpc_chan *chan;
	struct remote *remote;
	struct fetch *fetch;
	struct dircache *dirs;
	struct view *view;
};

/* ---- the server ------------------------------------------------------------------- */

/* From here on the server keeps what it is asked for to itself … */
void lazy_hold_answers(struct lazy *lazy);

void lazy_await_held(struct lazy *lazy, size_t n);

/* … until here. */
void lazy_release_answers(struct lazy *lazy);

size_t lazy_n_batches(struct lazy *lazy);

/* ---- set-up ----------------------------------------------------------------------- */

/* Before the first thread: nothing that is mounted here is seen elsewhere. */
void lazy_enter_namespace(void);

char *lazy_path(const struct lazy *lazy, const char *name);

/* has_remote false: what is not in the local store does not exist. */
struct lazy *lazy_new(bool has_remote);

void lazy_free(struct lazy *lazy);

/* ---- trees out of directories, the slow and obvious way -----------------------------
 */

struct digest lazy_put(struct store *store, const void *data, size_t len);

struct digest lazy_import(struct store *store, int dir_fd, const char *path);

/* Runs a shell command in a directory, which must succeed. */
void lazy_shell(const char *dir, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Makes a directory by shell and the tree of it, in the server's store. */
struct digest lazy_tree(struct lazy *lazy, const char *name, const char *script);
