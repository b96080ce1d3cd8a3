/* A list of chunks. No state of its own. */
#include "lib/tree/chunk_list.h"

#include "lib/base/alloc.h"

int64_t chunk_list_size(const struct chunk_list *list)
{
	const struct chunk *last = list->n ? &list->items[list->n - 1] : NULL;

	return last ? last->at + last->digest.size : 0;
}

void chunk_list_add(struct chunk_list *list, const struct digest *digest)
{
	struct chunk chunk = {.digest = *digest, .at = chunk_list_size(list)};

	list->items =
		alloc_grow(list->items, &list->cap, list->n + 1, sizeof(*list->items));
	list->items[list->n++] = chunk;
}

void chunk_list_deinit(struct chunk_list *list)
{
	free(list->items);
	*list = CHUNK_LIST_INIT;
}
