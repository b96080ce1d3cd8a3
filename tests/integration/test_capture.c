/*
 * Captures of what real commands did in real overlays. The oracle is the obvious way: a
 * plain copy of the input on which the same commands ran, imported by reading all of it.
 */
#include <stdatomic.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "fuse/capture.h"
#include "fuse/overlay.h"
#include "fuse/session.h"
#include "tests/integration/lazy_fixture.h"

#define N_SEEDS 300
#define N_STEPS 14

struct world {
	struct lazy *lazy;
	struct session *session;
	char *mount;
	unsigned int n_overlays;
};

static int setup(void **state)
{
	struct world *w = alloc_new(struct world);
	struct session_config config = {.mode = SESSION_PAGE_CACHE};

	w->lazy = lazy_new(true);
	w->mount = lazy_path(w->lazy, "mnt");
	assert_int_equal(mkdir(w->mount, 0755), 0);
	config.view = w->lazy->view;
	config.path = w->mount;
	assert_ok(session_start(&config, &w->session));
	*state = w;
	return 0;
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

static struct capture *capture_of(struct world *w, struct overlay *overlay,
				  const struct digest *root, const char *mount_path)
{
	struct capture_config config = {.entries_max = INT64_MAX,
					.memory_max = (size_t)1 << 30,
					.upper_fd = overlay_upper_fd(overlay),
					.root = root,
					.mount_path = mount_path,
					.dirs = w->lazy->dirs,
					.store = w->lazy->local,
					.pool = w->lazy->pool};

	overlay_detach(overlay);
	return capture_new(&config);
}

/* An input tree, a script run over it, and the capture of that. */
struct ran {
	struct overlay *overlay;
	struct capture *capture;
	struct digest input;
};

static struct ran run_at(struct world *w, const char *input, const char *script,
			 const char *mount_path)
{
	struct ran ran = {.input = lazy_tree(w->lazy, "in", input)};

	ran.overlay = overlay_over(w, &ran.input);
	lazy_shell(overlay_merged(ran.overlay), "%s", script);
	ran.capture = capture_of(w, ran.overlay, &ran.input, mount_path);
	return ran;
}

static struct ran run(struct world *w, const char *input, const char *script)
{
	return run_at(w, input, script, "/build");
}

static void ran_end(struct ran *ran)
{
	capture_free(ran->capture);
	overlay_free(ran->overlay);
}

static struct capture_result path_of(struct ran *ran, const char *path)
{
	struct capture_result result = {0};

	assert_ok(capture_path(ran->capture, path, false, &result));
	return result;
}

static enum capture_kind kind_of(struct ran *ran, const char *path)
{
	struct capture_result result = path_of(ran, path);
	enum capture_kind kind = result.kind;

	capture_result_deinit(&result);
	return kind;
}

static void assert_file(struct ran *ran, const char *path, const char *bytes,
			bool is_executable)
{
	struct capture_result result = path_of(ran, path);
	struct digest digest;

	hasher_digest(bytes, strlen(bytes), &digest);
	assert_int_equal(result.kind, CAPTURE_FILE);
	assert_true(digest_equal(&result.digest, &digest));
	assert_int_equal(result.is_executable, is_executable);
	capture_result_deinit(&result);
}

static void assert_link(struct ran *ran, const char *path, const char *target)
{
	struct capture_result result = path_of(ran, path);

	assert_int_equal(result.kind, CAPTURE_SYMLINK);
	assert_string_equal(result.target, target);
	capture_result_deinit(&result);
}

/* path must be what the script makes of a plain copy of the input. */
static void assert_as_plain(struct world *w, struct ran *ran, const char *path,
			    const char *script)
{
	struct capture_result result = path_of(ran, path);
	_cleanup_free_ char *plain = lazy_path(w->lazy, "plain");
	_cleanup_free_ char *full = alloc_printf("%s/%s", plain, path);
	struct digest want;

	lazy_shell(w->lazy->tmp, "rm -rf plain; cp -a in plain");
	lazy_shell(plain, "%s", script);
	want = lazy_import(w->lazy->origin, AT_FDCWD, full);
	assert_int_equal(result.kind, CAPTURE_DIR);
	assert_true(digest_equal(&result.digest, &want));
	capture_result_deinit(&result);
}

static size_t n_blobs(const struct ran *ran)
{
	size_t n;

	(void)capture_blobs(ran->capture, &n);
	return n;
}

static void assert_blobs_are_stored(struct world *w, const struct ran *ran)
{
	size_t n;
	const struct digest *blobs = capture_blobs(ran->capture, &n);

	for (size_t i = 0; i < n; i++) {
		assert_true(store_has(w->lazy->local, &blobs[i]));
		for (size_t j = 0; j < i; j++)
			assert_false(digest_equal(&blobs[i], &blobs[j]));
	}
}

static void test_capture_new_changed_and_removed(void **state)
{
	struct world *w = *state;
	struct ran ran = run(w, "mkdir d; echo a >a; echo b >d/b; echo c >d/c; ln -s a l",
			     "echo n >n; echo x >x; chmod +x x; echo more >>a; rm d/b; "
			     "ln -s d/c s; mkdir e; mkfifo p");

	assert_file(&ran, "n", "n\n", false);
	assert_file(&ran, "x", "x\n", true);
	assert_file(&ran, "a", "a\nmore\n", false);
	assert_file(&ran, "d/c", "c\n", false);
	assert_link(&ran, "s", "d/c");
	assert_link(&ran, "l", "a");
	assert_int_equal(kind_of(&ran, "d/b"), CAPTURE_NONE);
	assert_int_equal(kind_of(&ran, "no"), CAPTURE_NONE);
	assert_int_equal(kind_of(&ran, "a/below-a-file"), CAPTURE_NONE);
	assert_int_equal(kind_of(&ran, "e"), CAPTURE_DIR);
	assert_int_equal(kind_of(&ran, "p"), CAPTURE_OTHER);
	assert_string_equal(capture_note(ran.capture, 0), "p: a FIFO, skipped");
	assert_blobs_are_stored(w, &ran);
	ran_end(&ran);
}

static void test_capture_asks_outputs_in_any_order_and_twice(void **state)
{
	struct world *w = *state;
	const char *script = "mkdir -p out/sub; echo 1 >out/1; echo 2 >out/sub/2";
	struct ran ran = run(w, "echo a >a", script);
	struct capture_stats stats;

	assert_file(&ran, "out/1", "1\n", false);
	assert_as_plain(w, &ran, "out", script);
	assert_file(&ran, "out/1", "1\n", false);
	assert_file(&ran, "out/sub/2", "2\n", false);
	assert_as_plain(w, &ran, "", script);
	capture_stats(ran.capture, &stats);
	assert_int_equal(stats.n_files, 2);
	assert_int_equal(n_blobs(&ran), 5); /* two files, sub, out, the root */
	ran_end(&ran);
}

static void test_capture_understands_what_overlayfs_writes(void **state)
{
	static const char *const scripts[] = {
		"rm -r d; mkdir d; echo new >d/new",               /* opaque */
		"mv d moved; echo x >>moved/e/f",                  /* redirect */
		"mv d e2; mv e2/e deep; mv deep e2/back; rm e2/g", /* absolute */
		"mv d/g d/h; mv a d/a; chmod +x d/a",             /* metacopy, redirect */
		"chmod +x a d/g; chmod -x tool",                  /* metacopy */
		"mkdir n; mv d n/d; mv n/d/e n/e; echo y >n/e/y", /* in a new directory */
		"ln a hard; ln d/g n2; echo z >>n2",              /* hard links */
		"rm a; mkdir a; echo in >a/in; rm tool; ln -s d tool", /* other kinds */
		"mv d tmp; mkdir d; mv tmp d/d; mv d/d/e/f f; rm -r d/d/e",
		"mkdir q; mv d q/d; rm -r q/d/e; mkdir q/d/e; echo 1 >q/d/e/1; mv q d",
		"rm -r d; mv a d",
		"chmod +x a; mv a b; mv b d/a; ln d/a c; mv d d2",
		"touch a; : >d/g; echo gone >gone; rm gone",
	};
	struct world *w = *state;
	struct digest input = lazy_tree(w->lazy, "in",
					"mkdir -p d/e; echo a >a; echo f >d/e/f; echo g "
					">d/g; ln -s e d/l; echo t >tool;"
					"chmod +x tool");

	for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
		struct ran ran = {.input = input, .overlay = overlay_over(w, &input)};

		lazy_shell(overlay_merged(ran.overlay), "%s", scripts[i]);
		ran.capture = capture_of(w, ran.overlay, &input, "/");
		assert_as_plain(w, &ran, "", scripts[i]);
		assert_blobs_are_stored(w, &ran);
		ran_end(&ran);
	}
}

