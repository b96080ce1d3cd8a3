/*
 * The instances of a worker that may open few files: what it and two slots need, and one
 * instance more than its own. A process has one such worker, hence this program.
 */
#include "tests/integration/worker_fixture.h"

#include <sys/resource.h>

#include "tests/integration/source_fixture.h"

#define FILES_MAX (320 + 2 * 40 + 288 + 287)

struct stage {
	struct fixture *fixture;
	struct play *play;
};

static int setup(void **state)
{
	const struct rlimit low = {FILES_MAX, FILES_MAX};
	struct stage *stage = alloc_new(struct stage);

	skip_without_fuse();
	(void)fixture_setup((void **)&stage->fixture);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	stage->play = play_new(stage->fixture->address, "nowhere");
	*state = stage;
	return 0;
}

static int teardown(void **state)
{
	struct stage *stage = *state;
	int status;

	play_free(stage->play);
	status = fixture_teardown((void **)&stage->fixture);
	free(stage);
	return status;
}

static const char *story(struct stage *stage, const char *id, const char *instance)
{
	struct act act = {.script = "true"};
	struct play_lease lease = {.id = id, .instance = instance};

	assert_no_error(digest_from_wire(act_put(stage->fixture, &act), &lease.action));
	play_offer(stage->play, &lease);
	return play_story(stage->play, id);
}

static void test_few_descriptors_mean_few_instances(void **state)
{
	struct stage *stage = *state;

	assert_string_equal(story(stage, "one", "some/where"),
			    "fetching running uploading OK");
	assert_string_equal(story(stage, "two", ""), "RESOURCE_EXHAUSTED");
	assert_non_null(strstr(play_message(stage->play, "two"), "2 instances"));
	assert_string_equal(story(stage, "again", "some/where"),
			    "fetching running uploading OK");
}

/* The last one: the worker ends then, in a program that has more than this. */
static void test_any_mount_that_is_lost_is_seen(void **state)
{
	struct stage *stage = *state;

	play_lose_mount(stage->play, "mount.1");
	assert_string_equal(story(stage, "lost", "some/where"), "fetching UNAVAILABLE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_few_descriptors_mean_few_instances),
		cmocka_unit_test(test_any_mount_that_is_lost_is_seen),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
