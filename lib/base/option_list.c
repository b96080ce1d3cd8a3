/* Owns the words of a list. Threads: one at a time. */
#include "lib/base/alloc.h"
#include "lib/base/option.h"

void option_list_deinit(struct option_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct option_list){0};
}

void option_list_add(struct option_list *list, const char *text)
{
	list->items = alloc_resize(list->items, list->n + 1, sizeof(char *));
	list->items[list->n++] = alloc_string(text);
}
