/* Owns nothing: what was loaded stays. */
#include "client/libarchive.h"

#include <dlfcn.h>
#include <string.h>

/* The one that <archive.h> of any libarchive 3 is for. */
#define LIBARCHIVE_NAME "libarchive.so.13"

static struct error *libarchive_failed(void)
{
	return error_new(ERROR_FAILED_PRECONDITION,
			 "load libarchive (Debian's package libarchive13): %s",
			 dlerror());
}

/* dlsym() gives an object pointer, which POSIX lets hold a function. */
static struct error *libarchive_find(void *library, const char *name, void *out)
{
	void *found = dlsym(library, name);

	if (!found)
		return libarchive_failed();
	memcpy(out, &found, sizeof(found));
	return NULL;
}

struct error *libarchive_load(struct libarchive *out)
{
	void *library = dlopen(LIBARCHIVE_NAME, RTLD_NOW | RTLD_LOCAL);
	struct libarchive found;
	struct error *err = NULL;

	if (!library)
		return libarchive_failed();
#define LIBARCHIVE_FIND(name)                                                            \
	if (!err)                                                                        \
		err = libarchive_find(library, #name, &found.name);
	LIBARCHIVE_EACH(LIBARCHIVE_FIND)
#undef LIBARCHIVE_FIND
	if (err)
		return err;
	*out = found;
	return NULL;
}
