/*
 * Owns what operations, sessions and leases are called. An operation's name ends with
 * the digest of its action, INSTANCE/UUID-HASH-SIZE, so that a server that was started
 * anew can tell what somebody waits for who knows no more than the name. To clients it
 * is opaque.
 *
 * No state.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "server/queue_impl.h"

#define QUEUE_UUID_LEN 36

void queue_make_uuid(char out[static QUEUE_LEASE_MAX])
{
	uint8_t b[16];

	require(getrandom(b, sizeof(b), 0) == (ssize_t)sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	(void)snprintf(
		out, QUEUE_LEASE_MAX,
		"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
		b[12], b[13], b[14], b[15]);
}

void queue_make_name(const char *instance, const struct digest *action,
		     char name_out[static QUEUE_NAME_MAX])
{
	char uuid[QUEUE_LEASE_MAX];
	char text[DIGEST_STRING_MAX + 1] = "";

	queue_make_uuid(uuid);
	if (action) {
		text[0] = '-';
		(void)digest_format(action, text + 1);
		*strchr(text, '/') = '-'; /* what is after the last one is the id */
	}
	(void)snprintf(name_out, QUEUE_NAME_MAX, "%.*s%s%s%s", QUEUE_INSTANCE_MAX,
		       instance, instance[0] ? "/" : "", uuid, text);
}

bool queue_name_parse(const char *name, char instance_out[static QUEUE_INSTANCE_MAX + 1],
		      struct digest *action_out)
{
	const char *slash = strrchr(name, '/');
	const char *id = slash ? slash + 1 : name;
	size_t n_instance = slash ? (size_t)(slash - name) : 0;
	_cleanup_error_ struct error *err = NULL;
	char text[DIGEST_STRING_MAX];
	char *dash;

	if (strlen(id) <= QUEUE_UUID_LEN || id[QUEUE_UUID_LEN] != '-' ||
	    strlen(id + QUEUE_UUID_LEN + 1) >= sizeof(text) ||
	    n_instance > QUEUE_INSTANCE_MAX)
		return false;
	memcpy(text, id + QUEUE_UUID_LEN + 1, strlen(id + QUEUE_UUID_LEN + 1) + 1);
	dash = strchr(text, '-');
	if (!dash)
		return false;
	*dash = '/';
	err = digest_parse(text, action_out);
	if (err)
		return false;
	memcpy(instance_out, name, n_instance);
	instance_out[n_instance] = '\0';
	return true;
}

uint64_t queue_name_hash(const char *name)
{
	return slice_hash(slice_of(name));
}
