/*
 * Owns the lists, and what is known of them. A list gets its name within a transaction of
 * the index, and who makes room reads the lists and removes files within one, too: so a
 * list is either seen, or made after the files went.
 *
 * A list never changes, so one that was read is kept, but for trees of which a Directory
 * is still missing. Files are read as they are: one that is damaged only has less below
 * it.
 */
#include "lib/store/store_pin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/store/store_impl.h"
#include "lib/tree/tree.h"

#define LOG_MODULE "store"
#include "lib/base/log.h"

#define PIN_PREFIX    "pin-"
#define PIN_RECORD    (1 + DIGEST_HASH_SIZE + sizeof(int64_t))
#define PIN_DIGESTS   ((size_t)10 << 20) /* of all lists; then nothing goes */
#define PIN_BYTES_MAX (PIN_DIGESTS * PIN_RECORD)
#define PIN_FILES     65536 /* lists */
#define PIN_IS_TREE   1

struct store_pin {
	struct store *store;
	char path[STORE_PATH_MAX];
};

struct store_pins_file {
	char *path; /* below staging/ */
	struct dirset digests;
	bool is_whole; /* all of it was looked into */
	bool is_seen;  /* this time */
};

/* ---- a pin ---------------------------------------------------------------------- */

static void pin_encode(const struct store_pinned *items, size_t n, struct buf *out)
{
	for (size_t i = 0; i < n; i++) {
		buf_add_byte(out, items[i].is_tree ? PIN_IS_TREE : 0);
		buf_add(out, items[i].digest.hash, DIGEST_HASH_SIZE);
		buf_add(out, &items[i].digest.size, sizeof(items[i].digest.size));
	}
}

static struct error *pin_rename(const struct store *store, const char *made,
				const char *path)
{
	if (renameat(store->dir_fd, made, store->dir_fd, path) < 0)
		return error_errno(errno, "rename to %s", path);
	return NULL;
}

/* The list gets its name. */
static struct error *pin_publish(struct store *store, const char *made, const char *path)
{
	struct error *err;

	if (!store->index) /* lost: nobody makes room without it */
		return pin_rename(store, made, path);
	err = store_index_begin(store->index);
	if (!err)
		err = pin_rename(store, made, path);
	return store_index_end(store->index, err);
}

struct error *store_pin_new(struct store *store, const struct store_pinned *items,
			    size_t n, struct store_pin **out)
{
	unsigned int number = atomic_fetch_add(&store->staging_count, 1);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	char made[STORE_PATH_MAX];
	struct store_pin *pin;
	struct error *err;

	require(store->is_shared);
	pin = alloc_new(struct store_pin);
	pin->store = store;
	(void)snprintf(made, sizeof(made), "%.70s/%x", store->staging_path, number);
	(void)snprintf(pin->path, sizeof(pin->path), "%.70s/" PIN_PREFIX "%x",
		       store->staging_path, number);
	pin_encode(items, n, &bytes);
	err = file_replace(store->dir_fd, made, bytes.data, bytes.len, 0600);
	if (!err)
		err = pin_publish(store, made, pin->path);
	if (err) {
		(void)unlinkat(store->dir_fd, made, 0);
		free(pin);
		return error_wrap(err, "keep %zu blobs of %s", n, store->dir);
	}
	*out = pin;
	return NULL;
}

void *store_pin_free(struct store_pin *pin)
{
	if (!pin)
		return NULL;
	(void)unlinkat(pin->store->dir_fd, pin->path, 0);
	free(pin);
	return NULL;
}

/* ---- all of them ---------------------------------------------------------------- */

static void pins_file_clear(struct store_pins_file *file)
{
	free(file->path);
	dirset_deinit(&file->digests);
}

void store_pins_deinit(struct store_pins *pins)
{
	for (size_t i = 0; i < pins->n; i++)
		pins_file_clear(&pins->files[i]);
	free(pins->files);
	*pins = (struct store_pins){0};
}

bool store_pins_have(const struct store_pins *pins, const struct digest *digest)
{
	struct slice none;

	for (size_t i = 0; i < pins->n; i++)
		if (dirset_find(&pins->files[i].digests, digest, &none))
			return true;
	return pins->is_all;
}

struct pins_walk {
	int dir_fd;
	struct store_pins_file *file;
	struct dirset trees; /* those to look into, in order */
};

static void pins_walk_nodes(struct pins_walk *walk, const struct tree_dir *dir)
{
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		const struct tree_node *node = &dir->nodes[i];

		if (node->kind == TREE_SYMLINK)
			continue;
		(void)dirset_add(&walk->file->digests, &node->digest, (struct slice){0});
		if (node->kind == TREE_DIR)
			(void)dirset_add(&walk->trees, &node->digest, (struct slice){0});
	}
}

