/*
 * Answers from the table of known blobs. What the table says of a file is
 * believed only once its file was looked at: a row of the index leads to an unchecked
 * entry, and the first use compares the file's size, inode and time with the row. From
 * then on an exclusive store answers store_has without a system call, since nobody else
 * should touch its files; every store_get opens the file and so sees for itself: one that
 * somebody wrote to all the same is hashed again.
 *
 * A shared store's unknown file: visible means that some process verified it before it
 * renamed it there, which a kill of that process cannot undo; only a crash of the machine
 * can. The first to open the store after a boot therefore writes into the index, as
 * suspect, all files that the index does not know to be on the disk (store_open.c). So a
 * file without a row is of this boot, and whole; one with a row is what the row says, if
 * the row's stamp is the file's.
 *
 * Threads: any. Blocks on the local disk only, and hashes only where the name says so.
 */
#include "lib/store/store.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/store/store_entry.h"
#include "lib/store/store_impl.h"
#include "lib/tree/hasher.h"

#define LOG_MODULE "store"
#include "lib/base/log.h"

int store_dir_fd(const struct store *store)
{
	return store->dir_fd;
}

/* What the table knows of digest, which counts as a use. */
static enum entry_state store_peek(struct store *store, const struct digest *digest)
{
	enum entry_state state = ENTRY_ABSENT;
	struct store_entry *entry;

	store_lock(store);
	entry = store_entry_find(store, digest);
	if (entry && entry->state != ENTRY_ABSENT && entry->digest.size == digest->size) {
		state = entry->state;
		store_entry_touch(store, entry);
	}
	store_unlock(store);
	return state;
}

/* The table was wrong about this blob's file, unless the file changed since: looks again,
 * and forgets the blob where the file is not what it should be. */
static void store_reconsider(struct store *store, const struct digest *digest)
{
	struct sync_mutex *name = store_name_mutex(store, digest);
	struct store_entry *entry;
	struct stat st;

	sync_lock(name);
	if (!store_file_stat(store->dir_fd, digest, &st) || st.st_size != digest->size) {
		store_lock(store);
		entry = store_entry_find(store, digest);
		if (entry && entry->state != ENTRY_ABSENT) {
			store_entry_set(store, entry, ENTRY_ABSENT);
			store_entry_dirty(store, entry, true);
		}
		store_unlock(store);
	}
	sync_unlock(name);
}

/* A shared store's file that the table does not know: see the essay. */
static enum entry_state store_learn(struct store *store, const struct digest *digest,
				    const struct stat *st)
{
	enum entry_state state = ENTRY_SUSPECT;
	struct store_row row = {0};
	struct store_entry *entry;
	bool is_known = false;

	if (store->index) {
		struct error *err =
			store_index_find(store->index, digest, &is_known, &row);

		if (err)
			log_drop(LOG_WARN, err, "look a blob up");
		else if (!is_known || (row.state != STORE_SUSPECT &&
				       row.stamp == store_file_stamp(st)))
			state = ENTRY_GOOD;
	}
	store_lock(store);
	entry = store_entry_get(store, digest);
	if (entry->state == ENTRY_ABSENT && entry->digest.size != digest->size)
		entry->digest = *digest;
	if (entry->state == ENTRY_ABSENT) {
		entry->indexed_used_ns = row.used_ns;
		store_entry_set(store, entry, state);
		if (is_known) { /* counted in the index's totals already */
			store->n_blobs--;
			store->bytes -= digest->size;
		}
		store_entry_touch(store, entry);
	} else {
		state = entry->state;
	}
	store_unlock(store);
	return state;
}

/* A look at the file of an entry that is good, as the index or this process says: one
 * that changed since is a suspect. */
