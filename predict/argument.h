/*
 * What the words of a command line may name: a pure function over hostile strings. It
 * knows the options of compilers, linkers and the usual tools, and resolves nothing: a
 * word that names nothing in the input root does no harm.
 *
 * Threads: any; nothing is shared.
 */
#pragma once

#include "lib/base/buf.h"

#define ARGUMENT_WORD_MAX 4095 /* bytes; longer ones name nothing */

enum argument_role {
	ARGUMENT_TOOL,     /* the first; and what it runs in turn: env, nice, sh -c */
	ARGUMENT_PATH,     /* a file or a directory, perhaps: the word, or what follows
			      the first '=' or an option's letters */
	ARGUMENT_RESPONSE, /* @x, and Java's and Rust's forms: a file of more arguments */
	ARGUMENT_FORCED,   /* -include x, -imacros x: as #include "x" at the top */
	ARGUMENT_QUOTE_DIR,   /* -iquote */
	ARGUMENT_INCLUDE_DIR, /* -I; a leading '=' or $SYSROOT stands for the sysroot */
	ARGUMENT_SYSTEM_DIR,  /* -isystem */
	ARGUMENT_AFTER_DIR,   /* -idirafter */
	ARGUMENT_LIBRARY_DIR, /* -L */
	ARGUMENT_LIBRARY,     /* -lx, without the -l; ":name" as it is */
	ARGUMENT_SYSROOT,     /* --sysroot=, -isysroot */
	ARGUMENT_TOOL_DIR,    /* -B */
	ARGUMENT_NO_STDINC,   /* -nostdinc, -nostdinc++: the text is empty */
	ARGUMENT_MODULE,      /* python -m x */
	ARGUMENT_OUTPUT,      /* -o x, -MF x, -MT x …: written, never read */
};

/* text is borrowed for the call and not empty but for ARGUMENT_NO_STDINC; a NUL follows
 * it, since it ends where its word does, or is a copy of a part. index: of the word that
 * it stands in. */
typedef void argument_fn(void *ctx, enum argument_role role, size_t index,
			 struct slice text);

/* Tells of each word, in order. A word may be told of in several roles. Where has_tool is
 * false the words come out of a response file: there is no tool among them. */
void argument_each(const char *const *words, size_t n_words, bool has_tool,
		   argument_fn *told, void *ctx);

/* Splits a response file as GCC does (blanks, quotes, backslashes): the caller frees
 * each word and the array. At most max_words; the rest is left out. */
char **argument_split(struct slice text, size_t max_words, size_t *n_out);
