/* What worker_fixture.h declares; the tests of one program run on one thread. */
#include "tests/integration/worker_fixture.h"

#include <sys/file.h>

/* The kernel's, for all: whether workers that start are offered FUSE over io_uring. */
#define TRANSPORT_SWITCH "/sys/module/fuse/parameters/enable_uring"

void skip_without_fuse(void)
{
	if (geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0)
		return;
	(void)fprintf(stderr, "skipped: needs root and /dev/fuse\n");
	exit(77);
}

/* Until it is closed, no test (transport() of tests/system/system.py) has it switched on.
 */
static int transport_hold(void)
{
	int fd = open(TRANSPORT_SWITCH, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		assert_int_equal(flock(fd, LOCK_SH), 0);
	return fd;
}

void worker_launch(struct worker *worker, const char *server, const char *const *more)
{
	_cleanup_fd_ int held = transport_hold();
	char program[1024], cache[80], log[80], line[160];
	const char *argv[SERVER_ARGS_MAX] = {
		"lazyroot-worker", "--server", server,    "--cache", cache,
		"--slots",         "2",        "--name",  "w1",      "--log",
		"info,job=debug",  "--allow",  "network", "--allow", "uid",
		"--allow",         "gid"};
	const char *data_path = getenv("LAZYROOT_TEST_DATA_PATH");
	posix_spawn_file_actions_t actions;
	size_t n = 17;
	int out[2];

	(void)snprintf(program, sizeof(program), "%s/lazyroot-worker",
		       getenv("LAZYROOT_BIN"));
	(void)snprintf(cache, sizeof(cache), "%s/cache", worker->dir);
	(void)snprintf(log, sizeof(log), "%s/log", worker->dir);
	if (data_path) {
		argv[n++] = "--data-path";
		argv[n++] = data_path;
	}
	for (size_t i = 0; more && more[i]; i++)
		argv[n++] = more[i];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	(void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log,
					       O_WRONLY | O_CREAT | O_APPEND, 0644);
	assert_int_equal(posix_spawn(&worker->pid, program, &actions, NULL,
				     (char *const *)(uintptr_t)argv, environ),
			 0);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)close(out[1]);
	worker->out_fd = out[0];
	read_line(worker->out_fd, line, sizeof(line));
	assert_string_equal(line, "ready w1");
}

static int worker_stop(struct worker *worker, int signum)
{
	int status;

	(void)kill(worker->pid, signum);
	status = wait_exit(worker->pid);
	(void)close(worker->out_fd);
	return status;
}

void worker_make_dir(struct worker *worker)
{
	(void)snprintf(worker->dir, sizeof(worker->dir),
		       "/var/tmp/lazyroot-worker-XXXXXX");
	assert_non_null(mkdtemp(worker->dir));
}

int worker_setup(void **state)
{
	struct fixture *fixture;
	struct worker *worker;

	skip_without_fuse();
	(void)fixture_setup((void **)&fixture);
	worker = alloc_new(struct worker);
	worker->server = *fixture;
	free(fixture);
	worker_make_dir(worker);
	worker_launch(worker, worker->server.address, NULL);
	*state = worker;
	return 0;
}

static void worker_show_log(const struct worker *worker)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char path[80];

	(void)snprintf(path, sizeof(path), "%s/log", worker->dir);
	error_free(file_read_all(AT_FDCWD, path, (size_t)64 << 20, &text));
	(void)fprintf(stderr, "the worker said:\n%s\n",
		      buf_string(&text) + (text.len > 4000 ? text.len - 4000 : 0));
}

int worker_teardown(void **state)
{
	struct worker *worker = *state;
	int status = worker_stop(worker, SIGTERM);
	struct fixture *fixture = alloc_new(struct fixture);

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		worker_show_log(worker);
	assert_null(file_remove_tree(AT_FDCWD, worker->dir));
	*fixture = worker->server;
	free(worker);
	if (fixture_teardown((void **)&fixture) < 0)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* An encoded Directory: entries are put in the order given, so wrong ones can be made. */
static void put_digest_field(struct buf *out, uint32_t field, const Reapi__Digest *digest)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;

	wire_put_bytes(&bytes, 1, slice_of(digest->hash));
	wire_put_int(&bytes, 2, (uint64_t)digest->size_bytes);
	wire_put_bytes(out, field, buf_slice(&bytes));
}