static void test_capture_of_untouched_inputs_reads_and_uploads_nothing(void **state)
{
	struct world *w = *state;
	struct ran ran = run(w, "mkdir -p d/e; echo f >d/e/f; echo g >g", "true");
	struct capture_stats stats;
	struct capture_result result = path_of(&ran, "");

	assert_true(digest_equal(&result.digest, &ran.input));
	capture_result_deinit(&result);
	result = path_of(&ran, "d/e/f");
	assert_int_equal(result.kind, CAPTURE_FILE);
	capture_result_deinit(&result);
	capture_stats(ran.capture, &stats);
	assert_int_equal(stats.n_scanned, 0);
	assert_int_equal(stats.n_files, 0);
	assert_int_equal(n_blobs(&ran), 0);
	ran_end(&ran);
}

static void test_capture_costs_what_changed(void **state)
{
	struct world *w = *state;
	const char *script =
		"for i in 1 2 3 4 5 6 7; do echo c >out/d$i/f5; done; rm out/d8/f1; "
		"echo n >out/d9/new; chmod +x out/d10/f1";
	struct ran ran =
		run(w,
		    "mkdir out; for d in $(seq 100); do mkdir out/d$d; for f in $(seq "
		    "100); do echo $d $f >out/d$d/f$f; done; done",
		    script);
	struct fetch_stats before;
	struct fetch_stats after;
	struct capture_result result;
	struct capture_stats stats;
	int64_t began;
	int64_t took;

	fetch_stats(w->lazy->fetch, &before);
	began = clock_mono_ns();
	result = path_of(&ran, "out");
	took = clock_mono_ns() - began;
	fetch_stats(w->lazy->fetch, &after);
	assert_int_equal(after.n_blobs, before.n_blobs); /* no input is read */
	capture_result_deinit(&result);
	capture_stats(ran.capture, &stats);
	print_message("capture of 10 changes among 10,000 inputs: %.2f ms\n",
		      (double)took / NS_PER_MS);
	assert_int_equal(stats.n_scanned, 1 + 10 + 10); /* out; ten of its; one in each */
	assert_int_equal(stats.n_files, 8);
	assert_true(stats.n_dirs <= 1 + 1 + 10); /* the root, out, ten of its */
	assert_int_equal(n_blobs(&ran),
			 2 + 10 + 1); /* "c", "n"; ten directories and out */
	assert_as_plain(w, &ran, "out", script);
	ran_end(&ran);
}

