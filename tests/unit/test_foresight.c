/* predict/foresight: what is certain from the command line, and what files say of others.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "tests/unit/grove_fixture.h"
#include "tests/unit/scan_fixture.h"

/* Certain */

static void test_foresight_wishes_for_what_the_command_line_names(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "usr/bin/tool", NULL);
	grove_file(&grove, "bin/tool", "another, behind it in PATH");
	grove_file(&grove, "src/a.txt", NULL);
	grove_file(&grove, "data/b", NULL);
	grove_file(&grove, "inc/c", NULL);
	grove_file(&grove, "not/named", NULL);
	grove_link(&grove, "link", "data/b");
	grove_finish(&grove);
	grove_think(&grove, "tool src/a.txt --in=link -Qinc/c /src/none ../../src/a.txt");
	assert_string_equal(grove_wishes(&grove), "usr/bin/tool src/a.txt data/b inc/c");
	assert_string_equal(grove_wishes(&grove), ""); /* each once */
}

static void test_foresight_reads_response_files(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "args", "'one two' three -Lfour\n@more");
	grove_file(&grove, "more", "five @args");
	grove_file(&grove, "three", NULL);
	grove_file(&grove, "five", NULL);
	grove_finish(&grove);
	grove_think(&grove, "ld @args");
	assert_string_equal(grove_wishes(&grove), "args");
	grove_bring(&grove);
	assert_string_equal(grove_wishes(&grove), "three more");
	grove_bring(&grove);
	assert_string_equal(grove_wishes(&grove), "five");
}

/* What decides where headers are may stand in a response file, which may come after the
 * compiler's own places and the source are known. */
static void test_foresight_looks_for_headers_where_a_response_file_says(void **state)
{
	_cleanup_grove_ struct grove grove;
	const char *got;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "usr/bin/gcc", "driver");
	grove_file(&grove, "usr/lib/gcc/triple/12/include/stddef.h", NULL);
	grove_file(&grove, "usr/include/a.h", "of the root");
	grove_file(&grove, "usr/include/s.h", "of the root, too");
	grove_file(&grove, "sys/a.h", "of -isystem");
	grove_file(&grove, "inc/b.h", "#include_next <b.h>\n");
	grove_file(&grove, "sr/usr/include/b.h", "of the sysroot");
	grove_file(&grove, "sr/usr/include/c.h", "of the sysroot, too");
	grove_file(&grove, "sr/opt/d.h", NULL);
	grove_file(&grove, "usr/include/c.h", "not of the sysroot");
	grove_file(&grove, "m.c",
		   "#include <a.h>\n#include <b.h>\n#include <c.h>\n"
		   "#include <stddef.h>\n#include <d.h>\n");
	grove_file(&grove, "args", "--sysroot=sr -isystem sys -Iinc -I=/opt\n");
	grove_finish(&grove);
	grove_think(&grove, "gcc -c m.c @args");
	assert_true(grove_has(grove_wishes(&grove), "args"));
	/* all but the response file come */
	for (size_t i = 0; i < grove.n_blobs; i++) {
		if (strcmp(grove.blobs[i].path, "args") == 0)
			continue;
		grove.blobs[i].is_here =
			grove_has(buf_string(&grove.said), grove.blobs[i].path);
		foresight_arrived(grove.foresight, &grove.blobs[i].digest, true);
	}
	assert_string_equal(grove_wishes(&grove), "");
	grove_show(&grove, "args", true);
	foresight_arrived(grove.foresight, &grove.blobs[grove.n_blobs - 1].digest, true);
	got = grove_settle(&grove);
	assert_true(grove_has(got, "sys/a.h"));
	assert_true(grove_has(got, "inc/b.h"));
	assert_true(grove_has(got, "sr/usr/include/b.h"));
	assert_true(grove_has(got, "sr/usr/include/c.h"));
	assert_true(grove_has(got, "sr/opt/d.h"));
	assert_true(grove_has(got, "usr/lib/gcc/triple/12/include/stddef.h"));
	assert_false(grove_has(got, "usr/include/a.h"));
	assert_false(grove_has(got, "usr/include/c.h"));
}

