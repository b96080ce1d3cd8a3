/*
 * What comes back, statements 73 to 79 of docs/protocol.md: output paths of all spellings
 * and kinds, Trees, and what an overlay makes of renames, whiteouts and links.
 */
#include "tests/integration/tree_fixture.h"

#include <limits.h>

#define FORMAT(name) REAPI__COMMAND__OUTPUT_DIRECTORY_FORMAT__##name

/* ---- links on the way ----------------------------------------------------------- */

static void test_73_parent_that_became_a_link_inside_is_followed(void **state)
{
	static const char *const targets[] = {"q", "/build/q", "../build/q", "r/../q"};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		struct act act = {.outputs = LIST("p/o", "p/sub")};
		struct outcome outcome;

		act.script = arena_printf(&fixture->arena,
					  "rmdir p; mkdir -p q/sub r; echo in > q/o; "
					  "echo f > q/sub/f; ln -s %s p; cat p/o",
					  targets[i]);
		outcome = act_run(fixture, &act);
		assert_int_equal(outcome.code, 0);
		/* "../build/q" leads out of the root and into it again: not ours to know
		 */
		if (strncmp(targets[i], "..", 2) == 0) {
			assert_null(output_file(&outcome, "p/o"));
			continue;
		}
		assert_ran(fixture, &outcome, 0, "in\n");
		assert_file_says(fixture, &outcome, "p/o", "in\n");
		assert_tree_lists(fixture, output_dir(&outcome, "p/sub"), "f\n");
	}
}

static void test_73_parent_that_became_a_link_outside_is_not_followed(void **state)
{
	static const char *const targets[] = {"/etc", "../etc", "../../../../etc",
					      "/build/../etc", "."};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		struct act act = {.outputs = LIST("p/passwd", "p/apt")};
		struct outcome outcome;

		act.script = arena_printf(&fixture->arena, "rmdir p; ln -s %s p; exit 0",
					  targets[i]);
		outcome = act_run(fixture, &act);
		assert_ran(fixture, &outcome, 0, "");
		assert_int_equal(outcome.result->n_output_files, 0);
		assert_int_equal(outcome.result->n_output_directories, 0);
		assert_int_equal(outcome.result->n_output_symlinks, 0);
	}
}

static void test_73_links_in_a_circle_end(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.script = "rmdir p; ln -s q p; ln -s p q",
			  .outputs = LIST("p/o")};
	struct outcome outcome = act_run(fixture, &act);

	assert_ran(fixture, &outcome, 0, "");
	assert_int_equal(outcome.result->n_output_files, 0);
}

/* ---- kinds ---------------------------------------------------------------------- */

static void test_74_missing_output_is_left_out(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.script = "echo x > here; exit 3",
			  .outputs = LIST("here", "absent", "no/where")};
	struct outcome outcome = act_run(fixture, &act);

	assert_ran(fixture, &outcome, 3, "");
	assert_int_equal(outcome.result->n_output_files, 1);
	assert_int_equal(outcome.result->n_output_directories, 0);
	assert_int_equal(outcome.result->n_output_symlinks, 0);
	assert_file_says(fixture, &outcome, "here", "x\n");
}

static void test_75_files_directories_and_links_are_told_apart(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST("f", "x", "d", "to-dir", "dangling", "absolute",
					  "outside")};
	struct outcome outcome;

	act.script = "echo f > f; echo x > x; chmod 0755 x; mkdir d; echo e > d/e; "
		     "ln -s d to-dir; ln -s nowhere dangling; ln -s /build/f absolute; "
		     "ln -s /etc/passwd outside";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_int_equal(outcome.result->n_output_files, 2);
	assert_int_equal(outcome.result->n_output_directories, 1);
	assert_int_equal(outcome.result->n_output_symlinks, 4);
	assert_false(output_file(&outcome, "f")->is_executable);
	assert_true(output_file(&outcome, "x")->is_executable);
	assert_tree_lists(fixture, output_dir(&outcome, "d"), "e\n");
	assert_string_equal(output_link(&outcome, "to-dir")->target, "d");
	assert_string_equal(output_link(&outcome, "dangling")->target, "nowhere");
	assert_string_equal(output_link(&outcome, "absolute")->target, "/build/f");
	assert_string_equal(output_link(&outcome, "outside")->target, "/etc/passwd");
	assert_int_equal(outcome.result->n_output_file_symlinks, 0);
	assert_int_equal(outcome.result->n_output_directory_symlinks, 0);
}