static void test_capture_follows_links_as_the_command_saw_them(void **state)
{
	struct world *w = *state;
	struct ran ran =
		run(w,
		    "mkdir -p real/deep; echo x >real/deep/x; ln -s real in; "
		    "ln -s ../in/deep real/rel; ln -s loop2 loop1; ln -s loop1 loop2",
		    "ln -s real/deep d; ln -s /build/real abs; ln -s /elsewhere out; "
		    "ln -s .. up; echo y >d/y; ln -s ../../build back; "
		    "ln -s /build//./real/ abs2; ln -s /buildx/real no");

	assert_file(&ran, "in/deep/x", "x\n", false);
	assert_file(&ran, "real/rel/x", "x\n", false);
	assert_file(&ran, "d/x", "x\n", false);
	assert_file(&ran, "in/rel/y", "y\n", false);
	assert_file(&ran, "abs/deep/y", "y\n", false);
	assert_file(&ran, "abs2/deep/y", "y\n", false);
	assert_link(&ran, "d", "real/deep");
	assert_int_equal(kind_of(&ran, "out/passwd"), CAPTURE_NONE);
	assert_int_equal(kind_of(&ran, "up/etc"), CAPTURE_NONE);
	assert_int_equal(kind_of(&ran, "back/real"), CAPTURE_NONE);
	assert_int_equal(kind_of(&ran, "no/deep"), CAPTURE_NONE);
	assert_int_equal(kind_of(&ran, "loop1/x"), CAPTURE_NONE);
	ran_end(&ran);
}

static void test_capture_of_a_root_at_slash_follows_absolute_links(void **state)
{
	struct world *w = *state;
	struct ran ran =
		run_at(w, "mkdir -p usr/lib; echo x >usr/lib/x; ln -s /usr/lib lib",
		       "ln -s ../../../usr up", "/");

	assert_file(&ran, "lib/x", "x\n", false);
	assert_file(&ran, "up/lib/x", "x\n", false);
	ran_end(&ran);
}

