/* TLS: who is let in, who is not. The certificates are made by openssl(1) for the test.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "tests/unit/rpc_fixture.h"

struct tls {
	char dir[64];
	char ca[96], other_ca[96], cert[96], key[96], client_cert[96], client_key[96];
	struct rpc_server *server;
	struct fixture fixture;
};

/* A CA, a certificate of 127.0.0.1 by it, one of a client by it, and a CA of strangers.
 */
static const char tls_script[] =
	"set -e; cd '%s'\n"
	"new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'\n"
	"for ca in ca other; do $new -x509 -keyout $ca.key -out $ca.pem -subj /CN=$ca; "
	"done\n"
	"sign='openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2'\n"
	"echo subjectAltName=IP:127.0.0.1 > san\n"
	"$new -keyout server.key -out server.csr -subj /CN=server\n"
	"$sign -in server.csr -out server.pem -extfile san\n"
	"$new -keyout client.key -out client.csr -subj /CN=client\n"
	"$sign -in client.csr -out client.pem\n";

static void tls_path(const struct tls *tls, char path[static 96], const char *name)
{
	(void)snprintf(path, 96, "%s/%s", tls->dir, name);
}

static void tls_serve(struct tls *tls, bool asks_clients)
{
	static const char *const address = "grpcs://127.0.0.1:0";
	const struct rpc_server_config config = {
		.addresses = &address,
		.n_addresses = 1,
		.n_pollers = 1,
		.n_workers = 1,
		.cert_file = tls->cert,
		.key_file = tls->key,
		.client_ca_file = asks_clients ? tls->ca : NULL,
	};

	assert_no_error(rpc_server_new(&config, &tls->server));
	rpc_server_add(tls->server, fixture_handlers, ARRAY_SIZE(fixture_handlers),
		       &tls->fixture);
	assert_no_error(rpc_server_start(tls->server));
}

static int setup(void **state)
{
	struct tls *tls = alloc_new(struct tls);
	_cleanup_free_ char *script = NULL, *command = NULL;

	(void)snprintf(tls->dir, sizeof(tls->dir), "/tmp/lazyroot-test-XXXXXX");
	assert_non_null(mkdtemp(tls->dir));
	script = alloc_printf(tls_script, tls->dir);
	command = alloc_printf("{ %s } > '%s/log' 2>&1", script, tls->dir);
	assert_int_equal(system(command), 0);
	tls_path(tls, tls->ca, "ca.pem");
	tls_path(tls, tls->other_ca, "other.pem");
	tls_path(tls, tls->cert, "server.pem");
	tls_path(tls, tls->key, "server.key");
	tls_path(tls, tls->client_cert, "client.pem");
	tls_path(tls, tls->client_key, "client.key");
	assert_int_equal(pthread_mutex_init(&tls->fixture.mutex, NULL), 0);
	assert_no_error(rpc_init());
	*state = tls;
	return 0;
}

static int teardown(void **state)
{
	struct tls *tls = *state;

	rpc_server_free(tls->server);
	assert_no_error(file_remove_tree(AT_FDCWD, tls->dir));
	(void)pthread_mutex_destroy(&tls->fixture.mutex);
	free(tls);
	return 0;
}

static struct error *tls_call(struct tls *tls, const char *ca, bool has_certificate,
			      const char *token)
{
	const struct rpc_chan_config config = {
		.address = rpc_server_address(tls->server, 0),
		.ca_file = ca,
		.cert_file = has_certificate ? tls->client_cert : NULL,
		.key_file = has_certificate ? tls->client_key : NULL,
		.token = token,
	};
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan = NULL;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};

	assert_no_error(rpc_chan_new(&config, &chan));
	return rpc_call(chan, &method_find, &request.base, NULL, &reply);
}

static void test_tls_known_authority_is_trusted(void **state)
{
	struct tls *tls = *state;

	tls_serve(tls, false);
	assert_no_error(tls_call(tls, tls->ca, false, NULL));
	assert_no_error(tls_call(tls, tls->ca, false, "a token"));
}

static void test_tls_strange_authority_is_refused(void **state)
{
	struct tls *tls = *state;

	tls_serve(tls, false);
	assert_error(tls_call(tls, tls->other_ca, false, NULL), ERROR_UNAVAILABLE,
		     "grpcs://");
}

static void test_tls_client_must_show_its_certificate(void **state)
{
	struct tls *tls = *state;

	tls_serve(tls, true);
	assert_no_error(tls_call(tls, tls->ca, true, NULL));
	assert_error(tls_call(tls, tls->ca, false, NULL), ERROR_UNAVAILABLE, "grpcs://");
}

static void test_tls_missing_file_is_named(void **state)
{
	struct tls *tls = *state;
	const struct rpc_chan_config config = {.address = "grpcs://127.0.0.1:1",
					       .ca_file = "/nonexistent/ca.pem"};
	static const char *const address = "grpcs://127.0.0.1:0";
	const struct rpc_server_config bare = {
		.addresses = &address, .n_addresses = 1, .n_pollers = 1, .n_workers = 1};
	struct rpc_chan *chan = NULL;

	assert_error(rpc_chan_new(&config, &chan), ERROR_NOT_FOUND,
		     "/nonexistent/ca.pem");
	assert_error(rpc_server_new(&bare, &tls->server), ERROR_INVALID_ARGUMENT,
		     "certificate");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_tls_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(known_authority_is_trusted),
		T(strange_authority_is_refused),
		T(client_must_show_its_certificate),
		T(missing_file_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
