/*
 * libarchive, loaded when the first archive is written: with it come libxml2, ICU and the
 * C++ library, a third of the time that any short command would take to start.
 */
#pragma once

#include <archive.h>
#include <archive_entry.h>

#include "lib/base/error.h"

/* Each function that is called. */
#define LIBARCHIVE_EACH(X)                                                               \
	X(archive_entry_copy_pathname)                                                   \
	X(archive_entry_copy_symlink)                                                    \
	X(archive_entry_free)                                                            \
	X(archive_entry_new)                                                             \
	X(archive_entry_set_filetype)                                                    \
	X(archive_entry_set_mtime)                                                       \
	X(archive_entry_set_perm)                                                        \
	X(archive_entry_set_size)                                                        \
	X(archive_errno)                                                                 \
	X(archive_error_string)                                                          \
	X(archive_write_add_filter_bzip2)                                                \
	X(archive_write_add_filter_gzip)                                                 \
	X(archive_write_add_filter_xz)                                                   \
	X(archive_write_add_filter_zstd)                                                 \
	X(archive_write_close)                                                           \
	X(archive_write_data)                                                            \
	X(archive_write_free)                                                            \
	X(archive_write_header)                                                          \
	X(archive_write_new)                                                             \
	X(archive_write_open_fd)                                                         \
	X(archive_write_set_bytes_in_last_block)                                         \
	X(archive_write_set_filter_option)                                               \
	X(archive_write_set_format_pax_restricted)

struct libarchive {
#define LIBARCHIVE_FIELD(name) __typeof__(name) *name;
	LIBARCHIVE_EACH(LIBARCHIVE_FIELD)
#undef LIBARCHIVE_FIELD
};

/* It stays loaded as long as the process lives. FAILED_PRECONDITION where the machine has
 * none. Main only. */
struct error *libarchive_load(struct libarchive *out);
