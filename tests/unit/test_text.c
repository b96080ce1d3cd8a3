/* What people are shown, and what is logged, whatever names and messages hold. */
#include "tests/unit/cas_fixture.h"

#include "lib/base/log.h"
#include "lib/base/text.h"

static void test_text_for_people_is_escaped(void **state)
{
	static const char *const cases[][2] = {
		{"plain text", "plain text"},
		{"caf\\xe9 \\\\", "caf\\\\xe9 \\\\\\\\"}, /* not what a byte looks like */
		{"\x1b[2J", "\\x1b[2J"},
		{"a\nb\tc\x7f", "a\\x0ab\\x09c\\x7f"},
		{"caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x8e\x89",
		 "caf\xc3\xa9 \xe4\xb8\xad \xf0\x9f\x8e\x89"},
		{"caf\xe9", "caf\\xe9"},
		{"\xc2\x9b", "\\xc2\\x9b"},                   /* CSI in C1 */
		{"\xe2\x80\xae", "\\xe2\\x80\\xae"},          /* right-to-left override */
		{"\xe2\x80\xa8", "\\xe2\\x80\\xa8"},          /* line separator */
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* a surrogate */
		{"\xf3\xa0\x81\xa1", "\\xf3\\xa0\\x81\\xa1"}, /* a tag */
		{"\xe4\xb8", "\\xe4\\xb8"},                   /* cut off */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT;

		text_escape(slice_of(cases[i][0]), &out);
		assert_string_equal(buf_string(&out), cases[i][1]);
	}
}

/* What hostile names can do to the log: nothing. */
static void test_log_line_is_one_plain_line(void **state)
{
	int pipe_fds[2];
	int stderr_fd = dup(STDERR_FILENO);
	char line[256] = {0};
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
	log_write(LOG_ERROR, "names", "a\nb\r\x1b[31m\x7f \xc3\xa9");
	assert_true(dup2(stderr_fd, STDERR_FILENO) >= 0);
	n = read(pipe_fds[0], line, sizeof(line) - 1);
	assert_true(n > 0);
	assert_non_null(
		strstr(line, " error names a\\x0ab\\x0d\\x1b[31m\\x7f \xc3\xa9\n"));
	(void)close(stderr_fd);
	(void)close(pipe_fds[0]);
	(void)close(pipe_fds[1]);
}

static void test_log_levels(void **state)
{
	_cleanup_error_ struct error *err = NULL;

	(void)state;
	assert_null(log_configure("warn,fetch=debug"));
	assert_false(log_is_on(LOG_INFO, "other"));
	assert_true(log_is_on(LOG_WARN, "other"));
	assert_true(log_is_on(LOG_DEBUG, "fetch"));
	err = log_configure("loud");
	assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	assert_non_null(strstr(error_text(err), "loud"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_for_people_is_escaped),
		cmocka_unit_test(test_log_line_is_one_plain_line),
		cmocka_unit_test(test_log_levels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
