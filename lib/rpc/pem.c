/*
 * Owns the look at a certificate and its key by OpenSSL, whose reasons are better than
 * core's (which only logs them). No state.
 */
#include "lib/rpc/pem.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "lib/base/file.h"

#define PEM_FILE_MAX (1 << 20)

static void rpc_pem_free_bio(BIO **bio)
{
	(void)BIO_free(*bio);
}

static void rpc_pem_free_cert(X509 **cert)
{
	X509_free(*cert);
}

static void rpc_pem_free_key(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

/* Nobody is asked for a passphrase. */
static int rpc_pem_no_passphrase(char *buf, int size, int is_write, void *ctx)
{
	(void)buf;
	(void)size;
	(void)is_write;
	(void)ctx;
	return -1;
}

struct error *rpc_pem_read(const char *option, const char *path, struct buf *out)
{
	struct error *err =
		path ? file_read_all(AT_FDCWD, path, PEM_FILE_MAX, out) : NULL;

	if (error_code(err) == ERROR_NOT_FOUND)
		err = error_recode(err, ERROR_INVALID_ARGUMENT);
	return error_wrap(err, "%s %s", option, path);
}

struct error *rpc_pem_check_ca(const char *option, const char *path, const char *ca)
{
	_cleanup_(rpc_pem_free_bio) BIO *bio = NULL;
	bool is_whole;
	size_t n = 0;

	if (!path)
		return NULL;
	bio = BIO_new_mem_buf(ca, -1);
	require(bio);
	ERR_clear_error();
	for (;; n++) {
		_cleanup_(rpc_pem_free_cert) X509 *x509 =
			PEM_read_bio_X509(bio, NULL, rpc_pem_no_passphrase, NULL);

		if (!x509)
			break;
	}
	is_whole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	ERR_clear_error();
	if (n && is_whole)
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT, "%s %s: it %s (PEM is wanted)", option,
			 path,
			 n ? "holds something broken after its certificates"
			   : "holds no certificate");
}

struct error *rpc_pem_check(const char *cert, const char *key)
{
	_cleanup_(rpc_pem_free_bio) BIO *cert_bio = BIO_new_mem_buf(cert, -1);
	_cleanup_(rpc_pem_free_bio) BIO *key_bio = BIO_new_mem_buf(key, -1);
	_cleanup_(rpc_pem_free_cert) X509 *x509 = NULL;
	_cleanup_(rpc_pem_free_key) EVP_PKEY *pkey = NULL;
	struct error *err = NULL;

	require(cert_bio && key_bio);
	x509 = PEM_read_bio_X509(cert_bio, NULL, rpc_pem_no_passphrase, NULL);
	pkey = PEM_read_bio_PrivateKey(key_bio, NULL, rpc_pem_no_passphrase, NULL);
	if (!x509)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"the certificate's file holds no certificate (PEM)");
	else if (!pkey)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"the key's file holds no private key that can be read "
				"without a passphrase (PEM)");
	else if (X509_check_private_key(x509, pkey) != 1)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"the certificate and the key do not belong together");
	ERR_clear_error();
	return err;
}
