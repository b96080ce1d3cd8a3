/*
 * lazyroot cancel: ends an operation that an earlier run started.
 */
#include "client/execution.h"

int cmd_cancel(int argc, char **argv)
{
	_cleanup_(client_deinit) struct client client = CLIENT_INIT;
	const struct option_def defs[] = {CLIENT_OPTIONS(&client)};
	const struct option_program program = {
		.name = "lazyroot cancel",
		.usage = "OPERATION",
		.summary = "Ends a run: its processes are killed, whoever waits for it "
			   "is told.",
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	int operands;
	int code;
	struct error *err;

	if (!client_parse_operands(&program, argc, argv, 1, 1, "name one OPERATION",
				   &operands, &code))
		return code;
	err = client_connect(&client);
	if (err)
		return client_fail_start("cancel", err, CLIENT_FAILED);
	err = execution_cancel(&client, argv[operands]);
	if (!err && client.is_json)
		client_print_json(json_pack("{s:s,s:b}", "operation", argv[operands],
					    "cancelled", 1));
	return client_fail("cancel", err, CLIENT_FAILED);
}
