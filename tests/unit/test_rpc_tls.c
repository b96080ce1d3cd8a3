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
	char ca[96], old_ca[96], other_ca[96], cert[96], key[96], client_cert[96],
		client_key[96], token[96];
	struct rpc_server *server;
	struct fixture fixture;
};

/* Two authorities, each with a certificate of 127.0.0.1 and one of a client, in folders
 * of their own; those of the first are in use. */
static const char tls_script[] =
	"set -e; cd '%s'; echo a-token > token; mkdir one two\n"
	"new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'\n"
	"for ca in one two; do (cd $ca\n"
	"$new -x509 -keyout ca.key -out ca.pem -subj /CN=$ca\n"
	"for name in server client; do\n"
	"$new -keyout $name.key -out $name.csr -subj /O=test/CN=$name\n"
	"echo subjectAltName=IP:127.0.0.1,DNS:$name.test,URI:spiffe://test/$name > san\n"
	"openssl x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
	"-in $name.csr -out $name.pem -extfile san\n"
	"done); done; cp one/*.pem one/*.key .\n";

/* Each file is replaced by a rename, as those who renew certificates do it. */
static const char tls_rotate_script[] = "set -e; cd '%s'; for file in server.pem "
					"client.pem ca.pem client.key server.key\n"
					"do cp two/$file new; mv new $file; done\n";

static void tls_shell(const char *format, const char *dir)
{
	_cleanup_free_ char *script = NULL, *command = NULL;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	script = alloc_printf(format, dir);
#pragma GCC diagnostic pop
	command = alloc_printf("{ %s } > '%s/log' 2>&1", script, dir);
	assert_int_equal(system(command), 0);
}

static void tls_path(const struct tls *tls, char path[static 96], const char *name)
{
	(void)snprintf(path, 96, "%s/%s", tls->dir, name);
}

static void tls_serve_at(struct tls *tls, const char *address, bool asks_clients)
{
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
	fixture_offer(tls->server, &tls->fixture);
	assert_no_error(rpc_server_start(tls->server));
}

static void tls_serve(struct tls *tls, bool asks_clients)
{
	tls_serve_at(tls, "grpcs://127.0.0.1:0", asks_clients);
}

static int setup(void **state)
{
	struct tls *tls = alloc_new(struct tls);
	(void)snprintf(tls->dir, sizeof(tls->dir), "/tmp/lazyroot-test-XXXXXX");
	assert_non_null(mkdtemp(tls->dir));
	tls_shell(tls_script, tls->dir);
	tls_path(tls, tls->ca, "ca.pem");
	tls_path(tls, tls->old_ca, "one/ca.pem");
	tls_path(tls, tls->other_ca, "two/ca.pem");
	tls_path(tls, tls->cert, "server.pem");
	tls_path(tls, tls->key, "server.key");
	tls_path(tls, tls->client_cert, "client.pem");
	tls_path(tls, tls->client_key, "client.key");
	tls_path(tls, tls->token, "token");
	assert_int_equal(pthread_mutex_init(&tls->fixture.mutex, NULL), 0);
	assert_int_equal(sem_init(&tls->fixture.is_waiting, 0, 0), 0);
	assert_no_error(rpc_init(0));
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
		.token_file = token,
	};
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan = NULL;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};

	assert_no_error(rpc_chan_new(&config, &chan));
	return rpc_call(chan, &method_find, &request.base, NULL, &reply);
}

static struct error *tls_call_on(struct rpc_chan *chan)
{
	Reapi__FindMissingBlobsRequest request = REAPI__FIND_MISSING_BLOBS_REQUEST__INIT;
	_cleanup_rpc_reply_ struct rpc_reply reply = {0};

	return rpc_call(chan, &method_find, &request.base, NULL, &reply);
}

static void test_tls_known_authority_is_trusted(void **state)
{
	struct tls *tls = *state;

	tls_serve(tls, false);
	assert_no_error(tls_call(tls, tls->ca, false, NULL));
	assert_no_error(tls_call(tls, tls->ca, false, tls->token));
}

static void test_tls_strange_authority_is_refused(void **state)
{
	struct tls *tls = *state;

	tls_serve(tls, false);
	assert_error(tls_call(tls, tls->other_ca, false, NULL), ERROR_UNAVAILABLE,
		     "grpcs://");
}

static void test_tls_certificate_of_another_host_is_refused(void **state)
{
	struct tls *tls = *state;

	tls_serve_at(tls, "grpcs://127.0.0.2:0", false); /* its certificate: 127.0.0.1 */
	assert_error(tls_call(tls, tls->ca, false, NULL), ERROR_UNAVAILABLE, "grpcs://");
}

static void test_tls_client_must_show_its_certificate(void **state)
{
	struct tls *tls = *state;

	tls_serve(tls, true);
	assert_no_error(tls_call(tls, tls->ca, true, NULL));
	assert_error(tls_call(tls, tls->ca, false, NULL), ERROR_UNAVAILABLE, "grpcs://");
}

/* Without a word to it: the next connection has the new certificate, those that are open
 * stay, and so do the calls on them. */
