/*
 * Owns what a capture has to tell besides its results: the blobs that it made, each once,
 * what it left out, and that there is more than it may take.
 *
 * Threads: the capture's.
 */
#include "fuse/capture_impl.h"
#include "lib/base/alloc.h"
#include "lib/base/text.h"

struct capture_blob {
	struct hnode node;
	struct digest digest;
};

struct error *capture_full(const struct capture *capture)
{
	return error_new(
		ERROR_RESOURCE_EXHAUSTED,
		"what was written needs more than the %zu MiB of memory that the "
		"names and links of outputs may take",
		capture->config.memory_max >> 20);
}

struct error *capture_too_many(const struct capture *capture, const char *what)
{
	return error_new(ERROR_RESOURCE_EXHAUSTED,
			 "%s more than %lld entries (the worker's --entries-max)", what,
			 (long long)capture->config.entries_max);
}

struct error *capture_add_blob(struct capture *capture, const struct digest *digest)
{
	uint64_t hash = digest_key(digest);
	struct capture_blob *blob;

	for (struct hnode *n = htab_first(&capture->blob_set, hash); n;
	     n = htab_next(n, hash))
		if (digest_equal(&container_of(n, struct capture_blob, node)->digest,
				 digest))
			return NULL;
	blob = arena_new(&capture->arena, struct capture_blob);
	if (!blob)
		return capture_full(capture);
	blob->digest = *digest;
	htab_insert(&capture->blob_set, &blob->node, hash);
	capture->blobs = alloc_grow(capture->blobs, &capture->blobs_cap,
				    capture->n_blobs + 1, sizeof(*capture->blobs));
	capture->blobs[capture->n_blobs++] = *digest;
	return NULL;
}

void capture_skip(struct capture *capture, const char *path, const char *what)
{
	char **last = &capture->notes[CAPTURE_NOTES_MAX];
	_cleanup_buf_ struct buf shown = BUF_INIT;

	if (++capture->n_skipped <= CAPTURE_NOTES_MAX) {
		/* a note is a string in a message, too */
		text_escape(slice_of(path), &shown);
		capture->notes[capture->n_notes++] =
			alloc_printf("%s: %s, skipped", buf_string(&shown), what);
		return;
	}
	free(*last);
	*last = alloc_printf("%llu more like these, skipped",
			     (unsigned long long)capture->n_skipped - CAPTURE_NOTES_MAX);
	capture->n_notes = CAPTURE_NOTES_MAX + 1;
}

void capture_add_note(struct capture *capture, const struct capture_dir *dir,
		      const struct capture_entry *entry)
{
	_cleanup_free_ char *path = alloc_printf("%.*s%s%s", CAPTURE_NOTE_MAX, dir->path,
						 *dir->path ? "/" : "", entry->name);

	capture_skip(capture, path, entry->what);
}

const struct digest *capture_blobs(const struct capture *capture, size_t *n_out)
{
	*n_out = capture->n_blobs;
	return capture->blobs;
}

size_t capture_n_notes(const struct capture *capture)
{
	return capture->n_notes;
}

const char *capture_note(const struct capture *capture, size_t i)
{
	require(i < capture->n_notes);
	return capture->notes[i];
}
