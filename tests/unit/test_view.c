/* The view without FUSE: identities of nodes, lifetimes, waits and losses of roots. */
#include "tests/integration/lazy_fixture.h"

struct looked_up {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool is_done;
	struct error *err;
	struct view_attr attr;
	struct tree_dir *dir;
	int fd;
};

static void looked_up_init(struct looked_up *l)
{
	*l = (struct looked_up){.mutex = PTHREAD_MUTEX_INITIALIZER,
				.cond = PTHREAD_COND_INITIALIZER,
				.fd = -1};
}

static void looked_up_end(struct looked_up *l)
{
	l->is_done = true;
	(void)pthread_cond_signal(&l->cond);
	(void)pthread_mutex_unlock(&l->mutex);
}

static void on_lookup(void *ctx, struct error *err, const struct view_attr *attr)
{
	struct looked_up *l = ctx;

	(void)pthread_mutex_lock(&l->mutex);
	l->err = err;
	l->attr = *attr;
	looked_up_end(l);
}

static void on_open(void *ctx, struct error *err, int fd)
{
	struct looked_up *l = ctx;

	(void)pthread_mutex_lock(&l->mutex);
	l->err = err;
	l->fd = fd;
	looked_up_end(l);
}

static void looked_up_wait(struct looked_up *l)
{
	(void)pthread_mutex_lock(&l->mutex);
	while (!l->is_done)
		(void)pthread_cond_wait(&l->cond, &l->mutex);
	(void)pthread_mutex_unlock(&l->mutex);
}

static struct view_attr lookup(struct lazy *lazy, uint64_t parent, const char *name)
{
	struct looked_up l;

	looked_up_init(&l);
	view_lookup(lazy->view, parent, slice_of(name), on_lookup, &l);
	looked_up_wait(&l);
	assert_ok(l.err);
	return l.attr;
}

static struct view_attr lookup_root(struct lazy *lazy, const struct digest *digest)
{
	char name[DIGEST_STRING_MAX];

	return lookup(lazy, VIEW_ROOT_ID, digest_name(digest, name));
}

/* Starts an open and does not wait. */
static void open_start(struct lazy *lazy, uint64_t id, struct looked_up *l)
{
	looked_up_init(l);
	view_open(lazy->view, id, on_open, l);
}

static int setup(void **state)
{
	*state = lazy_new(true);
	return 0;
}

static int teardown(void **state)
{
	lazy_free(*state);
	return 0;
}

static void test_view_shares_equal_files_at_equal_paths(void **state)
{
	struct lazy *lazy = *state;
	struct digest one = lazy_tree(lazy, "1", "mkdir d; echo x >d/f; echo 1 >only1");
	struct digest two = lazy_tree(lazy, "2", "mkdir d; echo x >d/f; echo 2 >only2");
	struct view_attr a = lookup_root(lazy, &one);
	struct view_attr b = lookup_root(lazy, &two);
	struct view_attr a_dir = lookup(lazy, a.id, "d");
	struct view_attr b_dir = lookup(lazy, b.id, "d");

	assert_int_not_equal(a.id, b.id);
	/* equal directories are two nodes, the equal file in them is one */
	assert_int_not_equal(a_dir.id, b_dir.id);
	assert_int_not_equal(a_dir.ino, b_dir.ino);
	assert_int_equal(lookup(lazy, a_dir.id, "f").id, lookup(lazy, b_dir.id, "f").id);
}

static void test_view_never_shows_one_node_at_two_paths_of_a_root(void **state)
{
	struct lazy *lazy = *state;
	struct digest digest = lazy_tree(lazy, "in",
					 "mkdir d e; echo x >a; echo x >b; echo x >d/a; "
					 "cp d/a e; ln -s t l; ln -s t m;"
					 "echo x >x; chmod +x x");
	struct view_attr root = lookup_root(lazy, &digest);
	struct view_attr d = lookup(lazy, root.id, "d");
	struct view_attr e = lookup(lazy, root.id, "e");
	struct view_attr all[] = {lookup(lazy, root.id, "a"),
				  lookup(lazy, root.id, "b"),
				  lookup(lazy, d.id, "a"),
				  lookup(lazy, e.id, "a"),
				  lookup(lazy, root.id, "l"),
				  lookup(lazy, root.id, "m"),
				  lookup(lazy, root.id, "x"),
				  root,
				  d,
				  e};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		assert_true(all[i].ino < UINT64_C(1) << 60);
		for (size_t j = 0; j < i; j++) {
			assert_int_not_equal(all[i].id, all[j].id);
			assert_int_not_equal(all[i].ino, all[j].ino);
		}
	}
}