void dir_add_file_with(struct buf *dir, struct slice name, const Reapi__Digest *digest,
		       bool is_executable, struct slice props)
{
	_cleanup_buf_ struct buf node = BUF_INIT;

	wire_put_bytes(&node, 1, name);
	put_digest_field(&node, 2, digest);
	wire_put_int(&node, 4, is_executable);
	if (props.len)
		wire_put_bytes(&node, 6, props);
	wire_put_bytes(dir, 1, buf_slice(&node));
}

void dir_add_file(struct buf *dir, const char *name, const Reapi__Digest *digest)
{
	dir_add_file_with(dir, slice_of(name), digest, false, (struct slice){0});
}

void dir_add_program(struct buf *dir, const char *name, const Reapi__Digest *digest)
{
	dir_add_file_with(dir, slice_of(name), digest, true, (struct slice){0});
}

void dir_add_dir_raw(struct buf *dir, struct slice name, const Reapi__Digest *digest)
{
	_cleanup_buf_ struct buf node = BUF_INIT;

	wire_put_bytes(&node, 1, name);
	put_digest_field(&node, 2, digest);
	wire_put_bytes(dir, 2, buf_slice(&node));
}

void dir_add_dir(struct buf *dir, const char *name, const Reapi__Digest *digest)
{
	dir_add_dir_raw(dir, slice_of(name), digest);
}

void dir_add_link_raw(struct buf *dir, struct slice name, struct slice target)
{
	_cleanup_buf_ struct buf node = BUF_INIT;

	wire_put_bytes(&node, 1, name);
	wire_put_bytes(&node, 2, target);
	wire_put_bytes(dir, 3, buf_slice(&node));
}

void dir_add_link(struct buf *dir, const char *name, const char *target)
{
	dir_add_link_raw(dir, slice_of(name), slice_of(target));
}

Reapi__Digest *dir_put(struct fixture *fixture, struct buf *dir)
{
	Reapi__Digest *digest = put_blob(fixture, dir->data, dir->len);

	buf_clear(dir);
	return digest;
}

Reapi__Digest *empty_root(struct fixture *fixture)
{
	return wire_of_digest(fixture, &digest_of_empty);
}

