/*
 * Owns a channel's token or its helper's headers, and the thread that renews them: once a
 * second it looks whether the token's file has changed; the helper runs again shortly
 * before its answer expires (after half an hour where it does not say when), and early
 * when a server did not take what it gave. What cannot be renewed stays, and is tried
 * again: the server will say what it thinks of it.
 *
 * A call that was refused has them read again at once, too, once for all that were
 * refused before. Credentials are numbered, so that one that was refused with the last
 * ones but one knows that there are others.
 *
 * Threads: calls read under the mutex; whoever has is_reading writes, one at a time.
 */
#include "lib/rpc/creds.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/sync.h"
#include "lib/base/thread.h"
#include "lib/rpc/core.h"
#include "lib/rpc/helper.h"

#define LOG_MODULE "creds"
#include "lib/base/log.h"

#define CREDS_TOKEN_MAX (16 << 10) /* bytes of a token's file */
#define CREDS_TICK_MS   1000
#define CREDS_LIFE_NS   (1800 * NS_PER_S) /* of what has no end of its own: Bazel's */
#define CREDS_AHEAD_NS  (30 * NS_PER_S)   /* renewed so long before the end */
#define CREDS_RETRY_NS  (5 * NS_PER_S)    /* after a failure, and after a refusal */

struct rpc_creds {
	char *token_file; /* or */
	char *helper;
	char *uri; /* what the helper is asked for */
	int stop_fd;
	pthread_t thread;
	bool has_thread;
	struct file_stamp stamp; /* of whoever has is_reading, as are the next two */
	int64_t renew_ns;        /* monotonic */
	int64_t asked_ns;
	struct sync_mutex mutex;
	struct sync_cond cond;
	bool is_reading SYNC_GUARDED_BY(&mutex);
	struct helper_answer answer SYNC_GUARDED_BY(&mutex);
	uint64_t number SYNC_GUARDED_BY(&mutex);  /* of answer; from 1 on */
	uint64_t refused SYNC_GUARDED_BY(&mutex); /* the last that was; 0: none */
	/* They were read again, or that has begun, since the last of them was refused. */
	bool is_known SYNC_GUARDED_BY(&mutex);
};

/* ---- options -------------------------------------------------------------------- */

void rpc_creds_options_deinit(struct rpc_creds_options *options)
{
	free(options->ca_file);
	free(options->cert_file);
	free(options->key_file);
	free(options->token_file);
	free(options->helper);
	*options = (struct rpc_creds_options){0};
}

void rpc_creds_options_apply(const struct rpc_creds_options *options,
			     struct rpc_chan_config *chan)
{
	chan->ca_file = options->ca_file;
	chan->cert_file = options->cert_file;
	chan->key_file = options->key_file;
	chan->token_file = options->token_file;
	chan->helper = options->helper;
	chan->is_insecure = options->is_insecure;
}

/* ---- the token ------------------------------------------------------------------ */

struct error *rpc_token_read(const char *path, struct buf *token_out)
{
	_cleanup_buf_ struct buf text = BUF_INIT;
	struct error *err = file_read_all(AT_FDCWD, path, CREDS_TOKEN_MAX, &text);
	struct slice token = buf_slice(&text);
	bool is_legal;
	grpc_slice value;

	if (err)
		return error_wrap(err, "token %s", path);
	while (token.len > 0 && memchr(" \t\r\n", token.data[token.len - 1], 4))
		token.len--;
	while (token.len > 0 && memchr(" \t\r\n", token.data[0], 4)) {
		token.data++;
		token.len--;
	}
	value = rpc_slice_copy(token);
	is_legal = token.len > 0 && grpc_header_nonbin_value_is_legal(value) &&
		   !memchr(token.data, ' ', token.len);
	grpc_slice_unref(value);
	if (!is_legal)
		return error_new(ERROR_INVALID_ARGUMENT, "token %s %s", path,
				 token.len ? "has bytes that no token can have"
					   : "is empty");
	buf_clear(token_out);
	buf_add(token_out, token.data, token.len);
	return NULL;
}

/* ---- renewing ------------------------------------------------------------------- */

static bool rpc_creds_is_same(const struct helper_answer *a,
			      const struct helper_answer *b)
{
	bool is_same = a->n == b->n;

	for (size_t i = 0; is_same && i < a->n; i++)
		is_same = strcmp(a->headers[i].name, b->headers[i].name) == 0 &&
			  strcmp(a->headers[i].value, b->headers[i].value) == 0;
	return is_same;
}

