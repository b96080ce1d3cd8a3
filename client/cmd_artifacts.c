/*
 * lazyroot artifacts: which names there are here, and what the caches say of them.
 */
#include <time.h>

#include "client/artifact_cache.h"

struct artifacts_verb {
	struct client client;
	struct artifact_caches caches;
	bool is_remote;
	size_t n_failed;
	size_t n_found;
	json_t *list;
};

static void artifacts_verb_deinit(struct artifacts_verb *verb)
{
	json_decref(verb->list);
	artifact_caches_deinit(&verb->caches);
	client_deinit(&verb->client);
}

static const char *artifacts_time(int64_t seconds, char text[static 32])
{
	time_t when = (time_t)seconds;
	struct tm parts;

	if (!seconds)
		return "never";
	if (!gmtime_r(&when, &parts) || !strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &parts))
		return "?";
	return text;
}

static void artifacts_add(struct artifacts_verb *verb, const struct artifact_name *name,
			  const char *url)
{
	json_t *item = json_pack("{s:s,s:o,s:I}", "name", name->name, "root",
				 client_json_digest(&name->root), "expires",
				 (json_int_t)name->expires_s);

	verb->n_found++;
	if (url)
		(void)json_object_set_new(item, "cache",
					  client_json_bytes(slice_of(url)));
	else
		(void)json_object_set_new(item, "made", json_integer(name->made_s));
	(void)json_array_append_new(verb->list, item);
}

static struct error *artifacts_here(void *ctx, const struct artifact_name *name)
{
	struct artifacts_verb *verb = ctx;
	char digest[DIGEST_STRING_MAX];
	char made[32];
	char expires[32];

	artifacts_add(verb, name, NULL);
	if (!verb->client.is_json)
		say_out("%s %s %s%s%s\n", digest_format(&name->root, digest),
			artifacts_time(name->made_s, made), name->name,
			name->expires_s ? " expires " : "",
			name->expires_s ? artifacts_time(name->expires_s, expires) : "");
	return NULL;
}

static void artifacts_there(void *ctx, const char *url, const struct artifact_name *found)
{
	struct artifacts_verb *verb = ctx;
	char digest[DIGEST_STRING_MAX];

	if (!found)
		return;
	artifacts_add(verb, found, url);
	if (!verb->client.is_json)
		say_out("%s %s %s\n", digest_format(&found->root, digest), url,
			found->name);
}

static struct error *artifacts_ask(void *ctx, const struct artifact_name *name)
{
	struct artifacts_verb *verb = ctx;

	artifact_caches_ask(&verb->caches, name->name, artifacts_there, verb,
			    &verb->n_failed);
	return NULL;
}

/* NOT_FOUND where nobody who was asked knows it. */
static struct error *artifacts_named(struct artifacts_verb *verb,
				     struct artifact_names *names, const char *text)
{
	struct artifact_name name = {.name = text};
	size_t n_before = verb->n_found;
	bool is_found = false;
	struct error *err = NULL;

	if (verb->is_remote)
		err = artifacts_ask(verb, &name);
	if (!err && verb->is_remote && verb->n_found == n_before)
		err = error_new(ERROR_NOT_FOUND,
				"no artifact cache that answers knows \"%s\"", text);
	if (err || verb->is_remote)
		return err;
	err = artifact_names_get(names, text, &name, &is_found);
	if (!err && !is_found)
		err = error_new(ERROR_NOT_FOUND, "there is no artifact \"%s\" here",
				text);
	return err ? err : artifacts_here(verb, &name);
}

/* The names that are given, or all that are known here: the API of caches tells none. */
static struct error *artifacts_tell(struct artifacts_verb *verb, char **texts, int n,
				    int *code_out)
{
	struct error *(*fn)(void *, const struct artifact_name *) =
		verb->is_remote ? artifacts_ask : artifacts_here;
	_cleanup_(artifact_names_closep) struct artifact_names *names = NULL;
	struct error *err = artifact_names_open(&verb->client.local, &names);

	if (!err && !n)
		return artifact_names_each(names, fn, verb);
	for (int i = 0; !err && i < n; i++) {
		err = artifacts_named(verb, names, texts[i]);
		err = artifact_caches_go_on("artifacts", err, n, code_out);
	}
	return err;
}

int cmd_artifacts(int argc, char **argv)
{
	_cleanup_(artifacts_verb_deinit) struct artifacts_verb verb = {
		.client = CLIENT_INIT, .caches = ARTIFACT_CACHES_INIT};
	const struct option_def defs[] = {
		{"remote", 0, OPTION_FLAG, NULL,
		 "what each cache of --artifacts says of them", NULL, &verb.is_remote, 0,
		 0},
		ARTIFACT_CACHES_OPTION(&verb.caches),
		CLIENT_OPTIONS(&verb.client),
	};
	const struct option_program program = {
		.name = "lazyroot artifacts",
		.usage = "[--remote] [NAME]...",
		.summary = "Lists artifacts, all of this machine's or those that are "
			   "named: the root's digest,\nwhen it was made (or which cache "
			   "has it), the name.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	struct error *err = NULL;
	int operands;
	int code;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	for (int i = operands; !err && i < argc; i++)
		err = artifact_check_name(argv[i]);
	if (!err)
		err = artifact_caches_open(&verb.caches, &verb.client);
	if (!err && verb.is_remote && !verb.caches.n)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"no cache to ask: --artifacts names none");
	if (err)
		return client_fail_start("artifacts", err, CLIENT_FAILED);
	verb.list = json_array();
	code = 0;
	err = artifacts_tell(&verb, argv + operands, argc - operands, &code);
	if (err)
		return client_fail("artifacts", err, CLIENT_FAILED);
	if (verb.client.is_json)
		client_print_json(json_incref(verb.list));
	return verb.n_failed ? CLIENT_FAILED : code;
}
