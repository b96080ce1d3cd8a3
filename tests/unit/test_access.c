/*
 * Rights: every method of every service is behind one, grants are read as they are
 * written, and where a server may listen. The methods are the server's own tables, on a
 * real socket; only their steps are replaced by one that says that the call came in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/rpc/chan.h"
#include "lib/rpc/stream.h"
#include "server/service.h"

#define METHODS_MAX 64

static const char *const words[] = {
	"cas-read", "cas-write", "ac-read", "ac-write", "execute", "worker", "operate",
};

struct desk { /* a server whose steps all say ABORTED, and a client */
	struct access *access;
	struct rpc_handler handlers[METHODS_MAX];
	size_t n;
	struct rpc_server *server;
	struct rpc_chan *chan;
	char dir[64];
	char token[80];
};

static void no_error(struct error *err)
{
	if (err)
		fail_msg("%s", error_text(err));
}

static enum rpc_verdict came_in(struct rpc_in *in, void *service)
{
	(void)service;
	return rpc_fail(in, error_new(ERROR_ABORTED, "came in"));
}

static struct error *grants(const char *const *list, const char *listen,
			    struct access **access_out)
{
	_cleanup_(option_list_deinit) struct option_list texts = {0};
	struct option_list instances = {0}, addresses = {0};
	const char *const names[] = {"", "other"};
	struct access_config config = {
		.listen = &addresses, .grants = &texts, .instances = &instances};

	for (size_t i = 0; list[i]; i++) {
		texts.items = alloc_resize(texts.items, texts.n + 1, sizeof(char *));
		texts.items[texts.n++] = alloc_string(list[i]);
	}
	instances.items = (char **)(uintptr_t)names;
	instances.n = ARRAY_SIZE(names);
	addresses.items = (char **)(uintptr_t)&listen;
	addresses.n = 1;
	return access_new(&config, access_out);
}

static void desk_open(struct desk *desk, const char *grant, const char *token)
{
	const char *const list[] = {grant, NULL};
	static const char *const address = "grpc://127.0.0.1:0";
	struct rpc_server_config config = {.addresses = &address,
					   .n_addresses = 1,
					   .n_pollers = 1,
					   .n_workers = 1,
					   .admit = access_admit};
	struct rpc_chan_config chan = {.token_file = token};

	no_error(rpc_init(0));
	no_error(grants(list, address, &desk->access));
	config.admit_ctx = desk->access;
	no_error(rpc_server_new(&config, &desk->server));
	desk->n = 0;
	for (size_t i = 0; i < SERVER_SERVICES; i++) {
		for (size_t k = 0; k < server_services[i]->n; k++) {
			assert_true(desk->n < METHODS_MAX);
			desk->handlers[desk->n] = server_services[i]->list[k];
			desk->handlers[desk->n++].step = came_in;
		}
	}
	rpc_server_add(desk->server, desk->handlers, desk->n, NULL);
	no_error(rpc_server_start(desk->server));
	chan.address = rpc_server_address(desk->server, 0);
	no_error(rpc_chan_new(&chan, &desk->chan));
}

static void desk_close(struct desk *desk)
{
	desk->chan = rpc_chan_free(desk->chan);
	desk->server = rpc_server_free(desk->server);
	desk->access = access_free(desk->access);
}

static struct error *desk_call(struct desk *desk, const struct rpc_handler *handler)
{
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool is_broken = false;

	no_error(rpc_stream_open(desk->chan, &handler->method, NULL, &stream));
	no_error(rpc_stream_send(stream, (struct slice){0}, (struct slice){0},
				 &is_broken));
	no_error(rpc_stream_close_send(stream));
	return rpc_stream_finish(stream);
}

static void assert_call(struct desk *desk, size_t i, enum error_code code,
			const char *part)
{
	_cleanup_error_ struct error *err = desk_call(desk, &desk->handlers[i]);

	if (error_code(err) != code || !strstr(error_text(err), part))
		fail_msg("%s: %s (%s) instead of %s with \"%s\"",
			 desk->handlers[i].method.name, error_code_name(error_code(err)),
			 error_text(err), error_code_name(code), part);
}

static bool desk_is_open(const struct desk *desk, size_t i)
{
	return desk->handlers[i].flags >> 8 & ACCESS_OPEN;
}

