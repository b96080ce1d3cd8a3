/*
 * Owns the knowledge of what options mean, as tables: an option's longest name that
 * matches decides. A command inside of a command (env, nice, sh -c) begins anew, with the
 * options of its own tool. Every word is told of at most a few times, in order.
 *
 * Threads: any; the tables never change.
 */
#include "predict/argument.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "predict/shell.h"

#define ARGUMENT_SCRIPT_MAX ((size_t)64 << 10) /* bytes of sh -c's text */
#define ARGUMENT_TAILS_MAX  3                  /* of a=b=c=d */
#define ARGUMENT_PARTS_MAX  1024               /* of a:b:c in one word */

/* What a tool's options are like. */
enum argument_family {
	FAMILY_C = 1,       /* compilers, linkers, assemblers */
	FAMILY_GENERIC = 2, /* what we do not know */
	FAMILY_JAVA = 4,
	FAMILY_RUST = 8,
	FAMILY_GO = 16,
	FAMILY_PYTHON = 32, /* up to the script */
	FAMILY_SHELL = 64,  /* up to the script */
	FAMILY_NAMES = 128, /* what reads nothing that it is told */
};

/* What becomes of the next word, or of the rest of one: a role, or one of these. */
enum {
	NEXT_WORD = -1,    /* nothing special */
	NEXT_NOTHING = -2, /* it names no file */
	NEXT_LIST = -3,    /* paths with ':' between them */
};

/* Where an option's value stands. */
enum {
	AT_NEXT = 1,   /* the next word */
	AT_JOINED = 2, /* the rest of the word */
	AT_EQUALS = 4, /* behind a '=' */
	AT_COLON = 8,  /* behind a ':' */
	AT_FLAG = 16,  /* there is none */
};

struct argument_option {
	const char *name;
	unsigned int families;
	int forms;
	int next;
};

#define FAMILIES_INCLUDE (FAMILY_C | FAMILY_GENERIC | FAMILY_GO)
#define FAMILIES_C       (FAMILY_C | FAMILY_GENERIC)
#define FAMILIES_LINK    (FAMILY_C | FAMILY_GENERIC | FAMILY_RUST | FAMILY_GO)
#define FAMILIES_JAVA    (FAMILY_JAVA | FAMILY_GENERIC)
#define FAMILIES_ALL     (FAMILY_C | FAMILY_GENERIC | FAMILY_JAVA | FAMILY_RUST | FAMILY_GO)
#define AT_BOTH          (AT_NEXT | AT_JOINED)
#define AT_LONG          (AT_NEXT | AT_EQUALS)

