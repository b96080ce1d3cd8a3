/*
 * Owns nothing: the imports of compiled Python modules, of the versions in pyc_versions.
 * A first walk over the marshalled module notes where its code, its constants and its
 * names are, and where each object is that later ones refer to; then the code's import
 * instructions say which of them are modules. Code of functions and classes is passed
 * over. The walks keep their own stack, and their steps are counted, since an object may
 * be referred to any number of times.
 *
 * Threads: any. An offset is only ever followed after a check against the length.
 */
#include <string.h>

#include "lib/base/alloc.h"
#include "predict/scan_internal.h"

#define PYC_HEADER    16
#define PYC_DEPTH_MAX 256
#define PYC_FROM_MAX  1024              /* names of one "from x import …" */
#define PYC_STEPS_MAX ((size_t)1 << 21) /* objects that are passed in all walks */
#define PYC_LEVEL_MAX 64

/* Numbers of instructions, and how a code object is laid out: numbers, then objects, with
 * a number before the last ones. */
struct pyc_version {
	uint16_t magic;
	uint8_t import_name;
	uint8_t load_const;
	uint8_t extended_arg;
	uint8_t n_numbers;
	uint8_t n_objects;
	uint8_t n_last;
};

static const struct pyc_version pyc_versions[] = {
	{3413, 108, 100, 144, 6, 9, 1},  /* 3.8 */
	{3425, 108, 100, 144, 6, 9, 1},  /* 3.9 */
	{3439, 108, 100, 144, 6, 9, 1},  /* 3.10 */
	{3495, 108, 100, 144, 5, 10, 2}, /* 3.11 */
	{3531, 108, 100, 144, 5, 10, 2}, /* 3.12 */
	{3571, 75, 83, 71, 5, 10, 2},    /* 3.13 */
};

/* Of a code object: which of its objects we want. */
enum { PYC_CODE, PYC_CONSTS, PYC_NAMES, PYC_WANTED };

/* Offsets of objects. */
struct pyc_offsets {
	uint32_t *at;
	size_t n;
	size_t cap;
};

struct pyc {
	struct scan *scan;
	const struct pyc_version *version;
	struct slice data;
	size_t n_steps;
	struct pyc_offsets refs;
	struct pyc_offsets parts; /* of the module's code object */
	struct pyc_offsets consts;
	struct pyc_offsets names;
	struct buf module; /* a name as it is put together */
};

/* An object whose parts are being passed. */
struct pyc_open {
	uint64_t n_left; /* UINT64_MAX: up to a NULL */
	bool is_code;
};

struct pyc_walk {
	struct pyc *pyc;
	size_t at;
	bool is_first; /* objects are numbered for those that refer to them */
	struct pyc_open open[PYC_DEPTH_MAX];
	size_t depth;
};

static void pyc_note(struct pyc_offsets *offsets, size_t at)
{
	offsets->at = alloc_grow(offsets->at, &offsets->cap, offsets->n + 1,
				 sizeof(*offsets->at));
	offsets->at[offsets->n++] = (uint32_t)at;
}

/* A number of n bytes; false where the data ends before it. */
static bool pyc_number(const struct pyc *pyc, size_t at, size_t n, uint32_t *out)
{
	uint32_t value = 0;

	if (at > pyc->data.len || n > pyc->data.len - at)
		return false;
	for (size_t i = n; i > 0; i--)
		value = value << 8 | pyc->data.data[at + i - 1];
	*out = value;
	return true;
}

static bool pyc_skip(struct pyc_walk *walk, uint64_t n)
{
	if (n > walk->pyc->data.len - walk->at)
		return false;
	walk->at += (size_t)n;
	return true;
}

static bool pyc_push(struct pyc_walk *walk, uint64_t n_parts, bool is_code)
{
	if (walk->depth == PYC_DEPTH_MAX)
		return false;
	walk->open[walk->depth++] = (struct pyc_open){n_parts, is_code};
	return true;
}

/* Passes what has a length of n bytes before it: so many bytes, units of two, or parts.
 */
