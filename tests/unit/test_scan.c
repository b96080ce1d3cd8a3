/* predict/scan: what files of each kind say of others, and that it stays within bounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "tests/unit/scan_fixture.h"

static void test_scan_finds_includes(void **state)
{
	static const char *const lines[][2] = {
		{"#include <a.h>\n#include \"b/c.h\"\n", "angled:a.h quoted:b/c.h"},
		{"  #  include\t<a.h>\n%:include <b.h>\n#include<c.h>",
		 "angled:a.h angled:b.h angled:c.h"},
		{"#include_next <a.h>\n#import \"b.h\"\n#embed <c.bin> limit(1)\n",
		 "next:a.h quoted:b.h angled:c.bin"},
		{"#include \\\n <a.h>\n# \\\r\n include <b.h>\r\n",
		 "angled:a.h angled:b.h"},
		{"/* #include <no.h>\n#include <no.h>\n*/ #include <a.h>\n",
		 "angled:a.h"},
		{"// \\\n#include <no.h>\n#/**/include/* */<a.h> // <b.h>\n",
		 "angled:a.h"},
		{"x = \"/*\";\n#include <a.h>\ny = '\"'; /* '\n*/\n#include <b.h>\n",
		 "angled:a.h angled:b.h"},
		{"x = \"\\\n#include <no.h>\\\n\";\n#include <a.h>\n", "angled:a.h"},
		{"x = R\"q(\n#include <no.h>\n)\" )q\";\n#include <a.h>\n", "angled:a.h"},
		{"x = u8R\"(\n#include <no.h>\n)\";\n#include <a.h>\n", "angled:a.h"},
		{"x = FOR\"(\n#include <a.h>\n", "angled:a.h"},
		{"n = 1'000; s = \"/*\";\n#include <a.h>\n", "angled:a.h"},
		{"it's\n#include <a.h>\n#error don't /*\n#include <no.h>*/\n",
		 "angled:a.h angled:no.h"},
		{"#if 0\n#include <no.h>\n#if 1\n#else\n#include <no.h>\n#endif\n#else\n"
		 "#include <a.h>\n#endif\n#include <b.h>\n",
		 "angled:a.h angled:b.h"},
		{"#if 0 /* never */\n#include <no.h>\n#elif X\n#include <a.h>\n#endif\n",
		 "angled:a.h"},
		{"#if 0 || X\n#include <a.h>\n#endif\n#ifdef X\n#include <b.h>\n#else\n"
		 "#include <c.h>\n#endif\n",
		 "angled:a.h angled:b.h angled:c.h"},
		{"#if 0\n#include <no.h>\n#endif\n#include <a.h>\n", "angled:a.h"},
		{"#include MACRO\n#include <open.h\n#include \"\"\n#include\n#pragma "
		 "once\n"
		 "#includes <no.h>\nimport <no.h>;\n",
		 ""},
		{"", ""},
		{"#", ""},
		{"\\", ""},
		{"/", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		scanned_expect(lines[i][0], "x.cc", lines[i][1]);
}

static void test_scan_knows_sources_by_name(void **state)
{
	static const char *const text = "#include <a.h>\n";
	static const char *const yes[] = {"a.c",    "a.b.h", "A.C",  "x.S",
					  "vector", "x.mm",  "x.inc"};
	static const char *const no[] = {"a.txt", "a.c.orig", "a.s", "", ".", "a."};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		scanned_expect(text, yes[i], "angled:a.h");
	for (size_t i = 0; i < ARRAY_SIZE(no) - 3; i++)
		scanned_expect(text, no[i], "");
	scanned_expect("text\n#include <a.h>\n", "README", "");
}

static void test_scan_reads_elf(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		_cleanup_scanned_ struct scanned scanned = {0};
		_cleanup_buf_ struct buf elf = BUF_INIT;

		scanned_elf(&elf, i & 1, i & 2);
		scanned_run(&scanned, buf_slice(&elf), "x");
		assert_string_equal(buf_string(&scanned.found), SCANNED_ELF_WANT);
	}
}

