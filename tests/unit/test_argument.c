/* predict/argument: what the words of command lines name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "predict/argument.h"

#define WORDS_MAX 64

static const char *const role_names[] = {
	[ARGUMENT_TOOL] = "tool",          [ARGUMENT_PATH] = "path",
	[ARGUMENT_RESPONSE] = "response",  [ARGUMENT_FORCED] = "forced",
	[ARGUMENT_QUOTE_DIR] = "quote",    [ARGUMENT_INCLUDE_DIR] = "include",
	[ARGUMENT_SYSTEM_DIR] = "system",  [ARGUMENT_AFTER_DIR] = "after",
	[ARGUMENT_LIBRARY_DIR] = "libdir", [ARGUMENT_LIBRARY] = "lib",
	[ARGUMENT_SYSROOT] = "sysroot",    [ARGUMENT_TOOL_DIR] = "tooldir",
	[ARGUMENT_NO_STDINC] = "nostdinc", [ARGUMENT_MODULE] = "module",
	[ARGUMENT_OUTPUT] = "output",
};

/* Collects "role:text role:text"; every text ends with a NUL, too. */
static void collect(void *ctx, enum argument_role role, size_t index, struct slice text)
{
	struct buf *out = ctx;

	(void)index;
	assert_true(text.len > 0 || role == ARGUMENT_NO_STDINC);
	assert_true(text.len <= ARGUMENT_WORD_MAX);
	assert_int_equal(text.data[text.len], 0);
	if (out->len)
		buf_add_byte(out, ' ');
	buf_printf(out, "%s:%s", role_names[role], (const char *)text.data);
}

/* What a line's words are told as. Words are split at blanks; a '~' stands for one. */
static void expect(bool has_tool, const char *line, const char *want)
{
	_cleanup_free_ char *copy = alloc_string(line);
	_cleanup_buf_ struct buf out = BUF_INIT;
	const char *words[WORDS_MAX];
	char *rest = NULL;
	size_t n = 0;

	for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest)) {
		assert_true(n < WORDS_MAX);
		words[n++] = w;
		for (; *w; w++)
			*w = *w == '~' ? ' ' : *w;
	}
	argument_each(words, n, has_tool, collect, &out);
	if (strcmp(buf_string(&out), want) != 0)
		print_message("of: %s\n", line);
	assert_string_equal(buf_string(&out), want);
}

struct line {
	const char *line;
	const char *want;
};

static void expect_all(const struct line *lines, size_t n)
{
	for (size_t i = 0; i < n; i++)
		expect(true, lines[i].line, lines[i].want);
}

static void test_argument_knows_compilers(void **state)
{
	static const struct line lines[] = {
		{"gcc -c a.c -o a.o", "tool:gcc path:a.c output:a.o"},
		{"/usr/bin/x86_64-linux-gnu-g++-12 -Ifoo -I bar -I=/inc",
		 "tool:/usr/bin/x86_64-linux-gnu-g++-12 include:foo include:bar "
		 "include:=/inc"},
		{"clang -isystem x -iquote y -idirafter z -isystemq",
		 "tool:clang system:x quote:y after:z system:q"},
		{"gcc -Lfoo -L bar -lm -l pthread -l:libx.a -Bdir -B dir2",
		 "tool:gcc libdir:foo libdir:bar lib:m lib:pthread lib::libx.a "
		 "tooldir:dir "
		 "tooldir:dir2"},
		{"gcc --sysroot=s1 --sysroot s2 -isysroot s3",
		 "tool:gcc sysroot:s1 sysroot:s2 sysroot:s3"},
		{"gcc -include a.h -imacros b.h -include-pch c.pch",
		 "tool:gcc forced:a.h forced:b.h path:c.pch"},
		{"gcc -MD -MF a.d -MT a.o -MQ a.o -MFx.d -oy.o",
		 "tool:gcc output:a.d output:a.o output:a.o output:x.d output:y.o"},
		{"gcc -Wl,-o,x -Wl,@file -Wl,-rpath,/r -Wl,-rpath -Wl,/r "
		 "-Wl,--version-script=v.map",
		 "tool:gcc output:x response:file path:v.map"},
		{"gcc -Xlinker -o -Xlinker out -Xlinker -Lq",
		 "tool:gcc output:out libdir:q"},
		{"gcc -fplugin=p.so -T link.ld -specs=s.specs @args -nostdinc -O2 -g",
		 "tool:gcc path:p.so path:link.ld path:s.specs response:args nostdinc:"},
		{"clang++ -nostdinc++ -DX=a/b -D Y=c -UZ -std=c++17 -x c -m64 "
		 "-march=native",
		 "tool:clang++ nostdinc:"},
		{"gcc -ffile-prefix-map=/a=/b -fmodule-file=m=m.pcm",
		 "tool:gcc path:m=m.pcm path:m.pcm"},
		{"ld -o out -dynamic-linker /lib/ld.so -z relro a.o -Bstatic "
		 "--script=l.ld",
		 "tool:ld output:out path:a.o path:l.ld"},
		{"protoc -Ip --proto_path=q --cpp_out=o a.proto",
		 "tool:protoc include:p path:q path:o path:a.proto"},
	};

	(void)state;
	expect_all(lines, ARRAY_SIZE(lines));
}

