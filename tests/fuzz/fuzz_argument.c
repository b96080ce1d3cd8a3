/*
 * Fuzzes what is read out of command lines and response files: an input is words that end
 * with a NUL, of which the first byte says whether a tool is among them. What is told
 * lies within bounds, ends with a NUL, and there is not more of it than the words allow.
 */
#include "predict/argument.h"
#include "tests/fuzz/fuzz.h"

#define FUZZ_WORDS_MAX ((size_t)256)

struct fuzz_told {
	size_t n_words;
	size_t index;
	size_t n_bytes;
};

static void fuzz_each(void *ctx, enum argument_role role, size_t index, struct slice text)
{
	struct fuzz_told *told = ctx;

	require(role <= ARGUMENT_OUTPUT);
	require(index < told->n_words && index >= told->index);
	require(text.len <= ARGUMENT_WORD_MAX);
	require(text.len > 0 || role == ARGUMENT_NO_STDINC);
	require(text.data[text.len] == 0 && !memchr(text.data, 0, text.len));
	told->index = index;
	told->n_bytes += text.len;
}

static void fuzz_split(struct slice text)
{
	size_t n = 0;
	size_t n_bytes = 0;
	char **words = argument_split(text, FUZZ_WORDS_MAX, &n);

	require(n <= FUZZ_WORDS_MAX);
	for (size_t i = 0; i < n; i++) {
		n_bytes += strlen(words[i]);
		free(words[i]);
	}
	require(n_bytes <= text.len);
	free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *words[FUZZ_WORDS_MAX];
	struct slice rest = {data, size};
	struct fuzz_told told = {0};
	size_t n = 0;

	if (size == 0)
		return 0;
	rest.data++;
	rest.len--;
	fuzz_split(rest);
	while (rest.len > 0 && n < FUZZ_WORDS_MAX) {
		size_t len = strnlen((const char *)rest.data, rest.len);

		words[n++] = fuzz_text((struct slice){rest.data, len});
		len += len < rest.len;
		rest.data += len;
		rest.len -= len;
	}
	told.n_words = n;
	argument_each((const char *const *)words, n, data[0] & 1, fuzz_each, &told);
	require(told.n_bytes <= 4 * size);
	for (size_t i = 0; i < n; i++)
		free(words[i]);
	return 0;
}
