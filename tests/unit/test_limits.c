/* Limits: how they are written, what an operator and an action may say of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/clock.h"
#include "worker/sandbox/limits.h"

static void expect_invalid(struct error *err, const char *part)
{
	assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	if (!strstr(error_text(err), part))
		fail_msg("\"%s\" does not say \"%s\"", error_text(err), part);
	error_free(err);
}

static void expect_none(struct error *err)
{
	if (err)
		fail_msg("%s", error_text(err));
}

static struct limits_policy policy_of(const char *normal, const char *most)
{
	struct limits_policy policy;

	limits_init(&policy.normal);
	limits_init(&policy.most);
	if (normal)
		expect_none(limits_set(&policy.normal, normal));
	if (most)
		expect_none(limits_set(&policy.most, most));
	expect_none(limits_settle(&policy));
	return policy;
}

static void test_limits_are_none_unless_set(void **state)
{
	struct limits limits;

	(void)state;
	limits_init(&limits);
	for (size_t i = 0; i < LIMITS_N; i++)
		assert_true(limits.of[i] == LIMITS_NONE);
}

static void test_limits_set_reads_each_unit(void **state)
{
	struct limits limits;

	(void)state;
	limits_init(&limits);
	expect_none(limits_set(&limits, "memory=2G"));
	expect_none(limits_set(&limits, "processes=64"));
	expect_none(limits_set(&limits, "cpu-time=1500ms"));
	expect_none(limits_set(&limits, "output-files=0"));
	assert_true(limits.of[LIMITS_MEMORY] == 2LL << 30);
	assert_true(limits.of[LIMITS_PROCESSES] == 64);
	assert_true(limits.of[LIMITS_CPU_TIME] == 1500 * NS_PER_MS);
	assert_true(limits.of[LIMITS_OUTPUT_FILES] == 0);
	assert_true(limits.of[LIMITS_DISK] == LIMITS_NONE);
}

static void test_limits_set_names_what_is_wrong(void **state)
{
	static const char *const bad[][2] = {
		{"memory", "memory"},        {"=1", "NAME=VALUE"},
		{"mem=1G", "mem=1G"},        {"memoryx=1G", "memoryx"},
		{"memory=", "memory"},       {"memory=lots", "lots"},
		{"memory=1G2", "1G2"},       {"memory=-1", "-1"},
		{"memory=1K", "8M"},         {"processes=0", "less than 1"},
		{"processes=1.5", "1.5"},    {"processes=2K", "2K"},
		{"cpu-time=5x", "5x"},       {"cpu-time=0s", "less than 10ms"},
		{"disk=99999999T", "large"}, {"disk=1", "less than 4K"},
	};
	struct limits limits;

	(void)state;
	limits_init(&limits);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_invalid(limits_set(&limits, bad[i][0]), bad[i][1]);
	for (size_t i = 0; i < LIMITS_N; i++)
		assert_true(limits.of[i] == LIMITS_NONE);
}

static void test_limits_format_is_what_set_reads(void **state)
{
	static const char *const texts[] = {"memory=256M",       "memory=8388609",
					    "disk=3T",           "output-bytes=0",
					    "output-bytes=1000", "cpu-time=2s",
					    "cpu-time=1500ms",   "processes=1",
					    "log-bytes=5K",      "output-files=2048"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct limits limits;
		char again[64];
		char value[LIMITS_TEXT_MAX];

		limits_init(&limits);
		expect_none(limits_set(&limits, texts[i]));
		for (enum limits_kind kind = 0; kind < LIMITS_N; kind++) {
			if (limits.of[kind] == LIMITS_NONE)
				continue;
			(void)snprintf(again, sizeof(again), "%s=%s", limits_name(kind),
				       limits_format(kind, limits.of[kind], value));
			assert_string_equal(again, texts[i]);
		}
	}
}

static void test_limits_default_alone_is_the_maximum(void **state)
{
	struct limits_policy policy = policy_of("memory=1G", NULL);
	struct limits limits = policy.normal;

	(void)state;
	expect_none(limits_ask(&policy, LIMITS_MEMORY, "1G", &limits));
	expect_invalid(limits_ask(&policy, LIMITS_MEMORY, "1025M", &limits),
		       "limit-memory is 1025M, more than this worker's maximum of 1G");
	assert_true(limits.of[LIMITS_MEMORY] == 1LL << 30);
}

static void test_limits_maximum_alone_is_the_default(void **state)
{
	struct limits_policy policy = policy_of(NULL, "cpu-time=1m");

	(void)state;
	assert_true(policy.normal.of[LIMITS_CPU_TIME] == 60 * NS_PER_S);
}

static void test_limits_an_action_moves_between_default_and_maximum(void **state)
{
	struct limits_policy policy = policy_of("disk=1G", "disk=4G");
	struct limits limits = policy.normal;

	(void)state;
	assert_true(limits.of[LIMITS_DISK] == 1LL << 30);
	expect_none(limits_ask(&policy, LIMITS_DISK, "4G", &limits));
	assert_true(limits.of[LIMITS_DISK] == 4LL << 30);
	expect_none(limits_ask(&policy, LIMITS_DISK, "4K", &limits));
	assert_true(limits.of[LIMITS_DISK] == 4096);
	expect_invalid(limits_ask(&policy, LIMITS_DISK, "5G", &limits), "maximum of 4G");
	expect_invalid(limits_ask(&policy, LIMITS_DISK, "x", &limits), "limit-disk");
}

static void test_limits_without_a_maximum_anything_goes(void **state)
{
	struct limits_policy policy = policy_of(NULL, NULL);
	struct limits limits = policy.normal;

	(void)state;
	expect_none(limits_ask(&policy, LIMITS_LOG_BYTES, "1000T", &limits));
	assert_true(limits.of[LIMITS_LOG_BYTES] == 1000LL << 40);
}

static void test_limits_default_over_its_maximum_is_refused(void **state)
{
	struct limits_policy policy;

	(void)state;
	limits_init(&policy.normal);
	limits_init(&policy.most);
	expect_none(limits_set(&policy.normal, "processes=65"));
	expect_none(limits_set(&policy.most, "processes=64"));
	expect_invalid(limits_settle(&policy),
		       "processes, 65, is over its maximum of 64");
}

static void test_limits_messages_name_limit_and_value(void **state)
{
	char text[LIMITS_MESSAGE_MAX];
	struct limits limits;

	(void)state;
	limits_init(&limits);
	expect_none(limits_set(&limits, "memory=256M"));
	expect_none(limits_set(&limits, "processes=7"));
	assert_string_equal(limits_message(&limits, LIMITS_MEMORY, text),
			    "killed: past the limit memory=256M");
	assert_string_equal(limits_message(&limits, LIMITS_PROCESSES, text),
			    "refused: past the limit processes=7");
}

static void test_limits_passed_is_no_success(void **state)
{
	(void)state;
	assert_int_equal(limits_exit_code(0, 0), 0);
	assert_int_equal(limits_exit_code(1u << LIMITS_MEMORY, 0), 137);
	assert_int_equal(limits_exit_code(1u << LIMITS_OUTPUT_FILES, 3), 3);
	/* a command may do without the process that it was refused */
	assert_int_equal(limits_exit_code(1u << LIMITS_PROCESSES, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits_are_none_unless_set),
		cmocka_unit_test(test_limits_set_reads_each_unit),
		cmocka_unit_test(test_limits_set_names_what_is_wrong),
		cmocka_unit_test(test_limits_format_is_what_set_reads),
		cmocka_unit_test(test_limits_default_alone_is_the_maximum),
		cmocka_unit_test(test_limits_maximum_alone_is_the_default),
		cmocka_unit_test(test_limits_an_action_moves_between_default_and_maximum),
		cmocka_unit_test(test_limits_without_a_maximum_anything_goes),
		cmocka_unit_test(test_limits_default_over_its_maximum_is_refused),
		cmocka_unit_test(test_limits_messages_name_limit_and_value),
		cmocka_unit_test(test_limits_passed_is_no_success),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