/* One that will not come, or that a profile knows, keeps nobody waiting. */
static void test_foresight_does_not_wait_for_a_response_file_that_is_lost(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "inc/a.h", NULL);
	grove_file(&grove, "m.c", "#include <a.h>\n");
	grove_file(&grove, "args", "-O2");
	grove_finish(&grove);
	grove_think(&grove, "cc -Iinc -c m.c @args");
	assert_string_equal(grove_wishes(&grove), "m.c args");
	grove_show(&grove, "m.c", true);
	foresight_arrived(grove.foresight, &grove.blobs[1].digest, true);
	assert_string_equal(grove_wishes(&grove), "");
	foresight_arrived(grove.foresight, &grove.blobs[2].digest, false);
	assert_string_equal(grove_wishes(&grove), "inc/a.h");
}

static void test_foresight_knows_where_the_root_is_mounted(void **state)
{
	static const char *const words[] = {"tool", "/build/root/a", "/etc/passwd",
					    "/build/rootless", "../etc/passwd"};
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "a", NULL);
	grove_file(&grove, "w/x", NULL);
	grove_file(&grove, "less", NULL);
	grove_file(&grove, "etc/passwd", NULL);
	grove_finish(&grove);
	grove_think_of(&grove, &(struct foresight_action){.root = grove.root,
							  .mount = "/build/root",
							  .workdir = "w",
							  .arguments = words,
							  .n_arguments = 5});
	assert_string_equal(grove_wishes(&grove), "a etc/passwd"); /* the relative one */
}

static void test_foresight_wishes_for_interpreter_and_libraries(void **state)
{
	_cleanup_grove_ struct grove grove;
	_cleanup_buf_ struct buf elf = BUF_INIT;

	(void)state;
	scanned_elf(&elf, true, false); /* RUNPATH /a:$ORIGIN/b */
	grove_init(&grove);
	grove_bytes(&grove, "usr/bin/prog", buf_slice(&elf));
	grove_file(&grove, "lib/ld.so", NULL);
	grove_file(&grove, "a/libx.so.1", NULL);
	grove_file(&grove, "usr/bin/b/liby.so", NULL);
	grove_file(&grove, "usr/lib/libx.so.1", NULL);
	grove_file(&grove, "usr/lib/liby.so", NULL);
	grove_finish(&grove);
	grove_think(&grove, "prog");
	assert_string_equal(grove_wishes(&grove), "usr/bin/prog");
	grove_bring(&grove);
	assert_string_equal(grove_wishes(&grove),
			    "lib/ld.so a/libx.so.1 usr/bin/b/liby.so");
}

static void test_foresight_looks_for_libraries_where_ld_so_does(void **state)
{
	_cleanup_grove_ struct grove grove;
	_cleanup_buf_ struct buf elf = BUF_INIT;

	(void)state;
	scanned_elf(&elf, true, false);
	grove_init(&grove);
	grove_bytes(&grove, "usr/bin/prog", buf_slice(&elf));
	grove_file(&grove, "usr/lib/x86_64-linux-gnu/libx.so.1", NULL);
	grove_file(&grove, "usr/lib/liby.so", NULL);
	grove_link(&grove, "lib", "usr/lib");
	grove_finish(&grove);
	grove_think(&grove, "prog");
	assert_string_equal(
		grove_settle(&grove),
		"usr/bin/prog usr/lib/x86_64-linux-gnu/libx.so.1 usr/lib/liby.so");
}

static void test_foresight_wishes_for_a_scripts_interpreter(void **state)
{
	_cleanup_grove_ struct grove grove;
	const char *got;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "run.sh", "#!/usr/bin/env dash\n. ./lib.sh\nsort < input\n");
	grove_file(&grove, "usr/bin/env", NULL);
	grove_file(&grove, "usr/bin/dash", NULL);
	grove_file(&grove, "usr/bin/sort", NULL);
	grove_file(&grove, "usr/bin/other", NULL);
	grove_file(&grove, "lib.sh", "cat x\n");
	grove_file(&grove, "bin/cat", NULL);
	grove_finish(&grove);
	grove_think(&grove, "./run.sh");
	got = grove_settle(&grove);
	assert_true(grove_has(got, "usr/bin/env"));
	assert_true(grove_has(got, "usr/bin/dash"));
	assert_true(grove_has(got, "usr/bin/sort"));
	assert_true(grove_has(got, "lib.sh"));
	assert_true(grove_has(got, "bin/cat"));
	assert_false(grove_has(got, "usr/bin/other"));
}