static void test_75_legacy_lists_fill_the_legacy_fields_too(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.files = LIST("f", "to-file", "dangling"),
			  .directories = LIST("d", "to-dir")};
	struct outcome outcome;

	act.script = "echo f > f; mkdir d; echo e > d/e; ln -s f to-file; "
		     "ln -s nowhere dangling; ln -s d to-dir";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_file_says(fixture, &outcome, "f", "f\n");
	assert_tree_lists(fixture, output_dir(&outcome, "d"), "e\n");
	assert_int_equal(outcome.result->n_output_symlinks, 3);
	assert_int_equal(outcome.result->n_output_file_symlinks, 2);
	assert_string_equal(outcome.result->output_file_symlinks[0]->path, "to-file");
	assert_string_equal(outcome.result->output_file_symlinks[1]->path, "dangling");
	assert_int_equal(outcome.result->n_output_directory_symlinks, 1);
	assert_string_equal(outcome.result->output_directory_symlinks[0]->path, "to-dir");
	assert_string_equal(outcome.result->output_directory_symlinks[0]->target, "d");
}

/* ---- spellings ------------------------------------------------------------------ */

static void test_76_paths_are_echoed_verbatim(void **state)
{
	static const char *const files[] = {"f",      "./f",   "d/../f", "d//g",
					    "../w/f", "d/./g", "f/"};
	static const char *const dirs[] = {"",      ".",  "d",    "d/",  "d/.",
					   "./d//", "..", "../w", "d/.."};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	const char *outputs[ARRAY_SIZE(files) + ARRAY_SIZE(dirs) + 1] = {NULL};
	_cleanup_buf_ struct buf root = BUF_INIT;
	struct act act = {.script = "mkdir -p d; echo f > f; echo g > d/g",
			  .workdir = "w",
			  .outputs = outputs};
	struct outcome outcome;

	dir_add_dir(&root, "w", empty_root(fixture));
	act.root = dir_put(fixture, &root);
	memcpy(outputs, files, sizeof(files));
	memcpy(outputs + ARRAY_SIZE(files), dirs, sizeof(dirs));
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_int_equal(outcome.result->n_output_files, ARRAY_SIZE(files));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		assert_file_says(fixture, &outcome, files[i],
				 strstr(files[i], "g") ? "g\n" : "f\n");
	assert_int_equal(outcome.result->n_output_directories, ARRAY_SIZE(dirs));
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		const char *listing = "d/\nd/g\nf\n";

		if (strcmp(dirs[i], "..") == 0)
			listing = "w/\nw/d/\nw/d/g\nw/f\n";
		else if (strchr(dirs[i], 'd') && strcmp(dirs[i], "d/..") != 0)
			listing = "g\n";
		assert_tree_lists(fixture, output_dir(&outcome, dirs[i]), listing);
	}
}

static void test_76_nested_and_overlapping_outputs_are_all_there(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {
		.script = "mkdir -p a/b/c; echo 1 > a/1; echo 2 > a/b/2; "
			  "echo 3 > a/b/c/3; echo twice > t",
		.outputs = LIST("a/b/c/3", "a", "a/b", "a/b/c", "a/b/2", "", "t", "t")};
	struct outcome outcome = act_run(fixture, &act);

	assert_ran(fixture, &outcome, 0, "");
	assert_int_equal(outcome.result->n_output_files, 4);
	assert_int_equal(outcome.result->n_output_directories, 4);
	assert_file_says(fixture, &outcome, "a/b/c/3", "3\n");
	assert_file_says(fixture, &outcome, "a/b/2", "2\n");
	assert_tree_lists(fixture, output_dir(&outcome, "a/b/c"), "3\n");
	assert_tree_lists(fixture, output_dir(&outcome, "a/b"), "2\nc/\nc/3\n");
	assert_tree_lists(fixture, output_dir(&outcome, "a"),
			  "1\nb/\nb/2\nb/c/\nb/c/3\n");
	assert_tree_lists(fixture, output_dir(&outcome, ""),
			  "a/\na/1\na/b/\na/b/2\na/b/c/\na/b/c/3\nt\n");
}

