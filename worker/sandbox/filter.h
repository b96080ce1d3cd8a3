/*
 * Which system calls a command may make: a seccomp filter, made once at the worker's
 * start of what its operator allows, and put on by lazyroot-sandbox as its last step. The
 * only house of libseccomp. It holds for the processor's other instruction sets (i386,
 * x32), too, and whoever comes by one that is not known gets ENOSYS.
 */
#pragma once

#include "lib/base/buf.h"
#include "worker/sandbox/allow.h"

/* Whether this kernel has filters at all. */
bool filter_is_possible(void);
/* The program's bytes (struct sock_filter), appended. */
struct error *filter_make(const struct allow *allow, struct buf *out);
