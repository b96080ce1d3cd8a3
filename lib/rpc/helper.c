/*
 * Owns the run of a credential helper: Bazel's protocol. The program gets the word "get"
 * as its argument and {"uri": "https://HOST:PORT"} on its standard input, and writes
 * {"headers": {NAME: [VALUE, ...]}, "expires": TIME by RFC 3339} on its standard output;
 * what it writes on standard error is for people, and goes into the error where it fails.
 *
 * Everything about it is bounded: its time, what it writes, how many headers it gives.
 * It has a process group of its own, which is killed when its time is over.
 */
#include "lib/rpc/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/rpc/core.h"

#define HELPER_TIMEOUT_NS (10 * NS_PER_S) /* Bazel's */
#define HELPER_OUT_MAX    (1 << 20)
#define HELPER_ERR_MAX    2048
#define HELPER_PIECES     16 /* of 4 KiB at once: more than a pipe holds */

extern char **environ;

void helper_answer_deinit(struct helper_answer *answer)
{
	for (size_t i = 0; i < answer->n; i++) {
		free(answer->headers[i].name);
		free(answer->headers[i].value);
	}
	*answer = (struct helper_answer){0};
}

/* ---- what it answers ------------------------------------------------------------ */

/* Core takes only what HTTP/2 allows, and keeps some names for itself. */
static bool helper_is_header(const char *name, const char *value)
{
	grpc_slice key = grpc_slice_from_copied_string(name);
	grpc_slice text = grpc_slice_from_copied_string(value);
	size_t len = strlen(name);
	bool is_legal = grpc_header_key_is_legal(key) &&
			grpc_header_nonbin_value_is_legal(text) &&
			strncmp(name, "grpc-", 5) != 0 && name[0] != ':' &&
			strcmp(name, "te") != 0 && strcmp(name, "content-type") != 0 &&
			strcmp(name, "host") != 0 && strcmp(name, "user-agent") != 0 &&
			!(len >= 4 && strcmp(name + len - 4, "-bin") == 0);

	grpc_slice_unref(key);
	grpc_slice_unref(text);
	return is_legal;
}

static struct error *helper_add(struct helper_answer *answer, const char *name,
				const json_t *value)
{
	const char *text = json_string_value(value);
	_cleanup_free_ char *lower = alloc_string(name);

	for (char *c = lower; *c; c++)
		*c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
	if (!text || !helper_is_header(lower, text))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "its header \"%.100s\" cannot be sent", name);
	if (answer->n == RPC_CREDS_HEADERS_MAX)
		return error_new(ERROR_INVALID_ARGUMENT, "it gave more than %d headers",
				 RPC_CREDS_HEADERS_MAX);
	answer->headers[answer->n++] =
		(struct helper_header){take(lower), alloc_string(text)};
	return NULL;
}

/* RFC 3339: 2026-11-26T04:20:00Z, with a fraction or an offset perhaps. */
static struct error *helper_time(const char *text, int64_t *ns_out)
{
	struct tm tm = {0};
	const char *at = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int hours = 0, minutes = 0, sign = 1;

	if (at && *at == '.')
		at += 1 + strspn(at + 1, "0123456789");
	if (at && (*at == '+' || *at == '-')) {
		sign = *at == '+' ? 1 : -1;
		at = sscanf(at + 1, "%2d:%2d", &hours, &minutes) == 2 ? "" : NULL;
	} else if (at && strcmp(at, "Z") != 0 && strcmp(at, "z") != 0) {
		at = NULL;
	}
	if (!at)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "\"expires\" is no time by RFC 3339: \"%.60s\"", text);
	*ns_out = (timegm(&tm) - sign * (hours * 3600 + minutes * 60)) * NS_PER_S;
	return NULL;
}

static void helper_free_json(json_t **json)
{
	json_decref(*json);
}

static struct error *helper_take(json_t *json, struct helper_answer *answer)
{
	json_t *headers = json_object_get(json, "headers");
	json_t *expires = json_object_get(json, "expires");
	struct error *err = NULL;
	const char *name;
	json_t *values;

