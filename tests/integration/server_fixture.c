/* What server_fixture.h declares; the tests of one program run on one thread. */
#include "tests/integration/server_fixture.h"

static const char *server_program(void)
{
	static char path[1024];
	const char *bin = getenv("LAZYROOT_BIN");

	if (!bin) {
		(void)fprintf(stderr, "skipped: LAZYROOT_BIN is not set\n");
		exit(77);
	}
	(void)snprintf(path, sizeof(path), "%s/lazyroot-server", bin);
	return path;
}

pid_t server_spawn(const char *const *args, int *out_fd, int *err_fd)
{
	posix_spawn_file_actions_t actions;
	const char *argv[SERVER_ARGS_MAX] = {"lazyroot-server"};
	int out[2], err[2] = {-1, -1};
	pid_t pid;

	for (size_t i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	if (err_fd)
		assert_int_equal(pipe2(err, O_CLOEXEC), 0);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	if (err_fd)
		(void)posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
	assert_int_equal(posix_spawn(&pid, server_program(), &actions, NULL,
				     (char *const *)(uintptr_t)argv, environ),
			 0);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)close(out[1]);
	*out_fd = out[0];
	if (err_fd) {
		(void)close(err[1]);
		*err_fd = err[0];
	}
	return pid;
}

void read_line(int fd, char *line, size_t size)
{
	size_t len = 0;

	while (len < size - 1) {
		ssize_t n = read(fd, line + len, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || line[len] == '\n')
			break;
		len++;
	}
	line[len] = '\0';
}

int wait_exit(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		assert_int_equal(errno, EINTR);
	return status;
}

/* Somebody else's server, which runs already (tests/interop/conformance.py). */
static bool server_is_given(struct fixture *fixture)
{
	const char *address = getenv("LAZYROOT_TEST_SERVER");
	struct rpc_chan_config config = {.tool_name = "test"};

	if (!address)
		return false;
	(void)snprintf(fixture->address, sizeof(fixture->address), "%s", address);
	fixture->out_fd = -1;
	config.address = fixture->address;
	assert_null(rpc_chan_new(&config, &fixture->chan));
	return true;
}

void server_start(struct fixture *fixture)
{
	const char *args[SERVER_ARGS_MAX] = {"--listen",
					     "grpc://127.0.0.1:0",
					     "--data",
					     fixture->dir,
					     "--data-size",
					     "2G",
					     "--instance",
					     "",
					     "--instance",
					     "some/where",
					     "--grant",
					     "local=all",
					     "--timeout-max",
					     "1h",
					     NULL};
	struct rpc_chan_config config = {.tool_name = "test"};
	char line[160];
	size_t n = 0;

	if (server_is_given(fixture))
		return;
	while (args[n])
		n++;
	for (size_t i = 0; fixture->more && fixture->more[i]; i++)
		args[n++] = fixture->more[i];

	fixture->pid = server_spawn(args, &fixture->out_fd, NULL);
	read_line(fixture->out_fd, line, sizeof(line));
	if (strncmp(line, "listening on ", 13) != 0)
		fail_msg("the server says \"%s\"", line);
	(void)snprintf(fixture->address, sizeof(fixture->address), "%s", line + 13);
	config.address = fixture->address;
	assert_null(rpc_chan_new(&config, &fixture->chan));
}

int server_stop(struct fixture *fixture, int signum)
{
	int status;

	/* a test that failed may have left calls, and the process ends now */
	if (!fixture->pid)
		return 0;
	fixture->chan = rpc_chan_free(fixture->chan);
	(void)kill(fixture->pid, signum);
	status = wait_exit(fixture->pid);
	(void)close(fixture->out_fd);
	return status;
}

int fixture_setup_with(void **state, const char *const *more)
{
	struct fixture *fixture = alloc_new(struct fixture);

	fixture->more = more;

	(void)server_program();
	assert_null(rpc_init(0));
	fixture->arena = ARENA_INIT((size_t)256 << 20);
	(void)snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/lazyroot-test-XXXXXX");
	assert_non_null(mkdtemp(fixture->dir));
	server_start(fixture);
	*state = fixture;
	return 0;
}

int fixture_setup(void **state)
{
	return fixture_setup_with(state, NULL);
}

