/*
 * lazyroot push: artifacts of this machine to all caches that take pushes.
 */
#include "client/artifact_cache.h"

struct push_verb {
	struct client client;
	struct artifact_caches caches;
	int64_t expire_ns;
	size_t n_failed;
};

static void push_verb_deinit(struct push_verb *verb)
{
	artifact_caches_deinit(&verb->caches);
	client_deinit(&verb->client);
}

static struct error *push_one(struct push_verb *verb, struct artifact_names *names,
			      const char *text, json_t *pushed)
{
	struct artifact_name name = {.name = text};
	bool is_found = false;
	size_t n_failed = 0;
	struct error *err = artifact_names_get(names, text, &name, &is_found);

	if (!err && !is_found)
		err = error_new(ERROR_NOT_FOUND, "there is no artifact \"%s\" here",
				text);
	if (err)
		return err;
	if (verb->expire_ns)
		name.expires_s = (clock_wall_ns() + verb->expire_ns) / NS_PER_S;
	err = artifact_caches_push(&verb->caches, &verb->client, &name, &n_failed);
	if (err)
		return err;
	verb->n_failed += n_failed;
	(void)json_array_append_new(pushed,
				    json_pack("{s:s,s:o,s:I}", "name", text, "root",
					      client_json_digest(&name.root),
					      "failed_caches", (json_int_t)n_failed));
	return NULL;
}

/* One that is not here does not keep the others. */
static struct error *push_all(struct push_verb *verb, char **names, int n, int *code_out)
{
	_cleanup_(artifact_names_closep) struct artifact_names *known = NULL;
	struct error *err = artifact_names_open(&verb->client.local, &known);
	json_t *pushed = json_array();

	for (int i = 0; !err && i < n; i++) {
		err = push_one(verb, known, names[i], pushed);
		err = artifact_caches_go_on("push", err, n, code_out);
	}
	if (!err && verb->client.is_json)
		client_print_json(json_incref(pushed));
	json_decref(pushed);
	return err;
}

int cmd_push(int argc, char **argv)
{
	_cleanup_(push_verb_deinit) struct push_verb verb = {
		.client = CLIENT_INIT, .caches = ARTIFACT_CACHES_INIT};
	const struct option_def defs[] = {
		{"expire", 0, OPTION_DURATION, "DURATION",
		 "how long the caches may know the name (default: as here)", NULL,
		 &verb.expire_ns, 0, 0},
		ARTIFACT_CACHES_OPTION(&verb.caches),
		CLIENT_OPTIONS(&verb.client),
	};
	const struct option_program program = {
		.name = "lazyroot push",
		.usage = "NAME...",
		.summary = "Sends artifacts to each cache of --artifacts that has push: "
			   "first what they lack of\nthe blobs, then the name. One that "
			   "fails does not keep the others from theirs;\nthe exit code "
			   "is 1 then.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	struct error *err = NULL;
	int operands;
	int code;

	if (!artifact_caches_parse(&verb.caches, &verb.client, &program, argc, argv,
				   &operands, &code))
		return code;
	if (!artifact_caches_n_pushed_to(&verb.caches))
		err = error_new(
			ERROR_INVALID_ARGUMENT,
			"no cache takes pushes: --artifacts names none with push");
	if (err)
		return client_fail_start("push", err, CLIENT_FAILED);
	code = 0;
	err = push_all(&verb, argv + operands, argc - operands, &code);
	if (err)
		return client_fail("push", err, CLIENT_FAILED);
	return verb.n_failed ? CLIENT_FAILED : code;
}
