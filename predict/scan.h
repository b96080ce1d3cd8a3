/*
 * What a file says of others: a scanner reads a little of a blob and yields names, not
 * one of which it resolves. It is a pure function over hostile bytes: bounded in what it
 * reads and yields, without recursion, and silent about what it does not understand,
 * since a wrong guess costs a transfer and a missed one a round trip.
 *
 * Threads: any; nothing is shared.
 */
#pragma once

#include "lib/base/buf.h"

#define SCAN_READ_MAX  ((size_t)1 << 20) /* bytes of one file that are looked at */
#define SCAN_FOUND_MAX 4096              /* names of one file */
#define SCAN_NAME_MAX  4095              /* bytes of one name; longer ones are left out */

enum scan_kind {
	SCAN_QUOTED,      /* #include "x": beside the file first */
	SCAN_ANGLED,      /* #include <x>: along the search path */
	SCAN_NEXT,        /* #include_next: along it, behind where the file was found */
	SCAN_INTERPRETER, /* a path: of a script's first line, or of an ELF program */
	SCAN_PROGRAM,     /* a name that is looked for along PATH */
	SCAN_RUNPATH, /* a directory for what SCAN_LIBRARY names; $ORIGIN as it stands */
	SCAN_LIBRARY, /* a shared library's name */
	SCAN_MODULE,  /* a Python module: "a.b", ".c" where it is relative */
	SCAN_BESIDE,  /* a path from the file's own directory: require("./x") */
	SCAN_PATH,    /* a path from the working directory: ". ./x" in a shell */
	SCAN_PERL,    /* a Perl module's path along its search path: "A/B.pm" */
	SCAN_PACKAGE, /* of JavaScript, along node_modules: "a", "@a/b/c.js" */
	SCAN_GO,      /* the path of a Go package, whose directory holds it: "net/http" */
};

/* A blob to look at. read returns how many bytes it put at buf, fewer only at the end of
 * the file or where reading failed. */
struct scan_file {
	int64_t size;
	size_t (*read)(void *ctx, int64_t at, void *buf, size_t len);
	void *ctx;
};

/* text is borrowed for the call: no NUL within, 1 to SCAN_NAME_MAX bytes. */
typedef void scan_found_fn(void *ctx, enum scan_kind kind, struct slice text);

/* Looks at a file; name is its own, without directories: with the first bytes it tells
 * what kind of file it is. What is no kind we know yields nothing. RUNPATHs come before
 * the libraries that they are for. */
void scan_run(const struct scan_file *file, struct slice name, scan_found_fn *found,
	      void *ctx);
