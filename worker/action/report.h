/*
 * The read report of a job: lazyroot.v1.ReadReport in an Any, in a form that everybody
 * can print (lib/rpc/any.h).
 */
#pragma once

#include "fuse/view.h"
#include "predict/foresight.h"
#include "worker/action/open_watch.h"

struct report {
	bool has_input;
	struct tree_totals input;
	bool has_opened; /* it was counted */
	struct open_watch_totals opened;
	uint64_t fetched_blobs;
	uint64_t fetched_bytes;
	uint64_t round_trips;
	int64_t staging_ns;
	int64_t command_ns;
	int64_t waiting_ns;
	int64_t capture_ns;
	int64_t upload_ns;
	struct view_wait slowest[VIEW_SLOWEST_MAX];
	size_t n_slowest;
	const char *const *notes;
	size_t n_notes;
	int64_t peak_memory;
	int64_t cpu_user_us;
	int64_t cpu_system_us;
	bool has_foresight;
	struct foresight_summary foresight;
	int64_t read_bytes;
	int64_t written_bytes;
};

/* In arena; NULL where it is full. */
Pb__Any *report_encode(const struct report *report, struct arena *arena);
void report_deinit(struct report *report); /* the paths of the slowest */