int fixture_teardown(void **state)
{
	struct fixture *fixture = *state;
	int status = server_stop(fixture, SIGTERM);

	assert_null(file_remove_tree(AT_FDCWD, fixture->dir));
	arena_deinit(&fixture->arena);
	free(fixture);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

void assert_no_error(struct error *err)
{
	if (err)
		fail_msg("%s", error_text(err));
}

void assert_error(struct error *err, enum error_code code, const char *part)
{
	if (!err)
		fail_msg("an error with \"%s\" was expected", part);
	/* others have words of their own */
	if (error_code(err) != code ||
	    (!getenv("LAZYROOT_TEST_SERVER") && !strstr(error_text(err), part)))
		fail_msg("%s \"%s\" is not %s with \"%s\"",
			 error_code_name(error_code(err)), error_text(err),
			 error_code_name(code), part);
	error_free(err);
}

struct error *call(struct fixture *fixture, const ProtobufCServiceDescriptor *service,
		   const char *name, const ProtobufCMessage *request,
		   ProtobufCMessage **out)
{
	const struct rpc_method method = {service, name};
	ProtobufCMessage *ignored;

	return rpc_call_message(fixture->chan, &method, request, NULL, &fixture->arena,
				out ? out : &ignored);
}

struct digest digest_of(const void *data, size_t len)
{
	struct digest digest;

	hasher_digest(data, len, &digest);
	return digest;
}

Reapi__Digest *wire_of_digest(struct fixture *fixture, const struct digest *digest)
{
	return digest_to_arena(digest, &fixture->arena);
}

Reapi__Digest *put_blob(struct fixture *fixture, const void *data, size_t len)
{
	Reapi__BatchUpdateBlobsRequest request = REAPI__BATCH_UPDATE_BLOBS_REQUEST__INIT;
	Reapi__BatchUpdateBlobsRequest__Request one =
		REAPI__BATCH_UPDATE_BLOBS_REQUEST__REQUEST__INIT;
	Reapi__BatchUpdateBlobsRequest__Request *list = &one;
	Reapi__BatchUpdateBlobsResponse *response;
	struct digest digest = digest_of(data, len);
	ProtobufCMessage *message = NULL;

	one.digest = wire_of_digest(fixture, &digest);
	one.data.data = (uint8_t *)(uintptr_t)data;
	one.data.len = len;
	request.n_requests = 1;
	request.requests = &list;
	assert_no_error(
		call(fixture, CAS_SERVICE, "BatchUpdateBlobs", &request.base, &message));
	response = (void *)message;
	assert_int_equal(response->n_responses, 1);
	assert_int_equal(response->responses[0]->status->code, 0);
	return one.digest;
}

Reapi__Digest *put_text(struct fixture *fixture, const char *text)
{
	return put_blob(fixture, text, strlen(text));
}

Reapi__Digest *put_message(struct fixture *fixture, const ProtobufCMessage *message)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	rpc_encode(message, &bytes);
	return put_blob(fixture, bytes.data, bytes.len);
}

Reapi__Digest *absent_blob(struct fixture *fixture)
{
	static int n;
	char text[64];
	struct digest digest;

	digest = digest_of(text, (size_t)snprintf(text, sizeof(text), "absent %d %d",
						  (int)getpid(), ++n));
	return wire_of_digest(fixture, &digest);
}

char *unique_text(struct fixture *fixture, const char *what)
{
	static int n;

	return arena_printf(&fixture->arena, "%s %d %d", what, (int)getpid(), ++n);
}

struct error *read_resource(struct fixture *fixture, const char *name, int64_t offset,
			    int64_t limit, struct buf *out)
{
	const struct rpc_method method = {BYTES_SERVICE, "Read"};
	_cleanup_(rpc_stream_freep) struct rpc_stream *stream = NULL;
	Bytestream__ReadRequest request = BYTESTREAM__READ_REQUEST__INIT;
	bool is_broken, has_message = true;
	struct slice bytes;

	request.resource_name = name;
	request.read_offset = offset;
	request.read_limit = limit;
	assert_no_error(rpc_stream_open(fixture->chan, &method, NULL, &stream));
	assert_no_error(rpc_stream_send_message(stream, &request.base, &is_broken));
	assert_no_error(rpc_stream_close_send(stream));
	for (;;) {
		Bytestream__ReadResponse *response;

		assert_no_error(rpc_stream_receive(stream, &has_message, &bytes));
		if (!has_message)
			return rpc_stream_finish(stream);
		response = (void *)rpc_decode(&bytestream__read_response__descriptor,
					      bytes, &fixture->arena);
		buf_add(out, response->data.data, response->data.len);
	}
}