	if (!json_is_object(json) || (headers && !json_is_object(headers)) ||
	    (expires && !json_is_string(expires)))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "it wrote no object with \"headers\"");
	json_object_foreach(headers, name, values)
	{
		if (!json_is_array(values))
			err = error_new(ERROR_INVALID_ARGUMENT,
					"its header \"%.100s\" is no list", name);
		for (size_t i = 0; !err && i < json_array_size(values); i++)
			err = helper_add(answer, name, json_array_get(values, i));
		if (err)
			return err;
	}
	return expires ? helper_time(json_string_value(expires), &answer->expires_ns)
		       : NULL;
}

struct error *helper_parse(struct slice text, struct helper_answer *answer_out)
{
	_cleanup_(helper_answer_deinit) struct helper_answer answer = {0};
	_cleanup_(helper_free_json) json_t *json = NULL;
	struct error *err;
	json_error_t why;

	json = json_loadb((const char *)text.data, text.len, 0, &why);
	if (!json)
		return error_new(ERROR_INVALID_ARGUMENT, "it wrote no JSON: %s",
				 why.text);
	err = helper_take(json, &answer);
	if (err)
		return err;
	*answer_out = answer;
	answer = (struct helper_answer){0};
	return NULL;
}

/* ---- its run -------------------------------------------------------------------- */

struct helper {
	pid_t pid;
	int pid_fd;
	int in_fd, out_fd, err_fd; /* our ends */
	struct buf out, err;
};

static void helper_deinit(struct helper *helper)
{
	const int fds[] = {helper->pid_fd, helper->in_fd, helper->out_fd, helper->err_fd};

	if (helper->pid > 0) {
		(void)kill(-helper->pid, SIGKILL);
		while (waitpid(helper->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] >= 0)
			(void)close(fds[i]);
	}
	buf_deinit(&helper->out);
	buf_deinit(&helper->err);
}

static void helper_close_pair(int (*pair)[2])
{
	for (int i = 0; i < 2; i++) {
		if ((*pair)[i] >= 0)
			(void)close((*pair)[i]);
	}
}

static int helper_spawn(const char *command, struct helper *helper, const int theirs[3])
{
	const char *const argv[] = {command, "get", NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t signals;
	int errnum;

	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attr);
	for (int i = 0; i < 3; i++)
		(void)posix_spawn_file_actions_adddup2(&actions, theirs[i], i);
	(void)sigemptyset(&signals);
	(void)posix_spawnattr_setsigmask(&attr, &signals);
	(void)sigaddset(&signals, SIGPIPE);
	(void)posix_spawnattr_setsigdefault(&attr, &signals);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETSIGDEF |
						      POSIX_SPAWN_SETPGROUP);
	errnum = posix_spawnp(&helper->pid, command, &actions, &attr,
			      (char *const *)(uintptr_t)argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attr);
	return errnum;
}

static struct error *helper_start(const char *command, struct helper *helper)
{
	_cleanup_(helper_close_pair) int in[2] = {-1, -1};
	_cleanup_(helper_close_pair) int out[2] = {-1, -1};
	_cleanup_(helper_close_pair) int err[2] = {-1, -1};
	int errnum;

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 ||
	    pipe2(err, O_CLOEXEC) < 0)
		return error_errno(errno, "make a pipe");
	errnum = helper_spawn(command, helper, (const int[]){in[0], out[1], err[1]});
	if (errnum) {
		helper->pid = 0;
		return error_errno(errnum, "it cannot be started");
	}
	helper->in_fd = take_fd(in[1]);
	helper->out_fd = take_fd(out[0]);
	helper->err_fd = take_fd(err[0]);
	(void)fcntl(helper->out_fd, F_SETFL, O_NONBLOCK);
	(void)fcntl(helper->err_fd, F_SETFL, O_NONBLOCK);
	helper->pid_fd = pidfd_open(helper->pid, 0);
	return helper->pid_fd < 0 ? error_errno(errno, "wait for it") : NULL;
}

