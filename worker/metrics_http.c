/*
 * Owns the listening socket and libmicrohttpd's daemon, whose one thread answers all. Who
 * may ask is the address's affair: a page says nothing of what actions do.
 */
#include "worker/metrics_http.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/alloc.h"

#define LOG_MODULE "metrics"
#include "lib/base/log.h"

#define HTTP_TYPE          "text/plain; version=0.0.4; charset=utf-8"
#define HTTP_BACKLOG       16
#define HTTP_CONNECTIONS   16u
#define HTTP_IDLE_S        10u
#define HTTP_HOST_MAX      256
#define HTTP_HOST_NUM_MAX  64
#define HTTP_PORT_TEXT_MAX 8

struct metrics_http {
	struct metrics_http_config config;
	struct MHD_Daemon *daemon;
};

static enum MHD_Result http_reply(struct MHD_Connection *connection, unsigned int code,
				  const struct buf *body)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(
		body->len, body->data, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	(void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, HTTP_TYPE);
	if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
					      MHD_HTTP_METHOD_GET
					      ", " MHD_HTTP_METHOD_HEAD);
	result = MHD_queue_response(connection, code, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result http_answer(void *ctx, struct MHD_Connection *connection,
				   const char *url, const char *method,
				   const char *version, const char *upload,
				   size_t *n_upload, void **state)
{
	const struct metrics_http *http = ctx;
	_cleanup_buf_ struct buf body = BUF_INIT;

	(void)version;
	(void)upload;
	(void)n_upload;
	(void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
	    strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		buf_add_string(&body, "only GET and HEAD\n");
		return http_reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, &body);
	}
	if (strcmp(url, "/metrics") != 0) {
		buf_add_string(&body, "the only page is /metrics\n");
		return http_reply(connection, MHD_HTTP_NOT_FOUND, &body);
	}
	http->config.write(http->config.page, &body);
	return http_reply(connection, MHD_HTTP_OK, &body);
}

/* ---- the socket ----------------------------------------------------------------- */

static struct error *http_resolve(const char *address, struct addrinfo **out)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	const char *colon = strrchr(address, ':');
	const char *host = address;
	char name[HTTP_HOST_MAX];
	size_t len = colon ? (size_t)(colon - address) : 0;
	int code;

	if (!colon || len >= sizeof(name))
		return error_new(ERROR_INVALID_ARGUMENT, "%s is not HOST:PORT", address);
	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	}
	memcpy(name, host, len);
	name[len] = '\0';
	code = getaddrinfo(len ? name : NULL, colon + 1, &hints, out);
	if (code)
		return error_new(ERROR_INVALID_ARGUMENT, "%s: %s", address,
				 gai_strerror(code));
	return NULL;
}

static struct error *http_bind(const char *address, const struct addrinfo *info,
			       int *fd_out)
{
	_cleanup_fd_ int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, HTTP_BACKLOG) < 0)
		return error_errno(errno, "listen on %s", address);
	*fd_out = take_fd(fd);
	return NULL;
}

/* The first of the name's addresses that can be had. */
static struct error *http_listen(const char *address, int *fd_out)
{
	struct addrinfo *all = NULL;
	struct error *err = http_resolve(address, &all);

	if (err)
		return err;
	for (const struct addrinfo *one = all; one; one = one->ai_next) {
		error_free(err);
		err = http_bind(address, one, fd_out);
		if (!err)
			break;
	}
	freeaddrinfo(all);
	return err;
}

static void http_say(int fd)
{
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);
	char host[HTTP_HOST_NUM_MAX];
	char port[HTTP_PORT_TEXT_MAX];

	if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&bound, len, host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	log_info(bound.ss_family == AF_INET6 ? "http://[%s]:%s/metrics"
					     : "http://%s:%s/metrics",
		 host, port);
}

struct error *metrics_http_start(const struct metrics_http_config *config,
				 struct metrics_http **out)
{
	_cleanup_(metrics_http_freep) struct metrics_http *http =
		alloc_new(struct metrics_http);
	_cleanup_fd_ int fd = -1;
	struct error *err = http_listen(config->address, &fd);

	if (err)
		return err;
	http->config = *config;
	http->daemon = MHD_start_daemon(
		MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL,
		http_answer, http, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, HTTP_CONNECTIONS,
		MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S, MHD_OPTION_END);
	if (!http->daemon)
		return error_new(ERROR_INTERNAL, "start the server of %s",
				 config->address);
	http_say(fd);
	(void)take_fd(fd); /* the daemon's now */
	*out = take(http);
	return NULL;
}

void *metrics_http_free(struct metrics_http *http)
{
	if (!http)
		return NULL;
	if (http->daemon)
		MHD_stop_daemon(http->daemon);
	free(http);
	return NULL;
}
