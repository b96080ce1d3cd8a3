/* Owns the paths of its sets. */
#include "client/declared.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"

struct error *declared_in_root(const struct declared *declared, const char *path,
			       char **out)
{
	return file_path_join(declared->workdir ? declared->workdir : "", path, out);
}

struct error *declared_place(const struct declared *declared, const char *path,
			     char **out)
{
	if (declared->is_from_root)
		return declared_in_root(declared, path, out);
	*out = alloc_string(path);
	return NULL;
}

/* Sets of places */

void declared_places_deinit(struct declared_places *places)
{
	for (size_t i = 0; i < places->n; i++)
		free(places->items[i]);
	free(places->items);
}

/* What lies outside is no place, and nothing is there. */
static void declared_add(struct declared_places *places, const char *path)
{
	char *place = NULL;
	struct error *err = declared_in_root(places->declared, path, &place);

	if (err)
		error_free(err);
	else
		places->items[places->n++] = place;
}

static int declared_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void declared_sort(struct declared_places *places)
{
	if (places->n)
		qsort(places->items, places->n, sizeof(*places->items), declared_compare);
}

void declared_asked(const struct declared *declared, struct declared_places *out)
{
	size_t max = declared->outputs ? declared->outputs->n : 0;

	*out = (struct declared_places){.declared = declared,
					.items = alloc_array(max, sizeof(char *)),
					.has_all = !declared->outputs};
	for (size_t i = 0; i < max; i++)
		declared_add(out, declared->outputs->items[i]);
	declared_sort(out);
}

static void declared_add_links(struct declared_places *places,
			       Reapi__OutputSymlink *const *links, size_t n)
{
	for (size_t i = 0; i < n; i++)
		declared_add(places, links[i]->path);
}

void declared_held(const struct declared *declared, const Reapi__ActionResult *result,
		   struct declared_places *out)
{
	size_t max = result->n_output_files + result->n_output_directories +
		     result->n_output_symlinks + result->n_output_file_symlinks +
		     result->n_output_directory_symlinks;

	*out = (struct declared_places){.declared = declared,
					.items = alloc_array(max, sizeof(char *))};
	for (size_t i = 0; i < result->n_output_files; i++)
		declared_add(out, result->output_files[i]->path);
	for (size_t i = 0; i < result->n_output_directories; i++)
		declared_add(out, result->output_directories[i]->path);
	declared_add_links(out, result->output_symlinks, result->n_output_symlinks);
	declared_add_links(out, result->output_file_symlinks,
			   result->n_output_file_symlinks);
	declared_add_links(out, result->output_directory_symlinks,
			   result->n_output_directory_symlinks);
	declared_sort(out);
}

bool declared_places_have(const struct declared_places *places, const char *path)
{
	_cleanup_free_ char *place = NULL;
	_cleanup_error_ struct error *err = NULL;

	if (places->has_all)
		return true;
	err = declared_in_root(places->declared, path, &place);
	return !err && places->n &&
	       bsearch(&place, places->items, places->n, sizeof(*places->items),
		       declared_compare);
}