/* Takes over *answer. */
static void rpc_creds_set(struct rpc_creds *creds, struct helper_answer *answer)
{
	struct helper_answer old;

	sync_lock(&creds->mutex);
	old = creds->answer;
	if (!creds->number || !rpc_creds_is_same(&old, answer))
		creds->number++;
	creds->answer = *answer;
	sync_unlock(&creds->mutex);
	helper_answer_deinit(&old);
}

static void rpc_creds_begin_answer(struct rpc_creds *creds)
{
	sync_lock(&creds->mutex);
	creds->is_known = true;
	sync_unlock(&creds->mutex);
}

static struct error *rpc_creds_read_token(struct rpc_creds *creds)
{
	_cleanup_buf_ struct buf token = BUF_INIT;
	struct helper_answer answer = {.n = 1};
	struct error *err;

	rpc_creds_begin_answer(creds);
	err = rpc_token_read(creds->token_file, &token);
	if (err)
		return err;
	answer.headers[0].name = alloc_string("authorization");
	answer.headers[0].value = alloc_printf("Bearer %s", buf_string(&token));
	rpc_creds_set(creds, &answer);
	return NULL;
}

static struct error *rpc_creds_run_helper(struct rpc_creds *creds)
{
	struct helper_answer answer = {0};
	struct error *err;
	int64_t life_ns = CREDS_LIFE_NS;

	rpc_creds_begin_answer(creds);
	err = helper_run(creds->helper, creds->uri, creds->stop_fd, &answer);
	creds->asked_ns = clock_mono_ns();
	if (err) {
		creds->renew_ns = creds->asked_ns + CREDS_RETRY_NS;
		return err;
	}
	if (answer.expires_ns)
		life_ns = answer.expires_ns - clock_wall_ns();
	life_ns = life_ns > 2 * CREDS_AHEAD_NS ? life_ns - CREDS_AHEAD_NS : life_ns / 2;
	creds->renew_ns = creds->asked_ns + (life_ns > NS_PER_S ? life_ns : NS_PER_S);
	rpc_creds_set(creds, &answer);
	return NULL;
}

/* Waits for who reads, and reads next, if that is of use still. */
static bool rpc_creds_begin_reading(struct rpc_creds *creds, bool is_for_refused)
{
	bool is_mine;

	sync_lock(&creds->mutex);
	while (creds->is_reading)
		sync_wait(&creds->cond, &creds->mutex);
	is_mine =
		!is_for_refused || (creds->number <= creds->refused && !creds->is_known);
	if (is_mine)
		creds->is_reading = true;
	sync_unlock(&creds->mutex);
	return is_mine;
}

static void rpc_creds_end_reading(struct rpc_creds *creds)
{
	sync_lock(&creds->mutex);
	creds->is_reading = false;
	sync_broadcast(&creds->cond);
	sync_unlock(&creds->mutex);
}

bool rpc_creds_renew(struct rpc_creds *creds)
{
	bool are_others;

	if (!creds)
		return false;
	if (rpc_creds_begin_reading(creds, true)) {
		struct error *err = creds->token_file ? rpc_creds_read_token(creds)
						      : rpc_creds_run_helper(creds);

		rpc_creds_end_reading(creds);
		log_drop(LOG_INFO, err, "the credentials stay as they were");
	}
	sync_lock(&creds->mutex);
	are_others = creds->number > creds->refused;
	sync_unlock(&creds->mutex);
	return are_others;
}

/* And were not read again since. */
static bool rpc_creds_are_refused(struct rpc_creds *creds)
{
	bool are_refused;

	sync_lock(&creds->mutex);
	are_refused = creds->number <= creds->refused && !creds->is_known;
	sync_unlock(&creds->mutex);
	return are_refused;
}

static void rpc_creds_look(struct rpc_creds *creds)
{
	int64_t now_ns = clock_mono_ns();
	struct error *err;

	if (creds->token_file && file_stamp_update(&creds->stamp, creds->token_file)) {
		err = rpc_creds_read_token(creds);
		if (err)
			log_drop(LOG_WARN, err, "the token stays as it was");
		else
			log_info("token %s was read again", creds->token_file);
	}
	if (creds->helper &&
	    (now_ns >= creds->renew_ns || (rpc_creds_are_refused(creds) &&
					   now_ns >= creds->asked_ns + CREDS_RETRY_NS))) {
		err = rpc_creds_run_helper(creds);
		if (error_code(err) == ERROR_CANCELLED)
			error_free(err);
		else
			log_drop(LOG_WARN, err, "the credentials stay as they were");
	}
}