/* Longer than any path that the kernel takes at once, in bytes and in levels. */
static void test_76_outputs_below_a_path_longer_than_path_max(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST("out")};
	struct outcome outcome;

	act.script = "perl -e 'mkdir \"out\"; chdir \"out\"; my $n = \"n\" x 250; "
		     "for (1..20) { mkdir $n or die $!; chdir $n or die $! } "
		     "open my $f, \">\", \"end\"; print $f \"the end\"'";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	{
		_cleanup_(tree_deinit) struct tree tree =
			tree_of(fixture, output_dir(&outcome, "out"));

		assert_int_equal(tree.n, 21);
		assert_tree_is_canonical(&tree);
	}
	assert_tidy(worker);
}

/* ---- directories ---------------------------------------------------------------- */

static const char many_equal_dirs[] =
	"mkdir -p out/a/same/deep out/b/same/deep out/c/deep out/empty out/z/empty; "
	"for d in out/a/same out/b/same out/c; do echo s > $d/deep/f; ln -s f $d/deep/l; "
	"done";

static void test_77_tree_children_are_deduplicated_and_in_order(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.script = many_equal_dirs, .outputs = LIST("out")};
	struct outcome outcome = act_run(fixture, &act);

	assert_ran(fixture, &outcome, 0, "");
	assert_true(outcome.result->output_directories[0]->is_topologically_sorted);
	assert_tree_lists(fixture, output_dir(&outcome, "out"),
			  "a/\na/same/\na/same/deep/\na/same/deep/f\n"
			  "a/same/deep/l -> f\n"
			  "b/\nb/same/\nb/same/deep/\nb/same/deep/f\n"
			  "b/same/deep/l -> f\n"
			  "c/\nc/deep/\nc/deep/f\nc/deep/l -> f\n"
			  "empty/\nz/\nz/empty/\n");
	{
		_cleanup_(tree_deinit) struct tree tree =
			tree_of(fixture, output_dir(&outcome, "out"));

		assert_int_equal(tree.n, 6); /* out, a = b, same = c, deep, empty, z */
	}
}

static void test_77_formats_give_what_they_say_and_equal_digests(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct outcome outcomes[3];
	const Reapi__OutputDirectory *dirs[3];

	for (int format = 0; format < 3; format++) {
		struct act act = {.script = many_equal_dirs, .outputs = LIST("out")};

		act.format = (Reapi__Command__OutputDirectoryFormat)format;
		outcomes[format] = act_run(fixture, &act);
		assert_ran(fixture, &outcomes[format], 0, "");
		dirs[format] = output_dir(&outcomes[format], "out");
		assert_non_null(dirs[format]);
	}
	assert_non_null(dirs[FORMAT(TREE_ONLY)]->tree_digest);
	assert_null(dirs[FORMAT(TREE_ONLY)]->root_directory_digest);
	assert_null(dirs[FORMAT(DIRECTORY_ONLY)]->tree_digest);
	assert_same_digest(dirs[FORMAT(TREE_ONLY)]->tree_digest,
			   dirs[FORMAT(TREE_AND_DIRECTORY)]->tree_digest);
	assert_same_digest(dirs[FORMAT(DIRECTORY_ONLY)]->root_directory_digest,
			   dirs[FORMAT(TREE_AND_DIRECTORY)]->root_directory_digest);
	{
		_cleanup_(tree_deinit) struct tree tree =
			tree_of(fixture, dirs[FORMAT(TREE_ONLY)]);

		assert_same_digest(wire_of_digest(fixture, &tree.digests[0]),
				   dirs[FORMAT(DIRECTORY_ONLY)]->root_directory_digest);
	}
}

