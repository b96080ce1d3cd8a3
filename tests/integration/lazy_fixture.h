/*
 * What the tests of fuse/ stand on: a private mount namespace, a store, a small CAS
 * server in this process whose answers can be held back or refused, and trees made from
 * real directories. Everything lies below one temporary directory and goes with it.
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
#include "lib/cas/hasher.h"
#include "lib/rpc/chan.h"
#include "lib/rpc/server.h"

#define LAZY_HELD_MAX 64

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
	struct rpc_server *server;
	struct rpc_chan *chan;
	struct remote *remote;
	struct fetch *fetch;
	struct dircache *dirs;
	struct view *view;
	pthread_mutex_t mutex;
	pthread_cond_t arrived;
	bool is_holding; /* guarded by mutex, as all below */
	struct rpc_in *held[LAZY_HELD_MAX];
	size_t n_held;
	atomic_size_t n_batches; /* answered */
};

/* ---- the server ------------------------------------------------------------------- */

static inline bool lazy_hold(struct lazy *lazy, struct rpc_in *in)
{
	bool is_held = false;
	bool is_known = false;

	(void)pthread_mutex_lock(&lazy->mutex);
	for (size_t i = 0; i < lazy->n_held; i++)
		is_known |= lazy->held[i] == in;
	if (lazy->is_holding && !is_known) {
		require(lazy->n_held < LAZY_HELD_MAX);
		lazy->held[lazy->n_held++] = rpc_in_ref(in);
		(void)pthread_cond_broadcast(&lazy->arrived);
	}
	is_held = lazy->is_holding;
	lazy->n_batches += !is_held;
	(void)pthread_mutex_unlock(&lazy->mutex);
	return is_held;
}

static inline void lazy_answer_blob(struct lazy *lazy, struct arena *arena,
				    const Reapi__Digest *wire,
				    Reapi__BatchReadBlobsResponse__Response *out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	Rpcstatus__Status *status = arena_zero(arena, sizeof(*status));
	struct digest digest;

	reapi__batch_read_blobs_response__response__init(out);
	rpcstatus__status__init(status);
	out->digest = (Reapi__Digest *)(uintptr_t)wire;
	out->status = status;
	err = digest_from_wire(wire, &digest);
	if (!err)
		err = store_read(lazy->origin, &digest, 64 << 20, &bytes);
	if (err) {
		status->code = (int)error_code(err);
		return;
	}
	out->data.data = arena_memdup(arena, bytes.data, bytes.len);
	out->data.len = bytes.len;
}

static inline enum rpc_verdict lazy_step_read(struct rpc_in *in, void *service)
{
	Reapi__BatchReadBlobsResponse response = REAPI__BATCH_READ_BLOBS_RESPONSE__INIT;
	struct lazy *lazy = service;
	struct arena *arena = rpc_arena(in);
	Reapi__BatchReadBlobsRequest *request;
	Reapi__BatchReadBlobsResponse__Response *all;

	if (lazy_hold(lazy, in))
		return RPC_LATER;
	request = (void *)rpc_request(in);
	if (!request)
		return RPC_DONE;
	response.n_responses = request->n_digests;
	response.responses = arena_zero(arena, (request->n_digests + 1) * sizeof(void *));
	all = arena_zero(arena, (request->n_digests + 1) * sizeof(*all));
	for (size_t i = 0; i < request->n_digests; i++) {
		lazy_answer_blob(lazy, arena, request->digests[i], &all[i]);
		response.responses[i] = &all[i];
	}
	rpc_send(in, &response.base);
	return RPC_DONE;
}

static const struct rpc_handler lazy_handlers[] = {
	{{&reapi__content_addressable_storage__descriptor, "BatchReadBlobs"},
	 RPC_UNARY,
	 0,
	 lazy_step_read},
};

/* From here on the server keeps what it is asked for to itself … */
static inline void lazy_hold_answers(struct lazy *lazy)
{
	(void)pthread_mutex_lock(&lazy->mutex);
	lazy->is_holding = true;
	(void)pthread_mutex_unlock(&lazy->mutex);
}