static bool pyc_sized(struct pyc_walk *walk, uint8_t type, size_t n)
{
	uint32_t len;

	if (!pyc_number(walk->pyc, walk->at, n, &len))
		return false;
	walk->at += n;
	switch (type) {
	case '(':
	case ')':
	case '[':
	case '<':
	case '>':
		return pyc_push(walk, len, false);
	case 'l': /* the sign of the length is that of the number */
		len = (len & 0x80000000u) ? 0u - len : len;
		return pyc_skip(walk, (uint64_t)len * 2);
	default:
		return pyc_skip(walk, len);
	}
}

/* Passes an object's own bytes, behind its type; its parts come next. */
static bool pyc_body(struct pyc_walk *walk, uint8_t type)
{
	switch (type) {
	case '0': /* NULL, which ends a dictionary */
		if (walk->depth && walk->open[walk->depth - 1].n_left > UINT32_MAX)
			walk->open[walk->depth - 1].n_left = 0;
		return true;
	case 'N':
	case 'S':
	case '.':
	case 'T':
	case 'F':
		return true;
	case 'i':
	case 'r':
		return pyc_skip(walk, 4);
	case 'I':
	case 'g':
		return pyc_skip(walk, 8);
	case 'y':
		return pyc_skip(walk, 16);
	case 'x':
		return pyc_sized(walk, 'f', 1) && pyc_sized(walk, 'f', 1);
	case 'f':
	case ')':
	case 'z':
	case 'Z':
		return pyc_sized(walk, type, 1);
	case 's':
	case 't':
	case 'u':
	case 'a':
	case 'A':
	case 'l':
	case '(':
	case '[':
	case '<':
	case '>':
		return pyc_sized(walk, type, 4);
	case '{':
		return pyc_push(walk, UINT64_MAX, false);
	case 'c':
		return pyc_skip(walk, 4u * walk->pyc->version->n_numbers) &&
		       pyc_push(walk, walk->pyc->version->n_objects, true);
	default:
		return false;
	}
}

/* Passes one object, but not its parts. */
static bool pyc_object(struct pyc_walk *walk)
{
	struct pyc *pyc = walk->pyc;
	uint8_t type;

	if (walk->at >= pyc->data.len || pyc->n_steps == PYC_STEPS_MAX)
		return false;
	pyc->n_steps++;
	type = pyc->data.data[walk->at];
	if (walk->is_first && (type & 0x80))
		pyc_note(&pyc->refs, walk->at);
	walk->at++;
	return pyc_body(walk, type & 0x7f);
}

/* Passes the object at an offset and notes up to max of its parts; ends early where it is
 * damaged, or has as many. */
static void pyc_parts(struct pyc *pyc, size_t at, bool is_first, size_t max,
		      struct pyc_offsets *parts)
{
	struct pyc_walk walk = {.pyc = pyc, .at = at, .is_first = is_first};

	if (!pyc_object(&walk))
		return;
	while (walk.depth > 0) {
		struct pyc_open *open = &walk.open[walk.depth - 1];

		if (open->n_left == 0) {
			walk.depth--;
			continue;
		}
		if (open->is_code && open->n_left == pyc->version->n_last &&
		    !pyc_skip(&walk, 4))
			return;
		if (walk.depth == 1) {
			if (parts->n == max)
				return;
			pyc_note(parts, walk.at);
		}
		open->n_left--;
		if (!pyc_object(&walk))
			return;
	}
}

/* The object itself, where the one at an offset only refers to it. */
static size_t pyc_resolve(const struct pyc *pyc, size_t at)
{
	uint32_t index;

	if (at >= pyc->data.len || (pyc->data.data[at] & 0x7f) != 'r' ||
	    !pyc_number(pyc, at + 1, 4, &index))
		return at;
	return index < pyc->refs.n ? pyc->refs.at[index] : pyc->data.len;
}

static uint8_t pyc_type(const struct pyc *pyc, size_t at)
{
	return at < pyc->data.len ? pyc->data.data[at] & 0x7f : 0;
}

/* The bytes of a string, or of bytes; NULL where it is neither, or damaged. */
static struct slice pyc_bytes(const struct pyc *pyc, size_t at)
{
	uint8_t type;
	size_t n;
	uint32_t len;

	at = pyc_resolve(pyc, at);
	type = pyc_type(pyc, at);
	n = type == 'z' || type == 'Z' ? 1 : 4;
	if (!type || !strchr("zZaAust", type) || !pyc_number(pyc, at + 1, n, &len) ||
	    len > pyc->data.len - at - 1 - n)
		return (struct slice){NULL, 0};
	return (struct slice){pyc->data.data + at + 1 + n, len};
}

