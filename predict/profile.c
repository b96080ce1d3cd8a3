/*
 * Owns the merging and the form of profiles. Encoded: a head (magic, version, runs,
 * count), then each entry: how many bytes of its path are those of the path before, the
 * rest of the path, its size, its bits. Numbers are LEB128.
 */
#include "predict/profile.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/htab.h"

static const uint8_t profile_magic[] = {'L', 'Z', 'P', 1};

#define PROFILE_RUNS        8  /* bits of history */
#define PROFILE_ENTRY_BYTES 32 /* encoded, at most, without its path */

void profile_deinit(struct profile *profile)
{
	for (size_t i = 0; i < profile->n; i++)
		free(profile->entries[i].path);
	free(profile->entries);
	*profile = PROFILE_INIT;
}

static size_t profile_common(const char *a, const char *b)
{
	size_t n = 0;

	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

static struct profile_entry *profile_add(struct profile *profile)
{
	profile->entries = alloc_grow(profile->entries, &profile->cap, profile->n + 1,
				      sizeof(*profile->entries));
	profile->entries[profile->n] = (struct profile_entry){0};
	return &profile->entries[profile->n++];
}

/* Merging */

struct profile_slot { /* of a path, while a run is merged */
	struct hnode node;
	const char *path;
	struct profile_entry
		*entry; /* of the runs before; NULL: none of them opened it */
	bool is_taken;  /* the run opened it, and it stands in the new order */
};

struct profile_index {
	struct htab tab;
	struct profile_slot *slots;
};

static struct profile_slot *profile_index_add(struct profile_index *index, size_t at,
					      const char *path)
{
	struct profile_slot *slot = &index->slots[at];

	slot->path = path;
	htab_insert(&index->tab, &slot->node, slice_hash(slice_of(path)));
	return slot;
}

/* n_more: slots for others, behind those of the profile's own entries. */
static void profile_index_init(struct profile_index *index, struct profile *profile,
			       size_t n_more)
{
	index->tab = (struct htab){0};
	index->slots = alloc_array(profile->n + n_more + 1, sizeof(*index->slots));
	for (size_t i = 0; i < profile->n; i++)
		profile_index_add(index, i, profile->entries[i].path)->entry =
			&profile->entries[i];
}

static void profile_index_deinit(struct profile_index *index)
{
	htab_deinit(&index->tab);
	free(index->slots);
}

static struct profile_slot *profile_index_find(const struct profile_index *index,
					       const char *path)
{
	uint64_t hash = slice_hash(slice_of(path));

	for (struct hnode *n = htab_first(&index->tab, hash); n; n = htab_next(n, hash)) {
		struct profile_slot *slot = container_of(n, struct profile_slot, node);

		if (strcmp(slot->path, path) == 0)
			return slot;
	}
	return NULL;
}

static uint8_t profile_more_runs(uint8_t runs)
{
	return runs < PROFILE_RUNS ? (uint8_t)(runs + 1) : PROFILE_RUNS;
}

/* What the run did not open goes behind what it did, in the order in which it stood. */
static void profile_keep_rest(struct profile *profile, struct profile_index *index,
			      struct profile *merged)
{
	for (size_t i = 0; i < profile->n && merged->n < PROFILE_ENTRIES_MAX; i++) {
		struct profile_entry *old = index->slots[i].entry;

		if (index->slots[i].is_taken || !(uint8_t)(old->seen << 1))
			continue;
		*profile_add(merged) =
			(struct profile_entry){.path = take(old->path),
					       .size = old->size,
					       .seen = (uint8_t)(old->seen << 1),
					       .runs = profile_more_runs(old->runs)};
	}
}

/* How much a run may bring that is new: half of the room is for what is known. */
struct profile_room {
	size_t n;
	size_t bytes; /* that they take up encoded, at most */
	size_t paths_len;
	const char *before;
};

static struct profile_room profile_room_for_new(const struct profile *profile)
{
	const size_t known = profile->n < PROFILE_ENTRIES_MAX / 2
				     ? profile->n
				     : PROFILE_ENTRIES_MAX / 2;
	const size_t share = known ? 2 : 1;

	return (struct profile_room){.n = PROFILE_ENTRIES_MAX - known,
				     .bytes = PROFILE_BYTES_MAX / share,
				     .paths_len = PROFILE_PATHS_MAX / share,
				     .before = ""};
}

static bool profile_room_take(struct profile_room *room, const char *path)
{
	size_t len = strlen(path);
	size_t bytes = len - profile_common(room->before, path) + PROFILE_ENTRY_BYTES;

	if (!room->n || bytes > room->bytes || len > room->paths_len)
		return false;
	room->n--;
	room->bytes -= bytes;
	room->paths_len -= len;
	room->before = path;
	return true;
}

void profile_merge(struct profile *profile, const struct profile_read *reads, size_t n)
{
	struct profile_room room = profile_room_for_new(profile);
	_cleanup_profile_ struct profile merged = PROFILE_INIT;
	struct profile_index index;
	struct profile swap;

	profile_index_init(&index, profile, n);
	for (size_t i = 0; i < n && merged.n < PROFILE_ENTRIES_MAX; i++) {
		struct profile_slot *slot = profile_index_find(&index, reads[i].path);
		struct profile_entry *entry;

		if (strlen(reads[i].path) > PROFILE_PATH_MAX ||
		    (slot && slot->is_taken) ||
		    (!slot && !profile_room_take(&room, reads[i].path)))
			continue;
		entry = profile_add(&merged);
		entry->size = reads[i].size;
		if (slot) {
			slot->is_taken = true;
			entry->path = alloc_string(slot->entry->path);
			entry->seen = (uint8_t)(slot->entry->seen << 1 | 1);
			entry->runs = profile_more_runs(slot->entry->runs);
		} else {
			entry->path = alloc_string(reads[i].path);
			profile_index_add(&index, profile->n + i, entry->path)->is_taken =
				true;
			entry->seen = 1;
			/* the runs before did not open it */
			entry->runs = profile->n_runs < PROFILE_RUNS
					      ? (uint8_t)(profile->n_runs + 1)
					      : PROFILE_RUNS;
		}
	}
	profile_keep_rest(profile, &index, &merged);
	profile_index_deinit(&index);
	merged.n_runs = profile->n_runs < UINT32_MAX ? profile->n_runs + 1 : UINT32_MAX;
	swap = *profile;
	*profile = merged;
	merged = swap;
}

void profile_doubt(struct profile *profile)
{
	static const uint8_t runs = 2;

	for (size_t i = 0; i < profile->n; i++) {
		struct profile_entry *entry = &profile->entries[i];
		bool is_recent = entry->seen & 3u;

		if (entry->runs <= runs)
			continue;
		entry->runs = runs;
		/* what only older runs opened is as unlikely as one of two */
		entry->seen = is_recent ? entry->seen & 3u : 2u;
	}
	profile->n_runs = profile->n_runs < runs ? profile->n_runs : runs;
}

double profile_probability(const struct profile_entry *entry)
{
	double weight = 1;
	double sum = 0;
	double all = 0;

	for (unsigned int i = 0; i < entry->runs; i++) {
		sum += entry->seen & 1u << i ? weight : 0;
		all += weight;
		weight *= 0.8;
	}
	/* as if one more run had been undecided, a little */
	return (sum + 0.03) / (all + 0.06);
}

/* The form */

static void profile_put_number(struct buf *out, uint64_t value)
{
	while (value >= 0x80) {
		buf_add_byte(out, (uint8_t)(value | 0x80));
		value >>= 7;
	}
	buf_add_byte(out, (uint8_t)value);
}

static bool profile_get_number(struct slice *in, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 63 && in->len; shift += 7) {
		uint8_t byte = *in->data++;

		in->len--;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		*out = value;
		return value <= max;
	}
	return false;
}

