/*
 * "Did you mean": of the words that would have been right, the one that differs least
 * from what was written. Pure.
 */
#pragma once

#include <stddef.h>

struct nearest {
	const char *word;
	const char *best; /* NULL: none is near enough */
	size_t distance;
};

void nearest_init(struct nearest *nearest,
		  const char *word); /* borrowed, as offers are */
void nearest_offer(struct nearest *nearest, const char *right);
