/*
 * lazyroot forget: takes names of artifacts back; their blobs grow old by themselves.
 */
#include "client/artifact_cache.h"

struct forget_verb {
	struct client client;
	struct artifact_caches caches;
	bool is_remote;
	size_t n_failed;
};

static void forget_verb_deinit(struct forget_verb *verb)
{
	artifact_caches_deinit(&verb->caches);
	client_deinit(&verb->client);
}

static struct error *forget_one(struct forget_verb *verb, struct artifact_names *names,
				const char *name)
{
	bool is_found = false;
	size_t n_failed = 0;
	struct error *err = artifact_names_remove(names, name, &is_found);

	if (!err && verb->is_remote)
		artifact_caches_forget(&verb->caches, name, &n_failed);
	verb->n_failed += n_failed;
	if (!err && !is_found && !verb->is_remote)
		err = error_new(ERROR_NOT_FOUND, "there is no artifact \"%s\" here",
				name);
	return err;
}

int cmd_forget(int argc, char **argv)
{
	_cleanup_(forget_verb_deinit) struct forget_verb verb = {
		.client = CLIENT_INIT, .caches = ARTIFACT_CACHES_INIT};
	_cleanup_(artifact_names_closep) struct artifact_names *names = NULL;
	const struct option_def defs[] = {
		{"remote", 0, OPTION_FLAG, NULL,
		 "in the caches of --artifacts that have push, too", NULL,
		 &verb.is_remote, 0, 0},
		ARTIFACT_CACHES_OPTION(&verb.caches),
		CLIENT_OPTIONS(&verb.client),
	};
	const struct option_program program = {
		.name = "lazyroot forget",
		.usage = "NAME...",
		.summary = "Forgets names of artifacts here. What they stood for stays "
			   "until there is no room.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	struct error *err;
	int operands;
	int code;

	if (!artifact_caches_parse(&verb.caches, &verb.client, &program, argc, argv,
				   &operands, &code))
		return code;
	if (verb.is_remote && !artifact_caches_n_pushed_to(&verb.caches))
		return client_usage("forget", "--remote needs --artifacts with push");
	code = 0;
	err = artifact_names_open(&verb.client.local, &names);
	for (int i = operands; !err && i < argc; i++) {
		err = forget_one(&verb, names, argv[i]);
		err = artifact_caches_go_on("forget", err, argc - operands, &code);
	}
	if (err)
		return client_fail("forget", err, CLIENT_FAILED);
	return verb.n_failed ? CLIENT_FAILED : code;
}