void profile_encode(const struct profile *profile, struct buf *out)
{
	const char *before = "";
	size_t paths_len = 0;

	buf_add(out, profile_magic, sizeof(profile_magic));
	profile_put_number(out, profile->n_runs);
	for (size_t i = 0; i < profile->n; i++) {
		const struct profile_entry *entry = &profile->entries[i];
		size_t common = profile_common(before, entry->path);
		size_t rest = strlen(entry->path) - common;

		paths_len += common + rest;
		if (out->len + rest + PROFILE_ENTRY_BYTES > PROFILE_BYTES_MAX ||
		    paths_len > PROFILE_PATHS_MAX)
			return;
		profile_put_number(out, common);
		profile_put_number(out, rest);
		buf_add(out, entry->path + common, rest);
		profile_put_number(out, (uint64_t)entry->size);
		buf_add_byte(out, entry->seen);
		buf_add_byte(out, entry->runs);
		before = entry->path;
	}
}

/* Whether a path is one that a run could have told: relative, clean, no NUL. */
static bool profile_path_is_clean(struct slice path)
{
	size_t start = 0;

	if (!path.len || path.len > PROFILE_PATH_MAX)
		return false;
	for (size_t i = 0; i <= path.len; i++) {
		struct slice name = {path.data + start, i - start};

		if (i < path.len && path.data[i] != '/') {
			if (!path.data[i])
				return false;
			continue;
		}
		if (!name.len || name.len > 255 || slice_is(name, ".") ||
		    slice_is(name, ".."))
			return false;
		start = i + 1;
	}
	return true;
}

