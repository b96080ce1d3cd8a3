/*
 * A content-addressable store for tests: a real gRPC server in this process, whose faults
 * are scripted by call or by blob, and which writes down every call. What no fault speaks
 * of is answered as the protocol says, its own batch limit included.
 *
 * Threads: any.
 */
#pragma once

#include "lib/store/store.h"
#include "lib/tree/digest.h"

struct fake;

enum fake_method {
	FAKE_CAPABILITIES,
	FAKE_FIND,
	FAKE_BATCH_READ,
	FAKE_BATCH_UPDATE,
	FAKE_GET_TREE,
	FAKE_READ,
	FAKE_WRITE,
	FAKE_QUERY,
	FAKE_SPLIT,  /* by either call */
	FAKE_SPLICE, /* by either call */
	FAKE_N_METHODS,
};

enum fake_kind {
	/* Of a call. Where a digest is given: of a call that names it. */
	FAKE_STALL,   /* never answers; Read: when `at` bytes of the blob went */
	FAKE_DELAY,   /* answers after `at` ms */
	FAKE_FAIL,    /* ends with `code`; Read, Write: when `at` bytes went or came */
	FAKE_GARBAGE, /* answers with bytes that are no message */
	FAKE_SHORT,   /* Write: says that only `at` bytes are committed */
	FAKE_OFFSET,  /* QueryWriteStatus: says `at` */
	/* GetTree: page after page of Directories that nobody has seen; GetChunkMapping:
	 * of chunks without a byte */
	FAKE_ENDLESS,
	FAKE_CIRCLE,  /* GetTree: the root again and again, two tokens in turn */
	FAKE_STUCK,   /* GetTree: every page names itself as the next */
	FAKE_UNASKED, /* BatchReadBlobs: answers for one more blob */
	/* Of a blob. */
	FAKE_REFUSE,   /* fails with `code` */
	FAKE_CORRUPT,  /* another byte at `at` */
	FAKE_TRUNCATE, /* only `at` bytes */
	FAKE_EXTEND,   /* `at` bytes more */
	FAKE_TWICE,    /* batches: answered twice */
	FAKE_OMIT,     /* batches, GetTree: left out */
};

struct fake_fault {
	enum fake_kind kind;
	enum fake_method method;
	const struct digest *digest; /* copied; NULL: any */
	unsigned int n_skip;         /* so many go unharmed before */
	unsigned int n_times;        /* 0: for ever */
	int64_t at;
	enum error_code code; /* 0: UNAVAILABLE */
	bool has_retry_info;
	int64_t retry_ms; /* of the RetryInfo */
};

struct fake_config {
	const char *address;
	int64_t batch_max;    /* bytes, announced and enforced; 0: 4 MiB */
	size_t tree_page;     /* Directories in a page of GetTree; 0: all */
	bool has_zstd;        /* announced, and then spoken by streams and batches */
	size_t chunk_average; /* announced, with all calls about chunks; 0: none are */
	bool has_mappings;    /* those of 2.13, too */
	struct store *store;  /* has further blobs; borrowed, may be NULL */
};

/* Fails the process where it cannot listen. */
struct fake *fake_new(const struct fake_config *config);
void *fake_free(struct fake *fake);
const char *fake_address(const struct fake *fake);

struct digest fake_put(struct fake *fake, const void *data, size_t len);
void fake_drop(struct fake *fake, const struct digest *digest);
bool fake_has(struct fake *fake, const struct digest *digest);

/* Says of a blob that it is made of these, true or not. */
void fake_claim(struct fake *fake, const struct digest *blob,
		const struct digest *digests, size_t n);

/* The first fault that fits is the one that happens. */
void fake_script(struct fake *fake, const struct fake_fault *fault);
void fake_heal(struct fake *fake); /* forgets all faults */

/* From here on calls of a method wait, until the release. */
void fake_hold(struct fake *fake, enum fake_method method);
void fake_await_held(struct fake *fake, size_t n);
void fake_release_one(struct fake *fake); /* the one that waits longest */
void fake_release(struct fake *fake);

struct fake_call {
	enum fake_method method;
	size_t n_blobs;      /* named by the request */
	struct digest first; /* of them */
	int64_t offset;      /* of streams: where the call began */
	int64_t bytes;       /* Write: received; BatchUpdateBlobs: all of the request's */
	bool is_zstd;        /* of streams: its name says so */
	bool is_released;    /* not held any more */
};
size_t fake_n_calls(struct fake *fake, enum fake_method method);
size_t fake_n_blobs(struct fake *fake, enum fake_method method); /* by all of them */
struct fake_call fake_call(struct fake *fake, enum fake_method method, size_t i);
/* How many calls of a method named this blob. */
size_t fake_n_asked(struct fake *fake, enum fake_method method,
		    const struct digest *digest);
