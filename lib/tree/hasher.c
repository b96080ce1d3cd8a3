/*
 * Owns OpenSSL's digest contexts. SHA-256 is fetched once a process, and a context is
 * reset rather than made again, because for small blobs making one costs more than
 * hashing. Each thread that uses the one-shot functions keeps a hasher and a read buffer
 * until it ends.
 *
 * OpenSSL's digest calls fail only for lack of memory or a broken installation: a bug
 * here.
 */
#include "lib/tree/hasher.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/sync.h"

#define HASHER_CHUNK ((size_t)256 << 10) /* stays in the second-level cache */

struct hasher {
	EVP_MD_CTX *ctx;
	int64_t size;
	uint8_t *chunk; /* the thread's own hasher only, and only once it read a file */
};

static struct sync_once hasher_once = SYNC_ONCE_INIT;
static EVP_MD *hasher_sha256; /* set once, freed never */
static pthread_key_t hasher_key;
static _Thread_local struct hasher *hasher_of_thread;

static void hasher_thread_end(void *hasher)
{
	hasher_of_thread = NULL;
	hasher_free(hasher);
}

static void hasher_init_process(void)
{
	hasher_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	require(hasher_sha256);
	require(pthread_key_create(&hasher_key, hasher_thread_end) == 0);
}

void hasher_prepare(void)
{
	sync_once(&hasher_once, hasher_init_process);
}

struct hasher *hasher_new(void)
{
	struct hasher *hasher = alloc_new(struct hasher);

	hasher_prepare();
	hasher->ctx = EVP_MD_CTX_new();
	require(hasher->ctx);
	require(EVP_DigestInit_ex(hasher->ctx, hasher_sha256, NULL) == 1);
	return hasher;
}

void *hasher_free(struct hasher *hasher)
{
	if (!hasher)
		return NULL;
	EVP_MD_CTX_free(hasher->ctx);
	free(hasher->chunk);
	free(hasher);
	return NULL;
}

void hasher_add(struct hasher *hasher, const void *data, size_t len)
{
	hasher->size += (int64_t)len;
	require(EVP_DigestUpdate(hasher->ctx, data, len) == 1);
}

void hasher_end(struct hasher *hasher, struct digest *out)
{
	unsigned int len = 0;

	require(EVP_DigestFinal_ex(hasher->ctx, out->hash, &len) == 1);
	require(len == DIGEST_HASH_SIZE);
	out->size = hasher->size;
	hasher->size = 0;
	require(EVP_DigestInit_ex(hasher->ctx, NULL, NULL) == 1);
}

static struct hasher *hasher_mine(void)
{
	if (!hasher_of_thread) {
		hasher_of_thread = hasher_new();
		require(pthread_setspecific(hasher_key, hasher_of_thread) == 0);
	}
	return hasher_of_thread;
}

void hasher_digest(const void *data, size_t len, struct digest *out)
{
	struct hasher *hasher = hasher_mine();

	hasher_add(hasher, data, len);
	hasher_end(hasher, out);
}

struct error *hasher_digest_fd(int fd, struct digest *out)
{
	struct hasher *hasher = hasher_mine();
	struct digest drop;

	if (!hasher->chunk)
		hasher->chunk = alloc_array(HASHER_CHUNK, 1);
	for (;;) {
		ssize_t n = pread(fd, hasher->chunk, HASHER_CHUNK, hasher->size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int errnum = errno;

			hasher_end(hasher, &drop);
			return error_errno(errnum, "read");
		}
		if (n == 0)
			break;
		hasher_add(hasher, hasher->chunk, (size_t)n);
	}
	hasher_end(hasher, out);
	return NULL;
}

struct error *hasher_verify_fd(int fd, const struct digest *want)
{
	struct digest got;
	char want_text[DIGEST_STRING_MAX];
	char got_text[DIGEST_STRING_MAX];
	struct error *err = hasher_digest_fd(fd, &got);

	if (err)
		return err;
	if (!digest_equal(&got, want))
		return error_new(ERROR_DATA_LOSS, "the bytes of %s are those of %s",
				 digest_format(want, want_text),
				 digest_format(&got, got_text));
	return NULL;
}
