/*
 * The words of a shell's text, told apart as far as guessing needs it: which is a
 * command, which an argument, where input comes from and output goes. It expands nothing,
 * runs nothing, and takes any bytes; what stands inside of $(…) and `…` comes after the
 * rest.
 *
 * Threads: any; a struct shell is its caller's.
 */
#pragma once

#include "lib/base/buf.h"

#define SHELL_WORD_MAX    4095 /* bytes; longer words are no literal ones */
#define SHELL_NESTED_MAX  256  /* $(…) that wait to be looked at */
#define SHELL_DEPTH_MAX   3    /* of $(…) in $(…) */
#define SHELL_HEREDOC_MAX 4    /* on one line */
#define SHELL_MARK_MAX    63   /* bytes of what ends a here document */

enum shell_kind {
	SHELL_END,
	SHELL_COMMAND,
	SHELL_ARGUMENT,
	SHELL_INPUT,
	SHELL_OUTPUT,
	SHELL_FUNCTION, /* the name that one is defined by */
};

struct shell_range {
	struct slice text;
	unsigned int depth;
};

struct shell {
	struct shell_range range; /* that is being read */
	size_t at;
	struct shell_range nested[SHELL_NESTED_MAX];
	size_t n_nested;
	char marks[SHELL_HEREDOC_MAX][SHELL_MARK_MAX + 1];
	size_t n_marks;
	size_t n_cases;                /* that are open */
	enum shell_kind redirect;      /* what the next word is then, or SHELL_END */
	bool is_command_next;          /* a command may begin here */
	bool is_pattern;               /* of a case */
	bool is_function_next;         /* its name is */
	bool is_in_next;               /* the "in" of a case is to come */
	char word[SHELL_WORD_MAX + 1]; /* without its quotes; a NUL ends it */
	size_t len;
	bool is_literal;  /* nothing in it is expanded */
	bool is_beside;   /* it began with the script's own directory, which was left out:
			     "$(dirname "$0")/x" is "/x" */
	bool is_expanded; /* something else in it is expanded */
};

void shell_init(struct shell *shell, struct slice text);

/* The next word, in shell->word; SHELL_END where there is none. Keywords, assignments,
 * patterns of a case and here documents are passed over. */
enum shell_kind shell_next(struct shell *shell);