static const struct argument_option argument_options[] = {
	{"-I", FAMILIES_INCLUDE, AT_BOTH, ARGUMENT_INCLUDE_DIR},
	{"--include-directory", FAMILY_C, AT_LONG, ARGUMENT_INCLUDE_DIR},
	{"-iquote", FAMILIES_C, AT_BOTH, ARGUMENT_QUOTE_DIR},
	{"-isystem", FAMILIES_C, AT_BOTH, ARGUMENT_SYSTEM_DIR},
	{"-cxx-isystem", FAMILIES_C, AT_BOTH, ARGUMENT_SYSTEM_DIR},
	{"-internal-isystem", FAMILIES_C, AT_NEXT, ARGUMENT_SYSTEM_DIR},
	{"-internal-externc-isystem", FAMILIES_C, AT_NEXT, ARGUMENT_SYSTEM_DIR},
	{"-idirafter", FAMILIES_C, AT_BOTH, ARGUMENT_AFTER_DIR},
	{"-include", FAMILIES_C, AT_BOTH, ARGUMENT_FORCED},
	{"--include", FAMILY_C, AT_LONG, ARGUMENT_FORCED},
	{"-include-pch", FAMILIES_C, AT_NEXT, ARGUMENT_PATH},
	{"-imacros", FAMILIES_C, AT_BOTH, ARGUMENT_FORCED},
	{"-nostdinc", FAMILIES_C, AT_FLAG, ARGUMENT_NO_STDINC},
	{"-nostdinc++", FAMILIES_C, AT_FLAG, ARGUMENT_NO_STDINC},
	{"-L", FAMILIES_LINK, AT_BOTH, ARGUMENT_LIBRARY_DIR},
	{"--library-path", FAMILY_C, AT_LONG, ARGUMENT_LIBRARY_DIR},
	{"-rpath-link", FAMILIES_C, AT_LONG, ARGUMENT_LIBRARY_DIR},
	{"--rpath-link", FAMILIES_C, AT_LONG, ARGUMENT_LIBRARY_DIR},
	{"-rpath", FAMILIES_C, AT_LONG, NEXT_NOTHING},
	{"--rpath", FAMILIES_C, AT_LONG, NEXT_NOTHING},
	{"-l", FAMILY_C | FAMILY_RUST, AT_BOTH, ARGUMENT_LIBRARY},
	{"-l", FAMILY_GENERIC, AT_JOINED, ARGUMENT_LIBRARY},
	{"--library", FAMILY_C, AT_LONG, ARGUMENT_LIBRARY},
	{"--sysroot", FAMILIES_C | FAMILY_RUST, AT_LONG, ARGUMENT_SYSROOT},
	{"-isysroot", FAMILIES_C, AT_BOTH, ARGUMENT_SYSROOT},
	{"-B", FAMILY_C, AT_BOTH, ARGUMENT_TOOL_DIR},
	{"-Bstatic", FAMILY_C, AT_FLAG, NEXT_NOTHING},
	{"-Bdynamic", FAMILY_C, AT_FLAG, NEXT_NOTHING},
	{"-Bsymbolic", FAMILY_C, AT_FLAG, NEXT_NOTHING},
	{"-Bsymbolic-functions", FAMILY_C, AT_FLAG, NEXT_NOTHING},
	{"-o", FAMILIES_ALL, AT_NEXT, ARGUMENT_OUTPUT},
	{"-o", FAMILY_C, AT_JOINED, ARGUMENT_OUTPUT},
	{"--output", FAMILIES_ALL, AT_LONG, ARGUMENT_OUTPUT},
	{"-MF", FAMILIES_C, AT_BOTH, ARGUMENT_OUTPUT},
	{"-MT", FAMILIES_C, AT_BOTH, ARGUMENT_OUTPUT},
	{"-MQ", FAMILIES_C, AT_BOTH, ARGUMENT_OUTPUT},
	{"-MJ", FAMILIES_C, AT_BOTH, ARGUMENT_OUTPUT},
	{"-dumpbase", FAMILIES_C, AT_NEXT, NEXT_NOTHING},
	{"-dumpdir", FAMILIES_C, AT_NEXT, ARGUMENT_OUTPUT},
	{"-D", FAMILY_C, AT_BOTH, NEXT_NOTHING},
	{"-U", FAMILY_C, AT_BOTH, NEXT_NOTHING},
	{"-x", FAMILY_C, AT_BOTH, NEXT_NOTHING},
	{"-z", FAMILY_C, AT_BOTH, NEXT_NOTHING},
	{"-m", FAMILY_C, AT_BOTH, NEXT_NOTHING},
	{"-std", FAMILIES_C, AT_EQUALS, NEXT_NOTHING},
	{"-soname", FAMILIES_C, AT_LONG, NEXT_NOTHING},
	{"-dynamic-linker", FAMILIES_C, AT_LONG, NEXT_NOTHING},
	{"--param", FAMILIES_C, AT_LONG, NEXT_NOTHING},
	{"-target", FAMILIES_C, AT_NEXT, NEXT_NOTHING},
	{"--target", FAMILIES_C | FAMILY_RUST, AT_LONG, NEXT_NOTHING},
	{"-fdebug-prefix-map", FAMILIES_C, AT_EQUALS, NEXT_NOTHING},
	{"-ffile-prefix-map", FAMILIES_C, AT_EQUALS, NEXT_NOTHING},
	{"-fmacro-prefix-map", FAMILIES_C, AT_EQUALS, NEXT_NOTHING},
	{"--remap-path-prefix", FAMILY_RUST, AT_LONG, NEXT_NOTHING},
	{"--out-dir", FAMILY_RUST, AT_LONG, ARGUMENT_OUTPUT},
	{"--emit", FAMILY_RUST, AT_LONG, NEXT_NOTHING},
	{"--crate-name", FAMILY_RUST, AT_LONG, NEXT_NOTHING},
	{"--crate-type", FAMILY_RUST, AT_LONG, NEXT_NOTHING},
	{"--edition", FAMILY_RUST, AT_LONG, NEXT_NOTHING},
	{"--cfg", FAMILY_RUST, AT_LONG, NEXT_NOTHING},
	{"-p", FAMILY_GO, AT_NEXT, NEXT_NOTHING},
	{"-buildid", FAMILY_GO, AT_LONG, NEXT_NOTHING},
	{"-trimpath", FAMILY_GO, AT_LONG, NEXT_NOTHING},
	{"-asmhdr", FAMILY_GO, AT_LONG, ARGUMENT_OUTPUT},
	{"-linkobj", FAMILY_GO, AT_LONG, ARGUMENT_OUTPUT},
	{"-cp", FAMILIES_JAVA, AT_NEXT, NEXT_LIST},
	{"-classpath", FAMILIES_JAVA, AT_NEXT, NEXT_LIST},
	{"--class-path", FAMILIES_JAVA, AT_LONG, NEXT_LIST},
	{"--classpath", FAMILIES_JAVA, AT_LONG, NEXT_LIST},
	{"-p", FAMILY_JAVA, AT_NEXT, NEXT_LIST},
	{"--module-path", FAMILIES_JAVA, AT_LONG, NEXT_LIST},
	{"-processorpath", FAMILIES_JAVA, AT_NEXT, NEXT_LIST},
	{"--processor-path", FAMILIES_JAVA, AT_LONG, NEXT_LIST},
	{"-sourcepath", FAMILIES_JAVA, AT_NEXT, NEXT_LIST},
	{"--source-path", FAMILIES_JAVA, AT_LONG, NEXT_LIST},
	{"-bootclasspath", FAMILIES_JAVA, AT_NEXT, NEXT_LIST},
	{"-Xbootclasspath", FAMILIES_JAVA, AT_COLON, NEXT_LIST},
	{"-Xbootclasspath/a", FAMILIES_JAVA, AT_COLON, NEXT_LIST},
	{"-Xbootclasspath/p", FAMILIES_JAVA, AT_COLON, NEXT_LIST},
	{"-javaagent", FAMILIES_JAVA, AT_COLON, NEXT_LIST},
	{"-d", FAMILY_JAVA, AT_NEXT, ARGUMENT_OUTPUT},
	{"-s", FAMILY_JAVA, AT_NEXT, ARGUMENT_OUTPUT},
	{"-h", FAMILY_JAVA, AT_NEXT, ARGUMENT_OUTPUT},
	{"-source", FAMILY_JAVA, AT_NEXT, NEXT_NOTHING},
	{"-encoding", FAMILY_JAVA, AT_NEXT, NEXT_NOTHING},
	{"--release", FAMILY_JAVA, AT_NEXT, NEXT_NOTHING},
};