static void test_capture_refuses_paths_that_leave_the_root(void **state)
{
	static const char *const paths[] = {"../x", "/x", "a/../../x", "a//b", "."};
	struct world *w = *state;
	struct ran ran = run(w, "echo a >a", "true");

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		struct capture_result result = {0};
		_cleanup_error_ struct error *err =
			capture_path(ran.capture, paths[i], false, &result);

		assert_int_equal(error_code(err), ERROR_INVALID_ARGUMENT);
	}
	ran_end(&ran);
}

static void test_capture_makes_trees(void **state)
{
	struct world *w = *state;
	const char *script = "mkdir out/new; echo n >out/new/n; echo c >>out/same1/f";
	struct ran ran =
		run(w,
		    "mkdir -p out/same1 out/same2 out/deep/same3; for d in same1 same2 "
		    "deep/same3; do echo f >out/$d/f; done",
		    script);
	struct capture_result result = {0};
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_free_ struct slice *dirs = NULL;
	struct digest root;
	size_t n = 0;

	assert_ok(capture_path(ran.capture, "out", true, &result));
	assert_ok(store_read(w->lazy->local, &result.tree_digest, 1 << 20, &bytes));
	assert_ok(tree_message_split(buf_slice(&bytes), &dirs, &n));
	/* out, new, same1, same2 which is same3 too, deep: each once */
	assert_int_equal(n, 5);
	hasher_digest(dirs[0].data, dirs[0].len, &root);
	assert_true(digest_equal(&root, &result.digest));
	capture_result_deinit(&result);
	assert_ok(capture_path(ran.capture, "out/deep", true, &result));
	assert_true(store_has(w->lazy->local, &result.tree_digest));
	capture_result_deinit(&result);
	assert_blobs_are_stored(w, &ran);
	ran_end(&ran);
}

static void test_capture_records_properties_where_asked(void **state)
{
	struct world *w = *state;
	struct digest input = lazy_tree(w->lazy, "in", "echo a >a");
	struct overlay *overlay = overlay_over(w, &input);
	struct capture_config config = {.entries_max = INT64_MAX,
					.memory_max = (size_t)1 << 30,
					.upper_fd = overlay_upper_fd(overlay),
					.root = &input,
					.mount_path = "/",
					.dirs = w->lazy->dirs,
					.store = w->lazy->local,
					.pool = w->lazy->pool,
					.with_mtime = true,
					.with_unix_mode = true};
	struct capture_result result = {0};
	struct capture *capture;

	lazy_shell(overlay_merged(overlay),
		   "echo n >n; chmod 640 n; touch -d @1234567890 n");
	overlay_detach(overlay);
	capture = capture_new(&config);
	assert_ok(capture_path(capture, "n", false, &result));
	assert_int_equal(result.props->mtime_s, 1234567890);
	assert_int_equal(result.props->unix_mode, 0640);
	assert_true(result.props->raw.len > 0);
	capture_result_deinit(&result);
	capture_free(capture);
	overlay_free(overlay);
}

/* What the capture of "d" ends with, where it is bounded. */
static struct error *capture_bounded(struct world *w, const char *script,
				     int64_t entries_max, size_t memory_max)
{
	_cleanup_free_ char *name = alloc_printf("in%u", w->n_overlays);
	struct digest input =
		lazy_tree(w->lazy, name, "mkdir -p i/1/2; echo a >i/a; echo b >i/1/b");
	struct overlay *overlay = overlay_over(w, &input);
	struct capture_config config = {.entries_max = entries_max,
					.memory_max = memory_max,
					.upper_fd = overlay_upper_fd(overlay),
					.root = &input,
					.mount_path = "/",
					.dirs = w->lazy->dirs,
					.store = w->lazy->local,
					.pool = w->lazy->pool};
	struct capture_result result = {0};
	struct capture *capture;
	struct error *err;

	lazy_shell(overlay_merged(overlay), "%s", script);
	overlay_detach(overlay);
	capture = capture_new(&config);
	err = capture_path(capture, "d", true, &result);
	capture_result_deinit(&result);
	capture_free(capture);
	overlay_free(overlay);
	return err;
}

