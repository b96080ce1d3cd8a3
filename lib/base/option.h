/*
 * The options of a program: one table of definitions gives the command line, the
 * environment, the YAML file (each long option is a key of the same name) and --help. An
 * option beats the file that --config names, which beats the environment, which beats the
 * file that $LAZYROOT_CONFIG names.
 *
 * Every program also has --config FILE, --log LEVEL[,MODULE=LEVEL], --help and --version
 * without naming them; option_parse() acts on them. Main thread, at start.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/error.h"

struct option_list {
	char **items; /* owned, as the strings are */
	size_t n;
};
void option_list_add(struct option_list *list, const char *text); /* a copy */
void option_list_deinit(struct option_list *list);

enum option_kind {
	OPTION_FLAG,     /* bool; in a file true, false, yes, no, on, off, 1 or 0 */
	OPTION_STRING,   /* char *, owned; "" is kept */
	OPTION_LIST,     /* struct option_list; repeated */
	OPTION_INT,      /* int64_t between min and max */
	OPTION_SIZE,     /* int64_t bytes */
	OPTION_DURATION, /* int64_t nanoseconds */
	OPTION_RECORDS,  /* struct option_records (option_record.h); repeated */
};

struct option_def {
	const char *name; /* long, without dashes */
	char letter;      /* or 0 */
	enum option_kind kind;
	const char *arg;  /* what --help calls the value */
	const char *help; /* one line or more, for --help */
	const char *env;  /* variable, or NULL */
	void *value;      /* of the kind's type; holds the default on entry */
	int64_t min, max; /* OPTION_INT; min of OPTION_SIZE */
};

struct option_program {
	const char *name;    /* "lazyroot run" */
	const char *usage;   /* "[options] -- COMMAND [ARG]..." */
	const char *summary; /* what it does, a sentence */
	const char *notes;   /* after the options in --help, or NULL */
	const struct option_def *defs;
	size_t n_defs;
	/* options of its sister programs, NULL at the end: a file may serve all. Or NULL.
	 */
	const char *const *others;
	bool stops_at_operand; /* the first operand ends the options */
};

/*
 * Sets the values. operands_out: index in argv (which is permuted) of the first operand.
 * *is_done_out: --help or --version was answered on stdout. INVALID_ARGUMENT names the
 * option, variable or the file's line at fault.
 */
struct error *option_parse(const struct option_program *program, int argc, char **argv,
			   int *operands_out, bool *is_done_out);

/* One value as text into a definition's place; where names the source in messages (NULL:
 * the command line). */
struct error *option_set(const struct option_def *def, const char *text,
			 const char *where);

/* The value alone: whoever asks says what it is of. */
struct error *option_put(const struct option_def *def, const char *text);
/* Forgets the values of a kind that is repeated: those of another source replace them. */
void option_clear(const struct option_def *def);

/* What is found wrong with an option after all were read says "--NAME"; where its value
 * came from a file or the environment, that is put before the text. Consumes err. */
struct error *option_blame(struct error *err);

/* The option that name (without dashes) was meant to be; NULL where none is near. */
const char *option_nearest(const struct option_program *program, const char *name);
