/*
 * Starting lazyroot-sandbox: posix_spawn only, since gRPC's threads forbid fork.
 *
 * Threads: any.
 */
#pragma once

#include <sys/types.h>

#include "lib/base/error.h"

/* argv[0] is its path; NULL ends it. It has our standard error as output, too, no
 * environment, no signal blocked or ignored, and socket (-1: none) as PROGRAM_SOCKET_FD.
 */
struct error *spawn_program(const char *const *argv, int socket, pid_t *pid_out);
/* Until it has ended. */
void spawn_wait(pid_t pid);
