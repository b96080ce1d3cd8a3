/*
 * Fuzzes what people and peers write as text: digests, addresses, numbers with units, and
 * options of every kind. The first byte says which.
 */
#include "lib/base/option.h"
#include "lib/base/units.h"
#include "lib/rpc/rpc.h"
#include "lib/tree/digest.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_digest(struct slice bytes)
{
	_cleanup_error_ struct error *err = NULL;
	struct digest digest;
	struct digest again;
	char text[DIGEST_STRING_MAX];

	err = digest_parse_slice(bytes, &digest);
	if (err)
		return;
	(void)digest_format(&digest, text);
	require(strlen(text) == bytes.len); /* there is one spelling, but for the slash */
	require(!digest_parse(text, &again) && digest_equal(&digest, &again));
	require(!digest_parse(digest_name(&digest, text), &again));
	require(digest_equal(&digest, &again));
}

static void fuzz_address(const char *text)
{
	_cleanup_error_ struct error *err = NULL;
	struct rpc_address address = {0};

	err = rpc_address_parse(text, &address);
	if (err)
		return;
	require(address.target && address.target[0]);
	require(!(address.is_tls && address.is_unix));
	rpc_address_deinit(&address);
}

static void fuzz_units(const char *text)
{
	char shown[UNITS_TEXT_MAX];
	int64_t value = -1;

	error_free(units_parse_size(text, &value));
	require(value >= -1);
	(void)units_format_size(value, shown);
	value = -1;
	error_free(units_parse_duration(text, &value));
	require(value >= -1);
	(void)units_format_duration(value, shown);
	value = 5;
	error_free(units_parse_int(text, 5, 500, &value));
	require(value >= 5 && value <= 500);
	(void)units_format_count(value, shown);
}

static void fuzz_options(const char *text)
{
	struct option_list list = {0};
	char *string = NULL;
	int64_t number = 3;
	bool flag = false;
	const struct option_def defs[] = {
		{.name = "flag", .kind = OPTION_FLAG, .value = &flag},
		{.name = "string", .kind = OPTION_STRING, .value = &string},
		{.name = "list", .kind = OPTION_LIST, .value = &list},
		{.name = "int", .kind = OPTION_INT, .value = &number, .min = 3, .max = 9},
		{.name = "size", .kind = OPTION_SIZE, .value = &number},
		{.name = "time", .kind = OPTION_DURATION, .value = &number},
	};

	for (size_t i = 0; i < ARRAY_SIZE(defs); i++)
		error_free(option_set(&defs[i], text, "fuzzer"));
	require(number >= 0);
	require(strcmp(string, text) == 0);
	require(list.n == 1 && strcmp(list.items[0], text) == 0);
	free(string);
	option_list_deinit(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = NULL;
	struct slice rest;

	if (size == 0)
		return 0;
	rest = (struct slice){data + 1, size - 1};
	text = fuzz_text(rest);
	switch (data[0] % 4) {
	case 0:
		fuzz_digest(rest);
		break;
	case 1:
		fuzz_address(text);
		break;
	case 2:
		fuzz_units(text);
		break;
	case 3:
		fuzz_options(text);
		break;
	}
	return 0;
}
