/* Owns nothing. */
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

static bool declared_is_same(const struct declared *declared, const char *path,
			     const char *asked)
{
	_cleanup_free_ char *own = NULL;
	_cleanup_free_ char *other = NULL;
	_cleanup_error_ struct error *err = declared_in_root(declared, path, &own);

	if (!err)
		err = declared_in_root(declared, asked, &other);
	return !err && strcmp(own, other) == 0;
}

bool declared_has(const struct declared *declared, const char *path)
{
	if (!declared->outputs)
		return true;
	for (size_t i = 0; i < declared->outputs->n; i++) {
		if (declared_is_same(declared, path, declared->outputs->items[i]))
			return true;
	}
	return false;
}

static bool declared_is_link(const struct declared *declared,
			     Reapi__OutputSymlink *const *links, size_t n,
			     const char *path)
{
	for (size_t i = 0; i < n; i++) {
		if (declared_is_same(declared, links[i]->path, path))
			return true;
	}
	return false;
}

bool declared_is_in(const struct declared *declared, const Reapi__ActionResult *result,
		    const char *path)
{
	for (size_t i = 0; i < result->n_output_files; i++) {
		if (declared_is_same(declared, result->output_files[i]->path, path))
			return true;
	}
	for (size_t i = 0; i < result->n_output_directories; i++) {
		if (declared_is_same(declared, result->output_directories[i]->path, path))
			return true;
	}
	return declared_is_link(declared, result->output_symlinks,
				result->n_output_symlinks, path) ||
	       declared_is_link(declared, result->output_file_symlinks,
				result->n_output_file_symlinks, path) ||
	       declared_is_link(declared, result->output_directory_symlinks,
				result->n_output_directory_symlinks, path);
}
