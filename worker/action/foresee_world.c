/* Owns the file of the blob that was looked into last. */
#include "worker/action/foresee_world.h"

#include <unistd.h>

#define LOG_MODULE "foresee"
#include "lib/base/log.h"

#define FORESEE_TURN 8192 /* names looked up: a millisecond or two */
/* A Directory that left the memory is read again where it is no larger; decoding it costs
 * as much as so many of its bytes. */
#define FORESEE_DIR_MAX     ((int64_t)4 << 20)
#define FORESEE_DIR_FOR_ONE 256

void foresee_blobs_init(struct foresee_blobs *blobs, struct dircache *dirs)
{
	*blobs = (struct foresee_blobs){
		.dirs = dirs, .store = fetch_store(dircache_fetch(dirs)), .read_fd = -1};
}

void foresee_blobs_deinit(struct foresee_blobs *blobs)
{
	cleanup_fd(&blobs->read_fd);
}

static struct tree_dir *foresee_world_dir(void *ctx, const struct digest *digest)
{
	struct foresee_world *world = ctx;
	struct foresee_blobs *blobs = world->blobs;
	struct tree_dir *dir = dircache_peek(blobs->dirs, digest);
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct error *err;

	/* what left the memory is read again, but not by a job's own thread; what is not
	 * here is not waited for */
	if (dir || !world->foresight || digest->size > FORESEE_DIR_MAX ||
	    !store_has(blobs->store, digest))
		return dir;
	foresight_charge(world->foresight, digest->size / FORESEE_DIR_FOR_ONE);
	err = store_read(blobs->store, digest, TREE_DIR_MAX, &bytes);
	if (!err)
		err = dircache_decode(digest, &bytes, &dir);
	if (!err)
		(void)dircache_put(blobs->dirs, digest, tree_dir_ref(dir));
	log_drop(LOG_DEBUG, err, "read a Directory");
	return dir;
}

static bool foresee_world_has(void *ctx, const struct digest *digest)
{
	const struct foresee_world *world = ctx;

	return store_has(world->blobs->store, digest);
}

static size_t foresee_world_read(void *ctx, const struct digest *digest, int64_t at,
				 void *buf, size_t len)
{
	struct foresee_blobs *blobs = ((struct foresee_world *)ctx)->blobs;
	size_t done = 0;

	if (blobs->read_fd < 0 || !digest_equal(&blobs->read_digest, digest)) {
		struct error *err;

		cleanup_fd(&blobs->read_fd);
		blobs->read_fd = -1;
		err = store_get(blobs->store, digest, &blobs->read_fd);
		log_drop(LOG_DEBUG, err, "look into a blob");
		blobs->read_digest = *digest;
	}
	while (blobs->read_fd >= 0 && done < len) {
		ssize_t n = pread(blobs->read_fd, (char *)buf + done, len - done,
				  at + (int64_t)done);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

void foresee_world_init(struct foresee_world *world, struct foresee_blobs *blobs)
{
	*world = (struct foresee_world){.blobs = blobs};
	world->world = (struct foresight_world){.dir = foresee_world_dir,
						.has = foresee_world_has,
						.read = foresee_world_read,
						.ctx = world,
						.turn = FORESEE_TURN};
}
