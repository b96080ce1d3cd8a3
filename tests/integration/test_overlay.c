/*
 * Overlays over the lazy mount against the real kernel: what a command sees and does to
 * its inputs, and what that costs in requests.
 */
#include <signal.h>
#include <sys/wait.h>

#include "fuse/overlay.h"
#include "fuse/session.h"
#include "tests/integration/lazy_fixture.h"

struct world {
	struct lazy *lazy;
	struct session *session;
	char *mount;
	unsigned int n_overlays;
};

static int setup_mode(void **state, enum session_mode mode)
{
	struct world *w = alloc_new(struct world);
	struct session_config config = {.mode = mode};

	w->lazy = lazy_new(true);
	w->mount = lazy_path(w->lazy, "mnt");
	assert_int_equal(mkdir(w->mount, 0755), 0);
	config.view = w->lazy->view;
	config.path = w->mount;
	assert_ok(session_start(&config, &w->session));
	*state = w;
	return 0;
}

static int setup(void **state)
{
	return setup_mode(state, SESSION_PAGE_CACHE);
}

static int setup_passthrough(void **state)
{
	return setup_mode(state, SESSION_PASSTHROUGH);
}

static int teardown(void **state)
{
	struct world *w = *state;

	session_free(w->session);
	lazy_free(w->lazy);
	free(w->mount);
	free(w);
	return 0;
}

static struct overlay *overlay_over(struct world *w, const struct digest *root)
{
	char name[DIGEST_STRING_MAX];
	_cleanup_free_ char *lower =
		alloc_printf("%s/%s", w->mount, digest_name(root, name));
	_cleanup_free_ char *dir =
		alloc_printf("%s/action%u", w->lazy->tmp, w->n_overlays++);
	struct overlay_config config = {.lower = lower, .dir = dir};
	struct overlay *overlay;

	assert_ok(overlay_mount(&config, &overlay));
	return overlay;
}

/* Requests for inputs. FORGETs answer the kernel's memory; a STATFS belongs to each
 * overlay mount; an IOCTL (file attributes) to each copy-up, which the kernel asks for
 * because FUSE inodes have no atime. */
static void add_count(void *ctx, const char *op, uint64_t n)
{
	if (!strstr(op, "FORGET") && strcmp(op, "STATFS") != 0 &&
	    strcmp(op, "IOCTL") != 0)
		*(uint64_t *)ctx += n;
}

static uint64_t count_all(const struct world *w)
{
	uint64_t n = 0;

	session_each_count(w->session, add_count, &n);
	return n;
}

static void test_overlay_second_action_over_a_root_sends_nothing(void **state)
{
	struct world *w = *state;
	struct digest digest =
		lazy_tree(w->lazy, "in",
			  "mkdir -p src/lib include; for i in 1 2 3; do echo $i "
			  ">src/lib/$i.c; echo $i >include/$i.h; done; ln -s "
			  "src/lib lib; echo '#!/bin/sh' >run; chmod +x run");
	/* copies up: src, src/lib, include, and two files in it */
	const unsigned int n_copies = 5;
	const char *script =
		"cat src/lib/*.c include/*.h >all; ./run; ! test -e include/no; "
		"ls -lR . >/dev/null; test -L lib; cat lib/1.c; "
		"echo changed >>include/1.h; chmod 600 include/2.h; rm src/lib/3.c; "
		"find . -size +0 >/dev/null";
	uint64_t before;
	uint64_t n_ioctls = 0;

	for (int i = 0; i < 2; i++) {
		struct overlay *overlay = overlay_over(w, &digest);

		before = count_all(w);
		n_ioctls = session_n_requests(w->session, "IOCTL");
		lazy_shell(overlay_merged(overlay), "%s", script);
		if (i == 1)
			assert_int_equal(count_all(w), before);
		assert_true(session_n_requests(w->session, "IOCTL") <=
			    n_ioctls + n_copies);
		overlay_free(overlay);
	}
	assert_int_equal(session_n_requests(w->session, "GETXATTR"),
			 1); /* ENOSYS, once */
}

