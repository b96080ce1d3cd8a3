/*
 * One overlayfs per action: the lower layer is a directory of the lazy mount, upper and
 * work lie in a fresh directory on the cache's file system. Mounted with the new mount
 * API, volatile,xino=on,metacopy=on,redirect_dir=on; detached when the action ends. A
 * work directory is never used twice.
 *
 * Threads: any that may block; needs root in the namespace that owns the mounts.
 */
#pragma once

#include <stdbool.h>

#include "lib/base/error.h"

struct overlay;

struct overlay_config {
	const char *lower; /* a directory of the lazy mount */
	const char *dir;   /* made; holds upper/ and work/; removed at the end */
	bool is_dir_kept;  /* not removed: what it lies on goes as a whole */
	bool is_left;      /* never detached, as in session.h */
	/* the mount point: made, and removed at the end. It may lie where others than
	 * root may look, while dir does not. NULL: DIR/merged */
	const char *merged;
};

struct error *overlay_mount(const struct overlay_config *config, struct overlay **out);
/*
 * Takes the mount out of sight and leaves upper as it is: what a job does before it
 * captures. merged_fd still pins the file system: taking down its caches (seconds, after
 * a command that looked at a million files) and removing what the action wrote is left to
 * overlay_free() on another thread. Calling it again does nothing.
 */
void overlay_detach(struct overlay *overlay);
/* Detaches, and removes dir with all in it: time proportional to what the action wrote.
 */
void *overlay_free(struct overlay *overlay);
CLEANUP_DEFINE(struct overlay, overlay_free)
const char *overlay_merged(const struct overlay *overlay); /* path of the mount point */
int overlay_merged_fd(const struct overlay *overlay);      /* O_PATH; borrowed */
int overlay_upper_fd(const struct overlay *overlay);       /* borrowed */
/* Whether we are in a user namespace below the machine's, where overlays keep their notes
 * in attributes user.overlay.* instead of trusted.overlay.*. They are then fewer: a
 * directory of the lower layer cannot be renamed (EXDEV, as between file systems), and a
 * file whose mode changes is copied. */
bool overlay_has_user_xattrs(void);

/* UNAVAILABLE with a reason where overlayfs cannot be mounted on this directory. Once,
 * before the first mount: it also lets this machine's overlays rename what has a long
 * path. */
struct error *overlay_probe(const char *dir);