static inline void lazy_await_held(struct lazy *lazy, size_t n)
{
	(void)pthread_mutex_lock(&lazy->mutex);
	while (lazy->n_held < n)
		(void)pthread_cond_wait(&lazy->arrived, &lazy->mutex);
	(void)pthread_mutex_unlock(&lazy->mutex);
}

/* … until here. */
static inline void lazy_release_answers(struct lazy *lazy)
{
	struct rpc_in *held[LAZY_HELD_MAX];
	size_t n;

	(void)pthread_mutex_lock(&lazy->mutex);
	lazy->is_holding = false;
	n = lazy->n_held;
	memcpy(held, lazy->held, sizeof(held));
	lazy->n_held = 0;
	(void)pthread_mutex_unlock(&lazy->mutex);
	for (size_t i = 0; i < n; i++) {
		rpc_wake(held[i]);
		rpc_in_unref(held[i]);
	}
}

/* ---- set-up ----------------------------------------------------------------------- */

/* Before the first thread: nothing that is mounted here is seen elsewhere. */
static inline void lazy_enter_namespace(void)
{
	if (geteuid() != 0) {
		(void)fprintf(stderr, "skipped: needs root\n");
		exit(77);
	}
	if (access("/dev/fuse", R_OK | W_OK) < 0) {
		(void)fprintf(stderr, "skipped: no /dev/fuse\n");
		exit(77);
	}
	if (unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		(void)fprintf(stderr, "skipped: no mount namespace: %s\n",
			      strerror(errno));
		exit(77);
	}
}

static inline char *lazy_path(const struct lazy *lazy, const char *name)
{
	return alloc_printf("%s/%s", lazy->tmp, name);
}

static inline struct store *lazy_store(const struct lazy *lazy, const char *name)
{
	_cleanup_free_ char *dir = lazy_path(lazy, name);
	struct store_config config = {.dir = dir, .size_limit = (int64_t)4 << 30};
	struct store *store;

	assert_ok(store_open(&config, &store));
	return store;
}

static inline void lazy_connect(struct lazy *lazy)
{
	_cleanup_free_ char *address = alloc_printf("unix:%s/sock", lazy->tmp);
	const char *addresses[] = {address};
	struct rpc_server_config server = {
		.addresses = addresses, .n_addresses = 1, .n_pollers = 1, .n_workers = 2};
	struct rpc_chan_config chan = {.address = address};
	struct remote_config remote;

	assert_ok(rpc_init());
	assert_ok(rpc_server_new(&server, &lazy->server));
	rpc_server_add(lazy->server, lazy_handlers, ARRAY_SIZE(lazy_handlers), lazy);
	assert_ok(rpc_server_start(lazy->server));
	assert_ok(rpc_chan_new(&chan, &lazy->chan));
	remote = (struct remote_config){
		.chan = lazy->chan, .instance = "", .n_retries = 1};
	assert_ok(remote_new(&remote, &lazy->remote));
}

/* has_remote false: what is not in the local store does not exist. */
static inline struct lazy *lazy_new(bool has_remote)
{
	struct lazy *lazy = alloc_new(struct lazy);
	struct fetch_config config;
	struct statfs fs;

	lazy->tmp = alloc_string("/tmp/lazyroot-test-XXXXXX");
	assert_non_null(mkdtemp(lazy->tmp));
	assert_int_equal(statfs(lazy->tmp, &fs), 0);
	/* a container's own file system cannot hold upper directories */
	if (fs.f_type == OVERLAYFS_SUPER_MAGIC)
		assert_int_equal(mount("tmpfs", lazy->tmp, "tmpfs", 0, NULL), 0);
	(void)pthread_mutex_init(&lazy->mutex, NULL);
	(void)pthread_cond_init(&lazy->arrived, NULL);
	assert_ok(pool_new("test-pool", 2, &lazy->pool));
	lazy->local = lazy_store(lazy, "local");
	lazy->origin = has_remote ? lazy_store(lazy, "origin") : lazy->local;
	if (has_remote)
		lazy_connect(lazy);
	config = (struct fetch_config){
		.store = lazy->local, .remote = lazy->remote, .pool = lazy->pool};
	assert_ok(fetch_new(&config, &lazy->fetch));
	lazy->dirs = dircache_new(lazy->fetch, DIRCACHE_MEMORY_MAX);
	lazy->view = view_new(lazy->dirs);
	return lazy;
}