static void test_overlay_shares_cached_pages_between_roots(void **state)
{
	struct world *w = *state;
	struct digest one = lazy_tree(w->lazy, "1", "mkdir d; echo same >d/f; echo 1 >o");
	struct digest two = lazy_tree(w->lazy, "2", "mkdir d; echo same >d/f; echo 2 >o");
	struct overlay *overlay = overlay_over(w, &one);
	uint64_t n_reads;

	lazy_shell(overlay_merged(overlay), "cat d/f");
	overlay_free(overlay);
	n_reads = session_n_requests(w->session, "READ");
	overlay = overlay_over(w, &two);
	lazy_shell(overlay_merged(overlay), "cat d/f");
	assert_int_equal(session_n_requests(w->session, "READ"), n_reads);
	overlay_free(overlay);
}

static void test_overlay_equal_files_are_different_files(void **state)
{
	struct world *w = *state;
	struct digest digest =
		lazy_tree(w->lazy, "in",
			  "mkdir d; for f in a b d/a d/b c1 c2; do echo same >$f; "
			  "done");
	struct overlay *overlay = overlay_over(w, &digest);

	lazy_shell(overlay_merged(overlay),
		   "cat a b d/a d/b >/dev/null; echo more >>a; test $(cat b) = same; "
		   "test $(cat d/a) = same; test $(stat -c %%s b) = 5; test $(stat -c "
		   "%%h b) = 1; "
		   "cp c1 c2; mv c1 c2; test ! -e c1; test $(cat c2) = same; cp b d/b; "
		   "test $(find . -samefile b | wc -l) = 1");
	overlay_free(overlay);
}

static void test_overlay_chmod_and_rename_fetch_nothing(void **state)
{
	struct world *w = *state;
	struct digest digest = lazy_tree(
		w->lazy, "in", "mkdir -p d/e; echo x >d/e/f; echo y >tool; echo z >z");
	struct overlay *overlay = overlay_over(w, &digest);

	lazy_shell(overlay_merged(overlay), "chmod +x tool; mv d moved; mv z moved/z; ls "
					    "moved/e; touch -h -d @5 tool");
	assert_int_equal(session_n_requests(w->session, "READ"), 0);
	lazy_shell(overlay_merged(overlay),
		   "test -x tool; test $(cat moved/e/f) = x; test $(cat moved/z) = z");
	overlay_free(overlay);
}

static void test_overlay_leaves_nothing_behind(void **state)
{
	struct world *w = *state;
	struct digest digest = lazy_tree(w->lazy, "in", "echo x >f");
	struct overlay *overlay = overlay_over(w, &digest);
	_cleanup_free_ char *dir = lazy_path(w->lazy, "action0");
	_cleanup_free_ char *upper = lazy_path(w->lazy, "action0/upper");

	lazy_shell(overlay_merged(overlay), "rm f; mkdir -p a/b/c; chmod 0 a; echo n >n");
	overlay_detach(overlay);
	lazy_shell("/", "! grep -q '%s' /proc/self/mountinfo", dir);
	/* the upper directory is still there to be captured */
	lazy_shell(upper, "test -e n");
	overlay_free(overlay);
	assert_int_equal(access(dir, F_OK), -1);
	lazy_shell("/", "! grep -q '%s' /proc/self/mountinfo", dir);
}

static void test_overlay_is_ended_under_a_process_that_stays(void **state)
{
	struct world *w = *state;
	struct digest digest = lazy_tree(w->lazy, "in", "echo x >f");
	struct overlay *overlay = overlay_over(w, &digest);
	int ready[2];
	int status;
	char c;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		(void)!chdir(overlay_merged(overlay));
		(void)close(overlay_merged_fd(overlay));
		(void)!write(ready[1], "x", 1);
		(void)pause();
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	overlay_free(overlay);
	lazy_shell("/", "! grep -q '%s/action0' /proc/self/mountinfo", w->lazy->tmp);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	(void)close(ready[0]);
	(void)close(ready[1]);
}

/* Also once the kernel has forgotten all names and looks at the layers again. */
static void test_overlay_hard_links_to_an_input_are_one_file(void **state)
{
	struct world *w = *state;
	struct digest digest =
		lazy_tree(w->lazy, "in",
			  "mkdir d e; echo x >d/written; echo x >d/kept; ln -s t d/link");
	struct overlay *overlay = overlay_over(w, &digest);

	lazy_shell(overlay_merged(overlay),
		   "echo y >>d/written; for f in written kept link; do "
		   "ln -P d/$f e/$f && [ $(stat -c %%i d/$f) = $(stat -c %%i e/$f) ] || "
		   "exit 1; done; "
		   "mount -o remount . && "
		   "[ $(stat -c %%i d/written) = $(stat -c %%i e/written) ]");
	overlay_free(overlay);
}