/* As the input root, with what is captured unchanged, the digest is the input's. */
static void test_77_captured_root_is_the_input_root_again(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST(""), .format = FORMAT(DIRECTORY_ONLY)};
	_cleanup_buf_ struct buf root = BUF_INIT, sub = BUF_INIT;
	struct outcome outcome;

	dir_add_file(&sub, "f", put_text(fixture, unique_text(fixture, "f")));
	dir_add_file(&root, "a", put_text(fixture, "a"));
	dir_add_program(&root, "b", put_text(fixture, "b"));
	dir_add_dir(&root, "sub", dir_put(fixture, &sub));
	dir_add_link(&root, "l", "sub/f");
	act.root = dir_put(fixture, &root);
	act.script = "exit 0";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_same_digest(output_dir(&outcome, "")->root_directory_digest, act.root);
	/* written again with the same bytes, removed and linked again: still the same */
	act.script = "cp a c && rm a && mv c a; touch b; rm l; ln -s sub/f l; "
		     "mv sub other; mv other sub; rm -f sub/x";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_same_digest(output_dir(&outcome, "")->root_directory_digest, act.root);
}

static void test_78_directory_only_stores_every_directory_first(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.script = many_equal_dirs,
			  .outputs = LIST("out"),
			  .format = FORMAT(DIRECTORY_ONLY),
			  .root = NULL};
	struct outcome outcome;
	struct tree tree = {0};
	size_t cap = 0;

	act.script = arena_printf(&fixture->arena, "%s; echo '%s' > out/z/f",
				  many_equal_dirs, unique_text(fixture, "unique"));
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	tree.digests = alloc_grow(NULL, &cap, 1, sizeof(*tree.digests));
	assert_no_error(
		digest_from_wire(output_dir(&outcome, "out")->root_directory_digest,
				 &tree.digests[tree.n++]));
	for (size_t i = 0; i < tree.n; i++) {
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
		_cleanup_buf_ struct buf bytes = BUF_INIT;
		size_t len;
		const char *data = get_blob(
			fixture, wire_of_digest(fixture, &tree.digests[i]), &len);

		buf_add(&bytes, data, len);
		assert_no_error(tree_dir_decode(&bytes, &dir));
		for (uint32_t k = 0; k < dir->n_nodes; k++) {
			if (dir->nodes[k].kind == TREE_SYMLINK)
				continue;
			if (dir->nodes[k].kind == TREE_FILE) {
				(void)get_blob(
					fixture,
					wire_of_digest(fixture, &dir->nodes[k].digest),
					&len);
				continue;
			}
			tree.digests = alloc_grow(tree.digests, &cap, tree.n + 1,
						  sizeof(*tree.digests));
			tree.digests[tree.n++] = dir->nodes[k].digest;
		}
	}
	assert_int_equal(tree.n, 12); /* each directory of the listing, equal ones too */
	assert_all_stored(fixture, &tree);
	tree_deinit(&tree);
}

static void test_78_tree_and_directory_stores_both(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST("out"), .format = FORMAT(TREE_AND_DIRECTORY)};
	struct outcome outcome;

	act.script = arena_printf(&fixture->arena, "%s; echo '%s' > out/z/f",
				  many_equal_dirs, unique_text(fixture, "unique"));
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	{
		_cleanup_(tree_deinit) struct tree tree =
			tree_of(fixture, output_dir(&outcome, "out"));

		assert_all_stored(fixture, &tree);
		assert_same_digest(output_dir(&outcome, "out")->root_directory_digest,
				   wire_of_digest(fixture, &tree.digests[0]));
	}
}

/* ---- properties ----------------------------------------------------------------- */