static void assert_exhausted(struct error *err, const char *word)
{
	_cleanup_error_ struct error *own = err;

	assert_int_equal(error_code(err), ERROR_RESOURCE_EXHAUSTED);
	if (!strstr(error_text(err), word))
		fail_msg("\"%s\" does not say %s", error_text(err), word);
}

/* Whatever was written: the capture ends with an error where its bounds are, at any of
 * them. */
static void test_capture_is_bounded(void **state)
{
	static const char links[] = "mkdir d; n=$(head -c 3000 /dev/zero | tr '\\0' x); "
				    "for i in $(seq 400); do ln -s $n d/$i; done";
	struct world *w = *state;

	assert_exhausted(capture_bounded(w, links, INT64_MAX, 1 << 20), "the 1 MiB");
	assert_exhausted(capture_bounded(w, links, 400, 1 << 30), "400 entries");
	assert_ok(capture_bounded(w, links, 401, 1 << 30));
	/* each place where memory ends */
	for (size_t bytes = 64; bytes < 20000; bytes += bytes < 4000 ? 64 : 512) {
		struct error *err = capture_bounded(
			w, "mkdir d d/e; echo 1 >d/1; echo 2 >d/e/2; ln -s x d/l",
			INT64_MAX, bytes);

		if (!err)
			return;
		assert_exhausted(err, "more than the 0 MiB");
	}
	fail_msg("20 kB are not enough for three files");
}

/* A Tree counts paths: "mv" leaves the same Directories in it, once each. */
static void test_capture_counts_the_paths_of_a_tree(void **state)
{
	static const char script[] = "mkdir d; mv i d/i";
	struct world *w = *state;

	/* d/i, d/i/a, d/i/1, d/i/1/b, d/i/1/2 */
	assert_ok(capture_bounded(w, script, 5, 1 << 30));
	assert_exhausted(capture_bounded(w, script, 4, 1 << 30), "4 entries");
}

static struct error *only_two_files(void *ctx, const struct capture_stats *with_it)
{
	atomic_store((_Atomic int64_t *)ctx, with_it->bytes); /* from several threads */
	return with_it->n_files > 2 ? error_new(ERROR_ABORTED, "that is enough") : NULL;
}

/* Who minds is asked before a file is hashed, with all that would be. */
static void test_capture_asks_whether_to_go_on(void **state)
{
	struct world *w = *state;
	struct digest input = lazy_tree(w->lazy, "in", "echo a >a");
	struct overlay *overlay = overlay_over(w, &input);
	_Atomic int64_t bytes = 0;
	struct capture_config config = {.entries_max = INT64_MAX,
					.memory_max = (size_t)1 << 30,
					.upper_fd = overlay_upper_fd(overlay),
					.root = &input,
					.mount_path = "/",
					.dirs = w->lazy->dirs,
					.store = w->lazy->local,
					.pool = w->lazy->pool,
					.may_go_on = only_two_files,
					.ctx = &bytes};
	struct capture_result result = {0};
	struct store_stats before, after;
	struct capture *capture;
	struct error *err;

	lazy_shell(overlay_merged(overlay),
		   "mkdir d; echo one >d/one; echo two >d/two; echo 3 >three");
	overlay_detach(overlay);
	capture = capture_new(&config);
	assert_ok(capture_path(capture, "three", false, &result));
	assert_int_equal(bytes, 2);
	capture_result_deinit(&result);
	store_stats(w->lazy->local, &before);
	err = capture_path(capture, "d", false, &result);
	assert_int_equal(error_code(err), ERROR_ABORTED);
	error_free(err);
	assert_int_equal(bytes, 2 + 4 + 4);
	store_stats(w->lazy->local, &after);
	assert_int_equal(after.n_blobs, before.n_blobs);
	capture_free(capture);
	overlay_free(overlay);
}

/* ---- random scripts --------------------------------------------------------------- */

static unsigned int pick(unsigned int *seed, unsigned int n)
{
	return (unsigned int)rand_r(seed) % n;
}

static const char *pick_path(unsigned int *seed)
{
	static const char *const paths[] = {
		"a",     "b",   "c",   "d",   "d/a",   "d/b",   "d/e", "e",    "d/e/a",
		"d/e/b", "e/a", "e/d", "e/b", "e/d/a", "d/e/d", "d/d", "d/d/a"};

	return paths[pick(seed, ARRAY_SIZE(paths))];
}

