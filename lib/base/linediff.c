/*
 * Owns one comparison: both texts cut into lines, and for each line whether it differs.
 * Myers' greedy search over furthest points, whose rounds are kept to walk back: the
 * memory is the square of the cost, which is why that is bounded.
 */
#include "lib/base/linediff.h"

#include <string.h>

#include "lib/base/alloc.h"

#define LINEDIFF_CONTEXT 3

struct linediff_text {
	struct slice *lines; /* with their newlines */
	uint64_t *hashes;
	bool *differs;
	size_t n;
};

struct linediff {
	struct linediff_text was;
	struct linediff_text is;
	size_t start;                           /* so many lines are alike at the start */
	size_t was_end, is_end;                 /* from there on, too */
	int32_t *rounds[LINEDIFF_COST_MAX + 1]; /* round d: furthest of -d .. d */
};

static void linediff_text_deinit(struct linediff_text *text)
{
	free(text->lines);
	free(text->hashes);
	free(text->differs);
}

static void linediff_deinit(struct linediff *diff)
{
	linediff_text_deinit(&diff->was);
	linediff_text_deinit(&diff->is);
	for (size_t i = 0; i < ARRAY_SIZE(diff->rounds); i++)
		free(diff->rounds[i]);
}

static size_t linediff_line_len(struct slice rest)
{
	const uint8_t *end = memchr(rest.data, '\n', rest.len);

	return end ? (size_t)(end - rest.data) + 1 : rest.len;
}

static bool linediff_cut(struct slice text, struct linediff_text *out)
{
	size_t n = 0;

	for (struct slice rest = text; rest.len; n++) {
		size_t len = linediff_line_len(rest);

		rest = (struct slice){rest.data + len, rest.len - len};
	}
	if (n > LINEDIFF_LINES_MAX)
		return false;
	out->lines = alloc_array(n + 1, sizeof(*out->lines));
	out->hashes = alloc_array(n + 1, sizeof(*out->hashes));
	out->differs = alloc_array(n + 1, sizeof(*out->differs));
	for (struct slice rest = text; rest.len; out->n++) {
		size_t len = linediff_line_len(rest);

		out->lines[out->n] = (struct slice){rest.data, len};
		out->hashes[out->n] = slice_hash(out->lines[out->n]);
		rest = (struct slice){rest.data + len, rest.len - len};
	}
	return true;
}

static bool linediff_same(const struct linediff *diff, size_t was, size_t is)
{
	return diff->was.hashes[was] == diff->is.hashes[is] &&
	       slice_equal(diff->was.lines[was], diff->is.lines[is]);
}

static void linediff_trim(struct linediff *diff)
{
	diff->was_end = diff->was.n;
	diff->is_end = diff->is.n;
	while (diff->start < diff->was_end && diff->start < diff->is_end &&
	       linediff_same(diff, diff->start, diff->start))
		diff->start++;
	while (diff->was_end > diff->start && diff->is_end > diff->start &&
	       linediff_same(diff, diff->was_end - 1, diff->is_end - 1)) {
		diff->was_end--;
		diff->is_end--;
	}
}

/* The furthest line of the first text that d differences reach on diagonal k, without the
 * lines that are alike there. */
static int32_t linediff_reach(const struct linediff *diff, int32_t d, int32_t k)
{
	const int32_t *before = d ? diff->rounds[d - 1] + (d - 1) : NULL;

	if (!before)
		return 0;
	if (k == -d || (k != d && before[k - 1] < before[k + 1]))
		return before[k + 1];
	return before[k - 1] + 1;
}

/* Round d; true: both ends are reached. */
static bool linediff_round(struct linediff *diff, int32_t d)
{
	int32_t n = (int32_t)(diff->was_end - diff->start);
	int32_t m = (int32_t)(diff->is_end - diff->start);
	int32_t *furthest = alloc_array((size_t)(2 * d + 1), sizeof(*furthest));

	diff->rounds[d] = furthest;
	furthest += d;
	for (int32_t k = -d; k <= d; k += 2) {
		int32_t x = linediff_reach(diff, d, k);

		while (x < n && x - k < m && x - k >= 0 &&
		       linediff_same(diff, diff->start + (size_t)x,
				     diff->start + (size_t)(x - k)))
			x++;
		furthest[k] = x;
		if (k == n - m && x >= n)
			return true;
	}
	return false;
}

