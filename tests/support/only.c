/*
 * Runs the tests of one name only: each test program takes it, or a pattern with * and ?,
 * as its argument (build/release/tests/test_store 'test_evict*').
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

/* glibc gives constructors what main() gets. */
__attribute__((constructor)) static void only_set(int argc, char **argv)
{
	if (argc == 2 && strncmp(argv[1], "test_", strlen("test_")) == 0)
		cmocka_set_test_filter(argv[1]);
}