static void test_tls_server_takes_new_certificates(void **state)
{
	const struct rpc_method wait = {EXEC_SERVICE, "WaitExecution"};
	Reapi__WaitExecutionRequest request = REAPI__WAIT_EXECUTION_REQUEST__INIT;
	struct tls *tls = *state;
	struct rpc_chan_config config = {.ca_file = tls->old_ca};
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan = NULL;
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	bool is_broken = false, has_message = false;
	struct slice bytes;

	tls_serve(tls, false);
	config.address = rpc_server_address(tls->server, 0);
	assert_no_error(rpc_chan_new(&config, &chan));
	assert_no_error(tls_call_on(chan));
	assert_no_error(rpc_stream_open(chan, &wait, NULL, &stream));
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	assert_no_error(rpc_stream_close_send(stream));
	assert_int_equal(sem_wait(&tls->fixture.is_waiting), 0);
	tls_shell(tls_rotate_script, tls->dir);
	assert_error(tls_call(tls, tls->old_ca, false, NULL), ERROR_UNAVAILABLE,
		     "grpcs://");
	assert_no_error(tls_call(tls, tls->other_ca, false, NULL));
	assert_no_error(tls_call_on(chan));
	(void)pthread_mutex_lock(&tls->fixture.mutex);
	tls->fixture.n_updates = 1;
	tls->fixture.is_last = true;
	rpc_wake(tls->fixture.waiting);
	(void)pthread_mutex_unlock(&tls->fixture.mutex);
	assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
	assert_true(has_message);
	assert_no_error(rpc_stream_finish(stream));
}

static void test_tls_half_of_a_pair_is_not_used(void **state)
{
	struct tls *tls = *state;

	tls_serve(tls, false);
	assert_no_error(tls_call(tls, tls->old_ca, false, NULL));
	tls_shell("cd '%s'; cp two/server.pem new; mv new server.pem\n", tls->dir);
	assert_no_error(tls_call(tls, tls->old_ca, false, NULL));
	tls_shell("cd '%s'; cp two/server.key new; mv new server.key\n", tls->dir);
	assert_no_error(tls_call(tls, tls->other_ca, false, NULL));
}

/* The same channel, before and after its server and itself moved to another authority. */
static void test_tls_client_takes_new_certificates(void **state)
{
	struct tls *tls = *state;
	struct rpc_chan_config config = {.ca_file = tls->ca,
					 .cert_file = tls->client_cert,
					 .key_file = tls->client_key};
	_cleanup_(rpc_chan_freep) struct rpc_chan *chan = NULL;
	_cleanup_free_ char *address = NULL;
	struct error *err = NULL;

	tls_serve(tls, true);
	address = alloc_string(rpc_server_address(tls->server, 0));
	config.address = address;
	assert_no_error(rpc_chan_new(&config, &chan));
	assert_no_error(tls_call_on(chan));
	tls->server = rpc_server_free(tls->server);
	tls_shell(tls_rotate_script, tls->dir);
	tls_serve_at(tls, address, true);
	for (int i = 0; i < 600; i++) { /* it looks once a second; patience is a minute */
		error_free(err);
		err = tls_call_on(chan);
		if (!err)
			break;
		(void)usleep(100000);
	}
	assert_no_error(err);
}

static void test_tls_files_that_are_no_pair_are_named(void **state)
{
	struct tls *tls = *state;
	struct rpc_chan_config config = {.address = "grpcs://127.0.0.1:1",
					 .cert_file = tls->client_cert,
					 .key_file = tls->key};
	const struct rpc_chan_config plain = {.address = "grpc://127.0.0.1:1",
					      .ca_file = tls->ca};
	struct rpc_chan *chan = NULL;

	assert_error(rpc_chan_new(&config, &chan), ERROR_INVALID_ARGUMENT,
		     "do not belong together");
	config.key_file = tls->client_cert;
	assert_error(rpc_chan_new(&config, &chan), ERROR_INVALID_ARGUMENT,
		     "no private key");
	config.cert_file = config.key_file = tls->token;
	assert_error(rpc_chan_new(&config, &chan), ERROR_INVALID_ARGUMENT,
		     "no certificate");
	config.key_file = NULL;
	assert_error(rpc_chan_new(&config, &chan), ERROR_INVALID_ARGUMENT, "go together");
	assert_error(rpc_chan_new(&plain, &chan), ERROR_INVALID_ARGUMENT, "grpcs://");
}

/* Core would fail each handshake, and say no more than that. */
static void test_tls_authority_that_is_none_is_named(void **state)
{
	struct tls *tls = *state;
	_cleanup_free_ char *half = alloc_printf("%s/half.pem", tls->dir);
	const char *const bad[] = {tls->token, tls->key, half, "/dev/null"};
	static const char *const address = "grpcs://127.0.0.1:0";

	tls_shell("cd '%s'; { cat ca.pem; head -n 3 ca.pem; } > half.pem\n", tls->dir);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct rpc_chan_config config = {.address = "grpcs://127.0.0.1:1",
						       .ca_file = bad[i]};
		const struct rpc_server_config server = {.addresses = &address,
							 .n_addresses = 1,
							 .n_pollers = 1,
							 .n_workers = 1,
							 .cert_file = tls->cert,
							 .key_file = tls->key,
							 .client_ca_file = bad[i]};
		struct rpc_chan *chan = NULL;

		assert_error(rpc_chan_new(&config, &chan), ERROR_INVALID_ARGUMENT,
			     bad[i]);
		assert_error(rpc_server_new(&server, &tls->server),
			     ERROR_INVALID_ARGUMENT, bad[i]);
	}
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

	assert_error(rpc_chan_new(&config, &chan), ERROR_INVALID_ARGUMENT,
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
		T(certificate_of_another_host_is_refused),
		T(client_must_show_its_certificate),
		T(server_takes_new_certificates),
		T(half_of_a_pair_is_not_used),
		T(client_takes_new_certificates),
		T(files_that_are_no_pair_are_named),
		T(authority_that_is_none_is_named),
		T(missing_file_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