/* Every beginning of a file, and every place where reading may fail. */
static void expect_subsets(struct slice bytes, const char *name)
{
	_cleanup_scanned_ struct scanned whole = {0};

	scanned_run(&whole, bytes, name);
	assert_true(whole.n_found > 0);
	for (size_t len = 0; len < bytes.len; len++) {
		_cleanup_scanned_ struct scanned part = {0};
		_cleanup_scanned_ struct scanned failed = {.fails_at = len};
		char *rest = NULL;

		scanned_run(&part, (struct slice){bytes.data, len}, name);
		buf_reserve(&part.found, 0);
		for (char *word = strtok_r((char *)part.found.data, " ", &rest); word;
		     word = strtok_r(NULL, " ", &rest))
			assert_non_null(strstr(buf_string(&whole.found), word));
		scanned_run(&failed, bytes, name);
		assert_true(failed.n_found <= whole.n_found);
	}
}

static void test_scan_reads_cut_elf(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		_cleanup_buf_ struct buf elf = BUF_INIT;

		scanned_elf(&elf, i & 1, i & 2);
		expect_subsets(buf_slice(&elf), "x");
	}
}

/* Every byte of it set to what is hardest on offsets and counts. */
static void test_scan_reads_damaged_elf(void **state)
{
	static const uint8_t values[] = {0, 0x7f, 0x80, 0xff};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		_cleanup_buf_ struct buf elf = BUF_INIT;

		scanned_elf(&elf, i & 1, i & 2);
		for (size_t at = 0; at < elf.len * ARRAY_SIZE(values); at++) {
			_cleanup_scanned_ struct scanned scanned = {0};
			uint8_t was = elf.data[at / ARRAY_SIZE(values)];

			elf.data[at / ARRAY_SIZE(values)] =
				values[at % ARRAY_SIZE(values)];
			scanned_run(&scanned, buf_slice(&elf), "x");
			elf.data[at / ARRAY_SIZE(values)] = was;
		}
	}
}

static void test_scan_reads_linker_scripts(void **state)
{
	(void)state;
	scanned_expect(
		"/* GNU ld script\n GROUP ( no ) */\nOUTPUT_FORMAT(elf64-x86-64)\n"
		"GROUP ( /lib/libc.so.6 =/usr/lib/x.a AS_NEEDED ( $SYSROOT/l/ld.so ) -lm "
		")\n"
		"INPUT(libz.so, -lq)SEARCH_DIR(/no)\n",
		"libc.so",
		"path:/lib/libc.so.6 path:/usr/lib/x.a path:/l/ld.so library:libm.so "
		"library:libz.so library:libq.so");
	scanned_expect("INPUT(((((((((((x", "x.so", "");
	scanned_expect("!<arch>\n", "x.a", "");
	scanned_expect("INPUT(=", "x.so", "");
}

