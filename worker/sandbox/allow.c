/* Owns nothing: a table of names. Any thread. */
#include "worker/sandbox/allow.h"

#include <inttypes.h>
#include <string.h>

#include "lib/base/alloc.h"
#include "lib/base/units.h"
#include "worker/sandbox/accounts.h"

#define ALLOW_ID_MAX 0x7ffffffe

static const char *const allow_names[ALLOW_N] = {
	[ALLOW_NETWORK] = "network",
	[ALLOW_UID] = "uid",
	[ALLOW_GID] = "gid",
	[ALLOW_USERNS] = "userns",
	[ALLOW_PTRACE] = "ptrace",
	[ALLOW_IO_URING] = "io_uring",
	[ALLOW_USERFAULTFD] = "userfaultfd",
};

const char *allow_name(enum allow_kind kind)
{
	return allow_names[kind];
}

/* "N" or "MIN-MAX". */
static struct error *allow_parse_range(const char *text, struct allow_range *out)
{
	const char *dash = strchr(text, '-');
	_cleanup_free_ char *low =
		alloc_string_n(text, dash ? (size_t)(dash - text) : strlen(text));
	struct allow_range range;
	struct error *err = units_parse_int(low, 0, ALLOW_ID_MAX, &range.min);

	range.max = range.min;
	if (!err && dash)
		err = units_parse_int(dash + 1, range.min, ALLOW_ID_MAX, &range.max);
	if (err)
		return err;
	*out = range;
	return NULL;
}

struct error *allow_set(struct allow *allow, const char *grant)
{
	size_t len = strcspn(grant, "=");
	const char *value = grant[len] ? grant + len + 1 : NULL;
	struct allow_range range = {0, ALLOW_ID_MAX};
	enum allow_kind kind = 0;

	while (kind < ALLOW_N && (strlen(allow_names[kind]) != len ||
				  memcmp(allow_names[kind], grant, len) != 0))
		kind++;
	if (kind == ALLOW_N)
		return error_new(
			ERROR_INVALID_ARGUMENT,
			"\"%s\" is not network, uid[=RANGE], gid[=RANGE], userns, "
			"ptrace, io_uring or userfaultfd",
			grant);
	if (value && kind != ALLOW_UID && kind != ALLOW_GID)
		return error_new(ERROR_INVALID_ARGUMENT, "%s takes no value",
				 allow_names[kind]);
	if (value) {
		struct error *err = allow_parse_range(value, &range);

		if (err)
			return error_wrap(err, "%s", allow_names[kind]);
	}
	if (kind == ALLOW_UID)
		allow->uids = range;
	if (kind == ALLOW_GID)
		allow->gids = range;
	allow->mask |= 1u << kind;
	return NULL;
}

static struct error *allow_check_id(const struct allow *allow, enum allow_kind kind,
				    const char *property, unsigned int id)
{
	const struct allow_range *range = kind == ALLOW_UID ? &allow->uids : &allow->gids;

	if (id == ACCOUNTS_UID ||
	    (allow_has(allow, kind) && id >= range->min && id <= range->max))
		return NULL;
	return error_new(ERROR_FAILED_PRECONDITION,
			 "platform property %s=%u is not granted by this worker: its "
			 "operator allows it with --allow %s=%u",
			 property, id, allow_names[kind], id);
}

struct error *allow_check(const struct allow *allow, const struct allow_request *request)
{
	struct error *err;

	if (request->with_network && !allow_has(allow, ALLOW_NETWORK))
		return error_new(ERROR_FAILED_PRECONDITION,
				 "platform property network=on is not granted by this "
				 "worker: its operator allows it with --allow network");
	err = allow_check_id(allow, ALLOW_UID, "unixUID", request->uid);
	return err ? err : allow_check_id(allow, ALLOW_GID, "unixGID", request->gid);
}