static size_t list_len(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* A copy that protobuf's repeated field can have. */
static const char **list_dup(struct fixture *fixture, const char *const *list)
{
	size_t n = list_len(list);

	if (!n)
		return NULL;
	return arena_memdup(&fixture->arena, list, n * sizeof(*list));
}

static void act_environment(struct fixture *fixture, const struct act *act,
			    Reapi__Command *command)
{
	static const char *const path[] = {"PATH", "/usr/bin:/bin", NULL};
	const char *const *list =
		!act->environment && act->script ? path : act->environment;
	size_t n;

	n = list_len(list) / 2;
	command->n_environment_variables = n;
	command->environment_variables = arena_zero(
		&fixture->arena, (n + 1) * sizeof(*command->environment_variables));
	for (size_t i = 0; i < n; i++) {
		Reapi__Command__EnvironmentVariable *variable =
			arena_zero(&fixture->arena, sizeof(*variable));

		reapi__command__environment_variable__init(variable);
		variable->name = list[2 * i];
		variable->value = list[2 * i + 1];
		command->environment_variables[i] = variable;
	}
}

static Reapi__Digest *act_put_command(struct fixture *fixture, const struct act *act)
{
	const char *const *arguments =
		act->script ? LIST("/bin/sh", "-c", act->script) : act->arguments;
	Reapi__Command command = REAPI__COMMAND__INIT;

	command.n_arguments = list_len(arguments);
	command.arguments = list_dup(fixture, arguments);
	act_environment(fixture, act, &command);
	command.working_directory = act->workdir ? act->workdir : "";
	command.n_output_paths = list_len(act->outputs);
	command.output_paths = list_dup(fixture, act->outputs);
	command.n_output_files = list_len(act->files);
	command.output_files = list_dup(fixture, act->files);
	command.n_output_directories = list_len(act->directories);
	command.output_directories = list_dup(fixture, act->directories);
	command.n_output_node_properties = list_len(act->node_properties);
	command.output_node_properties = list_dup(fixture, act->node_properties);
	command.output_directory_format = act->format;
	return put_message(fixture, &command.base);
}

Reapi__Digest *act_put(struct fixture *fixture, const struct act *act)
{
	Reapi__Action action = REAPI__ACTION__INIT;
	Reapi__Platform platform = REAPI__PLATFORM__INIT;
	Reapi__Platform__Property properties[ACT_LIST_MAX], *list[ACT_LIST_MAX];
	Pb__Duration timeout = PB__DURATION__INIT;
	const char *salt = act->salt ? act->salt : unique_text(fixture, "salt");

	platform.n_properties = list_len(act->properties) / 2;
	platform.properties = list;
	for (size_t i = 0; i < platform.n_properties; i++) {
		reapi__platform__property__init(&properties[i]);
		properties[i].name = act->properties[2 * i];
		properties[i].value = act->properties[2 * i + 1];
		list[i] = &properties[i];
	}
	action.command_digest = act_put_command(fixture, act);
	action.input_root_digest = act->root ? act->root : empty_root(fixture);
	action.platform = platform.n_properties ? &platform : NULL;
	action.salt.data = (uint8_t *)(uintptr_t)salt;
	action.salt.len = strlen(salt);
	timeout.seconds = act->timeout_ms / 1000;
	timeout.nanos = (int32_t)(act->timeout_ms % 1000 * NS_PER_MS);
	action.timeout = act->timeout_ms ? &timeout : NULL;
	return put_message(fixture, &action.base);
}

struct outcome outcome_of(struct run *run)
{
	struct outcome outcome = {.code = run_finish(run), .response = run->response};

	outcome.message =
		outcome.response->status ? outcome.response->status->message : "";
	outcome.result = outcome.response->result;
	if (!outcome.result) {
		outcome.result =
			arena_zero(&run->fixture->arena, sizeof(*outcome.result));
		reapi__action_result__init(outcome.result);
	}
	return outcome;
}

struct run act_start(struct fixture *fixture, const struct act *act)
{
	return run_execute(fixture, act_put(fixture, act), false, 0);
}

struct outcome act_run(struct fixture *fixture, const struct act *act)
{
	struct run run = act_start(fixture, act);

	return outcome_of(&run);
}

const char *get_blob(struct fixture *fixture, const Reapi__Digest *digest,
		     size_t *len_out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	const char *name = arena_printf(&fixture->arena, "blobs/%s/%lld", digest->hash,
					(long long)digest->size_bytes);
	char *copy;

	if (digest->size_bytes)
		assert_no_error(read_resource(fixture, name, 0, 0, &bytes));
	assert_int_equal(bytes.len, digest->size_bytes);
	copy = arena_zero(&fixture->arena, bytes.len + 1);
	if (bytes.len)
		memcpy(copy, bytes.data, bytes.len);
	if (len_out)
		*len_out = bytes.len;
	return copy;
}

const char *out_text(struct fixture *fixture, const struct outcome *outcome)
{
	return outcome->result->stdout_digest
		       ? get_blob(fixture, outcome->result->stdout_digest, NULL)
		       : "";
}

const char *err_text(struct fixture *fixture, const struct outcome *outcome)
{
	return outcome->result->stderr_digest
		       ? get_blob(fixture, outcome->result->stderr_digest, NULL)
		       : "";
}

void assert_ran(struct fixture *fixture, const struct outcome *outcome, int exit_code,
		const char *out)
{
	if (outcome->code)
		fail_msg("%s: %s", error_code_name((enum error_code)outcome->code),
			 outcome->message);
	if (outcome->result->exit_code != exit_code)
		fail_msg("exit code %d, stderr: %s", outcome->result->exit_code,
			 err_text(fixture, outcome));
	if (out)
		assert_string_equal(out_text(fixture, outcome), out);
}

void assert_refused(const struct outcome *outcome, int code, const char *part)
{
	if (outcome->code != code || !strstr(outcome->message, part))
		fail_msg("%s \"%s\" (exit code %d) is not %s with \"%s\"",
			 error_code_name((enum error_code)outcome->code),
			 outcome->message, outcome->result->exit_code,
			 error_code_name((enum error_code)code), part);
}

Lazyroot__ReadReport *report_of(struct fixture *fixture, const struct outcome *outcome)
{
	const Reapi__ExecutedActionMetadata *metadata =
		outcome->result->execution_metadata;
	Lazyroot__ReadReport *report = NULL;

	assert_non_null(metadata);
	for (size_t i = 0; i < metadata->n_auxiliary_metadata; i++) {
		report = (void *)rpc_any_message(metadata->auxiliary_metadata[i],
						 &lazyroot__read_report__descriptor,
						 &fixture->arena);
	}
	assert_non_null(report);
	return report;
}

const Reapi__OutputFile *output_file(const struct outcome *outcome, const char *path)
{
	for (size_t i = 0; i < outcome->result->n_output_files; i++)
		if (strcmp(outcome->result->output_files[i]->path, path) == 0)
			return outcome->result->output_files[i];
	return NULL;
}

const Reapi__OutputDirectory *output_dir(const struct outcome *outcome, const char *path)
{
	for (size_t i = 0; i < outcome->result->n_output_directories; i++)
		if (strcmp(outcome->result->output_directories[i]->path, path) == 0)
			return outcome->result->output_directories[i];
	return NULL;
}

const Reapi__OutputSymlink *output_link(const struct outcome *outcome, const char *path)
{
	for (size_t i = 0; i < outcome->result->n_output_symlinks; i++)
		if (strcmp(outcome->result->output_symlinks[i]->path, path) == 0)
			return outcome->result->output_symlinks[i];
	return NULL;
}

void assert_same_digest(const Reapi__Digest *a, const Reapi__Digest *b)
{
	assert_non_null(a);
	assert_non_null(b);
	assert_string_equal(a->hash, b->hash);
	assert_int_equal(a->size_bytes, b->size_bytes);
}

void gate_open(struct gate *gate)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	gate->fd = -1;
	gate->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(gate->listen_fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(gate->listen_fd, 8), 0);
	assert_int_equal(getsockname(gate->listen_fd, (struct sockaddr *)&address, &len),
			 0);
	gate->port = ntohs(address.sin_port);
}