/* How many packages up an import begins: an instruction's constant. */
static uint32_t pyc_level(const struct pyc *pyc, size_t index)
{
	uint32_t level = 0;
	size_t at;

	if (index >= pyc->consts.n)
		return 0;
	at = pyc_resolve(pyc, pyc->consts.at[index]);
	if (pyc_type(pyc, at) != 'i' || !pyc_number(pyc, at + 1, 4, &level))
		return 0;
	return level < PYC_LEVEL_MAX ? level : PYC_LEVEL_MAX;
}

/* "from a import b, c": each may be a module. False where the scan is to end. */
static bool pyc_from(struct pyc *pyc, size_t index)
{
	struct pyc_offsets members = {0};
	bool is_going_on = true;
	size_t at;

	if (index >= pyc->consts.n)
		return true;
	at = pyc_resolve(pyc, pyc->consts.at[index]);
	if (pyc_type(pyc, at) == ')' || pyc_type(pyc, at) == '(')
		pyc_parts(pyc, at, false, PYC_FROM_MAX, &members);
	for (size_t i = 0; i < members.n && is_going_on; i++)
		is_going_on = scan_tell_member(pyc->scan, &pyc->module,
					       pyc_bytes(pyc, members.at[i]));
	free(members.at);
	return is_going_on;
}

/* One import; level and from are of the constants. */
static bool pyc_import(struct pyc *pyc, size_t name, size_t level, size_t from)
{
	struct slice text = {NULL, 0};

	buf_clear(&pyc->module);
	for (uint32_t i = pyc_level(pyc, level); i > 0; i--)
		buf_add_byte(&pyc->module, '.');
	if (name < pyc->names.n)
		text = pyc_bytes(pyc, pyc->names.at[name]);
	if (!text.data || text.len > SCAN_NAME_MAX)
		return true;
	buf_add(&pyc->module, text.data, text.len);
	return scan_tell(pyc->scan, SCAN_MODULE, buf_slice(&pyc->module)) &&
	       (pyc->module.len == 0 || pyc_from(pyc, from));
}

static void pyc_instructions(struct pyc *pyc, struct slice code)
{
	const struct pyc_version *version = pyc->version;
	size_t consts[2] = {SIZE_MAX, SIZE_MAX}; /* loaded right before */
	uint32_t arg = 0;

	for (size_t i = 0; i + 1 < code.len; i += 2) {
		arg |= code.data[i + 1];
		if (code.data[i] == version->extended_arg) {
			arg <<= 8;
			continue;
		}
		if (code.data[i] == version->load_const) {
			consts[0] = consts[1];
			consts[1] = arg;
		} else if (code.data[i] == version->import_name) {
			if (!pyc_import(pyc, arg, consts[0], consts[1]))
				return;
		} else {
			consts[0] = SIZE_MAX;
			consts[1] = SIZE_MAX;
		}
		arg = 0;
	}
}

void scan_pyc(struct scan *scan)
{
	struct pyc pyc = {.scan = scan, .data = scan_load(scan, SCAN_READ_MAX)};
	uint32_t magic = 0;

	if (pyc.data.len <= PYC_HEADER || !pyc_number(&pyc, 0, 2, &magic))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(pyc_versions); i++) {
		if (pyc_versions[i].magic == magic)
			pyc.version = &pyc_versions[i];
	}
	if (!pyc.version || pyc_type(&pyc, PYC_HEADER) != 'c')
		return;
	pyc_parts(&pyc, PYC_HEADER, true, PYC_WANTED, &pyc.parts);
	if (pyc.parts.n == PYC_WANTED) {
		pyc_parts(&pyc, pyc_resolve(&pyc, pyc.parts.at[PYC_CONSTS]), false,
			  SIZE_MAX, &pyc.consts);
		pyc_parts(&pyc, pyc_resolve(&pyc, pyc.parts.at[PYC_NAMES]), false,
			  SIZE_MAX, &pyc.names);
		pyc_instructions(&pyc, pyc_bytes(&pyc, pyc.parts.at[PYC_CODE]));
	}
	free(pyc.refs.at);
	free(pyc.parts.at);
	free(pyc.consts.at);
	free(pyc.names.at);
	buf_deinit(&pyc.module);
}
