/*
 * Owns the reading of ByteStream's resource names. The instance is whatever stands before
 * the first keyword and may have slashes; as no segment of an instance may be a keyword,
 * that reading is the only one.
 */
#include "server/resource_name.h"

#include <string.h>

static const char *const resource_keywords[] = {
	"blobs",      "uploads",      "actions",          "actionResults",
	"operations", "capabilities", "compressed-blobs",
};

struct resource_cursor {
	const char *text;
	const char *at;
};

/* The segment at the cursor, which moves behind its slash; false at the end. */
static bool resource_next(struct resource_cursor *cursor, struct slice *out)
{
	size_t len;

	if (!cursor->at)
		return false;
	len = strcspn(cursor->at, "/");
	*out = (struct slice){(const uint8_t *)cursor->at, len};
	cursor->at = cursor->at[len] ? cursor->at + len + 1 : NULL;
	return true;
}

static struct error *resource_bad(const char *text, const char *why)
{
	return error_new(ERROR_INVALID_ARGUMENT, "resource name \"%.200s\": %s", text,
			 why);
}

static bool resource_is_keyword(struct slice segment)
{
	for (size_t i = 0; i < ARRAY_SIZE(resource_keywords); i++) {
		if (slice_is(segment, resource_keywords[i]))
			return true;
	}
	return false;
}

/* Moves behind the first keyword. */
static struct error *resource_instance(struct resource_cursor *cursor,
				       struct slice *instance, struct slice *keyword)
{
	size_t len = 0;

	while (resource_next(cursor, keyword)) {
		if (resource_is_keyword(*keyword)) {
			*instance = (struct slice){(const uint8_t *)cursor->text,
						   len ? len - 1 : 0};
			return NULL;
		}
		if (keyword->len == 0)
			return resource_bad(cursor->text, "an empty segment");
		len += keyword->len + 1;
	}
	return resource_bad(cursor->text, "neither blobs nor uploads in it");
}

static struct error *resource_digest(struct resource_cursor *cursor, struct digest *out)
{
	struct slice hash, size, both;
	struct error *err;

	if (!resource_next(cursor, &hash) || !resource_next(cursor, &size))
		return resource_bad(cursor->text, "HASH/SIZE is missing");
	both = (struct slice){hash.data, (size_t)(size.data + size.len - hash.data)};
	err = digest_parse_slice(both, out);
	return error_recode(error_wrap(err, "resource name \"%.200s\"", cursor->text),
			    ERROR_INVALID_ARGUMENT);
}

/* What stands between the UUID or the instance and the digest: its first word is keyword.
 */
static struct error *resource_compressor(struct resource_cursor *cursor,
					 struct slice keyword, bool *is_zstd)
{
	struct slice compressor;

	if (slice_is(keyword, "blobs"))
		return NULL;
	if (!slice_is(keyword, "compressed-blobs"))
		return resource_bad(cursor->text, "neither blobs nor uploads in it");
	if (!resource_next(cursor, &compressor) || !slice_is(compressor, "zstd"))
		return resource_bad(cursor->text, "zstd is the one compressor offered");
	*is_zstd = true;
	return NULL;
}

struct error *resource_name_parse(const char *text, struct resource_name *out)
{
	struct resource_cursor cursor = {text, text};
	struct resource_name name = {0};
	struct slice keyword;
	struct error *err;

	if (strlen(text) > RESOURCE_NAME_MAX)
		return resource_bad(text, "too long");
	err = resource_instance(&cursor, &name.instance, &keyword);
	if (err)
		return err;
	if (slice_is(keyword, "uploads")) {
		name.is_upload = true;
		if (!resource_next(&cursor, &name.uuid) || name.uuid.len == 0 ||
		    name.uuid.len > RESOURCE_UUID_MAX)
			return resource_bad(text, "a UUID belongs after uploads/");
		if (!resource_next(&cursor, &keyword))
			return resource_bad(text, "blobs/HASH/SIZE is missing");
	}
	err = resource_compressor(&cursor, keyword, &name.is_zstd);
	if (!err)
		err = resource_digest(&cursor, &name.digest);
	if (err)
		return err;
	if (!name.is_upload && cursor.at)
		return resource_bad(text, "more after the size");
	*out = name;
	return NULL;
}