static void test_view_tells_executable_files_and_properties_apart(void **state)
{
	struct lazy *lazy = *state;
	struct digest blob = lazy_put(lazy->origin, "x", 1);
	struct tree_props props = {.has_unix_mode = true,
				   .unix_mode = 04751,
				   .has_mtime = true,
				   .mtime_s = 77,
				   .mtime_ns = 5};
	struct tree_node nodes[] = {
		{.name = slice_of("f"), .kind = TREE_FILE, .digest = blob},
		{.name = slice_of("f"),
		 .kind = TREE_FILE,
		 .digest = blob,
		 .is_executable = true},
		{.name = slice_of("f"),
		 .kind = TREE_FILE,
		 .digest = blob,
		 .props = &props},
	};
	struct view_attr attrs[ARRAY_SIZE(nodes)];

	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		_cleanup_buf_ struct buf bytes = BUF_INIT;
		struct digest digest;

		assert_ok(tree_encode(&nodes[i], 1, NULL, &bytes));
		digest = lazy_put(lazy->origin, bytes.data, bytes.len);
		attrs[i] = lookup(lazy, lookup_root(lazy, &digest).id, "f");
	}
	assert_int_not_equal(attrs[0].id, attrs[1].id);
	assert_int_not_equal(attrs[0].id, attrs[2].id);
	assert_int_equal(attrs[0].mode, S_IFREG | 0644);
	assert_int_equal(attrs[1].mode, S_IFREG | 0755);
	assert_int_equal(attrs[2].mode, S_IFREG | 0751); /* no set-id bit */
	assert_int_equal(attrs[0].mtime_s, VIEW_DEFAULT_MTIME_S);
	assert_int_equal(attrs[2].mtime_s, 77);
	assert_int_equal(attrs[2].mtime_ns, 5);
	assert_int_equal(attrs[0].nlink, 1);
}

static void test_view_listing_and_lookup_agree_on_inode_numbers(void **state)
{
	struct lazy *lazy = *state;
	struct digest digest = lazy_tree(
		lazy, "in", "mkdir d; echo f >f; ln -s t l; echo g >g; chmod +x g");
	struct view_attr root = lookup_root(lazy, &digest);
	struct tree_dir *dir;

	assert_true(view_try_dir(lazy->view, root.id, &dir));
	assert_int_equal(dir->n_nodes, 4);
	for (uint32_t i = 0; i < dir->n_nodes; i++) {
		char name[8] = "";

		memcpy(name, dir->nodes[i].name.data, dir->nodes[i].name.len);
		assert_int_equal(view_entry_ino(lazy->view, root.id, &dir->nodes[i]),
				 lookup(lazy, root.id, name).ino);
	}
	tree_dir_unref(dir);
}

static void test_view_forgets(void **state)
{
	struct lazy *lazy = *state;
	struct digest digest = lazy_tree(lazy, "in", "mkdir -p a/b; echo x >a/b/f");
	struct view_attr root = lookup_root(lazy, &digest);
	struct view_attr a = lookup(lazy, root.id, "a");
	struct view_attr b = lookup(lazy, a.id, "b");
	struct view_attr f = lookup(lazy, b.id, "f");
	struct view_attr again = lookup(lazy, b.id, "f");

	assert_int_equal(view_n_nodes(lazy->view), 4);
	assert_int_equal(again.id, f.id);
	view_forget(lazy->view, f.id, 1);
	assert_int_equal(view_n_nodes(lazy->view), 4);
	view_forget(lazy->view, f.id, 1);
	assert_int_equal(view_n_nodes(lazy->view), 3);
	/* ids are never used again */
	assert_true(lookup(lazy, b.id, "f").id > f.id);
	view_forget(lazy->view, root.id, 1);
	view_forget(lazy->view, a.id, 1);
	view_forget(lazy->view, b.id, 1);
	assert_int_equal(view_n_nodes(lazy->view), 1);
}

static void test_view_answers_absent_names(void **state)
{
	struct lazy *lazy = *state;
	struct digest digest = lazy_tree(lazy, "in", "echo x >f");
	struct view_attr root = lookup_root(lazy, &digest);

	assert_int_equal(lookup(lazy, root.id, "g").id, 0);
	assert_int_equal(lookup(lazy, VIEW_ROOT_ID, "no-digest").id, 0);
	assert_int_equal(lookup(lazy, VIEW_ROOT_ID, "..").id, 0);
	assert_int_equal(view_n_nodes(lazy->view), 1);
}

