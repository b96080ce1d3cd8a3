/* What lazy_fixture.h declares; the tests of one program run on one thread. */
#include "tests/integration/lazy_fixture.h"

void lazy_hold_answers(struct lazy *lazy)
{
	fake_hold(lazy->fake, FAKE_BATCH_READ);
}

void lazy_await_held(struct lazy *lazy, size_t n)
{
	fake_await_held(lazy->fake, n);
}

void lazy_release_answers(struct lazy *lazy)
{
	fake_release(lazy->fake);
}

size_t lazy_n_batches(struct lazy *lazy)
{
	return fake_n_calls(lazy->fake, FAKE_BATCH_READ);
}

void lazy_enter_namespace(void)
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

char *lazy_path(const struct lazy *lazy, const char *name)
{
	return alloc_printf("%s/%s", lazy->tmp, name);
}

static struct store *lazy_store(const struct lazy *lazy, const char *name)
{
	_cleanup_free_ char *dir = lazy_path(lazy, name);
	struct store_config config = {.dir = dir, .size_limit = (int64_t)4 << 30};
	struct store *store;

	assert_ok(store_open(&config, &store));
	return store;
}

static void lazy_connect(struct lazy *lazy)
{
	_cleanup_free_ char *address = alloc_printf("unix:%s/sock", lazy->tmp);
	struct fake_config fake = {.address = address, .store = lazy->origin};
	struct rpc_chan_config chan = {.address = address};
	struct remote_config remote;

	lazy->fake = fake_new(&fake);
	assert_ok(rpc_chan_new(&chan, &lazy->chan));
	remote = (struct remote_config){
		.chan = lazy->chan, .instance = "", .n_retries = 1};
	assert_ok(remote_new(&remote, &lazy->remote));
}

struct lazy *lazy_new(bool has_remote)
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

void lazy_free(struct lazy *lazy)
{
	_cleanup_error_ struct error *err = NULL;

	if (lazy->fake)
		fake_release(lazy->fake);
	view_free(lazy->view);
	dircache_free(lazy->dirs);
	fetch_free(lazy->fetch);
	remote_free(lazy->remote);
	rpc_chan_free(lazy->chan);
	fake_free(lazy->fake);
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

struct digest lazy_put(struct store *store, const void *data, size_t len)
{
	struct digest digest;

	hasher_digest(data, len, &digest);
	assert_ok(store_put(store, &digest, data, len));
	return digest;
}

static bool lazy_import_entry(struct store *store, int fd, const char *name,
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

struct digest lazy_import(struct store *store, int dir_fd, const char *path)
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

void lazy_shell(const char *dir, const char *format, ...)
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

struct digest lazy_tree(struct lazy *lazy, const char *name, const char *script)
{
	_cleanup_free_ char *dir = lazy_path(lazy, name);

	assert_int_equal(mkdir(dir, 0755), 0);
	lazy_shell(dir, "%s", script);
	return lazy_import(lazy->origin, AT_FDCWD, dir);
}
