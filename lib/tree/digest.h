/*
 * A digest: SHA-256 and size, the name of a blob (REAPI Digest). A plain value.
 *
 * Text: "HASH/SIZE" as resource names have it; "HASH-SIZE" is read too, and is the form
 * of names in mounts, where a slash cannot stand.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/error.h"
#include "proto/api.h"

#define DIGEST_HASH_SIZE  32
#define DIGEST_HEX_MAX    65 /* with the NUL */
#define DIGEST_STRING_MAX 88

struct digest {
	uint8_t hash[DIGEST_HASH_SIZE];
	int64_t size; /* bytes, never negative */
};

extern const struct digest digest_of_empty;

/* INVALID_ARGUMENT: not 64 lower-case hex digits, a separator and a decimal size. */
struct error *digest_parse(const char *text, struct digest *out);
struct error *digest_parse_slice(struct slice text, struct digest *out);
struct error *digest_parse_hash(const char *hash, int64_t size, struct digest *out);
const char *digest_format(const struct digest *d,
			  char text[static DIGEST_STRING_MAX]); /* / */
const char *digest_name(const struct digest *d,
			char text[static DIGEST_STRING_MAX]); /* - */
const char *digest_hex(const struct digest *d, char text[static DIGEST_HEX_MAX]);

bool digest_equal(const struct digest *a, const struct digest *b);
int digest_compare(const struct digest *a, const struct digest *b);
/* For hash tables, another one in each process: a Directory may name files whose hashes
 * somebody made up, all with the same first bytes. */
uint64_t digest_key(const struct digest *d);

/* NULL or malformed (docs/protocol.md, 5 to 8): INVALID_ARGUMENT. */
struct error *digest_from_wire(const Reapi__Digest *wire, struct digest *out);
/* The same from an encoded Digest, for messages that are taken apart by hand. */
struct error *digest_decode(struct slice bytes, struct digest *out);
/* hex must outlive *out, which borrows it. */
void digest_to_wire(const struct digest *d, char hex[static DIGEST_HEX_MAX],
		    Reapi__Digest *out);
/* A wire digest in an arena, for building requests; NULL where it is full. */
Reapi__Digest *digest_to_arena(const struct digest *d, struct arena *arena);
