/* What a client shows of itself: tokens from files, headers from a credential helper. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/latch.h"
#include "lib/rpc/chan.h"
#include "lib/rpc/helper.h"
#include "lib/rpc/server.h"

#define PATIENCE_NS (60 * NS_PER_S)

static const struct rpc_method method = {&reapi__capabilities__descriptor,
					 "GetCapabilities"};

struct world {
	char dir[64];
	atomic_int n_calls;
	const char
		*changed; /* a token's file; each refusal has it another one; or NULL */
	struct rpc_server *server;
	struct rpc_chan *chan;
};

static void no_error(struct error *err)
{
	if (err)
		fail_msg("%s", error_text(err));
}

static void assert_error(struct error *err, const char *part)
{
	if (!err || !strstr(error_text(err), part))
		fail_msg("\"%s\" instead of \"%s\"", error_text(err), part);
	error_free(err);
}

/* Its refusal tells what the client sent. */
static enum rpc_verdict tell(struct rpc_in *in, void *service)
{
	struct world *world = service;
	struct slice a = {0}, b = {0};
	char next[16];

	(void)snprintf(next, sizeof(next), "next-%d",
		       atomic_fetch_add(&world->n_calls, 1) + 1);
	if (world->changed)
		no_error(
			file_replace(AT_FDCWD, world->changed, next, strlen(next), 0600));
	(void)rpc_header_get(in, "authorization", &a);
	(void)rpc_header_get(in, "x-more", &b);
	return rpc_fail(in, error_new(ERROR_UNAUTHENTICATED, "<%.*s><%.*s>", (int)a.len,
				      (const char *)a.data, (int)b.len,
				      (const char *)b.data));
}

static const struct rpc_handler handlers[] = {
	{{&reapi__capabilities__descriptor, "GetCapabilities"},
	 RPC_UNARY,
	 RPC_INLINE,
	 tell},
};

static char *path_of(const struct world *world, const char *name)
{
	return alloc_printf("%s/%s", world->dir, name);
}

static void put(const struct world *world, const char *name, const char *text,
		mode_t mode)
{
	_cleanup_free_ char *path = path_of(world, name);

	no_error(file_replace(AT_FDCWD, path, text, strlen(text), mode));
}

static int setup(void **state)
{
	static const char *const address = "grpc://127.0.0.1:0";
	const struct rpc_server_config config = {
		.addresses = &address, .n_addresses = 1, .n_pollers = 1, .n_workers = 1};
	struct world *world = alloc_new(struct world);

	no_error(rpc_init(0));
	(void)snprintf(world->dir, sizeof(world->dir), "/tmp/lazyroot-test-XXXXXX");
	assert_non_null(mkdtemp(world->dir));
	no_error(rpc_server_new(&config, &world->server));
	rpc_server_add(world->server, handlers, ARRAY_SIZE(handlers), world);
	no_error(rpc_server_start(world->server));
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	rpc_chan_free(world->chan);
	rpc_server_free(world->server);
	no_error(file_remove_tree(AT_FDCWD, world->dir));
	free(world);
	return 0;
}

static struct error *open_chan(struct world *world, const char *token, const char *helper)
{
	const struct rpc_chan_config config = {
		.address = rpc_server_address(world->server, 0),
		.token_file = token,
		.helper = helper};

	return rpc_chan_new(&config, &world->chan);
}

static bool is_told(struct world *world, const char *sent)
{
	Reapi__GetCapabilitiesRequest request = REAPI__GET_CAPABILITIES_REQUEST__INIT;
	_cleanup_error_ struct error *err = NULL;
	struct rpc_reply reply;

	err = rpc_call(world->chan, &method, &request.base, NULL, &reply);
	assert_int_equal(error_code(err), ERROR_UNAUTHENTICATED);
	return strstr(error_text(err), sent);
}

static void wait_told(struct world *world, const char *sent)
{
	int64_t until = clock_mono_ns() + PATIENCE_NS;

	while (!is_told(world, sent)) {
		if (clock_mono_ns() > until)
			fail_msg("%s never came", sent);
		(void)usleep(20000);
	}
}

/* ---- tokens --------------------------------------------------------------------- */

static void test_creds_token_is_sent_and_read_again(void **state)
{
	struct world *world = *state;
	_cleanup_free_ char *path = path_of(world, "token");

	put(world, "token", "  first\n", 0600);
	no_error(open_chan(world, path, NULL));
	assert_true(is_told(world, "<Bearer first><>"));
	put(world, "token", "\n", 0600); /* half of a change: the old one stays */
	(void)sleep(2);
	assert_true(is_told(world, "<Bearer first><>"));
	put(world, "token", "second", 0600);
	wait_told(world, "<Bearer second><>");
}

static void test_creds_token_that_is_none_is_named(void **state)
{
	struct world *world = *state;
	_cleanup_free_ char *path = path_of(world, "token");

	assert_error(open_chan(world, path, NULL), path);
	put(world, "token", " \n", 0600);
	assert_error(open_chan(world, path, NULL), "empty");
	put(world, "token", "two\nlines", 0600);
	assert_error(open_chan(world, path, NULL), "no token");
	put(world, "token", "two words", 0600);
	assert_error(open_chan(world, path, NULL), "no token");
	put(world, "token", "x", 0600);
	assert_error(open_chan(world, path, "/bin/true"), "one too many");
}