static void test_argument_knows_other_languages(void **state)
{
	static const struct line lines[] = {
		{"rustc --extern a=liba.rlib -L dependency=deps -L native=n -l static=z "
		 "@p m.rs",
		 "tool:rustc path:a=liba.rlib path:liba.rlib libdir:deps libdir:n lib:z "
		 "response:p path:m.rs"},
		{"rustc --crate-name x --edition=2021 --out-dir o -Clinker=tools/ld",
		 "tool:rustc output:o path:tools/ld"},
		{"pkg/tool/compile -o x.a -p main -importcfg i.cfg -I d main.go",
		 "tool:pkg/tool/compile output:x.a path:i.cfg include:d path:main.go"},
		{"javac -cp a.jar:b:lib/* -d out @src A.java",
		 "tool:javac path:a.jar path:b path:lib output:out response:src "
		 "path:A.java"},
		{"java --class-path=a:b -classpath c -javaagent:d.jar -jar e.jar -Dx=y",
		 "tool:java path:a path:b path:c path:d.jar path:e.jar path:y"},
		{"python3 -m pkg.mod a.txt", "tool:python3 module:pkg.mod path:a.txt"},
		{"python3 -Bm mod -m x", "tool:python3 module:mod path:x"},
		{"python3.11 -W error -X dev s.py --in=a.txt -o b",
		 "tool:python3.11 path:s.py path:a.txt output:b"},
		{"python -c code a", "tool:python path:a"},
		{"node a.js --config=c.json", "tool:node path:a.js path:c.json"},
		{"grep -f/etc/list -e word - file",
		 "tool:grep path:/etc/list path:word path:file"},
		{"tool a=b --x=c=d -q", "tool:tool path:a=b path:b path:c=d path:d"},
	};

	(void)state;
	expect_all(lines, ARRAY_SIZE(lines));
}

static void test_argument_goes_into_commands(void **state)
{
	static const struct line lines[] = {
		{"sh -c gcc~-Ix~a.c", "tool:sh tool:gcc include:x path:a.c"},
		{"sh script.sh a", "tool:sh path:script.sh path:a"},
		{"bash -e -o pipefail -c A=1~cat~'x~y'~<in~>out;~./b~$z~\"c\"&&d|e 0 p",
		 "tool:bash tool:cat path:x y path:in output:out tool:./b path:c tool:d "
		 "tool:e "
		 "path:0 path:p"},
		{"bash -euc if~test~-f~a;then~(cp~b~c);fi",
		 "tool:bash tool:test tool:cp path:b path:c"},
		{"sh -c sh~-c~'gcc~a.c'", "tool:sh tool:sh"},
		{"sh -c x=$(cat~v);~y", "tool:sh tool:y tool:cat path:v"},
		{"env A=b -u C gcc -Id", "tool:env tool:gcc include:d"},
		{"wrapper --limit=5 -- clang -Ia b.c",
		 "tool:wrapper path:5 path:clang tool:clang include:a path:b.c"},
		{"env - tool", "tool:env tool:tool"},
		{"nice -n 5 python3 -m x", "tool:nice tool:python3 module:x"},
		{"timeout -s KILL 5 ccache cc -c a.c",
		 "tool:timeout tool:ccache tool:cc path:a.c"},
		{"nohup env X=1 sh -c cat~f",
		 "tool:nohup tool:env tool:sh tool:cat path:f"},
	};

	(void)state;
	expect_all(lines, ARRAY_SIZE(lines));
	expect(false, "-Ia -lb -cp c:d e.o -o f",
	       "include:a lib:b path:c path:d path:e.o "
	       "output:f");
}

