/*
 * What ops.c (the script, operations of one call) and ops_more.c (operations that are
 * small programs, the listing) share.
 */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#define OPS_SLOTS     16
#define OPS_WORDS_MAX 16
#define OPS_PATH_MAX  5000
#define OPS_MARKS_MAX 4096
#define OPS_SAID_MAX  (1 << 20)
#define OPS_SUM       0xcbf29ce484222325u /* of nothing */

struct ops_operation {
	const char *name;
	int n_arguments;
	long (*run)(char **arguments); /* -1: errno tells why */
};

/* ops.c */
void ops_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void ops_flush(void); /* prints what was said, as a line */
void ops_say_name(const char *name);
void ops_say_stat(const struct stat *st);
char ops_type(mode_t mode);
long long ops_num(const char *text);
int *ops_slot(const char *text);
void ops_fill(unsigned char *bytes, size_t len, long long offset, long long seed);
uint64_t ops_sum(uint64_t sum, const void *bytes, size_t len);
/* After a change of a file's metadata: gives status back. */
long ops_mark(long status, const char *path);
/* After a file was opened for writing. */
void ops_written(int fd);
long ops_run(int n, char **words);
long ops_readlink(char **a);

/* ops_more.c */
long ops_readdir(char **a);
long ops_readdir_changing(char **a);
long ops_set_xattr(char **a);
long ops_get_xattr(char **a);
long ops_list_xattr(char **a);
long ops_remove_xattr(char **a);
long ops_lock(char **a);
long ops_notify(char **a);
long ops_exec(char **a);
long ops_make_program(char **a);
long ops_busy(char **a);
long ops_at(char **a);
long ops_at_slot(char **a);
void ops_list(void);