const char *gate_words(struct fixture *fixture, const struct gate *gate)
{
	return arena_printf(&fixture->arena, "read -r gate_ < /dev/tcp/127.0.0.1/%u",
			    gate->port);
}

void gate_wait(struct gate *gate)
{
	gate->fd = accept4(gate->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(gate->fd >= 0);
}

void gate_pass(struct gate *gate)
{
	assert_int_equal(write(gate->fd, "go\n", 3), 3);
	(void)close(gate->fd);
	gate->fd = -1;
}

void gate_close(struct gate *gate)
{
	if (gate->fd >= 0)
		(void)close(gate->fd);
	(void)close(gate->listen_fd);
}

struct act act_bash(struct fixture *fixture, const char *script)
{
	static const char *const properties[] = {"network", "on", NULL};
	static const char *const environment[] = {"PATH", "/usr/bin:/bin", NULL};
	const char *arguments[] = {"/bin/bash", "-c", script, NULL};

	return (struct act){
		.arguments = arena_memdup(&fixture->arena, arguments, sizeof(arguments)),
		.environment = environment,
		.properties = properties,
	};
}

unsigned int count_processes(const char *marker)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned int n = 0;

	while ((entry = readdir(dir))) {
		_cleanup_buf_ struct buf text = BUF_INIT;
		char path[300];

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		error_free(file_read_all(AT_FDCWD, path, 1 << 20, &text));
		if (text.len)
			n += memmem(text.data, text.len, marker, strlen(marker)) != NULL;
	}
	(void)closedir(dir);
	return n;
}

void assert_gone(const char *marker)
{
	int64_t until = clock_mono_ns() + WORKER_PATIENCE_MS * NS_PER_MS;

	while (count_processes(marker) && clock_mono_ns() < until)
		clock_sleep_ms(5);
	assert_int_equal(count_processes(marker), 0);
}

/* Mounts that the worker's actions have now. */
static unsigned int count_action_mounts(const struct worker *worker)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	char path[64];
	unsigned int n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/mountinfo", worker->pid);
	assert_no_error(file_read_all(AT_FDCWD, path, 1 << 20, &text));
	for (const char *at = buf_string(&text); (at = strstr(at, "/cache/actions/"));
	     at++)
		n++;
	return n;
}

static unsigned int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned int n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	(void)closedir(dir);
	return n;
}

void assert_tidy(const struct worker *worker)
{
	int64_t until = clock_mono_ns() + WORKER_PATIENCE_MS * NS_PER_MS;
	char actions[80];

	(void)snprintf(actions, sizeof(actions), "%s/cache/actions", worker->dir);
	while (count_entries(actions) && clock_mono_ns() < until)
		clock_sleep_ms(5);
	assert_int_equal(count_entries(actions), 0);
	assert_int_equal(count_action_mounts(worker), 0);
}
