/*
 * bench_true ADDRESS ACTION N: runs one action N times over one kept connection, one
 * after the other, and prints each round's microseconds, a line each. The action must be
 * do_not_cache, else it measures the action cache.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/clock.h"
#include "lib/rpc/stream.h"
#include "lib/tree/digest.h"

static const struct rpc_method bench_execute = {&reapi__execution__descriptor, "Execute"};

static struct error *bench_round(struct rpc_chan *chan, const struct digest *action)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	Reapi__ExecuteRequest request = REAPI__EXECUTE_REQUEST__INIT;
	Reapi__Digest wire = REAPI__DIGEST__INIT;
	char hex[DIGEST_HEX_MAX];
	bool is_broken = false;
	bool has_message = true;
	struct slice last = {0};
	struct error *err;

	digest_to_wire(action, hex, &wire);
	request.action_digest = &wire;
	err = rpc_stream_open(chan, &bench_execute, NULL, &stream);
	if (!err)
		err = rpc_stream_send_message(stream, &request.base, &is_broken);
	if (!err)
		err = rpc_stream_close_send(stream);
	while (!err && has_message)
		err = rpc_stream_receive(stream, &has_message, &last);
	return err ? err : rpc_stream_finish(stream);
}

static struct error *bench_run(const char *address, const char *action_text, long n)
{
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan = NULL;
	struct rpc_chan_config config = {.address = address, .tool_name = "bench"};
	struct digest action;
	struct error *err;

	err = digest_parse(action_text, &action);
	if (!err)
		err = rpc_init(0);
	if (!err)
		err = rpc_chan_new(&config, &chan);
	for (long i = 0; !err && i < n; i++) {
		int64_t start = clock_mono_ns();

		err = bench_round(chan, &action);
		(void)printf("%lld\n", (long long)((clock_mono_ns() - start) / 1000));
	}
	return err;
}

int main(int argc, char **argv)
{
	_cleanup_error_ struct error *err = NULL;

	if (argc != 4) {
		(void)fprintf(stderr, "usage: bench_true ADDRESS ACTION N\n");
		return 2;
	}
	err = bench_run(argv[1], argv[2], strtol(argv[3], NULL, 10));
	if (err)
		(void)fprintf(stderr, "bench_true: %s\n", error_text(err));
	return err != NULL;
}