static void test_foresight_waits_for_directories(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "usr/bin/tool", NULL);
	grove_file(&grove, "a/b/c", NULL);
	grove_finish(&grove);
	grove_show_dirs(&grove, false);
	grove_think(&grove, "tool a/b/c");
	assert_string_equal(grove_wishes(&grove), "");
	grove_show_dir(&grove, "", true);
	grove_show_dir(&grove, "a", true);
	foresight_look(grove.foresight);
	assert_string_equal(grove_wishes(&grove), "");
	grove_show_dir(&grove, "a/b", true);
	foresight_look(grove.foresight);
	assert_string_equal(grove_wishes(&grove), "a/b/c");
	grove_show_dirs(&grove, true);
	foresight_look(grove.foresight);
	assert_string_equal(grove_wishes(&grove), "usr/bin/tool");
}

/* However often Directories come that are of no use, what waits is found in the end. */
static void test_foresight_may_wait_for_long(void **state)
{
	_cleanup_grove_ struct grove grove;
	_cleanup_buf_ struct buf source = BUF_INIT;
	_cleanup_buf_ struct buf dir = BUF_INIT;
	_cleanup_free_ char *command = NULL;
	const char *got;

	(void)state;
	buf_add_string(&dir, "inc");
	while (dir.len < 400)
		buf_add_string(&dir, "/a-long-name-of-a-directory");
	grove_init(&grove);
	for (unsigned int i = 0; i < 200; i++) {
		_cleanup_free_ char *path = alloc_printf("%s/%u.h", buf_string(&dir), i);

		buf_printf(&source, "#include <%u.h>\n", i);
		grove_file(&grove, path, NULL);
	}
	grove_file(&grove, "m.c", buf_string(&source));
	grove_finish(&grove);
	grove_show_dirs(&grove, false);
	grove_show_dir(&grove, "", true);
	command = alloc_printf("cc -I%s -c m.c", buf_string(&dir));
	grove_think(&grove, command);
	assert_string_equal(grove_settle(&grove), "m.c");
	for (unsigned int i = 0; i < 5000; i++)
		foresight_look(grove.foresight);
	grove_show_dirs(&grove, true);
	foresight_look(grove.foresight);
	got = grove_wishes(&grove);
	assert_int_equal(grove_count(got), 200);
}

/* Derived */

static void test_foresight_follows_includes(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "src/m.c",
		   "#include \"beside.h\"\n#include <user.h>\n#include \"quoted.h\"\n"
		   "#include <quoted.h>\n#include <after.h>\n#include \"../up.h\"\n");
	grove_file(&grove, "src/beside.h", "src/beside.h");
	grove_file(&grove, "inc/beside.h", "inc/beside.h");
	grove_file(&grove, "up.h", NULL);
	grove_file(&grove, "inc/user.h", "#include <sys.h>\n");
	grove_file(&grove, "sys/user.h", "hidden by that of -I");
	grove_file(&grove, "sys/sys.h", "#include <deep/one.h>\n");
	grove_file(&grove, "sys/deep/one.h", "#include \"two.h\"\n");
	grove_file(&grove, "sys/deep/two.h", NULL);
	grove_file(&grove, "q/quoted.h", "for quotes only");
	grove_file(&grove, "sys/quoted.h", "for the angled one");
	grove_file(&grove, "after/after.h", NULL);
	grove_file(&grove, "none/never.h", NULL);
	grove_finish(&grove);
	grove_think(&grove,
		    "cc -c -idirafter after -isystem sys -I inc -iquote q src/m.c");
	/* small ones near an included one come with it, whoever else hides them */
	assert_string_equal(grove_settle(&grove),
			    "src/m.c src/beside.h inc/user.h inc/beside.h q/quoted.h "
			    "sys/quoted.h sys/sys.h sys/user.h after/after.h up.h "
			    "sys/deep/one.h sys/deep/two.h");
}

static void test_foresight_follows_include_next(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "m.c", "#include <n.h>\n");
	grove_file(&grove, "a/n.h", "#include_next <n.h>\n");
	grove_file(&grove, "b/n.h", "/* the next */\n#include_next <n.h>\n");
	grove_file(&grove, "c/n.h", "the last");
	grove_finish(&grove);
	grove_think(&grove, "cc -Ia -Ib -Ic -c m.c");
	assert_string_equal(grove_settle(&grove), "m.c a/n.h b/n.h c/n.h");
}

