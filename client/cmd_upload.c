/*
 * lazyroot upload: local files and directories into the store, only what it lacks.
 */
#include <string.h>

#include "client/client.h"
#include "client/sending.h"

/* Of what was hashed and then changed, the bytes of one moment are sent all the same. */
static struct error *upload_path(struct client *client, const char *path,
				 struct sending_totals *totals,
				 struct import **import_out)
{
	_cleanup_(sending_changes_deinit) struct sending_changes changes =
		SENDING_CHANGES_INIT;

	for (;;) {
		_cleanup_(import_freep) struct import *import = NULL;
		bool is_again = false;
		struct error *err = sending_import(client, path, &changes, &import);

		if (!err)
			err = sending_upload(client, import, NULL, 0, &changes, totals);
		err = sending_settle(&changes, err, &is_again);
		if (is_again)
			continue;
		if (!err)
			*import_out = take(import);
		return err;
	}
}

static struct error *upload_paths(struct client *client, char **paths, int n,
				  json_t *uploads)
{
	struct sending_totals totals = {0};
	struct error *err = NULL;

	for (int i = 0; i < n && !err; i++) {
		_cleanup_(import_freep) struct import *import = NULL;
		char text[DIGEST_STRING_MAX];

		err = upload_path(client, paths[i], &totals, &import);
		if (err)
			break;
		if (client->is_json) {
			(void)json_array_append_new(
				uploads,
				json_pack("{s:s%,s:o,s:I,s:I}", "path", paths[i],
					  strlen(paths[i]), "digest",
					  client_json_digest(import_digest(import)),
					  "sent_blobs", (json_int_t)totals.n_sent,
					  "sent_bytes", (json_int_t)totals.bytes_sent));
		} else {
			say_out("%s\n", digest_format(import_digest(import), text));
			say_flush(); /* a script may read line by line */
		}
	}
	if (!err && !client->is_quiet && !client->is_json)
		sending_summary(&totals);
	return err;
}

int cmd_upload(int argc, char **argv)
{
	_cleanup_(client_deinit) struct client client = CLIENT_INIT;
	const struct option_def defs[] = {CLIENT_ENTRIES_OPTION(&client),
					  CLIENT_OPTIONS(&client)};
	const struct option_program program = {
		.name = "lazyroot upload",
		.usage = "PATH...",
		.summary = "Stores files and directories, sending only what the service "
			   "lacks, and "
			   "prints\nHASH/SIZE of each, a line each.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int operands;
	int code;
	json_t *uploads;
	struct error *err;

	if (!client_parse(&program, argc, argv, &operands, &code))
		return code;
	if (operands == argc)
		return client_usage("upload", "no PATH to upload");
	err = client_connect(&client);
	if (err)
		return client_fail("upload", err, CLIENT_FAILED);
	uploads = json_array();
	err = upload_paths(&client, argv + operands, argc - operands, uploads);
	if (client.is_json && !err)
		client_print_json(json_incref(uploads));
	json_decref(uploads);
	return client_fail("upload", err, CLIENT_FAILED);
}
