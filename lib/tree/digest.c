/*
 * Owns nothing: a digest is a value. Whatever text or message it comes from, only the one
 * canonical spelling is taken, so that a digest never needs a second look before it
 * becomes a file's name.
 */
#include "lib/tree/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/wire.h"

#define DIGEST_HEX_LEN     (DIGEST_HASH_SIZE * 2)
#define DIGEST_SIZE_DIGITS 19  /* of INT64_MAX */
#define DIGEST_SHOWN_MAX   100 /* of a bad text in a message */

const struct digest digest_of_empty = {
	.hash = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
		 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
		 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55},
	.size = 0,
};

static int digest_nibble(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static bool digest_parse_hex(const uint8_t *hex, uint8_t hash[DIGEST_HASH_SIZE])
{
	for (size_t i = 0; i < DIGEST_HASH_SIZE; i++) {
		int high = digest_nibble(hex[2 * i]);
		int low = high < 0 ? -1 : digest_nibble(hex[2 * i + 1]);

		if (low < 0)
			return false;
		hash[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool digest_parse_size(struct slice text, int64_t *size_out)
{
	uint64_t size = 0;

	if (text.len == 0 || text.len > DIGEST_SIZE_DIGITS)
		return false;
	if (text.len > 1 && text.data[0] == '0')
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		size = size * 10 + (uint64_t)(text.data[i] - '0');
	}
	if (size > INT64_MAX)
		return false;
	*size_out = (int64_t)size;
	return true;
}

struct error *digest_parse_slice(struct slice text, struct digest *out)
{
	struct digest d;
	size_t after = DIGEST_HEX_LEN + 1;

	if (text.len > after &&
	    (text.data[after - 1] == '/' || text.data[after - 1] == '-') &&
	    digest_parse_hex(text.data, d.hash) &&
	    digest_parse_size((struct slice){text.data + after, text.len - after},
			      &d.size)) {
		*out = d;
		return NULL;
	}
	return error_new(
		ERROR_INVALID_ARGUMENT,
		"\"%.*s\" is no digest: 64 lower-case hex digits, \"/\" and the size "
		"in bytes",
		(int)(text.len > DIGEST_SHOWN_MAX ? DIGEST_SHOWN_MAX : text.len),
		text.data ? (const char *)text.data : "");
}

struct error *digest_parse(const char *text, struct digest *out)
{
	return digest_parse_slice(slice_of(text), out);
}

struct error *digest_parse_hash(const char *hash, int64_t size, struct digest *out)
{
	struct digest d = {.size = size};

	if (strnlen(hash, DIGEST_HEX_LEN + 1) != DIGEST_HEX_LEN ||
	    !digest_parse_hex((const uint8_t *)hash, d.hash))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "\"%.*s\" is no SHA-256 hash: 64 lower-case hex digits",
				 DIGEST_SHOWN_MAX, hash);
	if (size < 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "digest %s has the size %" PRId64, hash, size);
	*out = d;
	return NULL;
}

const char *digest_hex(const struct digest *d, char text[static DIGEST_HEX_MAX])
{
	static const char digits[16] = {'0', '1', '2', '3', '4', '5', '6', '7',
					'8', '9', 'a', 'b', 'c', 'd', 'e', 'f'};

	for (size_t i = 0; i < DIGEST_HASH_SIZE; i++) {
		text[2 * i] = digits[d->hash[i] >> 4];
		text[2 * i + 1] = digits[d->hash[i] & 15];
	}
	text[DIGEST_HEX_LEN] = '\0';
	return text;
}

static const char *digest_spell(const struct digest *d, char between,
				char text[static DIGEST_STRING_MAX])
{
	(void)digest_hex(d, text);
	(void)snprintf(text + DIGEST_HEX_LEN, DIGEST_STRING_MAX - DIGEST_HEX_LEN,
		       "%c%" PRId64, between, d->size);
	return text;
}

const char *digest_format(const struct digest *d, char text[static DIGEST_STRING_MAX])
{
	return digest_spell(d, '/', text);
}

const char *digest_name(const struct digest *d, char text[static DIGEST_STRING_MAX])
{
	return digest_spell(d, '-', text);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	return a->size == b->size && memcmp(a->hash, b->hash, DIGEST_HASH_SIZE) == 0;
}

int digest_compare(const struct digest *a, const struct digest *b)
{
	int order = memcmp(a->hash, b->hash, DIGEST_HASH_SIZE);

	if (order)
		return order;
	return a->size < b->size ? -1 : a->size > b->size;
}

uint64_t digest_key(const struct digest *d)
{
	return slice_hash((struct slice){d->hash, sizeof(d->hash)});
}

struct error *digest_from_wire(const Reapi__Digest *wire, struct digest *out)
{
	if (!wire)
		return error_new(ERROR_INVALID_ARGUMENT, "a digest is missing");
	return digest_parse_hash(wire->hash, wire->size_bytes, out);
}

/* Digest: hash = 1, size_bytes = 2. */
struct error *digest_decode(struct slice bytes, struct digest *out)
{
	struct wire wire = wire_of(bytes);
	struct slice hash = {0};
	char text[DIGEST_HEX_MAX];
	struct wire_field field;
	int64_t size = 0;

	while (wire_next(&wire, &field)) {
		if (field.number == 1 && field.type == WIRE_BYTES)
			hash = field.bytes;
		else if (field.number == 2 && field.type == WIRE_VARINT)
			size = (int64_t)field.value;
	}
	if (wire.is_bad || hash.len != DIGEST_HEX_LEN)
		return error_new(ERROR_INVALID_ARGUMENT, "a digest is malformed");
	memcpy(text, hash.data, hash.len);
	text[hash.len] = '\0';
	return digest_parse_hash(text, size, out);
}

void digest_to_wire(const struct digest *d, char hex[static DIGEST_HEX_MAX],
		    Reapi__Digest *out)
{
	reapi__digest__init(out);
	out->hash = digest_hex(d, hex);
	out->size_bytes = d->size;
}

Reapi__Digest *digest_to_arena(const struct digest *d, struct arena *arena)
{
	Reapi__Digest *wire = arena_new(arena, Reapi__Digest);
	char *hex = arena_alloc(arena, DIGEST_HEX_MAX);

	if (!wire || !hex)
		return NULL;
	digest_to_wire(d, hex, wire);
	return wire;
}