static void test_foresight_follows_includes_that_go_round(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "m.c", "#include \"a.h\"\n");
	grove_file(&grove, "a.h", "#include \"b.h\"\n");
	grove_file(&grove, "b.h", "#include \"a.h\"\n#include \"b.h\"\n");
	grove_finish(&grove);
	grove_think(&grove, "cc -c m.c");
	assert_string_equal(grove_settle(&grove), "m.c a.h b.h");
}

static void test_foresight_knows_a_compilers_own_places(void **state)
{
	_cleanup_grove_ struct grove grove;
	const char *got;

	(void)state;
	grove_init(&grove);
	grove_link(&grove, "usr/bin/gcc", "x86_64-linux-gnu-gcc-12");
	grove_file(&grove, "usr/bin/x86_64-linux-gnu-gcc-12", "driver");
	grove_file(&grove, "usr/bin/as", NULL);
	grove_file(&grove, "usr/bin/ld", NULL);
	grove_file(&grove, "usr/lib/gcc/x86_64-linux-gnu/12/cc1", NULL);
	grove_file(&grove, "usr/lib/gcc/x86_64-linux-gnu/12/cc1plus", NULL);
	grove_file(&grove, "usr/lib/gcc/x86_64-linux-gnu/12/include/stddef.h", NULL);
	grove_file(&grove, "usr/include/stdio.h", "#include <bits/x.h>\n");
	grove_file(&grove, "usr/include/x86_64-linux-gnu/bits/x.h",
		   "#include <stddef.h>");
	grove_file(&grove, "usr/include/c++/12/map", NULL);
	grove_file(&grove, "m.c", "#include <stdio.h>\n#include <map>\n");
	grove_finish(&grove);
	grove_think(&grove, "gcc -c m.c");
	got = grove_settle(&grove);
	assert_true(grove_has(got, "usr/bin/x86_64-linux-gnu-gcc-12"));
	assert_true(grove_has(got, "usr/bin/as"));
	assert_true(grove_has(got, "usr/lib/gcc/x86_64-linux-gnu/12/cc1"));
	assert_true(grove_has(got, "usr/include/stdio.h"));
	assert_true(grove_has(got, "usr/include/x86_64-linux-gnu/bits/x.h"));
	assert_true(grove_has(got, "usr/lib/gcc/x86_64-linux-gnu/12/include/stddef.h"));
	assert_int_equal(grove_count(got), 7); /* no linker, nothing of C++ */
	/* without -c it links */
	for (size_t i = 0; i < grove.n_blobs; i++)
		grove.blobs[i].is_here = false;
	grove_think(&grove, "gcc m.c -o m");
	assert_true(grove_has(grove_settle(&grove), "usr/bin/ld"));
	for (size_t i = 0; i < grove.n_blobs; i++)
		grove.blobs[i].is_here = false;
	grove_think(&grove, "gcc -nostdinc -c m.c");
	assert_false(grove_has(grove_settle(&grove), "usr/include/stdio.h"));
}

static void test_foresight_follows_imports(void **state)
{
	_cleanup_grove_ struct grove grove;
	const char *got;

	(void)state;
	grove_init(&grove);
	grove_link(&grove, "usr/bin/python3", "python3.11");
	grove_file(&grove, "usr/bin/python3.11", "interpreter");
	grove_file(&grove, "usr/lib/python3.11/encodings/__init__.py", "enc");
	grove_file(&grove, "usr/lib/python3.11/os.py", "import stat\n");
	grove_file(&grove, "usr/lib/python3.11/__pycache__/os.cpython-311.pyc", "os");
	grove_file(&grove, "usr/lib/python3.11/__pycache__/os.cpython-310.pyc", "old");
	grove_file(&grove, "usr/lib/python3.11/stat.py", NULL);
	grove_file(&grove, "usr/lib/python3.11/lib-dynload/_x.cpython-311-y.so", NULL);
	grove_file(&grove, "usr/lib/python3.11/turtle.py", NULL);
	grove_file(&grove, "app/main.py",
		   "import os\nimport helper, _x\nfrom pkg.sub import thing\n");
	grove_file(&grove, "app/helper.py", "import deep\n");
	grove_file(&grove, "app/deep.py", "import helper\n");
	grove_file(&grove, "app/pkg/__init__.py", "from . import beside\n");
	grove_file(&grove, "app/pkg/beside.py", "app/pkg/beside.py");
	grove_file(&grove, "app/pkg/sub.py", "from .beside import x\n");
	grove_file(&grove, "app/pkg/other.py", NULL);
	grove_finish(&grove);
	grove_think(&grove, "python3 app/main.py");
	got = grove_settle(&grove);
	assert_true(grove_has(got, "usr/bin/python3.11"));
	assert_true(grove_has(got, "app/main.py"));
	assert_true(grove_has(got, "usr/lib/python3.11/encodings/__init__.py"));
	assert_true(grove_has(got, "usr/lib/python3.11/os.py"));
	assert_true(grove_has(got, "usr/lib/python3.11/__pycache__/os.cpython-311.pyc"));
	assert_true(grove_has(got, "usr/lib/python3.11/stat.py"));
	assert_true(grove_has(got, "usr/lib/python3.11/lib-dynload/_x.cpython-311-y.so"));
	assert_true(grove_has(got, "app/helper.py"));
	assert_true(grove_has(got, "app/deep.py"));
	assert_true(grove_has(got, "app/pkg/__init__.py"));
	assert_true(grove_has(got, "app/pkg/sub.py"));
	assert_true(grove_has(got, "app/pkg/beside.py"));
	assert_int_equal(grove_count(got), 12);
}