static void test_77_output_node_properties_are_recorded_where_asked_for(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.script = "echo f > f; touch -d @1234567890.5 f; chmod 640 f; "
				    "mkdir d; cp -p f d/f; ln -s f l",
			  .outputs = LIST("f", "d", "l"),
			  .node_properties = LIST("mtime", "unix_mode")};
	struct outcome outcome = act_run(fixture, &act);
	const Reapi__OutputFile *file = output_file(&outcome, "f");

	assert_ran(fixture, &outcome, 0, "");
	assert_non_null(file->node_properties);
	assert_int_equal(file->node_properties->mtime->seconds, 1234567890);
	assert_int_equal(file->node_properties->mtime->nanos, 500000000);
	assert_int_equal(file->node_properties->unix_mode->value & 07777, 0640);
	assert_non_null(output_link(&outcome, "l")->node_properties);
	{
		_cleanup_(tree_deinit) struct tree tree =
			tree_of(fixture, output_dir(&outcome, "d"));
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir =
			tree_decode_at(&tree, 0);

		assert_true(dir->nodes[0].props->has_mtime);
		assert_int_equal(dir->nodes[0].props->mtime_s, 1234567890);
		assert_true(dir->nodes[0].props->has_unix_mode);
	}
	act.node_properties = NULL;
	outcome = act_run(fixture, &act);
	assert_null(output_file(&outcome, "f")->node_properties);
	assert_null(output_link(&outcome, "l")->node_properties);
}

/* True ones, or none. */
static void test_77_times_of_directories_are_theirs(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct tree_props old = {.has_mtime = true, .mtime_s = 1000000000};
	struct act act = {.outputs = LIST("d", "new", "same", "touched"),
			  .node_properties = LIST("mtime")};
	_cleanup_buf_ struct buf dir = BUF_INIT, root = BUF_INIT, props = BUF_INIT;
	struct outcome outcome;

	tree_props_encode(&old, &props);
	dir_add_file(&dir, "f", put_text(fixture, "f\n"));
	wire_put_bytes(&dir, 5, buf_slice(&props));
	dir_add_dir(&root, "d", dir_put(fixture, &dir));
	for (size_t i = 0; i < 2; i++) {
		dir_add_file(&dir, i ? "t" : "s", put_text(fixture, "s\n"));
		wire_put_bytes(&dir, 5, buf_slice(&props));
		dir_add_dir(&root, i ? "touched" : "same", dir_put(fixture, &dir));
	}
	act.root = dir_put(fixture, &root);
	act.script = "echo x > d/x; touch -d @1234567890.5 d; mkdir new; echo y > new/y; "
		     "touch -d @1300000000 new; touch -d @1400000000 touched; cat same/s";
	for (size_t with = 2; with-- > 0;) {
		static const char *const names[] = {"d", "new", "same", "touched"};
		static const int64_t times[] = {1234567890, 1300000000, 1000000000,
						1400000000};

		act.node_properties = with ? LIST("mtime") : NULL;
		outcome = act_run(fixture, &act);
		assert_ran(fixture, &outcome, 0, "s\n");
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			_cleanup_(tree_deinit) struct tree tree =
				tree_of(fixture, output_dir(&outcome, names[i]));
			_cleanup_(tree_dir_unrefp) struct tree_dir *got =
				tree_decode_at(&tree, 0);

			/* what nothing was done to is what it was */
			if (!with && i < 2)
				assert_true(!got->props || !got->props->has_mtime);
			else if (with)
				assert_int_equal(got->props->mtime_s, times[i]);
		}
	}
}

/* ---- the overlay's doings ------------------------------------------------------- */