/* Takes what is there, as much as a pipe holds. Closes the descriptor at its end. */
static void helper_drain(int *fd, size_t limit, struct buf *into)
{
	for (int i = 0; i < HELPER_PIECES && *fd >= 0; i++) {
		char piece[4096];
		ssize_t n = read(*fd, piece, sizeof(piece));

		if (n < 0 && errno != EINTR)
			return; /* nothing now */
		if (n > 0 && into->len < limit)
			buf_add(into, piece, (size_t)n);
		if (n == 0) {
			(void)close(*fd);
			*fd = -1;
		}
	}
}

static struct error *helper_wait(struct helper *helper, int stop_fd)
{
	int64_t until = clock_mono_ns() + HELPER_TIMEOUT_NS;

	for (;;) {
		struct pollfd fds[] = {{.fd = helper->pid_fd, .events = POLLIN},
				       {.fd = helper->out_fd, .events = POLLIN},
				       {.fd = helper->err_fd, .events = POLLIN},
				       {.fd = stop_fd, .events = POLLIN}};
		int64_t left_ms = (until - clock_mono_ns()) / NS_PER_MS;

		if (left_ms <= 0)
			return error_new(ERROR_DEADLINE_EXCEEDED,
					 "it did not answer within %d s",
					 (int)(HELPER_TIMEOUT_NS / NS_PER_S));
		if (poll(fds, ARRAY_SIZE(fds), (int)left_ms) < 0 && errno != EINTR)
			return error_errno(errno, "poll");
		if (fds[3].revents)
			return error_new(ERROR_CANCELLED, "nobody needs it any more");
		helper_drain(&helper->out_fd, HELPER_OUT_MAX, &helper->out);
		helper_drain(&helper->err_fd, HELPER_ERR_MAX, &helper->err);
		if (fds[0].revents)
			return NULL;
	}
}

static struct error *helper_result(struct helper *helper)
{
	int status = 0;

	while (waitpid(helper->pid, &status, 0) < 0 && errno == EINTR)
		;
	helper->pid = 0;
	helper_drain(&helper->out_fd, HELPER_OUT_MAX, &helper->out);
	helper_drain(&helper->err_fd, HELPER_ERR_MAX, &helper->err);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	while (helper->err.len > 0 && helper->err.data[helper->err.len - 1] == '\n')
		helper->err.len--;
	return error_new(ERROR_UNAUTHENTICATED, "it ended with %s %d%s%.*s",
			 WIFEXITED(status) ? "exit code" : "signal",
			 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
			 helper->err.len ? ": " : "",
			 (int)(helper->err.len < HELPER_ERR_MAX ? helper->err.len
								: HELPER_ERR_MAX),
			 helper->err.len ? (const char *)helper->err.data : "");
}

static struct error *helper_ask(const char *command, const char *uri, int stop_fd,
				struct helper_answer *answer_out)
{
	_cleanup_(helper_deinit) struct helper helper = {
		.pid_fd = -1, .in_fd = -1, .out_fd = -1, .err_fd = -1};
	_cleanup_(helper_free_json) json_t *request = json_pack("{s:s}", "uri", uri);
	_cleanup_free_ char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	struct error *err;

	if (!text)
		return error_new(ERROR_INVALID_ARGUMENT, "%s is not UTF-8", uri);
	err = helper_start(command, &helper);
	if (err)
		return err;
	/* Shorter than a pipe is large; one that does not read it need not. */
	(void)!write(helper.in_fd, text, strlen(text));
	(void)close(helper.in_fd);
	helper.in_fd = -1;
	err = helper_wait(&helper, stop_fd);
	if (!err)
		err = helper_result(&helper);
	return err ? err : helper_parse(buf_slice(&helper.out), answer_out);
}

struct error *helper_run(const char *command, const char *uri, int stop_fd,
			 struct helper_answer *answer_out)
{
	return error_wrap(helper_ask(command, uri, stop_fd, answer_out),
			  "credential helper %s", command);
}