static void test_scan_reads_first_lines(void **state)
{
	static const char *const lines[][2] = {
		{"#!/bin/sh\n", "interpreter:/bin/sh"},
		{"#! /bin/sh -e\n", "interpreter:/bin/sh"},
		{"#!/usr/bin/env tool\n", "interpreter:/usr/bin/env program:tool"},
		{"#!/usr/bin/env -S A=b tool -x\n",
		 "interpreter:/usr/bin/env program:tool"},
		{"#!/usr/bin/env", "interpreter:/usr/bin/env"},
		{"#!", ""},
		{"#!  \n/bin/sh\n", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		scanned_expect(lines[i][0], "x", lines[i][1]);
}

static void test_scan_reads_shell_scripts(void **state)
{
	static const char *const lines[][2] = {
		{". ./a\nsource 'b c' arg\n. \"$x\"\n", "path:./a path:b c"},
		{". \"$(dirname \"$0\")/x\"\n. ${BASH_SOURCE%/*}/y/z\n. \"`dirname "
		 "$0`\"/w\n",
		 "beside:x beside:y/z beside:w program:dirname"},
		{"sed x | grep y && sed z\ncd x; ./conf a\n",
		 "program:sed program:grep path:./conf"},
		{"a=$(cut -f1 <<EOF\nnope\nEOF\n) b=`tr a b`\n",
		 "program:tr program:cut"},
		{"if test -f x; then awk 1; else ! cmp a b; fi\n",
		 "program:awk program:cmp"},
		{"case $x in\n a|b) ls ;;\n *) ps;;\nesac\nwc\n",
		 "program:ls program:ps program:wc"},
		{"cat <<-'E' >x\n\tnope\n\tE\nsort\n", "program:cat program:sort"},
		{"f() { id; }\nfunction g { ln; }\nf; A=b f\nfor i in a b; do mv $i x; "
		 "done\n",
		 "program:id program:ln program:mv"},
		{"# nope\necho '\nnope\n' \"\nnope $(uname)\n\"\n", "program:uname"},
		{"x=(a b); y=$((1 + 2)); 2>/dev/null exec rm -f\n"
		 "command -v od; '/no\nno'",
		 "program:rm program:od"},
		{"\"$CC\" -c x\n$y z\n", ""},
		{"cat <<A <<B\nnope\nA\nnope\nB\ndd", "program:cat program:dd"},
		{"'", ""},
		{"$(", ""},
		{"${", ""},
		{"`", ""},
		{"<<", ""},
		{"\"\\", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		scanned_expect(lines[i][0], "x.sh", lines[i][1]);
	scanned_expect("#!/bin/dash\ndate\n", "x", "interpreter:/bin/dash program:date");
}

static void test_scan_reads_perl(void **state)
{
	scanned_expect(
		"use strict;\nuse 5.010; use v5.36;\n  require A::B;\nuse C qw(x);\n"
		"use parent -norequire, 'D::E', 'F';\nuse base qw(G H);\nrequire "
		"\"x.pl\";\n"
		"=head1\n\nuse No;\n\n=cut\nno warnings;\n__END__\nuse No;\n",
		"x.pm",
		"perl:strict.pm perl:A/B.pm perl:C.pm perl:parent.pm perl:D/E.pm "
		"perl:F.pm "
		"perl:base.pm perl:G.pm perl:H.pm perl:warnings.pm");
	(void)state;
}

#define PYC_WANT "module:os module:a.b module:..c module:..c.d module:..c.e module:f"

/* What each version of Python made of five lines; reads the fuzzer's seeds. */
static void read_pyc(const char *version, struct buf *out)
{
	const char *top = getenv("LAZYROOT_SOURCE");
	_cleanup_free_ char *path = alloc_printf("%s/tests/fuzz/corpus/scan/pyc-%s",
						 top ? top : ".", version);
	uint8_t bytes[4096];
	size_t n;
	FILE *file = fopen(path, "rbe");

	assert_non_null(file);
	n = fread(bytes, 1, sizeof(bytes), file);
	assert_int_equal(fclose(file), 0);
	assert_true(n > 1 && n < sizeof(bytes));
	buf_add(out, bytes + 1, n - 1); /* the first byte is the fuzzer's */
}

static const char *const pyc_versions[] = {"3.8", "3.9", "3.10", "3.11", "3.12", "3.13"};

static void test_scan_reads_compiled_python(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pyc_versions); i++) {
		_cleanup_scanned_ struct scanned scanned = {0};
		_cleanup_buf_ struct buf pyc = BUF_INIT;

		read_pyc(pyc_versions[i], &pyc);
		scanned_run(&scanned, buf_slice(&pyc), "m.pyc");
		assert_string_equal(buf_string(&scanned.found), PYC_WANT);
		expect_subsets(buf_slice(&pyc), "m.pyc");
		pyc.data[0]++; /* a version that we do not know */
		scanned_run(&scanned, buf_slice(&pyc), "m.pyc");
		assert_int_equal(scanned.n_found, 0);
	}
}

static void test_scan_reads_damaged_python(void **state)
{
	static const uint8_t values[] = {0,   1,          0x7f, 0x80, 0xff,
					 'r', 'c' | 0x80, '(',  '{',  'l'};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pyc_versions); i++) {
		_cleanup_buf_ struct buf pyc = BUF_INIT;

		read_pyc(pyc_versions[i], &pyc);
		for (size_t at = 0; at < pyc.len * ARRAY_SIZE(values); at++) {
			_cleanup_scanned_ struct scanned scanned = {0};
			uint8_t was = pyc.data[at / ARRAY_SIZE(values)];

			pyc.data[at / ARRAY_SIZE(values)] =
				values[at % ARRAY_SIZE(values)];
			scanned_run(&scanned, buf_slice(&pyc), "m.pyc");
			pyc.data[at / ARRAY_SIZE(values)] = was;
		}
	}
}