static enum entry_state store_check(struct store *store, const struct digest *digest,
				    const struct stat *st)
{
	enum entry_state state = ENTRY_ABSENT;
	struct store_entry *entry;

	store_lock(store);
	entry = store_entry_find(store, digest);
	if (entry && entry->state == ENTRY_GOOD && !entry->stamp)
		entry->stamp = store_file_stamp(st);
	if (entry && (entry->state == ENTRY_UNCHECKED || entry->state == ENTRY_GOOD))
		entry->state =
			entry->stamp == store_file_stamp(st) ? ENTRY_GOOD : ENTRY_SUSPECT;
	if (entry)
		state = entry->state;
	store_unlock(store);
	return state;
}

/* What the file says, given what the table says. st is of the file, of the right size. */
static enum entry_state store_judge(struct store *store, const struct digest *digest,
				    enum entry_state known, const struct stat *st)
{
	switch (known) {
	case ENTRY_ABSENT:
		return store_learn(store, digest, st);
	case ENTRY_UNCHECKED:
	case ENTRY_GOOD:
		return store_check(store, digest, st);
	case ENTRY_SUSPECT:
		return known;
	}
	return ENTRY_ABSENT;
}

/* The blob's file and what is known of it; -1 where it is absent. */
static struct error *store_look(struct store *store, const struct digest *digest,
				int *fd_out, enum entry_state *state_out)
{
	enum entry_state known = store_peek(store, digest);
	_cleanup_fd_ int fd = -1;
	struct stat st;
	struct error *err;

	*state_out = ENTRY_ABSENT;
	*fd_out = -1;
	if (known == ENTRY_ABSENT && !store->is_shared)
		return NULL;
	err = store_file_open(store->dir_fd, digest, &fd, &st);
	if (err)
		return err;
	if (fd < 0 || st.st_size != digest->size) {
		if (known != ENTRY_ABSENT)
			store_reconsider(store, digest);
		return NULL;
	}
	*state_out = store_judge(store, digest, known, &st);
	if (*state_out != ENTRY_ABSENT)
		*fd_out = take_fd(fd);
	return NULL;
}

struct error *store_get(struct store *store, const struct digest *digest, int *fd_out)
{
	_cleanup_fd_ int fd = -1;
	enum entry_state state;
	struct error *err;

	if (digest_equal(digest, &digest_of_empty))
		return store_file_open_empty(store->dir_fd, fd_out);
	err = store_look(store, digest, &fd, &state);
	if (err)
		return err;
	*fd_out = state == ENTRY_GOOD ? take_fd(fd) : -1;
	return NULL;
}

/* Removes the file and forgets the blob; is_suspect: only if it still is one. */
static void store_discard(struct store *store, const struct digest *digest,
			  bool is_suspect)
{
	struct sync_mutex *name = store_name_mutex(store, digest);
	char path[STORE_PATH_MAX];
	struct store_entry *entry;
	bool is_it;

	sync_lock(name);
	store_lock(store);
	entry = store_entry_find(store, digest);
	is_it = entry && entry->state != ENTRY_ABSENT &&
		entry->digest.size == digest->size &&
		(!is_suspect || entry->state == ENTRY_SUSPECT);
	if (is_it) {
		store_entry_set(store, entry, ENTRY_ABSENT);
		store_entry_dirty(store, entry, true);
	}
	store_unlock(store);
	if (is_it)
		(void)unlinkat(store->dir_fd, store_file_path(digest, path), 0);
	sync_unlock(name);
}

/* Hashes a suspect; *is_good_out false: it was corrupt and is gone. */
static struct error *store_verify(struct store *store, const struct digest *digest,
				  int fd, bool *is_good_out)
{
	_cleanup_error_ struct error *err = hasher_verify_fd(fd, digest);
	struct store_entry *entry;

	if (err && error_code(err) != ERROR_DATA_LOSS)
		return take(err);
	store_lock(store);
	store->n_verified++;
	store->n_corrupt += err ? 1 : 0;
	entry = store_entry_find(store, digest);
	if (!err && entry && entry->state == ENTRY_SUSPECT) {
		entry->stamp = 0;
		store_entry_set(store, entry, ENTRY_GOOD);
		store_entry_dirty(store, entry, true);
	}
	store_unlock(store);
	*is_good_out = !err;
	if (err) {
		store_discard(store, digest, true);
		log_drop(LOG_WARN, take(err), "dropped a blob of %s", store->dir);
	}
	return NULL;
}