/* Tools that run others: options with a value in the next word, by their letters, and how
 * many words stand before the tool. */
static const struct argument_wrapper {
	const char *name;
	const char *letters;
	size_t n_operands;
} argument_wrappers[] = {
	{"env", "uCS", 0},   {"nice", "n", 0},         {"timeout", "ks", 1},
	{"ccache", "", 0},   {"sccache", "", 0},       {"distcc", "", 0},
	{"icecc", "", 0},    {"nohup", "", 0},         {"setsid", "", 0},
	{"time", "fo", 0},   {"stdbuf", "ioe", 0},     {"ionice", "cnp", 0},
	{"taskset", "", 1},  {"xargs", "aEILnPsd", 0}, {"chrt", "", 1},
	{"flock", "wE", 1},  {"strace", "eoPspS", 0},  {"valgrind", "", 0},
	{"command", "", 0},  {"exec", "a", 0},         {"busybox", "", 0},
	{"sudo", "ugCh", 0},
};

struct argument_walk {
	argument_fn *told;
	void *ctx;
	size_t index;
	unsigned int family;                    /* one, or several where we do not know */
	const struct argument_wrapper *wrapper; /* the tool is still to come, behind it */
	size_t n_operands;                      /* before it */
	bool is_tool_next;
	bool is_behind_dashes; /* "--": perhaps a tool is next */
	bool has_script;       /* of a shell: -c was there */
	int next;
};

