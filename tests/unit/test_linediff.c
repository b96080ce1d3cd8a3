/* Unified diffs: what they say, and that what they say makes the one text of the other.
 */
#include "tests/unit/cas_fixture.h"

#include "lib/base/linediff.h"

#include <string.h>

/* Applies hunks as patch(1) does, and insists on every line of context. */
static void patched(struct slice was, struct slice hunks, struct buf *out)
{
	const char *at = (const char *)was.data;
	const char *end = at + was.len;
	const char *line = (const char *)hunks.data;
	const char *last = line + hunks.len;
	size_t n_line = 1;

	while (line < last) {
		const char *eol = memchr(line, '\n', (size_t)(last - line));
		const char *next = eol + 1;
		size_t len = (size_t)(eol - line);
		unsigned long from;
		bool is_cut = next < last && *next == '\\';

		if (*line == '@') {
			const char *comma = strchr(line, ',');

			from = strtoul(line + 4, NULL, 10);
			/* a range of none names the line before it */
			if (comma && comma < strchr(line, '+') && comma[1] == '0')
				from++;
			for (; n_line < from; n_line++) {
				const char *stop = memchr(at, '\n', (size_t)(end - at));

				buf_add(out, at, (size_t)(stop + 1 - at));
				at = stop + 1;
			}
		} else if (*line != '\\') {
			size_t n = len - 1 + (is_cut ? 0 : 1);

			if (*line != '+') {
				assert_true((size_t)(end - at) >= n);
				assert_memory_equal(at, line + 1, n);
				at += n;
				n_line++;
			}
			if (*line != '-')
				buf_add(out, line + 1, n);
		}
		line = next;
	}
	buf_add(out, at, (size_t)(end - at));
}

static void check(const char *was, const char *is, const char *hunks)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	assert_true(linediff_unified(slice_of(was), slice_of(is), &out));
	assert_string_equal(buf_string(&out), hunks);
}

static void test_linediff_says_what_diff_says(void **state)
{
	(void)state;
	check("a\nb\n", "a\nb\n", "");
	check("", "a\n", "@@ -0,0 +1 @@\n+a\n");
	check("a\n", "", "@@ -1 +0,0 @@\n-a\n");
	check("a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
	check("a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
	/* two hunks where more than six lines lie between, else one */
	check("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "x\n2\n3\n4\n5\n6\n7\n8\ny\n",
	      "@@ -1,4 +1,4 @@\n-1\n+x\n 2\n 3\n 4\n@@ -6,4 +6,4 @@\n 6\n 7\n "
	      "8\n-9\n+y\n");
	check("1\n2\n3\n4\n5\n6\n7\n8\n", "x\n2\n3\n4\n5\n6\n7\ny\n",
	      "@@ -1,8 +1,8 @@\n-1\n+x\n 2\n 3\n 4\n 5\n 6\n 7\n-8\n+y\n");
}

/* Random texts of few different lines, so that much is alike in many ways. */
static void test_linediff_makes_one_text_of_the_other(void **state)
{
	(void)state;
	unsigned int seed = 1;

	for (size_t round = 0; round < 2000; round++) {
		struct buf texts[2] = {BUF_INIT, BUF_INIT};
		_cleanup_buf_ struct buf hunks = BUF_INIT;
		_cleanup_buf_ struct buf made = BUF_INIT;

		for (size_t t = 0; t < 2; t++) {
			size_t n = (size_t)rand_r(&seed) % 30;

			for (size_t i = 0; i < n; i++)
				buf_printf(&texts[t], "%d\n", rand_r(&seed) % 5);
			if (rand_r(&seed) % 3 == 0)
				buf_add_string(&texts[t], "end");
		}
		assert_true(linediff_unified(buf_slice(&texts[0]), buf_slice(&texts[1]),
					     &hunks));
		patched((struct slice){(const uint8_t *)buf_string(&texts[0]),
				       texts[0].len},
			buf_slice(&hunks), &made);
		assert_string_equal(buf_string(&made), buf_string(&texts[1]));
		buf_deinit(&texts[0]);
		buf_deinit(&texts[1]);
	}
}

/* Past the cost that is looked for it is one hunk, and right; past the lines it is none.
 */
static void test_linediff_is_bounded(void **state)
{
	(void)state;
	_cleanup_buf_ struct buf was = BUF_INIT;
	_cleanup_buf_ struct buf is = BUF_INIT;
	_cleanup_buf_ struct buf hunks = BUF_INIT;
	_cleanup_buf_ struct buf made = BUF_INIT;

	for (int i = 0; i < LINEDIFF_COST_MAX; i++) {
		buf_printf(&was, "%d\nsame\n", i);
		buf_printf(&is, "%d\nsame\n", -i - 1);
	}
	assert_true(linediff_unified(buf_slice(&was), buf_slice(&is), &hunks));
	patched(buf_slice(&was), buf_slice(&hunks), &made);
	assert_string_equal(buf_string(&made), buf_string(&is));
	for (int i = 0; i <= LINEDIFF_LINES_MAX; i++)
		buf_add_byte(&was, '\n');
	assert_false(linediff_unified(buf_slice(&was), buf_slice(&is), &hunks));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_linediff_says_what_diff_says),
		cmocka_unit_test(test_linediff_makes_one_text_of_the_other),
		cmocka_unit_test(test_linediff_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
