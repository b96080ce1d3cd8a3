/* Owns nothing; main thread. */
#include "client/action_get.h"

#define ACTION_MESSAGE_MAX ((size_t)16 << 20)

static struct error *action_fetch(struct client *client, const Reapi__Digest *wire,
				  const struct digest *known,
				  const ProtobufCMessageDescriptor *type,
				  const char *what, struct arena *arena,
				  void *message_out)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	char text[DIGEST_STRING_MAX];
	struct digest digest;
	struct error *err = NULL;
	void *message;

	if (known)
		digest = *known;
	else
		err = digest_from_wire(wire, &digest);
	if (!err)
		err = fetch_bytes(client->fetch, &digest, ACTION_MESSAGE_MAX, NULL,
				  &bytes);
	if (err)
		return error_wrap(err, "%s", what);
	message = rpc_decode(type, buf_slice(&bytes), arena);
	if (!message)
		return error_new(ERROR_INVALID_ARGUMENT, "%s is no %s",
				 digest_format(&digest, text), what);
	*(void **)message_out = message;
	return NULL;
}

struct error *action_get(struct client *client, const struct digest *digest,
			 struct arena *arena, Reapi__Action **action_out,
			 Reapi__Command **command_out)
{
	Reapi__Action *action;
	struct error *err = action_fetch(client, NULL, digest, &reapi__action__descriptor,
					 "Action", arena, &action);

	if (!err && !action->command_digest)
		err = error_new(ERROR_INVALID_ARGUMENT,
				"the blob is no Action: it names no Command");
	if (!err)
		err = action_fetch(client, action->command_digest, NULL,
				   &reapi__command__descriptor, "Command", arena,
				   command_out);
	if (!err)
		*action_out = action;
	return err;
}
