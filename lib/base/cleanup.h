/*
 * Ownership in local variables: a cleanup attribute frees what a function still owns
 * when it returns, and take() hands that ownership on. Also require(), the assertion
 * for bugs: it aborts, is never compiled out, and never judges input.
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn)  __attribute__((cleanup(fn)))
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_fd_   _cleanup_(cleanup_fd)

/* Takes the value out of an owning variable; the variable no longer owns anything. */
#define take(p)                                                                          \
	__extension__({                                                                  \
		__typeof__(p) *take_from_ = &(p);                                        \
		__typeof__(p) taken_ = *take_from_;                                      \
		*take_from_ = NULL;                                                      \
		taken_;                                                                  \
	})

static inline int take_fd_from(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}
#define take_fd(fd) take_fd_from(&(fd))

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

/* Defines NAMEp(), the cleanup function of a type whose destructor is NAME(). */
#define CLEANUP_DEFINE(type, name)                                                       \
	static inline void name##p(type **p)                                             \
	{                                                                                \
		if (*p)                                                                  \
			name(*p);                                                        \
	}

#define container_of(ptr, type, member)                                                  \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

void require_failed(const char *what, const char *file, int line)
	__attribute__((noreturn, cold));

#define require(cond) ((cond) ? (void)0 : require_failed(#cond, __FILE__, __LINE__))
