/* Owns nothing; pure. */
#include "lib/base/text.h"

size_t text_utf8_len(struct slice bytes)
{
	const uint8_t *s = bytes.data;
	size_t n;

	if (bytes.len == 0)
		return 0;
	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (n > bytes.len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
		return 0;
	return n;
}

bool text_is_utf8(struct slice bytes)
{
	for (size_t at = 0; at < bytes.len;) {
		size_t n = text_utf8_len((struct slice){bytes.data + at, bytes.len - at});

		if (!n)
			return false;
		at += n;
	}
	return true;
}

static uint32_t text_code_point(const uint8_t *s, size_t n)
{
	uint32_t code = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));

	for (size_t i = 1; i < n; i++)
		code = code << 6 | (s[i] & 0x3f);
	return code;
}

static bool text_is_printable(uint32_t code)
{
	return code >= 0x20 && !(code >= 0x7f && code < 0xa0) && /* C0, DEL, C1 */
	       code != 0xad && code != 0x61c &&                  /* soft hyphen, a mark */
	       !(code >= 0x200b && code <= 0x200f) &&            /* zero width, marks */
	       !(code >= 0x2028 && code <= 0x202e) && /* separators, embeddings */
	       !(code >= 0x2060 && code <= 0x206f) && /* isolates, invisible ones */
	       code != 0xfeff && !(code >= 0xfff9 && code <= 0xfffb) &&
	       !(code >= 0xe0000 && code <= 0xe007f); /* tags */
}

/* The next character's length; *is_shown_out: it may be seen as it is. */
static size_t text_next(struct slice rest, bool *is_shown_out)
{
	size_t n = text_utf8_len(rest);

	*is_shown_out = n && text_is_printable(text_code_point(rest.data, n));
	return n ? n : 1;
}

static void text_escape_all(struct slice bytes, const char *backslash, struct buf *out)
{
	for (size_t at = 0; at < bytes.len;) {
		bool is_shown;
		size_t n = text_next((struct slice){bytes.data + at, bytes.len - at},
				     &is_shown);

		if (is_shown && bytes.data[at] == '\\')
			buf_add_string(out, backslash);
		else if (is_shown)
			buf_add(out, bytes.data + at, n);
		for (size_t i = 0; !is_shown && i < n; i++)
			buf_printf(out, "\\x%02x", bytes.data[at + i]);
		at += n;
	}
}

void text_escape(struct slice bytes, struct buf *out)
{
	text_escape_all(bytes, "\\\\", out);
}

void text_escape_again(struct slice bytes, struct buf *out)
{
	text_escape_all(bytes, "\\", out);
}

bool text_is_plain(struct slice bytes)
{
	bool is_shown = true;

	for (size_t at = 0; is_shown && at < bytes.len;)
		at += text_next((struct slice){bytes.data + at, bytes.len - at},
				&is_shown);
	return is_shown;
}
