/*
 * Fuzzes profiles as other workers may tell them: what is accepted is as a run could have
 * made it, goes on through merging and probabilities, and comes back the same from its
 * own encoding.
 */
#include "predict/profile.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_entry(const struct profile_entry *entry)
{
	size_t len = strlen(entry->path);
	double probability = profile_probability(entry);

	require(len > 0 && len <= PROFILE_PATH_MAX);
	require(entry->path[0] != '/' && entry->path[len - 1] != '/');
	require(!strstr(entry->path, "//") && !strstr(entry->path, "/../"));
	require(strncmp(entry->path, "../", 3) != 0 && strcmp(entry->path, "..") != 0);
	require(entry->size >= 0);
	require(entry->runs >= 1 && entry->runs <= 8 && entry->seen);
	require(probability > 0 && probability < 1);
}

static void fuzz_same(const struct profile *a, const struct profile *b)
{
	require(a->n == b->n && a->n_runs == b->n_runs);
	for (size_t i = 0; i < a->n; i++) {
		require(strcmp(a->entries[i].path, b->entries[i].path) == 0);
		require(a->entries[i].size == b->entries[i].size);
		require(a->entries[i].seen == b->entries[i].seen);
		require(a->entries[i].runs == b->entries[i].runs);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_profile_ struct profile profile = PROFILE_INIT;
	_cleanup_profile_ struct profile again = PROFILE_INIT;
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	struct error *err = profile_decode((struct slice){data, size}, &profile);
	size_t n_before;

	if (err) {
		require(error_code(err) == ERROR_INVALID_ARGUMENT && profile.n == 0);
		error_free(err);
		return 0;
	}
	require(profile.n <= PROFILE_ENTRIES_MAX);
	for (size_t i = 0; i < profile.n; i++)
		fuzz_entry(&profile.entries[i]);
	profile_encode(&profile, &bytes);
	require(bytes.len <= PROFILE_BYTES_MAX);
	err = profile_decode(buf_slice(&bytes), &again);
	require(!err);
	fuzz_same(&profile, &again);
	n_before = again.n;
	if (again.n) {
		const struct profile_read reads[] = {{again.entries[again.n - 1].path, 7},
						     {"a/new/one", 1},
						     {"a/new/one", 1}};

		profile_merge(&profile, reads, ARRAY_SIZE(reads));
		require(profile.n <= n_before + 1 && profile.n >= 1);
		require(profile.entries[0].seen & 1 && profile.entries[0].size == 7);
		for (size_t i = 0; i < profile.n; i++)
			fuzz_entry(&profile.entries[i]);
	}
	return 0;
}