static Reapi__Digest *put_workshop(struct fixture *fixture)
{
	_cleanup_buf_ struct buf root = BUF_INIT, d = BUF_INIT, c = BUF_INIT,
				 g = BUF_INIT;

	dir_add_file(&c, "x", put_text(fixture, "x\n"));
	dir_add_file(&d, "a", put_text(fixture, "a\n"));
	dir_add_file(&d, "b", put_text(fixture, "b\n"));
	dir_add_dir(&d, "c", dir_put(fixture, &c));
	dir_add_file(&g, "old", put_text(fixture, "old\n"));
	dir_add_file(&root, "f", put_text(fixture, "f\n"));
	dir_add_file(&root, "was-file", put_text(fixture, "w\n"));
	dir_add_dir(&root, "d", dir_put(fixture, &d));
	dir_add_dir(&root, "g", dir_put(fixture, &g));
	dir_add_dir(&root, "was-dir", dir_put(fixture, &c)); /* empty */
	return dir_put(fixture, &root);
}

static void test_79_final_state_is_what_is_captured(void **state)
{
	static const struct {
		const char *script, *listing;
	} cases[] = {
		{"rm d/a f", "d/\nd/b\nd/c/\nd/c/x\ng/\ng/old\nwas-dir/\nwas-file\n"},
		{"mv d e; rm -r g was-*", "e/\ne/a\ne/b\ne/c/\ne/c/x\nf\n"},
		{"mv d/c d/z; mv d g/sub; rm -r was-*",
		 "f\ng/\ng/old\ng/sub/\ng/sub/a\ng/sub/b\ng/sub/z/\ng/sub/z/x\n"},
		{"rm -r g; mkdir g; echo n > g/new; rm -r d was-*", "f\ng/\ng/new\n"},
		{"rm -r d g f; rmdir was-dir; echo f > was-dir; rm was-file; mkdir "
		 "was-file",
		 "was-dir\nwas-file/\n"},
		{"rm -r d g was-*; ln f hard; chmod +x f", "f*\nhard*\n"},
		{"rm -r d was-* g; mv f t; ln -s t f; ln t u; rm t", "f -> t\nu\n"},
		{"rm -rf d g was-*; : > f; rm f; echo again > f", "f\n"},
		{"chmod +x d/a; rm -r g was-* f; mv d/a d/b", "d/\nd/b*\nd/c/\nd/c/x\n"},
		{"mkdir n; mv d n/d; mv n/d/c n/c; mv n m; rm -r g was-* f",
		 "m/\nm/c/\nm/c/x\nm/d/\nm/d/a\nm/d/b\n"},
		{"rm -r -- *", ""},
	};
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	Reapi__Digest *root = put_workshop(fixture);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct act act = {
			.script = cases[i].script, .root = root, .outputs = LIST("")};
		struct outcome outcome = act_run(fixture, &act);

		assert_ran(fixture, &outcome, 0, NULL);
		assert_tree_lists(fixture, output_dir(&outcome, ""), cases[i].listing);
	}
}

static void test_79_hard_links_have_equal_bytes_and_all_of_them(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.script = "echo one > a; ln a b; ln f hard; echo more >> hard; "
				    "echo two >> b; cat f",
			  .outputs = LIST("a", "b", "hard", "f"),
			  .root = put_workshop(fixture)};
	struct outcome outcome = act_run(fixture, &act);

	assert_ran(fixture, &outcome, 0, "f\nmore\n");
	assert_file_says(fixture, &outcome, "a", "one\ntwo\n");
	assert_file_says(fixture, &outcome, "b", "one\ntwo\n");
	assert_file_says(fixture, &outcome, "hard", "f\nmore\n");
	assert_file_says(fixture, &outcome, "f", "f\nmore\n");
}

/* ---- inputs as outputs ---------------------------------------------------------- */

/* What was not touched is not read: its bytes never crossed the network. The shell alone
 * knows the names, since what a command line names is fetched ahead. */