static void argument_tell(struct argument_walk *walk, int role, const char *text)
{
	size_t len = strlen(text);

	if (role >= 0 && len > 0 && len <= ARGUMENT_WORD_MAX)
		walk->told(walk->ctx, (enum argument_role)role, walk->index,
			   slice_of(text));
}

static bool argument_starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool argument_is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++) {
		if (strcmp(text, *words) == 0)
			return true;
	}
	return false;
}

static bool argument_contains_one_of(const char *text, const char *const *words)
{
	for (; *words; words++) {
		if (strstr(text, *words))
			return true;
	}
	return false;
}

static enum argument_family argument_family_of(const char *name)
{
	static const char *const shells[] = {"sh",  "bash", "dash", "ash",
					     "ksh", "zsh",  NULL};
	/* what they are told they make, move or look at from outside, but do not read */
	static const char *const names[] = {
		"mv",    "rm",   "chmod", "chown",    "chgrp",   "ln",       "mkdir",
		"rmdir", "stat", "touch", "basename", "dirname", "readlink", "realpath",
		"echo",  "test", "[",     "printf",   "cd",      "export",   NULL};
	static const char *const go[] = {"compile", "link", "asm", "cgo", NULL};
	static const char *const linkers[] = {"ld",   "as",       "mold",
					      "gold", "collect2", NULL};
	static const char *const compilers[] = {"cc",  "g++", "c++", "clang",   "cpp",
						"lld", "ld.", "-ld", "fortran", NULL};

	if (argument_is_one_of(name, shells))
		return FAMILY_SHELL;
	if (argument_is_one_of(name, names))
		return FAMILY_NAMES;
	if (argument_starts(name, "python") || argument_starts(name, "pypy"))
		return FAMILY_PYTHON;
	if (argument_starts(name, "java") || argument_starts(name, "kotlin") ||
	    argument_starts(name, "scala"))
		return FAMILY_JAVA;
	if (argument_starts(name, "rustc") || argument_starts(name, "rustdoc") ||
	    argument_starts(name, "clippy-driver"))
		return FAMILY_RUST;
	if (argument_is_one_of(name, go))
		return FAMILY_GO;
	if (argument_is_one_of(name, linkers) ||
	    argument_contains_one_of(name, compilers))
		return FAMILY_C;
	return FAMILY_GENERIC;
}

static void argument_tool(struct argument_walk *walk, const char *word)
{
	const char *slash = strrchr(word, '/');
	const char *name = slash ? slash + 1 : word;

	argument_tell(walk, ARGUMENT_TOOL, word);
	walk->family = argument_family_of(name);
	walk->is_tool_next = false;
	walk->has_script = false;
	walk->is_behind_dashes = false;
	walk->next = NEXT_WORD;
	walk->wrapper = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(argument_wrappers); i++) {
		if (strcmp(name, argument_wrappers[i].name) == 0) {
			walk->wrapper = &argument_wrappers[i];
			walk->n_operands = walk->wrapper->n_operands;
			walk->is_tool_next = true;
		}
	}
}