static void test_argument_leaves_out_what_is_too_long(void **state)
{
	_cleanup_free_ char *word = alloc_zero(3 * ARGUMENT_WORD_MAX);
	_cleanup_buf_ struct buf out = BUF_INIT;
	const char *words[] = {"gcc", word, "", "-o", word, "x"};

	(void)state;
	memset(word, 'a', 2 * ARGUMENT_WORD_MAX);
	argument_each(words, ARRAY_SIZE(words), true, collect, &out);
	assert_string_equal(buf_string(&out), "tool:gcc path:x");
	word[ARGUMENT_WORD_MAX] = '\0';
	buf_clear(&out);
	argument_each(words, 2, true, collect, &out);
	assert_int_equal(out.len, strlen("tool:gcc path:") + ARGUMENT_WORD_MAX);
	argument_each(words, 0, true, collect, &out);
}

static void test_argument_splits_as_gcc_does(void **state)
{
	static const struct line lines[] = {
		{"-Ia  b\n\tc", "[-Ia][b][c]"},
		{"'a b' \"c d\" e\\ f \"g\\\"h\" i'j'k", "[a b][c d][e f][g\"h][ijk]"},
		{"'' \"\"", "[][]"},
		{"", ""},
		{" \n", ""},
		{"'open a", "[open a]"},
		{"end\\", "[end\\]"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		_cleanup_buf_ struct buf out = BUF_INIT;
		size_t n = 0;
		char **words = argument_split(slice_of(lines[i].line), 100, &n);

		for (size_t k = 0; k < n; k++) {
			buf_printf(&out, "[%s]", words[k]);
			free(words[k]);
		}
		free(words);
		assert_string_equal(buf_string(&out), lines[i].want);
	}
}

static void test_argument_splits_no_more_than_asked(void **state)
{
	size_t n = 0;
	char **words = argument_split(slice_of("a b c d"), 2, &n);

	(void)state;
	assert_int_equal(n, 2);
	assert_string_equal(words[1], "b");
	free(words[0]);
	free(words[1]);
	free(words);
	words = argument_split((struct slice){(const uint8_t *)"a\0b", 3}, 9, &n);
	assert_int_equal(n, 2);
	free(words[0]);
	free(words[1]);
	free(words);
}

/* What only moves, makes or names files brings none of them. */
static void test_argument_leaves_out_what_is_not_read(void **state)
{
	static const struct line lines[] = {
		{"mv old/file new/file", "tool:mv"},
		{"sh -c mv~a/b~c;cat~d/e;cd~f~&&~rm~-f~g/h",
		 "tool:sh tool:mv tool:cat path:d/e tool:cd tool:rm"},
	};

	(void)state;
	expect_all(lines, ARRAY_SIZE(lines));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_argument_knows_compilers),
		cmocka_unit_test(test_argument_knows_other_languages),
		cmocka_unit_test(test_argument_goes_into_commands),
		cmocka_unit_test(test_argument_leaves_out_what_is_too_long),
		cmocka_unit_test(test_argument_leaves_out_what_is_not_read),
		cmocka_unit_test(test_argument_splits_as_gcc_does),
		cmocka_unit_test(test_argument_splits_no_more_than_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
