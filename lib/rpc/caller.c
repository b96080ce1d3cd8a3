/*
 * Owns the reading of a call's metadata, and of its peer from core's words for it. It is
 * looked up once for a call, when the call is asked about for the first time; the
 * certificate's properties stay core's, in the connection's context, of which the call
 * holds a reference.
 */
#include "lib/rpc/caller.h"

#include <string.h>
#include <strings.h>

#include "lib/rpc/incoming.h"

#define PEER_BEARER "Bearer "

bool rpc_header_get(const struct rpc_in *in, const char *name, struct slice *value_out)
{
	for (size_t i = 0; i < in->metadata.count; i++) {
		const grpc_metadata *header = &in->metadata.metadata[i];

		if (grpc_slice_str_cmp(header->key, name) != 0)
			continue;
		*value_out = rpc_slice_view(&header->value);
		return true;
	}
	return false;
}

static struct slice rpc_caller_property(const grpc_auth_context *auth, const char *name)
{
	grpc_auth_property_iterator it =
		grpc_auth_context_find_properties_by_name(auth, name);
	const grpc_auth_property *found = grpc_auth_property_iterator_next(&it);

	return found ? (struct slice){(const uint8_t *)found->value, found->value_length}
		     : (struct slice){0};
}

/* "ipv4:1.2.3.4:5", "ipv6:[::1]:5" with its brackets perhaps percent-encoded, "unix:". */
static void rpc_caller_host(const char *uri, struct rpc_caller *peer)
{
	const char *host = strchr(uri, ':');
	const char *end = strrchr(uri, ':');
	size_t len;

	if (strncmp(uri, "unix", 4) == 0) {
		peer->is_local = true;
		memcpy(peer->host, "unix", sizeof("unix"));
		return;
	}
	if (!host || end == host)
		return; /* nobody that has an address: no host, not local */
	host++;
	if (strncmp(host, "%5B", 3) == 0 && end - host >= 6) {
		host += 3;
		end -= 3;
	} else if (*host == '[' && end - host >= 2) {
		host++;
		end--;
	}
	len = (size_t)(end - host);
	if (len >= sizeof(peer->host))
		len = sizeof(peer->host) - 1;
	memcpy(peer->host, host, len);
	peer->host[len] = '\0';
	peer->is_local = rpc_host_is_loopback(peer->host);
}

static void rpc_caller_token(const struct rpc_in *in, struct rpc_caller *peer)
{
	struct slice value;

	if (!rpc_header_get(in, "authorization", &value) ||
	    value.len <= strlen(PEER_BEARER) ||
	    strncasecmp((const char *)value.data, PEER_BEARER, strlen(PEER_BEARER)) != 0)
		return;
	peer->token = (struct slice){value.data + strlen(PEER_BEARER),
				     value.len - strlen(PEER_BEARER)};
}

const struct rpc_caller *rpc_caller(struct rpc_in *in)
{
	struct rpc_caller *peer = &in->caller;
	char *uri;

	if (in->has_caller)
		return peer;
	in->has_caller = true;
	uri = grpc_call_get_peer(in->call);
	rpc_caller_host(uri, peer);
	gpr_free(uri);
	in->auth = grpc_call_auth_context(in->call);
	if (in->auth) {
		peer->has_certificate =
			rpc_caller_property(in->auth, GRPC_X509_PEM_CERT_PROPERTY_NAME)
				.len > 0;
		peer->cn = rpc_caller_property(in->auth, GRPC_X509_CN_PROPERTY_NAME);
		peer->subject =
			rpc_caller_property(in->auth, GRPC_X509_SUBJECT_PROPERTY_NAME);
	}
	rpc_caller_token(in, peer);
	return peer;
}

bool rpc_caller_each_san(struct rpc_in *in, bool (*fn)(void *ctx, struct slice name),
			 void *ctx)
{
	grpc_auth_property_iterator it;
	const grpc_auth_property *found;

	(void)rpc_caller(in);
	if (!in->auth)
		return false;
	it = grpc_auth_context_find_properties_by_name(in->auth,
						       GRPC_X509_SAN_PROPERTY_NAME);
	while ((found = grpc_auth_property_iterator_next(&it))) {
		if (fn(ctx, (struct slice){(const uint8_t *)found->value,
					   found->value_length}))
			return true;
	}
	return false;
}

void rpc_caller_deinit(struct rpc_in *in)
{
	if (in->auth)
		grpc_auth_context_release(in->auth);
	in->auth = NULL;
}

unsigned int rpc_rights(const struct rpc_in *in)
{
	return in->entry->handler ? in->entry->handler->flags >> 8 : 0;
}

struct error *rpc_in_admit(struct rpc_in *in)
{
	const struct rpc_server *server = in->server;

	if (in->is_admitted || !server->admit)
		return NULL;
	in->is_admitted = true;
	return server->admit(in, server->admit_ctx);
}
