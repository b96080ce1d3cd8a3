/*
 * The namespaces in which this program mounts what a command is to see: a mount namespace
 * of its own and, where it is not root (or a root that may not mount), a user namespace
 * in which it is. What is mounted there ends with the process, however it ends.
 *
 * Threads: main, before there are others.
 */
#pragma once

#include "client/local.h"
#include "worker/sandbox/sandbox.h"

/* Checks what is needed and enters. FAILED_PRECONDITION says what is missing; the process
 * is then as it was. */
struct error *namespaces_enter(struct local *local);

/* After namespaces_enter(): a small file system of our own that the command's user can
 * reach; and who that is. */
const char *namespaces_dir(void);
struct sandbox_user namespaces_user(void);