static inline void lazy_free(struct lazy *lazy)
{
	_cleanup_error_ struct error *err = NULL;

	lazy_release_answers(lazy);
	view_free(lazy->view);
	dircache_free(lazy->dirs);
	fetch_free(lazy->fetch);
	remote_free(lazy->remote);
	rpc_chan_free(lazy->chan);
	if (lazy->server)
		rpc_server_stop(lazy->server, 1000);
	rpc_server_free(lazy->server);
	if (lazy->origin != lazy->local)
		store_close(lazy->origin);
	store_close(lazy->local);
	pool_free(lazy->pool);
	(void)umount2(lazy->tmp, MNT_DETACH | UMOUNT_NOFOLLOW);
	err = file_remove_tree(AT_FDCWD, lazy->tmp);
	assert_null(err);
	free(lazy->tmp);
	free(lazy);
}

/* ---- trees out of directories, the slow and obvious way -----------------------------
 */

static inline struct digest lazy_put(struct store *store, const void *data, size_t len)
{
	struct digest digest;

	hasher_digest(data, len, &digest);
	assert_ok(store_put(store, &digest, data, len));
	return digest;
}

static inline struct digest lazy_import(struct store *store, int dir_fd,
					const char *path);

static inline bool lazy_import_entry(struct store *store, int fd, const char *name,
				     struct tree_node *out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct stat st;

	assert_int_equal(fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	*out = (struct tree_node){.name = slice_of(alloc_string(name))};
	if (S_ISDIR(st.st_mode)) {
		out->kind = TREE_DIR;
		out->digest = lazy_import(store, fd, name);
	} else if (S_ISLNK(st.st_mode)) {
		char target[4096];
		ssize_t n = readlinkat(fd, name, target, sizeof(target) - 1);

		assert_true(n > 0);
		target[n] = '\0';
		out->kind = TREE_SYMLINK;
		out->target = slice_of(alloc_string(target));
	} else if (S_ISREG(st.st_mode)) {
		assert_ok(file_read_all(fd, name, 1 << 30, &bytes));
		out->kind = TREE_FILE;
		out->is_executable = st.st_mode & S_IXUSR;
		out->digest = lazy_put(store, bytes.data, bytes.len);
	} else {
		free((void *)(uintptr_t)out->name.data);
		return false;
	}
	return true;
}

static inline struct digest lazy_import(struct store *store, int dir_fd, const char *path)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	_cleanup_free_ struct tree_node *nodes = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct digest digest;
	struct dirent *d;
	size_t cap = 0;
	size_t n = 0;

	assert_non_null(dir);
	while ((d = readdir(dir))) {
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		nodes = alloc_grow(nodes, &cap, n + 1, sizeof(*nodes));
		n += lazy_import_entry(store, fd, d->d_name, &nodes[n]);
	}
	(void)closedir(dir);
	assert_ok(tree_encode(nodes, n, NULL, &bytes));
	digest = lazy_put(store, bytes.len ? bytes.data : (const uint8_t *)"", bytes.len);
	for (size_t i = 0; i < n; i++) {
		free((void *)(uintptr_t)nodes[i].name.data);
		free((void *)(uintptr_t)nodes[i].target.data);
	}
	return digest;
}

/* Runs a shell command in a directory, which must succeed. */
static inline void lazy_shell(const char *dir, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static inline void lazy_shell(const char *dir, const char *format, ...)
{
	_cleanup_free_ char *command = NULL;
	_cleanup_free_ char *full = NULL;
	va_list ap;

	va_start(ap, format);
	command = alloc_vprintf(format, ap);
	va_end(ap);
	full = alloc_printf("cd '%s' && { %s; }", dir, command);
	if (system(full) != 0) {
		print_error("failed: %s\n", full);
		fail();
	}
}

/* Makes a directory by shell and the tree of it, in the server's store. */
static inline struct digest lazy_tree(struct lazy *lazy, const char *name,
				      const char *script)
{
	_cleanup_free_ char *dir = lazy_path(lazy, name);

	assert_int_equal(mkdir(dir, 0755), 0);
	lazy_shell(dir, "%s", script);
	return lazy_import(lazy->origin, AT_FDCWD, dir);
}
