/*
 * Owns nothing. The distance counts letters that were left out, put in, replaced, and
 * neighbours that changed places (optimal string alignment).
 */
#include "lib/base/nearest.h"

#include <string.h>

#define NEAREST_WORD_MAX 40 /* letters; longer words are near to none */

void nearest_init(struct nearest *nearest, const char *word)
{
	size_t len = strlen(word);

	/* a third of it may be wrong, and a short word by one letter */
	*nearest = (struct nearest){.word = word, .distance = len < 3 ? 2 : 2 + len / 4};
}

static size_t nearest_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t nearest_distance(const char *a, const char *b)
{
	size_t rows[3][NEAREST_WORD_MAX + 1];
	size_t n = strlen(b);

	for (size_t j = 0; j <= n; j++)
		rows[0][j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t *row = rows[i % 3];
		const size_t *above = rows[(i + 2) % 3];
		const size_t *second = rows[(i + 1) % 3]; /* two above */

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t cost = a[i - 1] != b[j - 1];

			row[j] = nearest_min(above[j - 1] + cost,
					     nearest_min(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				row[j] = nearest_min(row[j], second[j - 2] + 1);
		}
	}
	return rows[strlen(a) % 3][n];
}

void nearest_offer(struct nearest *nearest, const char *right)
{
	size_t distance;

	if (strlen(nearest->word) > NEAREST_WORD_MAX || strlen(right) > NEAREST_WORD_MAX)
		return;
	distance = nearest_distance(nearest->word, right);
	if (distance >= nearest->distance || distance >= strlen(right))
		return;
	nearest->distance = distance;
	nearest->best = right;
}