/* Copies of what stands between separators: "dir/\*" of a class path is "dir". */
static void argument_list(struct argument_walk *walk, const char *text)
{
	char part[ARGUMENT_WORD_MAX + 1];

	for (size_t n = 0; *text && n < ARGUMENT_PARTS_MAX; n++) {
		size_t len = strcspn(text, ":");

		if (len <= ARGUMENT_WORD_MAX) {
			memcpy(part, text, len);
			part[len] = '\0';
			if (len > 2 && strcmp(part + len - 2, "/*") == 0)
				part[len - 2] = '\0';
			argument_tell(walk, ARGUMENT_PATH, part);
		}
		text += len + (text[len] == ':');
	}
}

/* What follows each '=', of which the first may be the one of an option. */
static void argument_tails(struct argument_walk *walk, const char *text)
{
	for (size_t n = 0; n < ARGUMENT_TAILS_MAX; n++) {
		text = strchr(text, '=');
		if (!text)
			return;
		text++;
		argument_tell(walk, ARGUMENT_PATH, text);
	}
}

/* A value that has a role: Rust's "dependency=" before a directory is left out. */
static void argument_value(struct argument_walk *walk, int next, const char *text)
{
	if (next == NEXT_LIST) {
		argument_list(walk, text);
		return;
	}
	if (next == ARGUMENT_LIBRARY_DIR || next == ARGUMENT_LIBRARY) {
		size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz-+:");

		if (n && text[n] == '=')
			text += n + 1;
	}
	argument_tell(walk, next, text);
	if (next == ARGUMENT_PATH)
		argument_tails(walk, text);
}

/* Where an option's value begins in a word; NULL where the option is another one. For one
 * whose value is in the next word, or that has none, it is the word's end. */
static const char *argument_match(const struct argument_option *option, const char *word,
				  int *form_out)
{
	size_t len = strlen(option->name);

	if (strncmp(word, option->name, len) != 0)
		return NULL;
	*form_out = option->forms & (AT_NEXT | AT_FLAG);
	if (!word[len])
		return *form_out ? word + len : NULL;
	*form_out = word[len] == '=' ? AT_EQUALS : word[len] == ':' ? AT_COLON : 0;
	if (*form_out & option->forms)
		return word + len + 1;
	*form_out = AT_JOINED;
	return option->forms & AT_JOINED ? word + len : NULL;
}

/* An option in the table: true where the word is one. */
static bool argument_known(struct argument_walk *walk, const char *word)
{
	const struct argument_option *best = NULL;
	const char *best_value = NULL;
	int best_form = 0;

	for (size_t i = 0; i < ARRAY_SIZE(argument_options); i++) {
		const struct argument_option *option = &argument_options[i];
		const char *value;
		int form;

		if (!(option->families & walk->family))
			continue;
		value = argument_match(option, word, &form);
		if (value && (!best || strlen(option->name) > strlen(best->name))) {
			best = option;
			best_value = value;
			best_form = form;
		}
	}
	if (!best)
		return false;
	if (best_form == AT_NEXT)
		walk->next = best->next;
	else if (best_form == AT_FLAG && best->next == ARGUMENT_NO_STDINC)
		walk->told(walk->ctx, ARGUMENT_NO_STDINC, walk->index,
			   (struct slice){(const uint8_t *)best_value, 0});
	else if (best_form != AT_FLAG)
		argument_value(walk, best->next, best_value);
	return true;
}

