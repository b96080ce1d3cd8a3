/*
 * SHA-256 of bytes as they come, or of a whole file. Nothing but reading can fail.
 * Threads: a hasher is one thread's at a time; the functions without one are any
 * thread's. Those with a descriptor block on the disk.
 */
#pragma once

#include "lib/tree/digest.h"

struct hasher;

/* What the first hasher of a process would wait for: OpenSSL reads its configuration. */
void hasher_prepare(void);
struct hasher *hasher_new(void); /* ready for the first byte */
void *hasher_free(struct hasher *hasher);
CLEANUP_DEFINE(struct hasher, hasher_free)
void hasher_add(struct hasher *hasher, const void *data, size_t len);
void hasher_end(struct hasher *hasher, struct digest *out); /* and ready for the next */

void hasher_digest(const void *data, size_t len, struct digest *out);
/* Reads fd from its start to its end (pread; the offset stays). */
struct error *hasher_digest_fd(int fd, struct digest *out);
/* hasher_digest_fd, and DATA_LOSS where it is not want. */
struct error *hasher_verify_fd(int fd, const struct digest *want);
