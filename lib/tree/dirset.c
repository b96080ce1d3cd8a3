/* Owns the entries, and the copies among their bytes. Threads: see dirset.h. */
#include "lib/tree/dirset.h"

#include "lib/base/alloc.h"

struct dirset_entry {
	struct hnode node;
	struct digest digest;
	struct slice bytes;
	uint8_t *copy; /* NULL: bytes are borrowed */
};

void dirset_deinit(struct dirset *set)
{
	for (size_t i = 0; i < set->n; i++) {
		free(set->entries[i]->copy);
		free(set->entries[i]);
	}
	free(set->entries);
	htab_deinit(&set->tab);
	*set = (struct dirset){0};
}

static struct dirset_entry *dirset_entry(const struct dirset *set,
					 const struct digest *digest)
{
	uint64_t key = digest_key(digest);

	for (struct hnode *n = htab_first(&set->tab, key); n; n = htab_next(n, key)) {
		struct dirset_entry *entry = container_of(n, struct dirset_entry, node);

		if (digest_equal(&entry->digest, digest))
			return entry;
	}
	return NULL;
}

/* NULL: it is there already. */
static struct dirset_entry *dirset_insert(struct dirset *set, const struct digest *digest,
					  struct slice bytes)
{
	struct dirset_entry *entry;

	if (dirset_entry(set, digest))
		return NULL;
	entry = alloc_new(struct dirset_entry);
	entry->digest = *digest;
	entry->bytes = bytes;
	htab_insert(&set->tab, &entry->node, digest_key(digest));
	set->entries = alloc_grow(set->entries, &set->cap, set->n + 1,
				  sizeof(struct dirset_entry *));
	set->entries[set->n++] = entry;
	return entry;
}

bool dirset_add(struct dirset *set, const struct digest *digest, struct slice bytes)
{
	return dirset_insert(set, digest, bytes) != NULL;
}

bool dirset_add_copy(struct dirset *set, const struct digest *digest, struct slice bytes)
{
	struct dirset_entry *entry = dirset_insert(set, digest, bytes);

	if (!entry)
		return false;
	entry->copy = alloc_memdup(bytes.data, bytes.len);
	entry->bytes.data = entry->copy;
	return true;
}

bool dirset_find(const struct dirset *set, const struct digest *digest,
		 struct slice *bytes_out)
{
	const struct dirset_entry *entry = dirset_entry(set, digest);

	if (entry)
		*bytes_out = entry->bytes;
	return entry != NULL;
}

struct error *dirset_load(const struct dirset *set, const struct digest *digest,
			  struct tree_dir **dir_out)
{
	struct buf copy = BUF_INIT; /* the decoder takes it over */
	char text[DIGEST_STRING_MAX];
	struct slice bytes;

	if (!dirset_find(set, digest, &bytes))
		return error_new(ERROR_NOT_FOUND, "%s is none of the Directories made",
				 digest_format(digest, text));
	buf_add(&copy, bytes.data, bytes.len);
	return tree_dir_decode(&copy, dir_out);
}

struct blob_source dirset_item(const struct dirset *set, size_t i)
{
	const struct dirset_entry *entry = set->entries[i];

	return (struct blob_source){
		.digest = entry->digest, .from = BLOB_BYTES, .bytes = entry->bytes};
}
