/*
 * The second phase of an import: hashing, spread over the pool.
 *
 * A file is opened once, and its bytes count where its status is the same before and
 * after they were read. A change within the tick of the kernel's clock that the last one
 * fell into would leave the same times behind, so such a tick is waited out first. What
 * changed is read again, with longer and longer pauses; a file that is to be held is read
 * into memory, or stays open.
 *
 * A record is written only where the file's times lie IMPORT_SETTLED_NS before the moment
 * at which hashing began, the same rule for the coarsest clock of a file system.
 *
 * Threads: the pool's and the caller's, see import_impl.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/tree/hasher.h"
#include "lib/tree/import_impl.h"

#define IMPORT_SETTLED_NS      (2 * NS_PER_S) /* the clock of FAT */
#define IMPORT_READS_MAX       10             /* of a file that changes under our eyes */
#define IMPORT_READS_LARGE_MAX 3              /* the same, of one of more than */
#define IMPORT_LARGE           ((int64_t)64 << 20)
#define IMPORT_TICKS_MS        12 /* at 100 a second, the slowest, there is one in that */
#define IMPORT_PAUSE_MAX_MS    64

/* The kernel's clock as files get it, which ticks every few milliseconds. */
static int64_t import_tick_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* The file's status, once the next change would be seen by its time; false where it
 * changes too often for that. A clock that stands elsewhere (a server's) is not waited
 * for. */
static bool import_stat_quiet(int fd, struct stat *st)
{
	for (int i = 0; i < IMPORT_TICKS_MS && fstat(fd, st) == 0; i++) {
		int64_t ahead_ns = import_record_of(st).ctime_ns - import_tick_ns();

		if (ahead_ns < 0 || ahead_ns > NS_PER_S)
			return true;
		clock_sleep_ms(1);
	}
	return false;
}

static struct error *import_digest_open(struct import *import, struct import_entry *entry,
					int fd)
{
	struct error *err;

	buf_clear(&entry->bytes);
	if (!entry->is_held || entry->record.size > IMPORT_HELD_SMALL)
		return hasher_digest_fd(fd, &entry->node.digest);
	if (atomic_fetch_add(&import->held_bytes, entry->record.size) +
		    entry->record.size >
	    IMPORT_HELD_BYTES_MAX) {
		entry->is_held = false;
		return hasher_digest_fd(fd, &entry->node.digest);
	}
	err = file_read_fd(fd, (size_t)IMPORT_HELD_SMALL, &entry->bytes);
	if (!err)
		hasher_digest(entry->bytes.data, entry->bytes.len, &entry->node.digest);
	/* it grew while it was read: as any other change */
	return error_code(err) == ERROR_INVALID_ARGUMENT ? error_free(err) : err;
}

/* A large file stays open: what is put in its place by rename leaves it as it is. */
static void import_hold_open(struct import *import, struct import_entry *entry, int *fd)
{
	if (!entry->is_held || entry->record.size <= IMPORT_HELD_SMALL)
		return;
	if (atomic_fetch_add(&import->held_files, 1) >= IMPORT_HELD_FILES_MAX)
		entry->is_held = false;
	else
		entry->fd = take_fd(*fd);
}

static struct error *import_open_file(struct import *import, struct import_entry *entry,
				      int *fd_out)
{
	struct error *err = file_open_beneath(import->dir_fd, entry->path,
					      O_RDONLY | O_NONBLOCK, 0, fd_out);

	if (error_errnum(err) != ENOENT)
		return import_other_kind(err);
	entry->is_gone = true;
	return error_free(err);
}

static struct error *import_hash_once(struct import *import, struct import_entry *entry,
				      bool *is_stable_out)
{
	_cleanup_fd_ int fd = -1;
	struct stat_record after;
	struct stat st;
	struct error *err = import_open_file(import, entry, &fd);

	if (err || entry->is_gone)
		return err;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_new(ERROR_ABORTED, "%s is no file any more", entry->path);
	if (!import_stat_quiet(fd, &st))
		return NULL;
	entry->record = import_record_of(&st);
	entry->node.is_executable = (st.st_mode & S_IXUSR) != 0;
	err = import_digest_open(import, entry, fd);
	if (err)
		return error_wrap(err, "%s", entry->path);
	if (fstat(fd, &st) < 0)
		return error_errno(errno, "stat %s", entry->path);
	after = import_record_of(&st);
	/* a file whose name went to another keeps its bytes, but not its ctime */
	after.ctime_ns = st.st_nlink ? after.ctime_ns : entry->record.ctime_ns;
	*is_stable_out = import_same_record(&entry->record, &after) &&
			 entry->node.digest.size == st.st_size;
	if (*is_stable_out)
		import_hold_open(import, entry, &fd);
	return NULL;
}

struct error *import_hash_file(struct import *import, struct import_entry *entry)
{
	int64_t pause_ms = 1;

	for (int reads = 0; reads < IMPORT_READS_MAX; reads++) {
		int64_t began_ns = clock_wall_ns();
		bool is_stable = false;
		struct error *err = import_hash_once(import, entry, &is_stable);

		if (err || entry->is_gone)
			return err;
		if (is_stable) {
			entry->has_digest = true;
			entry->is_settled =
				entry->record.mtime_ns < began_ns - IMPORT_SETTLED_NS &&
				entry->record.ctime_ns < began_ns - IMPORT_SETTLED_NS;
			return NULL;
		}
		if (reads + 1 >= IMPORT_READS_LARGE_MAX &&
		    entry->record.size > IMPORT_LARGE)
			break;
		clock_sleep_ms(pause_ms);
		pause_ms = pause_ms < IMPORT_PAUSE_MAX_MS ? pause_ms * 2 : pause_ms;
	}
	return error_new(ERROR_FAILED_PRECONDITION,
			 "%s does not hold still: it changes each time it is read",
			 entry->path);
}

static void import_hash(void *ctx, size_t i)
{
	struct import *import = ctx;
	struct import_entry *entry = import->files[i];
	struct error *err;

	if (atomic_load(&import->is_failed))
		return;
	err = import_hash_file(import, entry);
	if (err) {
		import_fail(import, error_wrap(err, "import %s", import->root));
		return;
	}
	if (entry->is_gone)
		return;
	atomic_fetch_add(&import->n_hashed, 1);
	import_progress(import, 1, entry->node.digest.size);
}

static int import_larger_first(const void *a, const void *b)
{
	int64_t a_size = (*(struct import_entry *const *)a)->record.size;
	int64_t b_size = (*(struct import_entry *const *)b)->record.size;

	return a_size > b_size ? -1 : a_size < b_size;
}

struct error *import_hash_all(struct import *import)
{
	size_t cap = 0;

	for (size_t l = 0; l < import->n_levels; l++)
		for (size_t i = 0; i < import->levels[l].n; i++) {
			struct import_dir *dir = import->levels[l].dirs[i];

			for (size_t j = 0; j < dir->n; j++) {
				struct import_entry *entry = &dir->entries[j];

				if (entry->node.kind != TREE_FILE || entry->has_digest)
					continue;
				import->files = alloc_grow(import->files, &cap,
							   import->n_files + 1,
							   sizeof(*import->files));
				import->files[import->n_files++] = entry;
			}
		}
	if (!import->n_files)
		return NULL;
	qsort(import->files, import->n_files, sizeof(*import->files),
	      import_larger_first);
	pool_for_each(import->config.pool, import->n_files, import_hash, import);
	return take(import->err);
}
