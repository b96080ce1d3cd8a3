/* Certificates as text, looked at before core gets them. Private to lib/rpc. */
#pragma once

#include "lib/base/error.h"

/* INVALID_ARGUMENT unless cert begins with a certificate and key is its private key: so
 * half of a pair, while files are replaced one by one, is never used. */
struct error *rpc_pem_check(const char *cert, const char *key);