/* ---- the helper's words --------------------------------------------------------- */

static void assert_answer(const char *json, const char *part)
{
	struct helper_answer answer = {0};
	struct error *err = helper_parse(slice_of(json), &answer);

	if (part)
		assert_error(err, part);
	else
		no_error(err);
	helper_answer_deinit(&answer);
}

static int64_t expiry(const char *time)
{
	_cleanup_free_ char *json = alloc_printf("{\"expires\":\"%s\"}", time);
	struct helper_answer answer = {0};

	no_error(helper_parse(slice_of(json), &answer));
	assert_int_equal(answer.n, 0);
	return answer.expires_ns / NS_PER_S;
}

static void test_creds_helpers_words_are_checked(void **state)
{
	(void)state;
	assert_answer("{}", NULL);
	assert_answer(
		"{\"headers\":{\"Authorization\":[\"Basic x\"],\"X\":[\"1\",\"2\"]},"
		"\"more\":1}",
		NULL);
	assert_answer("", "no JSON");
	assert_answer("[]", "no object");
	assert_answer("{\"headers\":[]}", "no object");
	assert_answer("{\"headers\":{\"a\":\"b\"}}", "no list");
	assert_answer("{\"headers\":{\"a\":[1]}}", "\"a\"");
	assert_answer("{\"headers\":{\"a\":[\"b\\nc: d\"]}}", "\"a\"");
	assert_answer("{\"headers\":{\"a b\":[\"c\"]}}", "\"a b\"");
	assert_answer("{\"headers\":{\":path\":[\"c\"]}}", "\":path\"");
	assert_answer("{\"headers\":{\"grpc-timeout\":[\"1S\"]}}", "grpc-timeout");
	assert_answer("{\"headers\":{\"x-bin\":[\"1\"]}}", "x-bin");
	assert_answer("{\"expires\":7}", "no object");
	assert_answer("{\"expires\":\"tomorrow\"}", "RFC 3339");
	assert_answer("{\"expires\":\"2026-11-26T04:20:00\"}", "RFC 3339");
	assert_int_equal(expiry("2026-11-26T04:20:00Z"), 1795666800);
	assert_int_equal(expiry("2026-11-26T05:20:00.25+01:00"), 1795666800);
	assert_int_equal(expiry("2026-11-25T22:50:00-05:30"), 1795666800);
}

static void test_creds_helper_of_endless_headers_is_refused(void **state)
{
	_cleanup_buf_ struct buf json = BUF_INIT;

	(void)state;
	buf_add_string(&json, "{\"headers\":{\"a\":[\"0\"");
	for (int i = 0; i < 100000; i++)
		buf_add_string(&json, ",\"1\"");
	buf_add_string(&json, "]}}");
	assert_answer(buf_string(&json), "more than");
}

/* ---- the helper's runs ---------------------------------------------------------- */

static void test_creds_helpers_headers_are_sent_and_renewed(void **state)
{
	static const char script[] = "#!/bin/sh\n"
				     "[ \"$1\" = get ] || exit 3\n"
				     "cd \"${0%/*}\"; cat > asked; echo >> runs\n"
				     "n=$(wc -l < runs)\n"
				     "echo '{\"headers\":{\"Authorization\":[\"Own "
				     "'$n'\"],\"X-More\":[\"m\"]},'\n"
				     "echo '\"expires\":\"'$(date -u -d '+2 seconds' "
				     "+%Y-%m-%dT%H:%M:%SZ)'\"}'\n";
	struct world *world = *state;
	_cleanup_free_ char *helper = path_of(world, "helper");
	_cleanup_free_ char *asked = path_of(world, "asked");
	_cleanup_free_ char *uri =
		alloc_printf("{\"uri\":\"http%s\"}",
			     rpc_server_address(world->server, 0) + strlen("grpc"));
	_cleanup_buf_ struct buf text = BUF_INIT;

	put(world, "helper", script, 0700);
	no_error(open_chan(world, NULL, helper));
	assert_true(is_told(world, "<Own ")); /* asked again, once it was refused */
	no_error(file_read_all(AT_FDCWD, asked, 4096, &text));
	assert_string_equal(buf_string(&text), uri);
	assert_int_equal(world->n_calls, 2);
	wait_told(world, "<Own 9><m>");
}

static void test_creds_helper_that_fails_says_why(void **state)
{
	struct world *world = *state;
	_cleanup_free_ char *helper = path_of(world, "helper");

	assert_error(open_chan(world, NULL, helper), "cannot be started");
	put(world, "helper", "#!/bin/sh\necho log in first >&2; exit 7\n", 0700);
	assert_error(open_chan(world, NULL, helper), "exit code 7: log in first");
	put(world, "helper", "#!/bin/sh\nkill -9 $$\n", 0700);
	assert_error(open_chan(world, NULL, helper), "signal 9");
	put(world, "helper", "#!/bin/sh\necho what\n", 0700);
	assert_error(open_chan(world, NULL, helper), "no JSON");
	put(world, "helper", "#!/bin/sh\nexec cat /dev/zero\n", 0700);
	assert_error(open_chan(world, NULL, helper), "did not answer");
}