static void *rpc_creds_run(void *arg)
{
	struct rpc_creds *creds = arg;
	struct pollfd stop = {.fd = creds->stop_fd, .events = POLLIN};

	while (poll(&stop, 1, CREDS_TICK_MS) <= 0) {
		(void)rpc_creds_begin_reading(creds, false);
		rpc_creds_look(creds);
		rpc_creds_end_reading(creds);
	}
	return NULL;
}

/* ---- from start to end ---------------------------------------------------------- */

static struct error *rpc_creds_begin(struct rpc_creds *creds)
{
	struct error *err;

	creds->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (creds->stop_fd < 0)
		return error_errno(errno, "eventfd");
	if (creds->token_file)
		(void)file_stamp_update(&creds->stamp, creds->token_file);
	err = creds->token_file
		      ? error_wrap(rpc_creds_read_token(creds), "--token-file")
		      : error_wrap(rpc_creds_run_helper(creds), "--credential-helper");
	if (error_code(err) == ERROR_NOT_FOUND) /* the option's value is wrong */
		err = error_recode(err, ERROR_INVALID_ARGUMENT);
	if (err)
		return err;
	err = thread_start("credentials", rpc_creds_run, creds, &creds->thread);
	creds->has_thread = !err;
	return err;
}

static struct error *rpc_creds_check(const struct rpc_chan_config *config,
				     const struct rpc_address *address)
{
	if (config->token_file && config->helper)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a token's file (--token-file) and a credential helper "
				 "(--credential-helper) are one too many");
	if (!address->is_tls && !rpc_address_is_local(address) && !config->is_insecure)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "%s: anyone on the way could read the token: use "
				 "grpcs:// (or --insecure)",
				 config->address);
	return NULL;
}

struct error *rpc_creds_new(const struct rpc_chan_config *config,
			    const struct rpc_address *address,
			    struct rpc_creds **creds_out)
{
	_cleanup_(rpc_creds_freep) struct rpc_creds *creds = NULL;
	struct error *err;

	*creds_out = NULL;
	if (!config->token_file && !config->helper)
		return NULL;
	err = rpc_creds_check(config, address);
	if (err)
		return err;
	creds = alloc_new(struct rpc_creds);
	creds->stop_fd = -1;
	creds->token_file = config->token_file ? alloc_string(config->token_file) : NULL;
	creds->helper = config->helper ? alloc_string(config->helper) : NULL;
	creds->uri = address->is_unix
			     ? alloc_string(address->target)
			     : alloc_printf("%s://%s", address->is_tls ? "https" : "http",
					    address->target);
	sync_mutex_init(&creds->mutex);
	sync_cond_init(&creds->cond);
	err = rpc_creds_begin(creds);
	if (err)
		return err;
	*creds_out = take(creds);
	return NULL;
}

void *rpc_creds_free(struct rpc_creds *creds)
{
	const uint64_t one = 1;

	if (!creds)
		return NULL;
	if (creds->has_thread) {
		require(write(creds->stop_fd, &one, sizeof(one)) == sizeof(one));
		(void)pthread_join(creds->thread, NULL);
	}
	if (creds->stop_fd >= 0)
		(void)close(creds->stop_fd);
	sync_alone(&creds->mutex);
	helper_answer_deinit(&creds->answer);
	sync_cond_deinit(&creds->cond);
	sync_mutex_deinit(&creds->mutex);
	free(creds->token_file);
	free(creds->helper);
	free(creds->uri);
	free(creds);
	return NULL;
}

uint64_t rpc_creds_each(struct rpc_creds *creds,
			void (*fn)(void *ctx, const char *name, struct slice value),
			void *ctx)
{
	uint64_t number;

	if (!creds)
		return 0;
	sync_lock(&creds->mutex);
	for (size_t i = 0; i < creds->answer.n; i++)
		fn(ctx, creds->answer.headers[i].name,
		   slice_of(creds->answer.headers[i].value));
	number = creds->number;
	sync_unlock(&creds->mutex);
	return number;
}

void rpc_creds_refused(struct rpc_creds *creds, uint64_t which)
{
	if (!creds)
		return;
	sync_lock(&creds->mutex);
	if (which > creds->refused)
		creds->refused = which;
	creds->is_known = creds->is_known && which < creds->number;
	sync_unlock(&creds->mutex);
}