static int setup(void **state)
{
	struct desk *desk = alloc_new(struct desk);

	(void)snprintf(desk->dir, sizeof(desk->dir), "/tmp/lazyroot-test-XXXXXX");
	assert_non_null(mkdtemp(desk->dir));
	(void)snprintf(desk->token, sizeof(desk->token), "%s/token", desk->dir);
	no_error(file_replace(AT_FDCWD, desk->token, "secret\n", 7, 0600));
	*state = desk;
	return 0;
}

static int teardown(void **state)
{
	struct desk *desk = *state;

	desk_close(desk);
	no_error(file_remove_tree(AT_FDCWD, desk->dir));
	free(desk);
	return 0;
}

/* ---- methods -------------------------------------------------------------------- */

static void test_access_no_method_is_open_without_a_grant(void **state)
{
	struct desk *desk = *state;

	desk_open(desk, "cn:somebody=all", NULL);
	assert_true(desk->n >= 26); /* what the server offers today */
	for (size_t i = 0; i < desk->n; i++) {
		if (strcmp(desk->handlers[i].method.name, "Check") == 0)
			assert_call(desk, i, ERROR_ABORTED, "came in"); /* probes */
		else
			assert_call(desk, i, ERROR_PERMISSION_DENIED, "--grant 'local=");
	}
}

static void test_access_unknown_token_is_nobodys(void **state)
{
	struct desk *desk = *state;

	desk_open(desk, "cn:somebody=all", desk->token);
	for (size_t i = 0; i < desk->n; i++) {
		if (!desk_is_open(desk, i))
			assert_call(desk, i, ERROR_UNAUTHENTICATED, "token");
	}
}

static void test_access_each_right_opens_its_methods_only(void **state)
{
	struct desk *desk = *state;

	for (size_t w = 0; w < ARRAY_SIZE(words); w++) {
		_cleanup_free_ char *grant = alloc_printf("local=%s", words[w]);
		size_t n_open = 0;

		desk_open(desk, grant, NULL);
		for (size_t i = 0; i < desk->n; i++) {
			bool is_open = desk_is_open(desk, i) ||
				       desk->handlers[i].flags >> 8 & 1u << w;

			n_open += is_open;
			assert_call(desk, i,
				    is_open ? ERROR_ABORTED : ERROR_PERMISSION_DENIED,
				    is_open ? "came in" : "right");
		}
		assert_true(n_open >= 3); /* Check, GetCapabilities and one more */
		desk_close(desk);
	}
}

static void test_access_method_without_a_right_is_closed(void **state)
{
	struct desk *desk = *state;
	const struct rpc_handler forgotten = {
		{&reapi__capabilities__descriptor, "GetCapabilities"},
		RPC_UNARY,
		RPC_INLINE,
		came_in};
	static const char *const address = "grpc://127.0.0.1:0";
	const char *const list[] = {"anyone=all", NULL};
	struct rpc_server_config config = {.addresses = &address,
					   .n_addresses = 1,
					   .n_pollers = 1,
					   .n_workers = 1,
					   .admit = access_admit};
	struct rpc_chan_config chan = {0};

	no_error(rpc_init(0));
	no_error(grants(list, address, &desk->access));
	config.admit_ctx = desk->access;
	no_error(rpc_server_new(&config, &desk->server));
	rpc_server_add(desk->server, &forgotten, 1, NULL);
	no_error(rpc_server_start(desk->server));
	chan.address = rpc_server_address(desk->server, 0);
	no_error(rpc_chan_new(&chan, &desk->chan));
	desk->handlers[0] = forgotten;
	assert_call(desk, 0, ERROR_PERMISSION_DENIED, "no right");
}