/* Objects within each other, deeper than any stack. */
static void test_scan_reads_deep_python(void **state)
{
	static const uint8_t begin[17] = {0xf3, 0x0d, '\r', '\n', [16] = 'c'};
	static const char opens[] = {'(', '{', ')', 'c'};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(opens); i++) {
		_cleanup_scanned_ struct scanned scanned = {0};
		_cleanup_buf_ struct buf pyc = BUF_INIT;
		uint8_t parts[21] = {(uint8_t)opens[i], 1};
		size_t n = opens[i] == '('   ? 5
			   : opens[i] == '{' ? 1
			   : opens[i] == ')' ? 2
					     : 21;

		buf_add(&pyc, begin, sizeof(begin));
		buf_add(&pyc, "01234567890123456789", 20);
		while (pyc.len < SCAN_READ_MAX)
			buf_add(&pyc, parts, n);
		scanned_run(&scanned, buf_slice(&pyc), "m.pyc");
		assert_int_equal(scanned.n_found, 0);
	}
}

static void test_scan_reads_python(void **state)
{
	static const char *const lines[][2] = {
		{"import a.b as c, d ; import e\n", "module:a.b module:d module:e"},
		{"from a import b, c as d\nfrom x . y import *\n",
		 "module:a module:a.b module:a.c module:x.y"},
		{"from . import a\nfrom ..b import (c, # no\n d as e,\n)\nfrom ... "
		 "import(f)\n",
		 "module:. module:.a module:..b module:..b.c module:..b.d module:... "
		 "module:...f"},
		{"import \\\n a, \\\r\n b\r\nfrom \\\n c \\\n import d\r\n",
		 "module:a module:b module:c module:c.d"},
		{"'''\nimport no\n'''\nx = \"\\\"\"; import a\nr'\\'; import no'\n# "
		 "import no\n",
		 "module:a"},
		{"x = (\nimport no\n)\nif x:\n  import a\nelse: import b\ntry: import "
		 "c\nfinally:\n"
		 "\timport d\n",
		 "module:a module:b module:c module:d"},
		{"def f():\n  import no\n\n# x\n  import no\nimport a\nclass g: import "
		 "no\n"
		 "async def h(): import no\nimport b\n",
		 "module:a module:b"},
		{"if x:\n  def f():\n    import no\n  import a\n", "module:a"},
		{"x = {1: 2}\nimported = y[1:2]; important: int; from_ = 3\nimport_(x)\n",
		 ""},
		{"x = f\"{y}\\\n import no\"\nimport a", "module:a"},
		{"\xef\xbb\xbfimport a\n\fimport b", "module:a module:b"},
		{"from a import\nimport\nfrom\nfrom.b import c",
		 "module:a module:.b module:.b.c"},
		{"'''", ""},
		{"\\", ""},
		{"from . import (", "module:."},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		scanned_expect(lines[i][0], "x.py", lines[i][1]);
	scanned_expect("#!/usr/bin/env python3\nimport a\n", "tool",
		       "interpreter:/usr/bin/env program:python3 module:a");
}

static void test_scan_reads_javascript(void **state)
{
	static const char *const lines[][2] = {
		{"var a = require('./a'), b = require ( \"b/c\" "
		 ");\nrequire.resolve('@d/e')\n",
		 "beside:./a package:b/c package:@d/e"},
		{"import a, { b as c } from './x.js';\nimport * as d from \"y\"\nimport "
		 "'z';\n",
		 "beside:./x.js package:y package:z"},
		{"export { a } from '../b';export * from 'c'\nexport const from = 1; "
		 "from 'no'\n",
		 "beside:../b package:c"},
		{"import(/* now */ './a').then(() => "
		 "import(`b`));import(`c${d}`);import(e)\n",
		 "beside:./a package:b"},
		{"import {\n  a, // x\n  b } /**/ from\n 'c'\n", "package:c"},
		{"// require('no')\n/* require('no') */ 'require(\"no\")'; "
		 "x.require('no')\n"
		 "import.meta.url\n",
		 ""},
		{"`require('no') ${require('a')} require('no') ${`${{}}`} "
		 "require('no')`;require('b')",
		 "package:a package:b"},
		{"x = /[\"/']/.test(y); require('a'); z = b / c; require('d') / 2\n"
		 "return /'/; require('e')\n",
		 "package:a package:d package:e"},
		{"a = [...require('a')]\n$require('no'); require_('no')\n", "package:a"},
		{"require('no' + x); require('node:fs'); require('http://x'); "
		 "require('#y'); require('/z')",
		 "path:/z"},
		{"'\\", ""},
		{"`", ""},
		{"`${", ""},
		{"/", ""},
		{"require(", ""},
		{"import", ""},
		{"import a from", ""},
		{"require.", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		scanned_expect(lines[i][0], "x.ts", lines[i][1]);
	scanned_expect("#!/usr/bin/env node\nrequire('a')", "tool",
		       "interpreter:/usr/bin/env program:node package:a");
	scanned_expect(
		"{\"name\": \"main\", \"main\" : \"lib/a.js\", \"files\": [\"./no\"], "
		"\"exports\": {\".\": {\"import\": \"./b.mjs\"}, \"./*\": \"./x/*.js\"}}",
		"package.json", "beside:lib/a.js beside:./b.mjs");
}

static void test_scan_reads_go(void **state)
{
	(void)state;
	scanned_expect("// a comment\n/* and\nimport \"no\" */\npackage x; import \"a\"\n"
		       "import b2 \"b/c\"\nimport (\n\t\"net/http\" // with words\n"
		       "\t. \"d\"\n\t_ `e.org/f`\n\t\"C\"; \"unsafe\"\n)\n"
		       "import \"g\"\nvar s = `import \"no\"`\nimport \"no\"\n",
		       "x.go", "go:a go:b/c go:net/http go:d go:e.org/f go:g");
	scanned_expect("import \"a\"\n", "x.go", ""); /* it is no package */
	scanned_expect("package x\nimport \"a\nimport \"b\"\n", "x.go", "");
	scanned_expect("package x\nimport (\"a\" \"b\"", "x.go", "go:a go:b");
	/* a program that makes others, which no build has */
	scanned_expect(
		"// Copyright\n\n//go:build ignore\n\npackage main\nimport \"a\"\n",
		"x.go", "");
	scanned_expect("//go:build linux\npackage x\nimport \"a\"\n", "x.go", "go:a");
}

static void test_scan_reads_rust(void **state)
{
	static const char *const lines[][2] = {
		{"mod a;\npub(crate) mod r#b ;\nmod c { fn d() {} mod e; } mod f;\n",
		 "beside:a.rs beside:a/mod.rs beside:b.rs beside:b/mod.rs beside:c/e.rs "
		 "beside:c/e/mod.rs beside:f.rs beside:f/mod.rs"},
		{"// mod no;\n/* /* mod no; */ mod no; */ \"mod no;\" r#\"\"mod no;\"# "
		 "br\"mod no;\"\n"
		 "'\"' '\\'' '\\u{1f600}' 'é' &'a x; mod e;",
		 "beside:e.rs beside:e/mod.rs"},
		{"#[path = \"x/y.rs\"]\ninclude!(\"z.rs\"); include_str! ( \"w\" ); "
		 "include_bytes!(v);include!{\"t\"}\n"
		 "r#mod; modern; let path = 3;",
		 "beside:x/y.rs beside:z.rs beside:w beside:t"},
		{"r#", ""},
		{"r\"", ""},
		{"'", ""},
		{"/*", ""},
		{"\"", ""},
		{"mod", ""},
		{"mod ;", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		scanned_expect(lines[i][0], "lib.rs", lines[i][1]);
	scanned_expect("mod a;", "x.rs",
		       "beside:x/a.rs beside:x/a/mod.rs beside:a.rs beside:a/mod.rs");
	scanned_expect("mod a;", ".rs", "beside:a.rs beside:a/mod.rs");
}

/* A file of many includes, of long ones, and one that is larger than what is read. */
static void test_scan_keeps_its_bounds(void **state)
{
	_cleanup_scanned_ struct scanned scanned = {0};
	_cleanup_buf_ struct buf text = BUF_INIT;
	_cleanup_free_ char *name = alloc_zero(SCAN_NAME_MAX + 2);

	(void)state;
	for (size_t i = 0; i < SCAN_FOUND_MAX + 10; i++)
		buf_add_string(&text, "#include <a>\n");
	scanned_run(&scanned, buf_slice(&text), "x.c");
	assert_int_equal(scanned.n_found, SCAN_FOUND_MAX);
	buf_clear(&text);
	memset(name, 'a', SCAN_NAME_MAX + 1);
	buf_printf(&text, "#include <%s>\n#include <%s>\n", name, name + 1);
	scanned_run(&scanned, buf_slice(&text), "x.c");
	assert_int_equal(scanned.n_found, 1);
	buf_clear(&text);
	while (text.len < SCAN_READ_MAX)
		buf_add_string(&text, "int x;\n");
	buf_add_string(&text, "#include <a>\n");
	scanned_run(&scanned, buf_slice(&text), "x.c");
	assert_int_equal(scanned.n_found, 0);
	assert_int_equal(scanned.n_read, SCAN_READ_MAX);
	scanned_run(&scanned, buf_slice(&text), "x.txt");
	assert_true(scanned.n_read <= 4096); /* what is no kind we know is hardly read */
}

/* Texts that make a scanner look at the same bytes again and again, if it does: were the
 * time not linear, a megabyte of each would take hours. */
static void test_scan_ends_soon(void **state)
{
	static const char *const pieces[] = {
		"\"R\"a(", "R\"a(",   "/*",     "\\\n",   "$(",
		"`",       "<<E\n",   "${",     "\"$(",   "case x in ",
		"#if 0\n", "import(", "'''",    "\"\"\"", "from . import (",
		"`${",     "/[",      "GROUP(", "((((",   "use parent "};
	static const char *const names[] = {"x.c",  "x.sh", "x.pl",  "x.py",
					    "x.js", "x.so", "x.pyc", "x.rs"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		_cleanup_buf_ struct buf text = BUF_INIT;

		while (text.len < SCAN_READ_MAX)
			buf_add_string(&text, pieces[i]);
		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			_cleanup_scanned_ struct scanned scanned = {0};

			scanned_run(&scanned, buf_slice(&text), names[k]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan_finds_includes),
		cmocka_unit_test(test_scan_knows_sources_by_name),
		cmocka_unit_test(test_scan_reads_elf),
		cmocka_unit_test(test_scan_reads_cut_elf),
		cmocka_unit_test(test_scan_reads_damaged_elf),
		cmocka_unit_test(test_scan_reads_linker_scripts),
		cmocka_unit_test(test_scan_reads_first_lines),
		cmocka_unit_test(test_scan_reads_shell_scripts),
		cmocka_unit_test(test_scan_reads_perl),
		cmocka_unit_test(test_scan_reads_compiled_python),
		cmocka_unit_test(test_scan_reads_damaged_python),
		cmocka_unit_test(test_scan_reads_deep_python),
		cmocka_unit_test(test_scan_reads_python),
		cmocka_unit_test(test_scan_reads_javascript),
		cmocka_unit_test(test_scan_reads_go),
		cmocka_unit_test(test_scan_reads_rust),
		cmocka_unit_test(test_scan_keeps_its_bounds),
		cmocka_unit_test(test_scan_ends_soon),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
