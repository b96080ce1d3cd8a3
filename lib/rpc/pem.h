/* Certificates as text, looked at before core gets them. Private to lib/rpc. */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/error.h"

/* The bytes of the file that an option names; path NULL: nothing. Where there is none,
 * that is INVALID_ARGUMENT: the option's value is wrong. */
struct error *rpc_pem_read(const char *option, const char *path, struct buf *out);
/* INVALID_ARGUMENT unless what was read there is certificates, one or more: core would
 * only fail each handshake. path NULL: nothing is asked. */
struct error *rpc_pem_check_ca(const char *option, const char *path, const char *ca);
/* INVALID_ARGUMENT unless cert begins with a certificate and key is its private key: so
 * half of a pair, while files are replaced one by one, is never used. */
struct error *rpc_pem_check(const char *cert, const char *key);
