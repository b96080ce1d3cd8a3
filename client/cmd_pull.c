/*
 * lazyroot pull: artifacts out of caches into the user's store.
 */
#include "client/artifact_cache.h"

struct pull_verb {
	struct client client;
	struct artifact_caches caches;
};

static void pull_verb_deinit(struct pull_verb *verb)
{
	artifact_caches_deinit(&verb->caches);
	client_deinit(&verb->client);
}

static struct error *pull_one(struct pull_verb *verb, struct artifact_names *names,
			      const char *text, json_t *pulled)
{
	struct artifact_name name = {.name = text, .made_s = clock_wall_ns() / NS_PER_S};
	char digest[DIGEST_STRING_MAX];
	struct error *err = artifact_caches_pull(&verb->caches, &verb->client, &name);

	if (!err)
		err = artifact_names_put(names, &name);
	if (err)
		return err;
	if (!verb->client.is_json)
		say_out("%s %s\n", digest_format(&name.root, digest), text);
	(void)json_array_append_new(pulled,
				    json_pack("{s:s,s:o,s:I}", "name", text, "root",
					      client_json_digest(&name.root), "expires",
					      (json_int_t)name.expires_s));
	return NULL;
}

/* One that is nowhere does not keep the others. */
static struct error *pull_all(struct pull_verb *verb, char **texts, int n, int *code_out)
{
	_cleanup_(artifact_names_closep) struct artifact_names *names = NULL;
	struct error *err = artifact_names_open(&verb->client.local, &names);
	json_t *pulled = json_array();

	for (int i = 0; !err && i < n; i++) {
		err = pull_one(verb, names, texts[i], pulled);
		err = artifact_caches_go_on("pull", err, n, code_out);
	}
	if (!err && verb->client.is_json)
		client_print_json(json_incref(pulled));
	json_decref(pulled);
	return err;
}

int cmd_pull(int argc, char **argv)
{
	_cleanup_(pull_verb_deinit) struct pull_verb verb = {
		.client = CLIENT_INIT, .caches = ARTIFACT_CACHES_INIT};
	const struct option_def defs[] = {
		ARTIFACT_CACHES_OPTION(&verb.caches),
		CLIENT_ENTRIES_OPTION(&verb.client),
		CLIENT_OPTIONS(&verb.client),
	};
	const struct option_program program = {
		.name = "lazyroot pull",
		.usage = "NAME...",
		.summary = "Brings artifacts here out of the caches of --artifacts: "
			   "their names are asked for\nin order until one knows it, "
			   "their blobs until all are here. A cache that is down\nor "
			   "lacks some is passed over. Prints each root's digest.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	struct error *err = NULL;
	int operands;
	int code;

	if (!artifact_caches_parse(&verb.caches, &verb.client, &program, argc, argv,
				   &operands, &code))
		return code;
	if (!verb.caches.n)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"no cache to pull from: --artifacts names none");
	if (!err)
		err = local_must_last(&verb.client.local);
	if (err)
		return client_fail_start("pull", err, CLIENT_FAILED);
	code = 0;
	err = pull_all(&verb, argv + operands, argc - operands, &code);
	return err ? client_fail("pull", err, CLIENT_FAILED) : code;
}