/* A word as of any tool. */
static void argument_plain(struct argument_walk *walk, const char *word)
{
	if (walk->is_behind_dashes) {
		walk->is_behind_dashes = false;
		if (word[0] != '-')
			argument_tell(walk, ARGUMENT_PATH, word);
		argument_tool(walk, word);
	} else if (strcmp(word, "--") == 0) {
		walk->is_behind_dashes = walk->family == FAMILY_GENERIC;
	} else if (walk->family == FAMILY_NAMES) {
		return;
	} else if (word[0] == '@') {
		argument_tell(walk, ARGUMENT_RESPONSE, word + 1);
	} else if (word[0] != '-') {
		argument_tell(walk, ARGUMENT_PATH, word);
		argument_tails(walk, word);
	} else if (!argument_known(walk, word)) {
		if (strchr(word, '='))
			argument_tails(walk, word);
		else if (word[1] && word[1] != '-' && word[2] && strpbrk(word + 2, "/."))
			argument_tell(walk, ARGUMENT_PATH, word + 2);
	}
}

/* Python's own options end where its program begins. */
static void argument_python(struct argument_walk *walk, const char *word)
{
	if (word[0] != '-') {
		walk->family = FAMILY_GENERIC;
		argument_plain(walk, word);
		return;
	}
	if (word[1] == '-')
		return;
	for (word++; *word; word++) {
		int next = *word == 'm' ? (int)ARGUMENT_MODULE : NEXT_NOTHING;

		if (!strchr("mcWX", *word))
			continue;
		if (*word == 'm' || *word == 'c')
			walk->family = FAMILY_GENERIC;
		if (word[1])
			argument_value(walk, next, word + 1);
		else
			walk->next = next;
		return;
	}
}

/* A shell's: -c says that the first word is a script's text, not its name. */
static void argument_shell(struct argument_walk *walk, const char *word)
{
	if ((word[0] == '-' || word[0] == '+') && word[1]) {
		if (word[0] == '-' && word[1] != '-' && strchr(word, 'c'))
			walk->has_script = true;
		if (strchr(word, 'o') == word + strlen(word) - 1 ||
		    strcmp(word, "-O") == 0)
			walk->next = NEXT_NOTHING;
		return;
	}
	walk->family = FAMILY_GENERIC;
	if (!walk->has_script) /* else it is the text of a script in a script */
		argument_plain(walk, word);
}

/* Before the tool that a tool runs. */
static void argument_wrapped(struct argument_walk *walk, const char *word)
{
	const char *equals = strchr(word, '=');

	if (word[0] == '-') {
		if (word[1] && word[1] != '-' && !word[2] &&
		    strchr(walk->wrapper->letters, word[1]))
			walk->next = NEXT_NOTHING;
	} else if (walk->n_operands > 0) {
		walk->n_operands--;
	} else if (!equals || memchr(word, '/', (size_t)(equals - word))) {
		argument_tool(walk, word);
	}
}

/* A word, but for options that hold several and the text of a script. */
static void argument_word(struct argument_walk *walk, const char *word)
{
	int next = walk->next;

	walk->next = NEXT_WORD;
	if (next != NEXT_WORD) {
		argument_value(walk, next, word);
	} else if (walk->is_tool_next) {
		if (walk->wrapper)
			argument_wrapped(walk, word);
		else
			argument_tool(walk, word);
	} else if (walk->family == FAMILY_PYTHON) {
		argument_python(walk, word);
	} else if (walk->family == FAMILY_SHELL) {
		argument_shell(walk, word);
	} else {
		argument_plain(walk, word);
	}
}

/* -Wl,-o,x: what stands between the commas are words for the linker. */
static void argument_commas(struct argument_walk *walk, const char *text)
{
	char part[ARGUMENT_WORD_MAX + 1];

	for (size_t n = 0; *text && n < ARGUMENT_PARTS_MAX; n++) {
		size_t len = strcspn(text, ",");

		if (len && len <= ARGUMENT_WORD_MAX) {
			memcpy(part, text, len);
			part[len] = '\0';
			argument_word(walk, part);
		}
		text += len + (text[len] == ',');
	}
}