static void test_foresight_follows_modules_of_node(void **state)
{
	_cleanup_grove_ struct grove grove;
	const char *got;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "app/main.js",
		   "const a = require('./lib/a');\nconst b = require('pkg');\n");
	grove_file(&grove, "app/lib/a.js", "require('../b.json')\n");
	grove_file(&grove, "app/b.json", "{}");
	grove_file(&grove, "node_modules/pkg/package.json", "{\"main\": \"m.js\"}");
	grove_file(&grove, "node_modules/pkg/index.js", NULL);
	grove_file(&grove, "node_modules/other/index.js", NULL);
	grove_finish(&grove);
	grove_think(&grove, "node app/main.js");
	got = grove_settle(&grove);
	assert_true(grove_has(got, "app/lib/a.js"));
	assert_true(grove_has(got, "app/b.json"));
	assert_true(grove_has(got, "node_modules/pkg/package.json"));
	assert_true(grove_has(got, "node_modules/pkg/index.js"));
	assert_false(grove_has(got, "node_modules/other/index.js"));
}

static void test_foresight_follows_imports_of_go(void **state)
{
	_cleanup_grove_ struct grove grove;
	const char *got;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "usr/local/go/bin/go", "tool");
	grove_file(&grove, "usr/local/go/src/fmt/print.go",
		   "package fmt\nimport \"v.org/x\"\n");
	grove_file(&grove, "usr/local/go/src/fmt/print_test.go", NULL);
	grove_file(&grove, "usr/local/go/src/fmt/add.s", NULL);
	grove_file(&grove, "usr/local/go/src/fmt/README", NULL);
	grove_file(&grove, "usr/local/go/src/os/os.go", NULL);
	grove_file(&grove, "usr/local/go/src/vendor/v.org/x/x.go", NULL);
	grove_file(&grove, "w/vendor/own.org/y/y.go", NULL);
	grove_file(&grove, "w/main.go",
		   "package main\nimport (\n\"fmt\"\n\"own.org/y\"\n\"no.org/z\"\n)\n");
	grove_finish(&grove);
	grove_think_of(&grove,
		       &(struct foresight_action){
			       .root = grove.root,
			       .mount = "/",
			       .workdir = "w",
			       .arguments = (const char *const[]){"/usr/local/go/bin/go",
								  "build", "main.go"},
			       .n_arguments = 3,
		       });
	got = grove_settle(&grove);
	assert_true(grove_has(got, "usr/local/go/src/fmt/print.go"));
	assert_true(grove_has(got, "usr/local/go/src/fmt/add.s"));
	assert_true(grove_has(got, "usr/local/go/src/vendor/v.org/x/x.go"));
	assert_true(grove_has(got, "w/vendor/own.org/y/y.go"));
	assert_int_equal(grove_count(got), 6); /* no test, no README, no os */
}

/* What the command opens without a wish tells of others as well. */
static void test_foresight_looks_into_what_was_missed(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "gen/m.c", "#include \"a.h\"\n");
	grove_file(&grove, "gen/a.h", NULL);
	grove_finish(&grove);
	grove_think(&grove, "make");
	assert_string_equal(grove_wishes(&grove), "");
	foresight_opened(grove.foresight, "gen/m.c", false);
	/* it is under way already: the wish only tells when it is here */
	assert_string_equal(grove_wishes(&grove), "gen/m.c");
	grove_bring(&grove);
	assert_string_equal(grove_wishes(&grove), "gen/a.h");
}

