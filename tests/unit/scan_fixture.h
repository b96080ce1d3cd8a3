/*
 * For tests of predict/: a file in memory that a scanner reads, what it finds as text,
 * and ELF files made by hand.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/buf.h"
#include "predict/scan.h"

/* What one scan did. Zeroed it is ready for use; bytes stops reading where it is not 0,
 * as a store that fails would. */
struct scanned {
	struct buf found; /* "kind:text kind:text" */
	size_t n_found;
	size_t n_read;
	size_t fails_at; /* reading does, from there on; 0: nowhere */
	struct slice bytes;
};

void scanned_deinit(struct scanned *scanned);
#define _cleanup_scanned_ _cleanup_(scanned_deinit)

/* Scans bytes, which are copied so that a sanitizer sees one too far. */
void scanned_run(struct scanned *scanned, struct slice bytes, const char *name);
/* Fails unless what is found in text is want. */
void scanned_expect(const char *text, const char *name, const char *want);

/* A program of either class and byte order, with an interpreter, "/a:$ORIGIN/b" as its
 * RUNPATH and the libraries libx.so.1 and liby.so. */
void scanned_elf(struct buf *out, bool is_64, bool is_big);
#define SCANNED_ELF_WANT                                                                 \
	"interpreter:/lib/ld.so runpath:/a runpath:$ORIGIN/b library:libx.so.1 "         \
	"library:liby.so"
