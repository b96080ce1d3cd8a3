/*
 * Owns what a server listens on: ports, certificates, and for unix sockets a lock file
 * beside the socket, because core would silently take the socket over from a live server.
 * The lock file is removed while it is held; who opens it meanwhile finds that the path
 * no longer is the file they locked, and begins again.
 */
#define LOG_MODULE "listen"

#include "lib/rpc/incoming.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/sync.h"
#include "lib/rpc/pem.h"

struct rpc_listen_tls;

struct rpc_listener {
	char *address; /* with the true port */
	char *socket_path;
	char *lock_path;
	int lock_fd;
	struct rpc_listen_tls *tls; /* of grpcs:// */
};

/* ---- certificates --------------------------------------------------------------- */

enum { LISTEN_CA, LISTEN_CERT, LISTEN_KEY, LISTEN_FILES };

/* Core asks for the certificates at each connection; the files are read if one changed.
 */
struct rpc_listen_tls {
	char *paths[LISTEN_FILES]; /* NULL: none is wanted */
	struct sync_mutex mutex;   /* core asks one at a time, it says; to be sure */
	struct file_stamp stamps[LISTEN_FILES] SYNC_GUARDED_BY(&mutex);
};

static struct error *rpc_listen_read(const struct rpc_listen_tls *tls,
				     grpc_ssl_server_certificate_config **out)
{
	_cleanup_buf_ struct buf ca = BUF_INIT;
	_cleanup_buf_ struct buf cert = BUF_INIT;
	_cleanup_buf_ struct buf key = BUF_INIT;
	grpc_ssl_pem_key_cert_pair pair;
	struct error *err;

	err = rpc_pem_read("--tls-client-ca", tls->paths[LISTEN_CA], &ca);
	if (!err)
		err = rpc_pem_read("--tls-cert", tls->paths[LISTEN_CERT], &cert);
	if (!err)
		err = rpc_pem_read("--tls-key", tls->paths[LISTEN_KEY], &key);
	if (!err)
		err = rpc_pem_check_ca("--tls-client-ca", tls->paths[LISTEN_CA],
				       buf_string(&ca));
	if (!err)
		err = error_wrap(rpc_pem_check(buf_string(&cert), buf_string(&key)),
				 "--tls-cert %s, --tls-key %s", tls->paths[LISTEN_CERT],
				 tls->paths[LISTEN_KEY]);
	if (err)
		return err;
	pair = (grpc_ssl_pem_key_cert_pair){buf_string(&key), buf_string(&cert)};
	/* Core insists on roots, also where it asks no client for a certificate. */
	*out = grpc_ssl_server_certificate_config_create(
		buf_string(tls->paths[LISTEN_CA] ? &ca : &cert), &pair, 1);
	return NULL;
}

static grpc_ssl_certificate_config_reload_status rpc_listen_fetch(
	void *arg, grpc_ssl_server_certificate_config **config)
{
	struct rpc_listen_tls *tls = arg;
	bool has_changed = false;
	struct error *err;

	sync_lock(&tls->mutex);
	for (size_t i = 0; i < LISTEN_FILES; i++)
		has_changed |= tls->paths[i] &&
			       file_stamp_update(&tls->stamps[i], tls->paths[i]);
	sync_unlock(&tls->mutex);
	if (!has_changed)
		return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
	err = rpc_listen_read(tls, config);
	if (!err) {
		log_info("certificate %s was read", tls->paths[LISTEN_CERT]);
		return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
	}
	log_drop(LOG_WARN, err, "the certificates stay as they were");
	return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL;
}

static struct rpc_listen_tls *rpc_listen_tls_new(const struct rpc_server_config *config)
{
	const char *const paths[LISTEN_FILES] = {config->client_ca_file,
						 config->cert_file, config->key_file};
	struct rpc_listen_tls *tls = alloc_new(struct rpc_listen_tls);

	sync_mutex_init(&tls->mutex);
	for (size_t i = 0; i < LISTEN_FILES; i++)
		tls->paths[i] = paths[i] ? alloc_string(paths[i]) : NULL;
	return tls;
}

static void rpc_listen_tls_free(struct rpc_listen_tls *tls)
{
	if (!tls)
		return;
	for (size_t i = 0; i < LISTEN_FILES; i++)
		free(tls->paths[i]);
	sync_mutex_deinit(&tls->mutex);
	free(tls);
}

static struct error *rpc_listen_credentials(const struct rpc_server_config *config,
					    const char *text, bool is_tls,
					    struct rpc_listener *listener,
					    grpc_server_credentials **out)
{
	grpc_ssl_server_certificate_config *first = NULL;
	struct error *err;

	if (!is_tls) {
		*out = grpc_insecure_server_credentials_create();
		return NULL;
	}
	if (!config->cert_file || !config->key_file)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "address \"%s\" needs a certificate and its key: "
				 "--tls-cert FILE, --tls-key FILE",
				 text);
	listener->tls = rpc_listen_tls_new(config);
	err = rpc_listen_read(listener->tls, &first); /* what is wrong is said at start */
	if (err)
		return err;
	grpc_ssl_server_certificate_config_destroy(first);
	*out = grpc_ssl_server_credentials_create_with_options(
		grpc_ssl_server_credentials_create_options_using_config_fetcher(
			!config->client_ca_file ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
			: config->is_cert_optional
				? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY
				: GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY,
			rpc_listen_fetch, listener->tls));
	require(*out);
	return NULL;
}

