/* Owns nothing: the command line, --help, and in which order values come. Main thread, at
 * start. */
#include "lib/base/option.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "lib/base/alloc.h"
#include "lib/base/buf.h"
#include "lib/base/config.h"
#include "lib/base/log.h"
#include "lib/base/nearest.h"
#include "lib/base/say.h"

#define OPTION_COMMON 4 /* config, log, help, version */
#define OPTION_COLUMN 30

static void option_help_one(struct buf *text, char letter, const char *name,
			    const char *arg, const char *help)
{
	char left[128];
	char dash[8] = "    ";
	int n;

	if (letter)
		(void)snprintf(dash, sizeof(dash), "-%c, ", letter);
	n = snprintf(left, sizeof(left), "  %s--%s%s%s", dash, name, arg ? " " : "",
		     arg ? arg : "");
	buf_printf(text, "%-*s%s", OPTION_COLUMN, left, n >= OPTION_COLUMN ? "\n" : "");
	for (const char *line = help; *line;) {
		size_t len = strcspn(line, "\n");
		bool is_indented = line != help || n >= OPTION_COLUMN;

		buf_printf(text, "%*s%.*s\n", is_indented ? OPTION_COLUMN : 0, "",
			   (int)len, line);
		line += len + (line[len] == '\n');
	}
}

static void option_help(const struct option_program *program)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	buf_printf(&text, "Usage: %s %s\n\n%s\n\nOptions:\n", program->name,
		   program->usage, program->summary);
	for (size_t i = 0; i < program->n_defs; i++) {
		const struct option_def *def = &program->defs[i];

		option_help_one(&text, def->letter, def->name,
				def->kind == OPTION_FLAG ? NULL : def->arg, def->help);
	}
	option_help_one(&text, 0, "config", "FILE",
			"options as YAML, a key each ($LAZYROOT_CONFIG)");
	option_help_one(&text, 0, "log", "LEVEL",
			"error, warn, info or debug; ,MODULE=LEVEL adds one");
	option_help_one(&text, 'h', "help", NULL, "this text");
	option_help_one(&text, 0, "version", NULL, "the version");
	if (program->notes)
		buf_printf(&text, "\n%s\n", program->notes);
	say_raw(buf_string(&text));
}

enum {
	OPTION_ID_CONFIG = 1000,
	OPTION_ID_LOG,
	OPTION_ID_HELP,
	OPTION_ID_VERSION,
	OPTION_ID
};

struct option_table {
	struct option *longs;
	char *shorts;
};

static void option_table_deinit(struct option_table *table)
{
	free(table->longs);
	free(table->shorts);
}

static void option_table_init(struct option_table *table,
			      const struct option_program *program)
{
	struct buf shorts = BUF_INIT;
	size_t n = program->n_defs;

	table->longs = alloc_array(n + OPTION_COMMON + 1, sizeof(struct option));
	buf_add_string(&shorts, program->stops_at_operand ? "+:h" : ":h");
	for (size_t i = 0; i < n; i++) {
		const struct option_def *def = &program->defs[i];
		bool has_arg = def->kind != OPTION_FLAG;

		table->longs[i] = (struct option){
			def->name, has_arg ? required_argument : no_argument, NULL,
			(int)(OPTION_ID + i)};
		if (def->letter)
			buf_printf(&shorts, "%c%s", def->letter, has_arg ? ":" : "");
	}
	table->longs[n++] =
		(struct option){"config", required_argument, NULL, OPTION_ID_CONFIG};
	table->longs[n++] =
		(struct option){"log", required_argument, NULL, OPTION_ID_LOG};
	table->longs[n++] = (struct option){"help", no_argument, NULL, OPTION_ID_HELP};
	table->longs[n++] =
		(struct option){"version", no_argument, NULL, OPTION_ID_VERSION};
	table->shorts = buf_steal_string(&shorts);
}

static bool option_is_flag(const struct option_program *program, const char *name)
{
	for (size_t i = 0; i < program->n_defs; i++) {
		if (strcmp(program->defs[i].name, name) == 0)
			return program->defs[i].kind == OPTION_FLAG;
	}
	return false;
}