static void test_view_tells_a_lost_file_to_the_held_roots_that_show_it(void **state)
{
	struct lazy *lazy = *state;
	struct digest one = lazy_tree(lazy, "1", "mkdir d; echo lost >d/f; echo 1 >o");
	struct digest two = lazy_tree(lazy, "2", "mkdir d; echo lost >d/f; echo 2 >o");
	struct digest other = lazy_tree(lazy, "3", "mkdir d; echo other >d/f");
	struct digest lost = lazy_put(lazy->origin, "lost\n", 5);
	struct digest roots[] = {one, two, other};
	struct view_root *held[3];
	struct looked_up l;
	uint64_t id = 0;
	int64_t before = clock_mono_ns();

	for (size_t i = 0; i < 3; i++) {
		struct view_attr root = lookup_root(lazy, &roots[i]);
		struct view_attr f = lookup(lazy, lookup(lazy, root.id, "d").id, "f");

		held[i] = view_root_get(lazy->view, &roots[i]);
		id = i == 0 ? f.id : id;
	}
	store_remove(lazy->origin, &lost);
	open_start(lazy, id, &l);
	looked_up_wait(&l);
	assert_int_equal(error_code(l.err), ERROR_NOT_FOUND);
	error_free(l.err);
	for (size_t i = 0; i < 3; i++) {
		_cleanup_error_ struct error *err = view_root_lost(held[i], before);
		_cleanup_error_ struct error *later =
			view_root_lost(held[i], clock_mono_ns());

		assert_null(later);
		if (i == 2) {
			assert_null(err);
			continue;
		}
		assert_int_equal(error_code(err), ERROR_NOT_FOUND);
		assert_non_null(strstr(error_text(err), "d/f"));
		assert_int_equal(error_n_missing(err), 1);
	}
	for (size_t i = 0; i < 3; i++)
		view_root_put(held[i]);
	/* whoever holds it next begins anew */
	held[0] = view_root_get(lazy->view, &one);
	assert_null(view_root_lost(held[0], 0));
	view_root_put(held[0]);
}

static void test_view_counts_a_moment_of_waiting_once(void **state)
{
	struct lazy *lazy = *state;
	struct digest digest = lazy_tree(lazy, "in", "mkdir d; echo 1 >d/f; echo 2 >d/g");
	struct view_attr root = lookup_root(lazy, &digest);
	uint64_t d = lookup(lazy, root.id, "d").id;
	uint64_t f = lookup(lazy, d, "f").id;
	uint64_t g = lookup(lazy, d, "g").id;
	struct view_root *held = view_root_get(lazy->view, &digest);
	struct view_wait waits[VIEW_SLOWEST_MAX];
	struct looked_up l[2];
	int64_t began = clock_mono_ns();
	int64_t took;

	assert_int_equal(view_root_waited_ns(held), 0);
	lazy_hold_answers(lazy);
	open_start(lazy, f, &l[0]);
	open_start(lazy, g, &l[1]);
	lazy_await_held(lazy, 1);
	assert_true(view_root_waited_ns(held) > 0);
	lazy_release_answers(lazy);
	looked_up_wait(&l[0]);
	looked_up_wait(&l[1]);
	took = clock_mono_ns() - began;
	assert_true(view_root_waited_ns(held) > 0);
	assert_true(view_root_waited_ns(held) <= took);
	assert_int_equal(view_root_slowest(held, began, waits), 2);
	assert_true(waits[0].ns >= waits[1].ns);
	assert_true(strcmp(waits[0].path, "d/f") == 0 ||
		    strcmp(waits[0].path, "d/g") == 0);
	assert_int_equal(waits[0].bytes, 2);
	for (size_t i = 0; i < 2; i++) {
		free(waits[i].path);
		assert_ok(l[i].err);
		(void)close(l[i].fd);
	}
	assert_int_equal(view_root_slowest(held, clock_mono_ns(), waits), 0);
	assert_int_equal(view_root_account(held)->blobs, 2);
	view_root_put(held);
}

static void test_view_keeps_a_forgotten_node_until_its_fetch_ends(void **state)
{
	struct lazy *lazy = *state;
	struct digest digest = lazy_tree(lazy, "in", "echo 1 >f");
	struct view_attr root = lookup_root(lazy, &digest);
	struct view_attr f = lookup(lazy, root.id, "f");
	struct looked_up l;

	lazy_hold_answers(lazy);
	open_start(lazy, f.id, &l);
	lazy_await_held(lazy, 1);
	view_forget(lazy->view, f.id, 1);
	assert_int_equal(view_n_nodes(lazy->view), 2);
	lazy_release_answers(lazy);
	looked_up_wait(&l);
	assert_ok(l.err);
	(void)close(l.fd);
	assert_int_equal(view_n_nodes(lazy->view), 1);
}

#define VIEW_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		VIEW_TEST(test_view_shares_equal_files_at_equal_paths),
		VIEW_TEST(test_view_never_shows_one_node_at_two_paths_of_a_root),
		VIEW_TEST(test_view_tells_executable_files_and_properties_apart),
		VIEW_TEST(test_view_listing_and_lookup_agree_on_inode_numbers),
		VIEW_TEST(test_view_forgets),
		VIEW_TEST(test_view_answers_absent_names),
		VIEW_TEST(test_view_tells_a_lost_file_to_the_held_roots_that_show_it),
		VIEW_TEST(test_view_counts_a_moment_of_waiting_once),
		VIEW_TEST(test_view_keeps_a_forgotten_node_until_its_fetch_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