static struct error *profile_damaged(const struct profile *profile)
{
	return error_new(ERROR_INVALID_ARGUMENT, "the profile is damaged in entry %zu",
			 profile->n);
}

/* Whether no path stands twice. */
static bool profile_is_distinct(struct profile *profile)
{
	struct profile_index index;
	bool is_distinct = true;

	profile_index_init(&index, profile, 0);
	for (size_t i = 0; i < profile->n && is_distinct; i++)
		is_distinct = profile_index_find(&index, profile->entries[i].path) ==
			      &index.slots[i];
	profile_index_deinit(&index);
	return is_distinct;
}

static struct error *profile_decode_entry(struct slice *in, struct buf *path,
					  struct profile *out)
{
	struct profile_entry *entry;
	uint64_t common, rest, size;

	if (!profile_get_number(in, path->len, &common) ||
	    !profile_get_number(in, PROFILE_PATH_MAX, &rest) || rest > in->len)
		return profile_damaged(out);
	path->len = (size_t)common;
	buf_add(path, in->data, (size_t)rest);
	in->data += rest;
	in->len -= (size_t)rest;
	if (!profile_path_is_clean(buf_slice(path)) ||
	    !profile_get_number(in, INT64_MAX, &size) || in->len < 2 || in->data[1] < 1 ||
	    in->data[1] > PROFILE_RUNS || !in->data[0] || in->data[0] >> in->data[1])
		return profile_damaged(out);
	entry = profile_add(out);
	entry->path = alloc_string(buf_string(path));
	entry->size = (int64_t)size;
	entry->seen = in->data[0];
	entry->runs = in->data[1];
	in->data += 2;
	in->len -= 2;
	return NULL;
}

struct error *profile_decode(struct slice bytes, struct profile *out)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_buf_ struct buf path = BUF_INIT;
	struct slice in = bytes;
	size_t paths_len = 0;
	uint64_t n_runs;

	if (bytes.len > PROFILE_BYTES_MAX || bytes.len < sizeof(profile_magic) ||
	    memcmp(bytes.data, profile_magic, sizeof(profile_magic)) != 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "this is no profile of this version");
	in.data += sizeof(profile_magic);
	in.len -= sizeof(profile_magic);
	if (!profile_get_number(&in, UINT32_MAX, &n_runs))
		return profile_damaged(&profile);
	profile.n_runs = (uint32_t)n_runs;
	while (in.len) {
		struct error *err;

		if (profile.n == PROFILE_ENTRIES_MAX)
			return profile_damaged(&profile);
		err = profile_decode_entry(&in, &path, &profile);
		if (err)
			return err;
		paths_len += path.len;
		if (paths_len > PROFILE_PATHS_MAX)
			return profile_damaged(&profile);
	}
	if (!profile_is_distinct(&profile))
		return profile_damaged(&profile);
	*out = profile;
	profile = PROFILE_INIT;
	return NULL;
}