/* One line that may fail, with the same effect in both places. */
static void add_step(unsigned int *seed, unsigned int i, struct buf *script)
{
	const char *p = pick_path(seed);
	const char *q = pick_path(seed);

	switch (pick(seed, 10)) {
	case 0:
		buf_printf(script, "rm -rf %s\n", p);
		break;
	case 1:
		buf_printf(script, "mkdir -p %s\n", p);
		break;
	case 2:
	case 3:
		buf_printf(script, "mv -T %s %s\n", p, q);
		break;
	case 4:
		buf_printf(script, "test -d %s || chmod +x %s\n", p, p);
		break;
	case 5:
		buf_printf(script, "test -d %s || echo %u >>%s\n", p, i, p);
		break;
	case 6:
		buf_printf(script, "echo %u >%s\n", i, p);
		break;
	case 7:
		buf_printf(script, "ln %s %s\n", p, q);
		break;
	case 8:
		buf_printf(script, "ln -sT %s %s\n", p, q);
		break;
	case 9:
		buf_printf(script, "test -d %s || chmod -x %s; test -L %s && rm %s\n", p,
			   p, p, p);
		break;
	}
}

/* Runs a script in several directories with one shell; failing lines are part of it. */
static void run_script(struct world *w, const struct buf *script, const char *dir)
{
	_cleanup_free_ char *path = lazy_path(w->lazy, "script");

	assert_ok(file_replace(AT_FDCWD, path, script->data, script->len, 0600));
	lazy_shell(dir, "busybox sh '%s' 2>/dev/null || true", path);
}

static void test_capture_of_random_scripts_is_what_a_plain_copy_becomes(void **state)
{
	struct world *w = *state;
	_cleanup_free_ char *plain = lazy_path(w->lazy, "plain");
	struct digest input =
		lazy_tree(w->lazy, "in",
			  "mkdir -p d/e d/d e; for f in a b d/a d/b d/e/a d/e/b d/d/a "
			  "e/a; do echo $f >$f; "
			  "done; chmod +x b e/a; ln -s a c; ln -s ../a e/b");

	for (unsigned int i = 0; i < N_SEEDS; i++) {
		struct ran ran = {.input = input, .overlay = overlay_over(w, &input)};
		_cleanup_buf_ struct buf script = BUF_INIT;
		struct capture_result result;
		unsigned int seed = i;
		struct digest want;

		for (unsigned int j = 0; j < N_STEPS; j++)
			add_step(&seed, j, &script);
		lazy_shell(w->lazy->tmp, "rm -rf plain; cp -a in plain");
		run_script(w, &script, plain);
		run_script(w, &script, overlay_merged(ran.overlay));
		want = lazy_import(w->lazy->origin, AT_FDCWD, plain);
		ran.capture = capture_of(w, ran.overlay, &input, "/");
		result = path_of(&ran, "");
		if (!digest_equal(&result.digest, &want))
			print_error("seed %u:\n%s", i, buf_string(&script));
		assert_true(digest_equal(&result.digest, &want));
		capture_result_deinit(&result);
		assert_blobs_are_stored(w, &ran);
		ran_end(&ran);
	}
}

#define CAPTURE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CAPTURE_TEST(test_capture_new_changed_and_removed),
		CAPTURE_TEST(test_capture_asks_outputs_in_any_order_and_twice),
		CAPTURE_TEST(test_capture_understands_what_overlayfs_writes),
		CAPTURE_TEST(test_capture_of_untouched_inputs_reads_and_uploads_nothing),
		CAPTURE_TEST(test_capture_costs_what_changed),
		CAPTURE_TEST(test_capture_follows_links_as_the_command_saw_them),
		CAPTURE_TEST(test_capture_of_a_root_at_slash_follows_absolute_links),
		CAPTURE_TEST(test_capture_refuses_paths_that_leave_the_root),
		CAPTURE_TEST(test_capture_makes_trees),
		CAPTURE_TEST(test_capture_records_properties_where_asked),
		CAPTURE_TEST(test_capture_asks_whether_to_go_on),
		CAPTURE_TEST(test_capture_is_bounded),
		CAPTURE_TEST(test_capture_counts_the_paths_of_a_tree),
		CAPTURE_TEST(test_capture_of_random_scripts_is_what_a_plain_copy_becomes),
	};

	lazy_enter_namespace();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
