/* Owns the list of services and the checks that every request goes through. No state. */
#include "server/service.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/store/chunks.h"

const struct rpc_handlers *const server_services[SERVER_SERVICES] = {
	&cas_handlers,          &bytestream_handlers, &action_handlers,
	&capabilities_handlers, &execution_handlers,  &operations_handlers,
	&bots_handlers,         &asset_handlers,      &logstream_handlers,
	&health_handlers,       &reflection_handlers,
};

bool server_offers(const struct server *server, const struct rpc_handlers *handlers)
{
	return server->assets || handlers != &asset_handlers;
}

/* The methods of one service stand together. */
const char *server_service_name(const struct server *server, size_t i)
{
	const ProtobufCServiceDescriptor *last = NULL;

	for (size_t s = 0; s < SERVER_SERVICES; s++) {
		const struct rpc_handlers *handlers = server_services[s];

		for (size_t k = 0; k < handlers->n && server_offers(server, handlers);
		     k++) {
			const ProtobufCServiceDescriptor *service =
				handlers->list[k].method.service;

			if (service != last && i-- == 0)
				return service->name;
			last = service;
		}
	}
	return NULL;
}

struct error *server_check_instance(const struct server *server, struct rpc_in *in,
				    const char *instance)
{
	_cleanup_buf_ struct buf known = BUF_INIT;

	for (size_t i = 0; i < server->instances.n; i++) {
		if (strcmp(server->instances.items[i], instance) == 0)
			return access_check(server->access, in, instance);
		buf_printf(&known, "%s\"%s\"", i ? ", " : "", server->instances.items[i]);
	}
	return error_new(ERROR_INVALID_ARGUMENT,
			 "instance \"%.200s\" is unknown: this server has %s", instance,
			 buf_string(&known));
}

struct error *server_check_name(const struct server *server, struct rpc_in *in,
				const char *name)
{
	const char *slash = strrchr(name, '/');
	_cleanup_free_ char *instance =
		alloc_printf("%.*s", slash ? (int)(slash - name) : 0, name);

	return access_check(server->access, in, instance);
}

bool server_may_have_lost(const struct server *server, const char *operation)
{
	char instance[QUEUE_INSTANCE_MAX + 1];
	struct digest action;

	return clock_mono_ns() - server->start_ns < SERVER_LOST_NS &&
	       queue_name_parse(operation, instance, &action);
}

struct error *server_check_compressor(const struct server *server,
				      Reapi__Compressor__Value compressor)
{
	if (compressor == REAPI__COMPRESSOR__VALUE__IDENTITY ||
	    (compressor == REAPI__COMPRESSOR__VALUE__ZSTD &&
	     server->compression != SERVER_COMPRESS_NEVER))
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT,
			 "compressor %d is not offered: this server has %s",
			 (int)compressor,
			 server->compression == SERVER_COMPRESS_NEVER ? "none" : "ZSTD");
}

struct error *server_check_function(Reapi__DigestFunction__Value function)
{
	if (function == REAPI__DIGEST_FUNCTION__VALUE__UNKNOWN ||
	    function == REAPI__DIGEST_FUNCTION__VALUE__SHA256)
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT,
			 "digest function %d is not offered: this server has SHA256",
			 (int)function);
}

struct error *server_check(const struct server *server, struct rpc_in *in,
			   const char *instance, Reapi__DigestFunction__Value function)
{
	struct error *err = server_check_instance(server, in, instance);

	return err ? err : server_check_function(function);
}

bool server_find(const struct server *server, const struct digest *digest,
		 struct digest *holder_out)
{
	*holder_out = *digest;
	return digest_equal(digest, &digest_of_empty) ||
	       chunks_have(server->chunks, digest, holder_out);
}

bool server_has(const struct server *server, const struct digest *digest)
{
	struct digest holder;

	return server_find(server, digest, &holder);
}

struct error *server_read(const struct server *server, const struct digest *digest,
			  size_t limit, struct buf *out)
{
	return chunks_read(server->chunks, digest, limit, out);
}

struct error *server_read_message(const struct server *server,
				  const struct digest *digest,
				  const ProtobufCMessageDescriptor *type,
				  const char *what, struct arena *arena,
				  ProtobufCMessage **message_out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	char text[DIGEST_STRING_MAX];
	ProtobufCMessage *message;
	struct error *err = NULL;

	if (digest->size > 0)
		err = server_read(server, digest, SERVER_MESSAGE, &bytes);
	if (err)
		return error_wrap(err, "read the %s %s", what,
				  digest_format(digest, text));
	message = rpc_decode(type, buf_slice(&bytes), arena);
	if (!message && arena->is_full)
		return arena_error(what);
	if (!message)
		return error_new(ERROR_INVALID_ARGUMENT, "blob %s is no %s",
				 digest_format(digest, text), what);
	*message_out = message;
	return NULL;
}

void server_add_missing(struct error *err, const struct digest *digest)
{
	_cleanup_buf_ struct buf subject = BUF_INIT;
	char text[DIGEST_STRING_MAX];

	buf_printf(&subject, "blobs/%s", digest_format(digest, text));
	error_add_missing(err, buf_string(&subject));
}
