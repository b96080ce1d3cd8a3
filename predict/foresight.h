/*
 * What one action will read of its input root, as far as can be told: from its command
 * line (certain), from runs before (learned), from what files say of others (derived),
 * and from what it has read so far (seen). It is told what happens and yields wishes:
 * digests to bring, the best first. It knows no clock, no network and no FUSE, so a
 * replay of a trace runs the same code as the worker.
 *
 * Nothing here fails: what is not understood, or too much, is left out. All that it reads
 * is hostile; nothing it does costs more than bytes, and those are its user's to bound.
 *
 * Threads: one at a time.
 */
#pragma once

#include "lib/tree/tree.h"
#include "predict/profile.h"

struct foresight;

enum foresight_source {
	FORESIGHT_CERTAIN,
	FORESIGHT_LEARNED,
	FORESIGHT_DERIVED,
	FORESIGHT_SEEN,
	FORESIGHT_SOURCES,
};

const char *foresight_source_name(enum foresight_source source); /* "certain" */

/* What it may ask; none of these blocks on the network. */
struct foresight_world {
	struct tree_dir *(*dir)(void *ctx, const struct digest *digest); /* a reference */
	bool (*has)(void *ctx, const struct digest *digest); /* the blob is at hand */
	/* Of a blob at hand: how many bytes were put at buf; fewer only at its end, or
	 * where it is gone. */
	size_t (*read)(void *ctx, const struct digest *digest, int64_t at, void *buf,
		       size_t len);
	void *ctx;
	/* How much is thought in a turn, in names looked up; 0: all at once. */
	int64_t turn;
};

struct foresight_action { /* borrowed by foresight_new() for the call */
	struct digest root;
	const char *mount;   /* where the command finds its root: absolute */
	const char *workdir; /* clean, from the root */
	const char *const *arguments;
	size_t n_arguments;
	const char *path;        /* PATH of its environment; NULL: none */
	const char *python_path; /* PYTHONPATH, likewise */
};

/* world is borrowed until foresight_free(). */
struct foresight *foresight_new(const struct foresight_world *world,
				const struct foresight_action *action);
void *foresight_free(struct foresight *foresight);
CLEANUP_DEFINE(struct foresight, foresight_free)

/* What happens. Paths are clean, from the root, without links; what names nothing in the
 * root is ignored. */

/* A turn begins: so much is thought as world->turn says, by this and the calls that
 * follow, or little more, and what is left waits for the next turn. Where one turn's call
 * cost much more than that, some turns have nothing to give. foresight_new() is a turn as
 * well. */
void foresight_go_on(struct foresight *foresight);
/* The turn is used up: there may be more to think. */
bool foresight_is_tired(const struct foresight *foresight);
/* To answer cost so much more, in names looked up. */
void foresight_charge(struct foresight *foresight, int64_t n);
/* The command has ended: what it opened is noted, and nothing is thought of it. */
void foresight_rest(struct foresight *foresight);

/* More Directories are at hand than before. */
void foresight_look(struct foresight *foresight);
/* Runs before opened these; borrowed for the call. The finest first; weight: how much a
 * run of that kind says of this one, 0 to 1. */
void foresight_learn(struct foresight *foresight, const struct profile *profile,
		     double weight);
/* The command opened a file, or a directory to list it; was_here: its blob was at hand at
 * that moment. */
void foresight_opened(struct foresight *foresight, const char *path, bool was_here);
/* The blob of a wish is here, or will not come. */
void foresight_arrived(struct foresight *foresight, const struct digest *digest,
		       bool is_here);

/* What it yields. */

struct foresight_way {     /* to the storage */
	int64_t rtt_ns;    /* 0: not known yet, nor the rate */
	int64_t rate;      /* bytes a second */
	double contention; /* 1: nobody waits for the way; more the more wait */
	int64_t size_max;  /* larger blobs are left for another time */
};

struct foresight_wish {
	struct digest digest;
	double probability;
	enum foresight_source source;
	/* The command asked for it already: wishing costs nothing, and tells when it is
	 * here. */
	bool is_needed;
};

/* The next wish that pays; false where there is none for now. What is at hand already is
 * passed over, and looked into where that leads further. */
bool foresight_next(struct foresight *foresight, const struct foresight_way *way,
		    struct foresight_wish *wish_out);

/* What came of it. */

struct foresight_count {
	int64_t files;
	int64_t bytes;
};

struct foresight_summary {
	/* of each source's wishes: opened when here, opened while under way, and not
	 * opened so far */
	struct foresight_count useful[FORESIGHT_SOURCES];
	struct foresight_count late[FORESIGHT_SOURCES];
	struct foresight_count wasted[FORESIGHT_SOURCES];
	struct foresight_count missed; /* opened, neither wished for nor at hand */
	int64_t unheard; /* opens that foresight was not told of: its user's count */
};

void foresight_summary(const struct foresight *foresight, struct foresight_summary *out);
/* Files opened so far, in order of their first opening: the profile's food. */
size_t foresight_reads(const struct foresight *foresight,
		       const struct profile_read **out); /* borrowed, until free */
/* The digest of the tool's file, once it was found. */
bool foresight_tool(const struct foresight *foresight, struct digest *out);