/* A word of a C compiler may be several, or hand on the next one. */
static void argument_compiler_word(struct argument_walk *walk, const char *word)
{
	static const char *const passing[] = {"-Xlinker", "-Xassembler", "-Xpreprocessor",
					      "-Xclang", NULL};
	static const char *const holding[] = {"-Wl,", "-Wa,", "-Wp,", NULL};

	if (!walk->is_tool_next && (walk->family & FAMILIES_C)) {
		if (argument_is_one_of(word, passing))
			return;
		for (size_t i = 0; holding[i]; i++) {
			if (argument_starts(word, holding[i])) {
				argument_commas(walk, word + strlen(holding[i]));
				return;
			}
		}
	}
	argument_word(walk, word);
}

/* The text of sh -c: commands with words of their own. A script in a script is not read.
 */
static void argument_script(struct argument_walk *walk, const char *text)
{
	_cleanup_free_ struct shell *shell = alloc_zero(sizeof(*shell));
	struct argument_walk outer = *walk;
	struct slice script = slice_of(text);
	enum shell_kind kind;

	if (script.len > ARGUMENT_SCRIPT_MAX)
		script.len = ARGUMENT_SCRIPT_MAX;
	shell_init(shell, script);
	while ((kind = shell_next(shell)) != SHELL_END) {
		const char *word = shell->is_literal ? shell->word : "";

		switch (kind) {
		case SHELL_COMMAND:
			argument_tool(walk, word);
			break;
		case SHELL_ARGUMENT:
			argument_compiler_word(walk, word);
			break;
		case SHELL_INPUT:
			argument_tell(walk, ARGUMENT_PATH, word);
			break;
		case SHELL_OUTPUT:
			argument_tell(walk, ARGUMENT_OUTPUT, word);
			break;
		case SHELL_FUNCTION:
		case SHELL_END:
			break;
		}
	}
	*walk = outer;
}

void argument_each(const char *const *words, size_t n_words, bool has_tool,
		   argument_fn *told, void *ctx)
{
	struct argument_walk walk = {.told = told,
				     .ctx = ctx,
				     .family = FAMILIES_C,
				     .is_tool_next = has_tool,
				     .next = NEXT_WORD};

	for (walk.index = 0; walk.index < n_words; walk.index++) {
		const char *word = words[walk.index];
		bool is_script = walk.family == FAMILY_SHELL && walk.has_script &&
				 walk.next == NEXT_WORD && word[0] != '-' &&
				 word[0] != '+';

		if (is_script) {
			walk.family = FAMILY_GENERIC;
			argument_script(&walk, word);
		} else {
			argument_compiler_word(&walk, word);
		}
	}
}

/* One word of a response file, from at, which it moves behind the word. */
static char *argument_split_word(struct slice text, size_t *at)
{
	_cleanup_buf_ struct buf word = BUF_INIT;
	uint8_t quote = 0;

	for (; *at < text.len; (*at)++) {
		uint8_t c = text.data[*at];

		if (c == '\\' && *at + 1 < text.len) {
			c = text.data[++*at];
		} else if (quote ? c == quote : c == '"' || c == '\'') {
			quote = quote ? 0 : c;
			continue;
		} else if (c == '\0' || (!quote && strchr(" \t\n\r\v\f", c))) {
			break;
		}
		if (c)
			buf_add_byte(&word, c);
	}
	return buf_steal_string(&word);
}

char **argument_split(struct slice text, size_t max_words, size_t *n_out)
{
	char **words = NULL;
	size_t cap = 0;
	size_t n = 0;
	size_t at = 0;

	while (n < max_words) {
		while (at < text.len &&
		       (!text.data[at] || strchr(" \t\n\r\v\f", text.data[at])))
			at++;
		if (at >= text.len)
			break;
		words = alloc_grow(words, &cap, n + 1, sizeof(*words));
		words[n++] = argument_split_word(text, &at);
	}
	*n_out = n;
	return words;
}