static void test_untouched_input_is_an_output_without_being_read(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST("in", "in/large", "renamed", "moded"),
			  .format = FORMAT(TREE_AND_DIRECTORY)};
	_cleanup_buf_ struct buf root = BUF_INIT, in = BUF_INIT;
	size_t large = (size_t)1 << 20;
	_cleanup_free_ char *bytes = alloc_zero(large);
	Reapi__Digest *blobs[3], *in_digest;
	struct outcome outcome;

	for (size_t i = 0; i < ARRAY_SIZE(blobs); i++) {
		const char *mark = unique_text(fixture, "large");

		memcpy(bytes, mark, strlen(mark));
		blobs[i] = put_blob(fixture, bytes, large);
	}
	dir_add_file(&in, "large", blobs[0]);
	in_digest = dir_put(fixture, &in);
	dir_add_file(&root, "mode", blobs[1]);
	dir_add_file(&root, "rename", blobs[2]);
	dir_add_dir(&root, "in", in_digest);
	act.root = dir_put(fixture, &root);
	act.script = "r=rename m=mode; mv $r renamed; mv $m moded; chmod +x moded";
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_same_digest(output_dir(&outcome, "in")->root_directory_digest, in_digest);
	assert_same_digest(output_file(&outcome, "in/large")->digest, blobs[0]);
	assert_same_digest(output_file(&outcome, "renamed")->digest, blobs[2]);
	assert_same_digest(output_file(&outcome, "moded")->digest, blobs[1]);
	assert_true(output_file(&outcome, "moded")->is_executable);
	/* to pass a file through is to have it: what is renamed or changed is opened */
	assert_true(report_of(fixture, &outcome)->fetched->bytes <
		    (int64_t)large / 2 * (getenv("LAZYROOT_TEST_DATA_PATH") ? 5 : 1));
}

/* Made here: the next action that needs it fetches nothing. */
static void test_outputs_are_never_fetched_by_their_maker(void **state)
{
	struct worker *worker = *state;
	struct fixture *fixture = &worker->server;
	struct act act = {.outputs = LIST("out"), .format = FORMAT(DIRECTORY_ONLY)};
	struct outcome outcome;

	act.script = arena_printf(&fixture->arena,
				  "mkdir -p out/d; echo '%s' > out/d/f; echo g > out/g",
				  unique_text(fixture, "made here"));
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	act = (struct act){.script = "cat d/f g > /dev/null; ls -R > /dev/null"};
	act.root = output_dir(&outcome, "out")->root_directory_digest;
	outcome = act_run(fixture, &act);
	assert_ran(fixture, &outcome, 0, "");
	assert_int_equal(report_of(fixture, &outcome)->fetched->blobs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_73_parent_that_became_a_link_inside_is_followed),
		cmocka_unit_test(
			test_73_parent_that_became_a_link_outside_is_not_followed),
		cmocka_unit_test(test_73_links_in_a_circle_end),
		cmocka_unit_test(test_74_missing_output_is_left_out),
		cmocka_unit_test(test_75_files_directories_and_links_are_told_apart),
		cmocka_unit_test(test_75_legacy_lists_fill_the_legacy_fields_too),
		cmocka_unit_test(test_76_paths_are_echoed_verbatim),
		cmocka_unit_test(test_76_nested_and_overlapping_outputs_are_all_there),
		cmocka_unit_test(test_76_outputs_below_a_path_longer_than_path_max),
		cmocka_unit_test(test_77_tree_children_are_deduplicated_and_in_order),
		cmocka_unit_test(test_77_formats_give_what_they_say_and_equal_digests),
		cmocka_unit_test(test_77_captured_root_is_the_input_root_again),
		cmocka_unit_test(
			test_77_output_node_properties_are_recorded_where_asked_for),
		cmocka_unit_test(test_77_times_of_directories_are_theirs),
		cmocka_unit_test(test_78_directory_only_stores_every_directory_first),
		cmocka_unit_test(test_78_tree_and_directory_stores_both),
		cmocka_unit_test(test_79_final_state_is_what_is_captured),
		cmocka_unit_test(test_79_hard_links_have_equal_bytes_and_all_of_them),
		cmocka_unit_test(test_untouched_input_is_an_output_without_being_read),
		cmocka_unit_test(test_outputs_are_never_fetched_by_their_maker),
	};

	return cmocka_run_group_tests(tests, worker_setup, worker_teardown);
}
