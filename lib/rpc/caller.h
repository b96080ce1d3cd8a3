/*
 * Who a call comes from, as far as its connection and its headers tell: a certificate
 * that the server verified, a bearer token that nobody has looked at yet, the host.
 *
 * Threads: those of the call's steps; what it gives lives as long as the call.
 */
#pragma once

#include "lib/rpc/server.h"

#define RPC_CALLER_HOST_MAX 80 /* an IPv6 address and its zone */

struct rpc_caller {
	char host[RPC_CALLER_HOST_MAX]; /* the address without its port; "unix" */
	bool is_local; /* unix socket or loopback: a process of this machine */
	bool has_certificate;
	struct slice cn, subject; /* of the certificate; subject as RFC 2253 writes it */
	struct slice token;       /* of "authorization: Bearer TOKEN", or empty */
};

const struct rpc_caller *rpc_caller(struct rpc_in *in);
/* The certificate's alternative names (DNS, URI, e-mail, IP), until fn says true; whether
 * it did. */
bool rpc_caller_each_san(struct rpc_in *in, bool (*fn)(void *ctx, struct slice name),
			 void *ctx);
