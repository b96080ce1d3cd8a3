/*
 * Two texts, line by line: a unified diff. Pure.
 *
 * The shortest script is looked for up to LINEDIFF_COST_MAX lines that differ; past that
 * all between the first and the last difference is one hunk, which is right and long.
 */
#pragma once

#include "lib/base/buf.h"

#define LINEDIFF_COST_MAX  1000
#define LINEDIFF_LINES_MAX 200000 /* of one text */

/* Appends the hunks, without a header: none where the texts are equal. False: a text has
 * too many lines. */
bool linediff_unified(struct slice was, struct slice is, struct buf *out);
