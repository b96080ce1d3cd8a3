/*
 * What hosts have cost us by claims that did not come true. A few bytes of a request can
 * make megabytes of work, whose end alone shows whether it was for anything; a host of
 * which too much was in vain waits until time has passed. Ports and connections do not
 * count: they cost nothing.
 *
 * Threads: any; one lock inside.
 */
#pragma once

#include "lib/base/error.h"

#define DEBTS_MAX   ((int64_t)256 << 20) /* bytes in vain that a host may owe */
#define DEBTS_CAP   ((int64_t)64 << 30)  /* it never owes more: it waits about an hour */
#define DEBTS_PER_S ((int64_t)16 << 20)  /* forgiven */

struct debts;

struct debts *debts_new(void);
void *debts_free(struct debts *debts);
/* RESOURCE_EXHAUSTED: the host owes too much just now. */
struct error *debts_check(struct debts *debts, const char *host, int64_t now_ns);
void debts_add(struct debts *debts, const char *host, int64_t bytes, int64_t now_ns);