/* Back from the ends, after round d reached them. */
static void linediff_walk_back(struct linediff *diff, int32_t d)
{
	int32_t x = (int32_t)(diff->was_end - diff->start);
	int32_t k = x - (int32_t)(diff->is_end - diff->start);

	for (; d > 0; d--) {
		const int32_t *before = diff->rounds[d - 1] + (d - 1);
		bool is_added = k == -d || (k != d && before[k - 1] < before[k + 1]);

		if (is_added) {
			k++;
			x = before[k];
			diff->is.differs[diff->start + (size_t)(x - k)] = true;
		} else {
			k--;
			x = before[k];
			diff->was.differs[diff->start + (size_t)x] = true;
		}
	}
}

static void linediff_compare(struct linediff *diff)
{
	for (int32_t d = 0; d <= LINEDIFF_COST_MAX; d++) {
		if (!linediff_round(diff, d))
			continue;
		linediff_walk_back(diff, d);
		return;
	}
	for (size_t i = diff->start; i < diff->was_end; i++)
		diff->was.differs[i] = true;
	for (size_t i = diff->start; i < diff->is_end; i++)
		diff->is.differs[i] = true;
}

/* Writing */

static void linediff_line(struct buf *out, char mark, struct slice line)
{
	buf_add_byte(out, (uint8_t)mark);
	buf_add(out, line.data, line.len);
	if (line.data[line.len - 1] != '\n')
		buf_add_string(out, "\n\\ No newline at end of file\n");
}

/* "-FROM,COUNT": a range of none is named by the line before it. */
static void linediff_range(struct buf *out, char mark, size_t from, size_t n)
{
	buf_printf(out, "%c%zu", mark, n ? from + 1 : from);
	if (n != 1)
		buf_printf(out, ",%zu", n);
}

/* How many lines stand alike from there on, up to max. */
static size_t linediff_alike(const struct linediff *diff, size_t was, size_t is,
			     size_t max)
{
	size_t n = 0;

	while (n < max && was + n < diff->was.n && is + n < diff->is.n &&
	       !diff->was.differs[was + n] && !diff->is.differs[is + n])
		n++;
	return n;
}

/* One hunk from a difference on; *was and *is: behind its last line. */
static void linediff_hunk(const struct linediff *diff, size_t *was, size_t *is,
			  struct buf *out)
{
	_cleanup_buf_ struct buf lines = BUF_INIT;
	size_t before = *was < LINEDIFF_CONTEXT ? *was : LINEDIFF_CONTEXT;
	size_t was_from, is_from;

	before = *is < before ? *is : before;
	was_from = *was -= before;
	is_from = *is -= before;
	for (size_t i = 0; i < before; i++, (*was)++, (*is)++)
		linediff_line(&lines, ' ', diff->was.lines[*was]);
	for (;;) {
		size_t n;

		for (; *was < diff->was.n && diff->was.differs[*was]; (*was)++)
			linediff_line(&lines, '-', diff->was.lines[*was]);
		for (; *is < diff->is.n && diff->is.differs[*is]; (*is)++)
			linediff_line(&lines, '+', diff->is.lines[*is]);
		n = linediff_alike(diff, *was, *is, 2 * LINEDIFF_CONTEXT + 1);
		if (n > 2 * LINEDIFF_CONTEXT ||
		    (*was + n == diff->was.n && *is + n == diff->is.n)) {
			n = n > LINEDIFF_CONTEXT ? LINEDIFF_CONTEXT : n;
			for (; n; n--, (*was)++, (*is)++)
				linediff_line(&lines, ' ', diff->was.lines[*was]);
			break;
		}
		for (; n; n--, (*was)++, (*is)++)
			linediff_line(&lines, ' ', diff->was.lines[*was]);
	}
	buf_add_string(out, "@@ ");
	linediff_range(out, '-', was_from, *was - was_from);
	buf_add_byte(out, ' ');
	linediff_range(out, '+', is_from, *is - is_from);
	buf_add_string(out, " @@\n");
	buf_add(out, lines.data, lines.len);
}

bool linediff_unified(struct slice was, struct slice is, struct buf *out)
{
	_cleanup_(linediff_deinit) struct linediff diff = {0};
	size_t at = 0;
	size_t other = 0;

	if (!linediff_cut(was, &diff.was) || !linediff_cut(is, &diff.is))
		return false;
	linediff_trim(&diff);
	linediff_compare(&diff);
	for (;;) {
		size_t n = linediff_alike(&diff, at, other, SIZE_MAX);

		at += n;
		other += n;
		if (at == diff.was.n && other == diff.is.n)
			return true;
		linediff_hunk(&diff, &at, &other, out);
	}
}
