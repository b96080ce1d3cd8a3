/*
 * Owns the reading of addresses: what people write (grpc://, http://, unix:, HOST:PORT)
 * becomes the target that gRPC core takes. Pure.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#include "lib/base/alloc.h"
#include "lib/base/units.h"
#include "lib/rpc/rpc.h"

static const struct {
	const char *prefix;
	bool is_tls;
} rpc_schemes[] = {
	{"grpc://", false},
	{"grpcs://", true},
	{"http://", false},
	{"https://", true},
};

/* Core decodes percent signs in a socket's path, so whatever is special goes encoded. */
static struct error *rpc_address_unix(const char *text, const char *path,
				      struct rpc_address *out)
{
	_cleanup_buf_ struct buf target = BUF_INIT;
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789/._-~";

	if (strncmp(path, "//", 2) == 0)
		path += 2;
	if (*path == '\0')
		return error_new(ERROR_INVALID_ARGUMENT, "address \"%s\" names no path",
				 text);
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return error_new(
			ERROR_INVALID_ARGUMENT,
			"address \"%s\": a socket's path has less than %zu bytes", text,
			sizeof(((struct sockaddr_un *)NULL)->sun_path));
	buf_add_string(&target, "unix:");
	for (const char *c = path; *c; c++) {
		if (strchr(plain, *c))
			buf_add_byte(&target, (uint8_t)*c);
		else
			buf_printf(&target, "%%%02X", (unsigned int)(unsigned char)*c);
	}
	*out = (struct rpc_address){.target = buf_steal_string(&target), .is_unix = true};
	return NULL;
}

static struct error *rpc_address_check_host(const char *text, const char *host,
					    const char *colon)
{
	size_t len = (size_t)(colon - host);

	if (len == 0)
		return error_new(ERROR_INVALID_ARGUMENT, "address \"%s\" names no host",
				 text);
	if (host[0] == '[' && host[len - 1] == ']')
		return NULL;
	for (size_t i = 0; i < len; i++) {
		if (strchr("/:?#@[] \t", host[i]))
			return error_new(ERROR_INVALID_ARGUMENT,
					 "address \"%s\": '%c' does not belong in a host "
					 "name (an IPv6 address goes in brackets)",
					 text, host[i]);
	}
	return NULL;
}

struct error *rpc_address_parse(const char *text, struct rpc_address *out)
{
	_cleanup_free_ char *rest = NULL;
	const char *host = text;
	bool is_tls = false;
	struct error *err;
	int64_t port;
	size_t len;
	char *colon;

	if (strncmp(text, "unix:", 5) == 0)
		return rpc_address_unix(text, text + 5, out);
	for (size_t i = 0; i < ARRAY_SIZE(rpc_schemes); i++) {
		len = strlen(rpc_schemes[i].prefix);
		if (strncmp(text, rpc_schemes[i].prefix, len) == 0) {
			host = text + len;
			is_tls = rpc_schemes[i].is_tls;
		}
	}
	if (strstr(host, "://"))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "address \"%s\" begins with none of grpc://, grpcs://, "
				 "http://, https://, unix:",
				 text);
	rest = alloc_string(host);
	len = strlen(rest);
	if (len > 0 && rest[len - 1] == '/')
		rest[len - 1] = '\0';
	colon = strrchr(rest, ':');
	if (!colon || strchr(colon, ']'))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "address \"%s\" has no port: grpc://HOST:PORT", text);
	err = rpc_address_check_host(text, rest, colon);
	if (err)
		return err;
	err = units_parse_int(colon + 1, 0, 65535, &port);
	if (err)
		return error_wrap(err, "address \"%s\": port", text);
	*out = (struct rpc_address){.target = take(rest), .is_tls = is_tls};
	return NULL;
}

void rpc_address_deinit(struct rpc_address *address)
{
	free(address->target);
	*address = (struct rpc_address){0};
}

bool rpc_host_is_loopback(const char *host)
{
	struct in6_addr six;
	struct in_addr four;

	if (inet_pton(AF_INET, host, &four) == 1)
		return (ntohl(four.s_addr) >> 24) == IN_LOOPBACKNET;
	return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

/* A name is believed only where no resolver is asked: "127.example.com" may be anywhere.
 */
bool rpc_address_is_local(const struct rpc_address *address)
{
	_cleanup_free_ char *host = NULL;
	size_t len;

	if (address->is_unix)
		return true;
	host = alloc_string(address->target);
	*strrchr(host, ':') = '\0';
	len = strlen(host);
	if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		return rpc_host_is_loopback(host + 1);
	}
	return strcmp(host, "localhost") == 0 || rpc_host_is_loopback(host);
}