/* What lies in one Directory, if it is there. */
static void pins_walk_one(struct pins_walk *walk, const struct digest *digest)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_error_ struct error *err = NULL;
	char path[STORE_PATH_MAX];

	if (!digest->size)
		return;
	err = file_read_all(walk->dir_fd, store_file_path(digest, path), TREE_DIR_MAX,
			    &bytes);
	if (!err)
		err = tree_dir_decode(&bytes, &dir);
	if (err)
		walk->file->is_whole = false;
	else
		pins_walk_nodes(walk, dir);
}

static void pins_walk_record(struct pins_walk *walk, const uint8_t *record)
{
	struct digest digest;

	memcpy(digest.hash, record + 1, DIGEST_HASH_SIZE);
	memcpy(&digest.size, record + 1 + DIGEST_HASH_SIZE, sizeof(digest.size));
	(void)dirset_add(&walk->file->digests, &digest, (struct slice){0});
	if (record[0] == PIN_IS_TREE)
		(void)dirset_add(&walk->trees, &digest, (struct slice){0});
}

/* False: its process has let go of it, or it is no list. */
static bool pins_read(struct store_pins *pins, int dir_fd, struct store_pins_file *file)
{
	_cleanup_free_ char *path = alloc_printf("staging/%s", file->path);
	struct pins_walk walk = {.dir_fd = dir_fd, .file = file};
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_error_ struct error *err =
		file_read_all(dir_fd, path, PIN_BYTES_MAX, &bytes);

	if (error_code(err) == ERROR_NOT_FOUND)
		return false;
	file->is_whole = !err;
	pins->is_all = pins->is_all || err;
	for (size_t at = 0; at + PIN_RECORD <= bytes.len; at += PIN_RECORD)
		pins_walk_record(&walk, bytes.data + at);
	for (size_t i = 0; i < walk.trees.n && file->digests.n < PIN_DIGESTS; i++) {
		struct digest digest = dirset_item(&walk.trees, i).digest;

		pins_walk_one(&walk, &digest);
	}
	pins->is_all = pins->is_all || file->digests.n >= PIN_DIGESTS;
	dirset_deinit(&walk.trees);
	return true;
}

static void pins_see(struct store_pins *pins, int dir_fd, const char *owner,
		     const char *name, bool is_first)
{
	_cleanup_free_ char *path = alloc_printf("%s/%s", owner, name);
	struct store_pins_file *file = NULL;

	for (size_t i = 0; i < pins->n && !file; i++)
		if (strcmp(pins->files[i].path, path) == 0)
			file = &pins->files[i];
	if (!file && pins->n == PIN_FILES) {
		pins->is_all = true;
		return;
	}
	if (!file) {
		pins->files = alloc_grow(pins->files, &pins->cap, pins->n + 1,
					 sizeof(*pins->files));
		file = &pins->files[pins->n++];
		*file = (struct store_pins_file){.path = take(path)};
	} else if (file->is_whole || !is_first) {
		file->is_seen = true;
		return;
	}
	file->is_seen = pins_read(pins, dir_fd, file);
}

static void closedirp(DIR **dir)
{
	if (*dir)
		(void)closedir(*dir);
}

/* The lists of one process, if that lives. */
static void pins_look_into(struct store_pins *pins, int dir_fd, int staging_fd,
			   const char *owner, bool is_first)
{
	int fd = openat(staging_fd, owner,
			O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_(closedirp) DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!list || flock(fd, LOCK_SH | LOCK_NB) == 0)
		return; /* nobody holds it */
	while ((entry = readdir(list)))
		if (strncmp(entry->d_name, PIN_PREFIX, strlen(PIN_PREFIX)) == 0)
			pins_see(pins, dir_fd, owner, entry->d_name, is_first);
}

static void pins_drop_unseen(struct store_pins *pins)
{
	size_t n = 0;

	for (size_t i = 0; i < pins->n; i++) {
		if (pins->files[i].is_seen)
			pins->files[n++] = pins->files[i];
		else
			pins_file_clear(&pins->files[i]);
	}
	pins->n = n;
}

void store_pins_load(struct store_pins *pins, int dir_fd, bool is_first)
{
	int fd = openat(dir_fd, "staging", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_(closedirp) DIR *staging = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	pins->is_all = !staging; /* then nobody can tell */
	for (size_t i = 0; i < pins->n; i++)
		pins->files[i].is_seen = false;
	while (staging && (entry = readdir(staging)))
		if (entry->d_name[0] != '.')
			pins_look_into(pins, dir_fd, fd, entry->d_name, is_first);
	pins_drop_unseen(pins);
}