/* Names that lead out, however they are made, lead nowhere. */
static void test_foresight_never_leaves_the_root(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_file(&grove, "m.c",
		   "#include \"/etc/passwd\"\n#include \"../../../../etc/shadow\"\n"
		   "#include \"out/x.h\"\n");
	grove_link(&grove, "out", "../../../..");
	grove_link(&grove, "away", "/proc/self");
	grove_file(&grove, "args", "/etc/passwd away/mem --x=../../../bin/sh");
	grove_finish(&grove);
	grove_think(&grove, "cc -I/usr/include -I.. -Iaway @args -c m.c");
	assert_string_equal(grove_settle(&grove), "args m.c");
	foresight_opened(grove.foresight, "etc/passwd", false);
	foresight_opened(grove.foresight, "../m.c", false);
	foresight_opened(grove.foresight, "out/m.c", false);
	foresight_opened(grove.foresight, "/m.c", false);
	foresight_opened(grove.foresight, "", false);
	assert_string_equal(grove_wishes(&grove), "");
}

static void test_foresight_ends_in_a_tree_without_end(void **state)
{
	_cleanup_grove_ struct grove grove;

	(void)state;
	grove_init(&grove);
	grove_fold(&grove, "fold", 60);
	grove_file(&grove, "z/last", NULL);
	grove_finish(&grove);
	grove_think(&grove, "tool fold z/last");
	assert_string_equal(grove_wishes(&grove), "z/last");
	grove_open(&grove, "fold");
	assert_string_equal(grove_wishes(&grove), "");
}

static void test_foresight_tires_of_names_that_wait(void **state)
{
	enum { N_DIRS = 200, N_NAMES = 2000, N_LOOKS = 100, MANY = 10 << 20 };
	_cleanup_grove_ struct grove grove;
	_cleanup_buf_ struct buf args = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < N_DIRS; i++)
		buf_printf(&args, "-Iempty\n");
	buf_printf(&args, "-Iaway\n");
	for (size_t i = 0; i < N_NAMES; i++)
		buf_printf(&args, "-include x%zu.h\n", i);
	grove_init(&grove);
	grove_file(&grove, "empty/x.h", NULL);
	grove_file(&grove, "away/x.h", "#define X\n");
	grove_bytes(&grove, "args", buf_slice(&args));
	grove_finish(&grove);
	grove_show_dir(&grove, "away", false);
	grove_think(&grove, "gcc @args");
	assert_string_equal(grove_settle(&grove), "args");
	assert_true(grove.n_dir > (size_t)N_NAMES * N_DIRS); /* they are looked for … */
	for (size_t i = 0; i < N_LOOKS; i++)
		foresight_look(grove.foresight);
	assert_true(grove.n_dir < MANY); /* … but not for ever */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_foresight_wishes_for_what_the_command_line_names),
		cmocka_unit_test(test_foresight_reads_response_files),
		cmocka_unit_test(
			test_foresight_looks_for_headers_where_a_response_file_says),
		cmocka_unit_test(
			test_foresight_does_not_wait_for_a_response_file_that_is_lost),
		cmocka_unit_test(test_foresight_knows_where_the_root_is_mounted),
		cmocka_unit_test(test_foresight_wishes_for_interpreter_and_libraries),
		cmocka_unit_test(test_foresight_looks_for_libraries_where_ld_so_does),
		cmocka_unit_test(test_foresight_wishes_for_a_scripts_interpreter),
		cmocka_unit_test(test_foresight_waits_for_directories),
		cmocka_unit_test(test_foresight_may_wait_for_long),
		cmocka_unit_test(test_foresight_follows_includes),
		cmocka_unit_test(test_foresight_follows_include_next),
		cmocka_unit_test(test_foresight_follows_includes_that_go_round),
		cmocka_unit_test(test_foresight_knows_a_compilers_own_places),
		cmocka_unit_test(test_foresight_follows_imports),
		cmocka_unit_test(test_foresight_follows_modules_of_node),
		cmocka_unit_test(test_foresight_follows_imports_of_go),
		cmocka_unit_test(test_foresight_looks_into_what_was_missed),
		cmocka_unit_test(test_foresight_never_leaves_the_root),
		cmocka_unit_test(test_foresight_ends_in_a_tree_without_end),
		cmocka_unit_test(test_foresight_tires_of_names_that_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
