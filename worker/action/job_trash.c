/* Owns what actions left, from job_free() on. Threads: the background pool's. */
#include "worker/action/job_trash.h"

#include <fcntl.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

#define LOG_MODULE "job"
#include "lib/base/log.h"

static void job_trash_run(struct pool_task *task)
{
	struct job_trash *trash = container_of(task, struct job_trash, task);
	struct error *err;

	open_watch_free(trash->opened);
	overlay_free(trash->overlay);
	layout_deinit(&trash->layout);
	upper_free(trash->upper); /* what the overlay lay on */
	err = file_remove_tree(AT_FDCWD, trash->dir);
	log_drop(LOG_WARN, err, "remove what an action left");
	free(trash->dir);
	free(trash);
}

void job_trash_push(struct pool *background, const struct job_trash *trash)
{
	struct job_trash *own = alloc_new(struct job_trash);

	*own = *trash;
	own->task = (struct pool_task){.run = job_trash_run};
	if (own->overlay)
		overlay_detach(own->overlay);
	pool_push(background, &own->task);
}