static void test_access_token_opens_and_is_read_again(void **state)
{
	struct desk *desk = *state;
	_cleanup_free_ char *grant = alloc_printf("token:%s/mine=operate", desk->dir);
	_cleanup_free_ char *mine = alloc_printf("%s/mine", desk->dir);
	size_t list = 0;

	no_error(file_replace(AT_FDCWD, mine, " secret \n", 9, 0600));
	desk_open(desk, grant, desk->token);
	while (strcmp(desk->handlers[list].method.name, "ListOperations") != 0)
		list++;
	assert_call(desk, list, ERROR_ABORTED, "came in");
	no_error(file_replace(AT_FDCWD, mine, "secret2 secre\nt\n", 16, 0600));
	access_tick(desk->access);
	assert_call(desk, list, ERROR_UNAUTHENTICATED, "token");
	no_error(file_replace(AT_FDCWD, mine, "\n", 1, 0600)); /* nothing is no token */
	access_tick(desk->access);
	assert_call(desk, list, ERROR_UNAUTHENTICATED, "token");
	no_error(file_replace(AT_FDCWD, mine, "new\nsecret", 10, 0600));
	access_tick(desk->access);
	assert_call(desk, list, ERROR_ABORTED, "came in");
	no_error(file_replace(AT_FDCWD, mine, "", 0, 0600)); /* the last one taken back */
	access_tick(desk->access);
	assert_call(desk, list, ERROR_UNAUTHENTICATED, "token");
	no_error(file_replace(AT_FDCWD, mine, "secret", 6, 0600));
	access_tick(desk->access);
	assert_call(desk, list, ERROR_ABORTED, "came in");
	assert_int_equal(unlink(mine), 0); /* the whole list */
	access_tick(desk->access);
	assert_call(desk, list, ERROR_UNAUTHENTICATED, "token");
	no_error(file_replace(AT_FDCWD, mine, "secret", 6, 0600));
	access_tick(desk->access);
	assert_call(desk, list, ERROR_ABORTED, "came in");
}

/* ---- words ---------------------------------------------------------------------- */

static void assert_grant(const char *grant, const char *part)
{
	const char *const list[] = {grant, NULL};
	_cleanup_(access_freep) struct access *access = NULL;
	_cleanup_error_ struct error *err = grants(list, "unix:/x", &access);

	if (!part)
		no_error(take(err));
	else if (error_code(err) == ERROR_OK || !strstr(error_text(err), part))
		fail_msg("%s: \"%s\" instead of \"%s\"", grant, error_text(err), part);
}

static void test_access_grants_are_read(void **state)
{
	const struct desk *desk = *state;
	_cleanup_free_ char *token = alloc_printf("token:%s=all@other", desk->token);

	assert_grant("anyone=cas-read", NULL);
	assert_grant("local=cas-read,cas-write,ac-read,ac-write,execute,worker,operate@",
		     NULL);
	assert_grant("subject:CN=a,O=b=all@other", NULL);
	assert_grant("san:spiffe://a/b=worker", NULL);
	assert_grant(token, NULL);
	assert_grant("anyone", "WHO=RIGHT");
	assert_grant("anyone=", "is no right");
	assert_grant("anyone=cas-read,", "is no right");
	assert_grant("anyone=write", "\"write\" is no right");
	assert_grant("everyone=all", "\"everyone\" names nobody");
	assert_grant("cn:=all", "names nobody");
	assert_grant("=all", "names nobody");
	assert_grant("anyone=all@nowhere", "\"nowhere\" is not offered");
	assert_grant("token:/nonexistent=all", "/nonexistent");
	assert_grant("token:/dev/null=all", "empty");
}

static void assert_listen(const char *address, const char *grant, const char *part)
{
	const char *const list[] = {grant, NULL};
	_cleanup_(access_freep) struct access *access = NULL;
	_cleanup_error_ struct error *err = grants(list, address, &access);

	if (!part)
		no_error(take(err));
	else if (error_code(err) == ERROR_OK || !strstr(error_text(err), part))
		fail_msg("%s: \"%s\" instead of \"%s\"", address, error_text(err), part);
}

static void test_access_other_machines_need_encryption_and_a_grant(void **state)
{
	(void)state;
	assert_listen("grpc://127.0.0.1:1", NULL, NULL);
	assert_listen("grpc://127.8.9.1:1", NULL, NULL);
	assert_listen("grpc://localhost:1", NULL, NULL);
	assert_listen("grpc://[::1]:1", NULL, NULL);
	assert_listen("unix:/run/x", NULL, NULL);
	assert_listen("grpc://0.0.0.0:1", NULL, "--insecure");
	assert_listen("grpc://[::]:1", NULL, "--insecure");
	assert_listen("grpc://127.example.com:1", NULL, "--insecure");
	assert_listen("grpc://0.0.0.0:1", "anyone=all", "grpcs://");
	assert_listen("grpcs://0.0.0.0:1", NULL, "--grant");
	assert_listen("grpcs://0.0.0.0:1", "cn:me=all", NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_access_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(no_method_is_open_without_a_grant),
		T(unknown_token_is_nobodys),
		T(each_right_opens_its_methods_only),
		T(method_without_a_right_is_closed),
		T(token_opens_and_is_read_again),
		T(grants_are_read),
		T(other_machines_need_encryption_and_a_grant),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
