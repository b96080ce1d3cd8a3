/* Owns nothing: keys are hashes of what a kind of command has in common. */
#include "predict/profile_key.h"

#include <string.h>

#include "lib/base/alloc.h"
#include "lib/tree/hasher.h"
#include "predict/argument.h"

/* Another version of profiles asks for other keys, and finds none of the old ones. */
#define PROFILE_KEY_PREFIX "lazyroot profile 1 "

static void profile_key_of(const char *kind, struct slice what, struct digest *out)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	buf_add_string(&text, PROFILE_KEY_PREFIX);
	buf_add_string(&text, kind);
	buf_add_byte(&text, '\0');
	buf_add(&text, what.data, what.len);
	hasher_digest(text.data, text.len, out);
}

void profile_key_command(const struct digest *command, struct digest *out)
{
	profile_key_of("command", (struct slice){command->hash, sizeof(command->hash)},
		       out);
}

void profile_key_tool(const struct digest *tool, struct digest *out)
{
	profile_key_of("tool", (struct slice){tool->hash, sizeof(tool->hash)}, out);
}

void profile_key_within(const char *instance, struct digest *key)
{
	_cleanup_buf_ struct buf text = BUF_INIT;

	if (!*instance)
		return;
	buf_add(&text, key->hash, sizeof(key->hash));
	buf_add_string(&text, instance);
	profile_key_of("within", buf_slice(&text), key);
}

struct profile_shape {
	size_t *kept; /* of each word, how many of its first bytes are kept … */
	bool *is_out; /* … or that it is left out altogether */
	const char *const *words;
};

static void profile_shape_word(void *ctx, enum argument_role role, size_t index,
			       struct slice text)
{
	struct profile_shape *shape = ctx;
	uintptr_t word = (uintptr_t)shape->words[index];
	uintptr_t end = word + strlen(shape->words[index]);
	uintptr_t at = (uintptr_t)text.data;

	/* of a list, or of a script, it is a copy of a part: the word stays whole */
	if (at < word || at + text.len != end)
		return;
	if (role == ARGUMENT_OUTPUT)
		shape->is_out[index] = true;
	else if (role == ARGUMENT_PATH || role == ARGUMENT_RESPONSE)
		shape->kept[index] = at - word;
}

/* ".cc" of "a/b.cc"; "" where there is none. */
static const char *profile_ending(const char *word)
{
	const char *slash = strrchr(word, '/');
	const char *dot = strrchr(slash ? slash : word, '.');

	return dot ? dot : "";
}

void profile_key_shape(const char *const *words, size_t n, struct digest *out)
{
	_cleanup_free_ size_t *kept = alloc_array(n + 1, sizeof(*kept));
	_cleanup_free_ bool *is_out = alloc_array(n + 1, sizeof(*is_out));
	struct profile_shape shape = {.kept = kept, .is_out = is_out, .words = words};
	_cleanup_buf_ struct buf text = BUF_INIT;

	for (size_t i = 0; i < n; i++)
		kept[i] = SIZE_MAX;
	argument_each(words, n, true, profile_shape_word, &shape);
	for (size_t i = 0; i < n; i++) {
		if (is_out[i])
			continue;
		if (kept[i] == SIZE_MAX) {
			buf_add_string(&text, words[i]);
		} else {
			buf_add(&text, words[i], kept[i]);
			buf_add_string(&text, "*");
			buf_add_string(&text, profile_ending(words[i]));
		}
		buf_add_byte(&text, '\0');
	}
	profile_key_of("shape", buf_slice(&text), out);
}