struct error *store_get_verified(struct store *store, const struct digest *digest,
				 int *fd_out)
{
	_cleanup_fd_ int fd = -1;
	enum entry_state state;
	bool is_good = true;
	struct error *err;

	if (digest_equal(digest, &digest_of_empty))
		return store_file_open_empty(store->dir_fd, fd_out);
	err = store_look(store, digest, &fd, &state);
	if (!err && state == ENTRY_SUSPECT)
		err = store_verify(store, digest, fd, &is_good);
	if (err)
		return err;
	*fd_out = is_good ? take_fd(fd) : -1;
	return NULL;
}

bool store_has(struct store *store, const struct digest *digest)
{
	_cleanup_fd_ int fd = -1;
	_cleanup_error_ struct error *err = NULL;

	if (digest_equal(digest, &digest_of_empty))
		return true;
	if (!store->is_shared) {
		enum entry_state known = store_peek(store, digest);

		if (known == ENTRY_GOOD || known == ENTRY_ABSENT)
			return known == ENTRY_GOOD;
	}
	err = store_get_verified(store, digest, &fd);
	return !err && fd >= 0;
}

void store_has_many_begin(struct store *store)
{
	if (store->is_shared && store->index)
		store_index_find_many(store->index, true);
}

void store_has_many_end(struct store *store)
{
	if (store->is_shared && store->index)
		store_index_find_many(store->index, false);
}

bool store_is_suspect(struct store *store, const struct digest *digest)
{
	struct store_entry *entry;
	bool is_suspect;

	store_lock(store);
	entry = store_entry_find(store, digest);
	is_suspect = entry && entry->state == ENTRY_SUSPECT &&
		     entry->digest.size == digest->size;
	store_unlock(store);
	return is_suspect;
}

static struct error *store_read_fd(int fd, size_t len, struct buf *out)
{
	size_t done = 0;

	buf_reserve(out, len);
	while (done < len) {
		ssize_t n = pread(fd, out->data + out->len, len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(errno, "read");
		if (n == 0)
			return error_new(ERROR_DATA_LOSS, "the file became shorter");
		out->len += (size_t)n;
		done += (size_t)n;
	}
	out->data[out->len] = '\0';
	return NULL;
}

struct error *store_read(struct store *store, const struct digest *digest, size_t limit,
			 struct buf *out)
{
	char text[DIGEST_STRING_MAX];
	_cleanup_fd_ int fd = -1;
	size_t start = out->len;
	struct error *err;

	if ((uint64_t)digest->size > limit)
		return error_new(ERROR_INVALID_ARGUMENT, "%s is longer than %zu bytes",
				 digest_format(digest, text), limit);
	err = store_get_verified(store, digest, &fd);
	if (err)
		return err;
	if (fd < 0)
		return error_new(ERROR_NOT_FOUND, "%s is not in %s",
				 digest_format(digest, text), store->dir);
	err = store_read_fd(fd, (size_t)digest->size, out);
	if (err)
		out->len = start;
	return error_wrap(err, "%s in %s", digest_format(digest, text), store->dir);
}

void store_remove(struct store *store, const struct digest *digest)
{
	_cleanup_error_ struct error *err = NULL;
	_cleanup_fd_ int fd = -1;
	enum entry_state state;

	err = store_look(store, digest, &fd, &state);
	if (!err && state != ENTRY_ABSENT)
		store_discard(store, digest, false);
}

void store_stats(struct store *store, struct store_stats *out)
{
	store_lock(store);
	*out = (struct store_stats){
		.n_blobs = store->n_blobs,
		.bytes = store->bytes,
		.size_limit = store->size_limit,
		.n_evicted = store->n_evicted,
		.evicted_bytes = store->evicted_bytes,
		.n_verified = store->n_verified,
		.n_corrupt = store->n_corrupt,
	};
	store_unlock(store);
}