static struct error *option_unknown(const struct option_program *program, int c,
				    const char *word)
{
	_cleanup_free_ char *name = alloc_string(word + strspn(word, "-"));
	bool is_long = strncmp(word, "--", 2) == 0;
	const char *best;

	if (c == ':')
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s needs a value (see %s --help)", word, program->name);
	if (is_long && strchr(name, '=')) {
		name[strcspn(name, "=")] = '\0';
		if (option_is_flag(program, name))
			return error_new(ERROR_INVALID_ARGUMENT,
					 "--%s takes no value (see %s --help)", name,
					 program->name);
	}
	best = is_long ? option_nearest(program, name) : NULL;
	return error_new(ERROR_INVALID_ARGUMENT,
			 "%s is no option of %s%s%s%s (see %s --help)", word,
			 program->name, best ? "; did you mean --" : "", best ? best : "",
			 best ? "?" : "", program->name);
}

static const struct option_def *option_find(const struct option_program *program, int c)
{
	for (size_t i = 0; i < program->n_defs; i++) {
		if (c == (int)(OPTION_ID + i) ||
		    (program->defs[i].letter && c == program->defs[i].letter))
			return &program->defs[i];
	}
	return NULL;
}

struct option_pass {
	const struct option_program *program;
	bool is_values; /* second pass: set values; first: config, help and version only
			 */
	const char *config; /* of --config, or NULL */
	bool is_done;
	bool *is_list_fresh; /* per definition: the command line's first value replaces */
};

static struct error *option_take(struct option_pass *pass, int c)
{
	const struct option_def *def;

	switch (c) {
	case OPTION_ID_CONFIG:
		pass->config = optarg;
		return NULL;
	case OPTION_ID_LOG:
		return pass->is_values ? error_wrap(log_configure(optarg), "--log")
				       : NULL;
	case OPTION_ID_HELP:
	case 'h':
		if (!pass->is_done)
			option_help(pass->program);
		pass->is_done = true;
		return NULL;
	case OPTION_ID_VERSION:
		if (!pass->is_done)
			say_out("%s %s\n", pass->program->name, LAZYROOT_VERSION);
		pass->is_done = true;
		return NULL;
	default:
		break;
	}
	def = option_find(pass->program, c);
	require(def);
	if (!pass->is_values)
		return NULL;
	if (def->kind == OPTION_FLAG) {
		*(bool *)def->value = true;
		return NULL;
	}
	if (!pass->is_list_fresh[def - pass->program->defs]) {
		option_clear(def);
		pass->is_list_fresh[def - pass->program->defs] = true;
	}
	return option_set(def, optarg, NULL);
}

static struct error *option_walk(struct option_pass *pass, struct option_table *table,
				 int argc, char **argv)
{
	int c;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, table->shorts, table->longs, NULL)) != -1) {
		struct error *err;

		if (c == '?' || c == ':')
			return option_unknown(pass->program, c, argv[optind - 1]);
		err = option_take(pass, c);
		if (err || pass->is_done)
			return err;
	}
	return NULL;
}

static struct error *option_environment(const struct option_program *program)
{
	for (size_t i = 0; i < program->n_defs; i++) {
		const struct option_def *def = &program->defs[i];
		const char *text = def->env ? getenv(def->env) : NULL;
		struct error *err;

		if (!text)
			continue;
		option_clear(def);
		err = option_set(def, text, def->env);
		if (err)
			return err;
	}
	return NULL;
}

/* All but the command line; what somebody names there beats what lies around. */
static struct error *option_sources(const struct option_program *program,
				    const char *config)
{
	const char *usual = getenv("LAZYROOT_CONFIG");
	struct error *err = NULL;

	if (!config && usual && *usual)
		err = config_load(usual, program);
	if (!err)
		err = option_environment(program);
	return err || !config ? err : config_load(config, program);
}

struct error *option_parse(const struct option_program *program, int argc, char **argv,
			   int *operands_out, bool *is_done_out)
{
	_cleanup_(option_table_deinit) struct option_table table;
	_cleanup_free_ bool *is_list_fresh = alloc_array(program->n_defs, sizeof(bool));
	struct option_pass pass = {.program = program, .is_list_fresh = is_list_fresh};
	struct error *err;

	option_table_init(&table, program);
	err = option_walk(&pass, &table, argc, argv);
	if (err)
		return err;
	if (!pass.is_done) {
		err = option_sources(program, pass.config);
		pass.is_values = true;
		if (!err)
			err = option_walk(&pass, &table, argc, argv);
		if (err)
			return err;
	}
	*operands_out = optind;
	*is_done_out = pass.is_done;
	return NULL;
}