static void test_overlay_root_looks_like_the_lower_one(void **state)
{
	struct world *w = *state;
	struct digest digest = lazy_tree(w->lazy, "in", "echo x >f");
	struct overlay *overlay = overlay_over(w, &digest);

	lazy_shell(overlay_merged(overlay), "test \"$(stat -c '%%Y %%a' .)\" = '%d 755'",
		   VIEW_DEFAULT_MTIME_S);
	overlay_free(overlay);
}

static void test_overlay_renames_what_has_a_long_path(void **state)
{
	struct world *w = *state;
	struct digest digest =
		lazy_tree(w->lazy, "in",
			  "d=$(printf '%0100d/%0100d/%0100d' 1 2 3); mkdir -p $d/sub; "
			  "echo x >$d/sub/f; echo y >$d/g; mkdir other");
	struct overlay *overlay;

	assert_ok(overlay_probe(w->lazy->tmp));
	overlay = overlay_over(w, &digest);
	/* as rename(2) and link(2), which copy nothing where they fail */
	lazy_shell(
		overlay_merged(overlay),
		"cd $(printf '%%0100d/%%0100d/%%0100d' 1 2 3) && "
		"python3 -c 'import os; os.rename(\"sub\", \"../../../other/sub\")' && "
		"ln g ../../../other/g && grep -q x ../../../other/sub/f");
	overlay_free(overlay);
}

static void test_overlay_never_uses_a_directory_twice(void **state)
{
	struct world *w = *state;
	struct digest digest = lazy_tree(w->lazy, "in", "echo x >f");
	struct overlay *overlay = overlay_over(w, &digest);
	struct overlay *second = NULL;
	_cleanup_free_ char *dir = lazy_path(w->lazy, "action0");
	struct overlay_config config = {.lower = w->mount, .dir = dir};
	_cleanup_error_ struct error *err = overlay_mount(&config, &second);

	assert_non_null(err);
	assert_null(second);
	assert_non_null(strstr(error_text(err), dir));
	overlay_free(overlay);
}

static void test_overlay_probe_tells_where_it_cannot_be(void **state)
{
	struct world *w = *state;
	struct digest digest = lazy_tree(w->lazy, "in", "echo x >f");
	struct overlay *overlay = overlay_over(w, &digest);
	_cleanup_error_ struct error *err = NULL;

	assert_ok(overlay_probe(w->lazy->tmp));
	err = overlay_probe(overlay_merged(overlay));
	assert_int_equal(error_code(err), ERROR_UNAVAILABLE);
	assert_non_null(strstr(error_text(err), overlay_merged(overlay)));
	overlay_free(overlay);
}

#define OVERLAY_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define BOTH_MODES(name)                                                                 \
	cmocka_unit_test_setup_teardown(name, setup, teardown),                          \
	{                                                                                \
#name "_passthrough", name, setup_passthrough, teardown, NULL            \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		OVERLAY_TEST(test_overlay_second_action_over_a_root_sends_nothing),
		OVERLAY_TEST(test_overlay_shares_cached_pages_between_roots),
		BOTH_MODES(test_overlay_equal_files_are_different_files),
		BOTH_MODES(test_overlay_chmod_and_rename_fetch_nothing),
		OVERLAY_TEST(test_overlay_leaves_nothing_behind),
		OVERLAY_TEST(test_overlay_is_ended_under_a_process_that_stays),
		BOTH_MODES(test_overlay_hard_links_to_an_input_are_one_file),
		OVERLAY_TEST(test_overlay_root_looks_like_the_lower_one),
		OVERLAY_TEST(test_overlay_renames_what_has_a_long_path),
		OVERLAY_TEST(test_overlay_never_uses_a_directory_twice),
		OVERLAY_TEST(test_overlay_probe_tells_where_it_cannot_be),
	};

	lazy_enter_namespace();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