/* ---- addresses ------------------------------------------------------------------ */

static struct error *rpc_listen_lock(struct rpc_listener *listener, const char *text)
{
	struct stat held, named;

	for (;;) {
		_cleanup_fd_ int fd =
			open(listener->lock_path,
			     O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd < 0)
			return error_errno(errno, "listen on %s: open %s", text,
					   listener->lock_path);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0)
			return error_new(
				ERROR_UNAVAILABLE,
				"listen on %s: another process serves it already", text);
		if (fstat(fd, &held) == 0 && lstat(listener->lock_path, &named) == 0 &&
		    held.st_ino == named.st_ino && held.st_dev == named.st_dev) {
			listener->lock_fd = take_fd(fd);
			return NULL;
		}
	}
}

/* Core only logs why it cannot listen, so the reason is asked for once more. */
static struct error *rpc_listen_reason(const char *text, const char *target)
{
	_cleanup_free_ char *host = alloc_string(target);
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				       .ai_flags = AI_PASSIVE};
	struct addrinfo *found = NULL;
	char *colon = strrchr(host, ':');
	const char *name = host;
	int errnum = 0, one = 1, r;

	*colon = '\0';
	if (host[0] == '[') {
		host[strlen(host) - 1] = '\0';
		name = host + 1;
	}
	r = getaddrinfo(name, colon + 1, &hints, &found);
	if (r != 0)
		return error_new(ERROR_UNAVAILABLE, "listen on %s: %s", text,
				 gai_strerror(r));
	for (struct addrinfo *ai = found; ai && errnum == 0; ai = ai->ai_next) {
		_cleanup_fd_ int fd =
			socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (fd < 0 || bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
		    listen(fd, 1) < 0)
			errnum = errno;
	}
	freeaddrinfo(found);
	return error_new(ERROR_UNAVAILABLE, "listen on %s: %s", text,
			 errnum ? strerror(errnum) : "gRPC cannot bind it");
}

static void rpc_listen_note(struct rpc_listener *listener, const char *text, int port)
{
	const char *colon = strrchr(text, ':');

	if (listener->socket_path)
		listener->address = alloc_string(text);
	else
		listener->address =
			alloc_printf("%.*s:%d", (int)(colon - text), text, port);
}

static struct error *rpc_listen_on(struct rpc_server *server,
				   const struct rpc_server_config *config,
				   const char *text, struct rpc_listener *listener)
{
	_cleanup_(rpc_address_deinit) struct rpc_address address = {0};
	grpc_server_credentials *credentials;
	const char *path = text + strlen("unix:");
	struct error *err;
	int port;

	err = rpc_address_parse(text, &address);
	if (err)
		return err;
	if (address.is_unix) {
		path += strncmp(path, "//", 2) == 0 ? 2 : 0;
		listener->lock_path = alloc_printf("%s.lock", path);
		err = rpc_listen_lock(listener, text);
		if (err)
			return err;
		listener->socket_path = alloc_string(path);
	}
	err = rpc_listen_credentials(config, text, address.is_tls, listener,
				     &credentials);
	if (err)
		return err;
	port = grpc_server_add_http2_port(server->server, address.target, credentials);
	grpc_server_credentials_release(credentials);
	if (port > 0) {
		rpc_listen_note(listener, text, port);
		return NULL;
	}
	return address.is_unix ? error_new(ERROR_UNAVAILABLE,
					   "listen on %s: cannot bind it", text)
			       : rpc_listen_reason(text, address.target);
}

struct error *rpc_listen(struct rpc_server *server,
			 const struct rpc_server_config *config)
{
	if (config->n_addresses == 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "no address to listen on is given");
	server->listeners = alloc_array(config->n_addresses, sizeof(*server->listeners));
	for (size_t i = 0; i < config->n_addresses; i++) {
		struct rpc_listener *listener = &server->listeners[server->n_listeners++];
		struct error *err;

		*listener = (struct rpc_listener){.lock_fd = -1};
		err = rpc_listen_on(server, config, config->addresses[i], listener);
		if (err)
			return err;
	}
	return NULL;
}

void rpc_listen_end(struct rpc_server *server)
{
	for (size_t i = 0; i < server->n_listeners; i++) {
		struct rpc_listener *listener = &server->listeners[i];

		if (listener->socket_path)
			(void)unlink(listener->socket_path);
		if (listener->lock_fd >= 0) {
			(void)unlink(listener->lock_path);
			(void)close(listener->lock_fd);
		}
		free(listener->address);
		free(listener->socket_path);
		free(listener->lock_path);
		rpc_listen_tls_free(listener->tls);
	}
	free(server->listeners);
	server->listeners = NULL;
	server->n_listeners = 0;
}

const char *rpc_listen_address(const struct rpc_server *server, size_t i)
{
	require(i < server->n_listeners);
	return server->listeners[i].address;
}