/* One that left something behind which holds its output is done all the same. */
static void test_creds_helper_need_not_close_its_output(void **state)
{
	struct world *world = *state;
	_cleanup_free_ char *helper = path_of(world, "helper");

	put(world, "helper",
	    "#!/bin/sh\nsleep 30 & echo '{\"headers\":{\"x-more\":[\"1\"]}}'\n", 0700);
	no_error(open_chan(world, NULL, helper));
	assert_true(is_told(world, "<><1>"));
}

static void test_creds_other_tokens_have_one_second_try(void **state)
{
	struct world *world = *state;
	_cleanup_free_ char *path = path_of(world, "token");

	put(world, "token", "first", 0600);
	no_error(open_chan(world, path, NULL));
	world->changed = path;
	assert_true(is_told(world, "<Bearer next-1><>"));
	assert_int_equal(world->n_calls, 2);
	assert_true(is_told(world, "<Bearer next-3><>"));
	assert_int_equal(world->n_calls, 4);
	world->changed = NULL;
}

static void test_creds_same_tokens_have_none(void **state)
{
	struct world *world = *state;
	_cleanup_free_ char *path = path_of(world, "token");

	put(world, "token", "first", 0600);
	no_error(open_chan(world, path, NULL));
	for (int n = 1; n <= 3; n++) {
		assert_true(is_told(world, "<Bearer first><>"));
		assert_int_equal(world->n_calls, n);
	}
	rpc_chan_free(world->chan);
	no_error(open_chan(world, NULL, NULL));
	assert_true(is_told(world, "<><>"));
	assert_int_equal(world->n_calls, 4);
}

struct at_once {
	struct latch latch;
	struct world *world;
	atomic_int n_renewed;
};

static void at_once_done(void *ctx, struct error *err, struct rpc_reply *reply)
{
	struct at_once *at_once = ctx;

	(void)reply;
	atomic_fetch_add(&at_once->n_renewed, rpc_chan_renew(at_once->world->chan, err));
	error_free(err);
	latch_down(&at_once->latch);
}

/* The helper has the same answer each time, and is asked once more for all of them. */
static void test_creds_many_refused_at_once_ask_once(void **state)
{
	static const char script[] = "#!/bin/sh\n"
				     "cd \"${0%/*}\"; echo >> runs\n"
				     "echo '{\"headers\":{\"x-more\":[\"same\"]}}'\n";
	Reapi__GetCapabilitiesRequest request = REAPI__GET_CAPABILITIES_REQUEST__INIT;
	struct world *world = *state;
	struct at_once at_once = {.world = world};
	_cleanup_free_ char *helper = path_of(world, "helper");
	_cleanup_free_ char *runs = path_of(world, "runs");
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct error *err;

	put(world, "helper", script, 0700);
	no_error(open_chan(world, NULL, helper));
	latch_init(&at_once.latch, 1);
	(void)rpc_start(world->chan, &method, &request.base, NULL, at_once_done,
			&at_once);
	latch_wait(&at_once.latch);
	err = error_new(ERROR_UNAUTHENTICATED, "of the same call");
	for (int i = 0; i < 50; i++)
		assert_false(rpc_chan_renew(world->chan, err));
	error_free(err);
	latch_deinit(&at_once.latch);
	assert_int_equal(at_once.n_renewed, 0);
	no_error(file_read_all(AT_FDCWD, runs, 4096, &text));
	assert_int_equal(text.len, 2);
}

/* A server that does not take them, and a helper that says they live for long. */
static void test_creds_refused_headers_are_asked_for_again(void **state)
{
	static const char script[] =
		"#!/bin/sh\n"
		"cd \"${0%/*}\"; echo >> runs\n"
		"echo '{\"headers\":{\"x-more\":[\"'$(wc -l < runs)'\"]}}'\n";
	struct world *world = *state;
	_cleanup_free_ char *helper = path_of(world, "helper");

	put(world, "helper", script, 0700);
	no_error(open_chan(world, NULL, helper));
	assert_true(is_told(world, "<><2>"));
	assert_int_equal(world->n_calls, 2);
	assert_true(is_told(world, "<><3>"));
	assert_int_equal(world->n_calls, 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_creds_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(token_is_sent_and_read_again),
		T(token_that_is_none_is_named),
		T(helpers_words_are_checked),
		T(helper_of_endless_headers_is_refused),
		T(helpers_headers_are_sent_and_renewed),
		T(helper_that_fails_says_why),
		T(helper_need_not_close_its_output),
		T(refused_headers_are_asked_for_again),
		T(other_tokens_have_one_second_try),
		T(same_tokens_have_none),
		T(many_refused_at_once_ask_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
