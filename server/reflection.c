/*
 * Owns server reflection: which services there are, and the files of proto/ that define
 * them, as the compiler read them (proto/CMakeLists.txt embeds that). Read field by
 * field from the embedded bytes each time: a few ten kilobytes, asked for by people.
 *
 * What protobuf-c adds to our files (a dependency, options) is left out of what is told:
 * nobody else has those definitions. v1 and v1alpha differ by name only.
 */
#include "lib/base/wire.h"
#include "server/service.h"

#define REFLECTION_REQUEST_MAX 8192
#define REFLECTION_OWN         "protobuf-c/protobuf-c.proto" /* left out */

/* Fields of descriptor.proto, as protobuf numbers them. */
enum reflection_file {
	FILE_NAME = 1,
	FILE_PACKAGE,
	FILE_DEPENDENCY,
	FILE_MESSAGE,
	FILE_ENUM,
	FILE_SERVICE,
	FILE_EXTENSION,
	FILE_OPTIONS
};
enum reflection_message {
	MESSAGE_NAME = 1,
	MESSAGE_FIELD,
	MESSAGE_NESTED,
	MESSAGE_ENUM,
	MESSAGE_ONEOF = 8
};
enum reflection_ask { ASK_FILE = 3, ASK_SYMBOL, ASK_EXTENSION, ASK_NUMBERS, ASK_LIST };
enum reflection_answer {
	ANSWER_REQUEST = 2,
	ANSWER_FILES = 4,
	ANSWER_LIST = 6,
	ANSWER_ERROR
};

/* The next field of a number, of bytes; false: there is none. */
static bool reflection_next(struct wire *wire, uint32_t number, struct slice *out)
{
	struct wire_field field;

	while (wire_next(wire, &field)) {
		if (field.number == number && field.type == WIRE_BYTES) {
			*out = field.bytes;
			return true;
		}
	}
	return false;
}

static struct slice reflection_get(struct slice message, uint32_t number)
{
	struct wire wire = wire_of(message);
	struct slice value = {NULL, 0};

	(void)reflection_next(&wire, number, &value);
	return value;
}

static bool reflection_next_file(struct wire *set, struct slice *file_out)
{
	return reflection_next(set, 1, file_out);
}

static struct wire reflection_files(void)
{
	return wire_of((struct slice){proto_descriptors, proto_descriptors_len});
}

/* ---- symbols -------------------------------------------------------------------- */

/* Takes "NAME" or "NAME." from the start of the symbol; false: it goes on otherwise. */
static bool reflection_take(struct slice *symbol, struct slice name)
{
	struct slice start = {symbol->data, name.len};

	if (symbol->len < name.len || !slice_equal(start, name))
		return false;
	if (symbol->len == name.len) {
		*symbol = (struct slice){NULL, 0};
		return true;
	}
	if (symbol->data[name.len] != '.')
		return false;
	symbol->data += name.len + 1;
	symbol->len -= name.len + 1;
	return true;
}

/* Whether one of the things under a number has the symbol's first name, and that is all
 * of it; or, where it has parts of that number, one of those has the rest. */
static bool reflection_has_named(struct slice parent, uint32_t number,
				 struct slice symbol, uint32_t part)
{
	struct wire wire = wire_of(parent);
	struct slice one;

	while (reflection_next(&wire, number, &one)) {
		struct slice rest = symbol;

		if (!reflection_take(&rest, reflection_get(one, 1)))
			continue;
		if (rest.len == 0 || (part && reflection_has_named(one, part, rest, 0)))
			return true;
	}
	return false;
}

/* Below a message stand fields, nested ones, enums and oneofs. */
static bool reflection_has_message(struct slice parent, uint32_t number,
				   struct slice symbol)
{
	struct wire wire = wire_of(parent);
	struct slice one;

	while (reflection_next(&wire, number, &one)) {
		struct slice rest = symbol;

		if (!reflection_take(&rest, reflection_get(one, MESSAGE_NAME)))
			continue;
		if (rest.len == 0 || reflection_has_named(one, MESSAGE_FIELD, rest, 0) ||
		    reflection_has_named(one, MESSAGE_ENUM, rest, 2) ||
		    reflection_has_named(one, MESSAGE_ONEOF, rest, 0) ||
		    reflection_has_message(one, MESSAGE_NESTED, rest))
			return true;
	}
	return false;
}

static bool reflection_has_symbol(struct slice file, struct slice symbol)
{
	if (!reflection_take(&symbol, reflection_get(file, FILE_PACKAGE)) ||
	    symbol.len == 0)
		return false;
	return reflection_has_named(file, FILE_SERVICE, symbol, 2) ||
	       reflection_has_named(file, FILE_ENUM, symbol, 2) ||
	       reflection_has_message(file, FILE_MESSAGE, symbol);
}

/* ---- answers -------------------------------------------------------------------- */

/* A file as others can read it: without what only protobuf-c knows. */
static void reflection_put_file(struct slice file, struct buf *out)
{
	struct wire wire = wire_of(file);
	struct wire_field field;

	while (wire_next(&wire, &field)) {
		if (field.type != WIRE_BYTES || field.number == FILE_OPTIONS ||
		    (field.number == FILE_DEPENDENCY &&
		     slice_is(field.bytes, REFLECTION_OWN)))
			continue;
		wire_put_bytes(out, field.number, field.bytes);
	}
}

static void reflection_error(enum error_code code, const char *what, struct slice name,
			     struct buf *answer)
{
	_cleanup_buf_ struct buf error = BUF_INIT;
	_cleanup_buf_ struct buf text = BUF_INIT;

	buf_printf(&text, "%s \"%.*s\"", what, (int)(name.len < 200 ? name.len : 200),
		   (const char *)name.data);
	wire_put_int(&error, 1, code);
	wire_put_bytes(&error, 2, buf_slice(&text));
	wire_put_bytes(answer, ANSWER_ERROR, buf_slice(&error));
}

/* The first file that is it, by name or by symbol. */
static void reflection_find(enum reflection_ask ask, struct slice name,
			    struct buf *answer)
{
	_cleanup_buf_ struct buf file = BUF_INIT;
	_cleanup_buf_ struct buf files = BUF_INIT;
	struct wire set = reflection_files();
	struct slice one;

	while (reflection_next_file(&set, &one)) {
		bool is_it = ask == ASK_FILE
				     ? slice_equal(reflection_get(one, FILE_NAME), name)
				     : reflection_has_symbol(one, name);

		if (!is_it)
			continue;
		reflection_put_file(one, &file);
		wire_put_bytes(&files, 1, buf_slice(&file));
		wire_put_bytes(answer, ANSWER_FILES, buf_slice(&files));
		return;
	}
	reflection_error(ERROR_NOT_FOUND,
			 ask == ASK_FILE ? "there is no file" : "there is no symbol",
			 name, answer);
}

static void reflection_list(const struct server *server, struct buf *answer)
{
	_cleanup_buf_ struct buf list = BUF_INIT;
	const char *name;

	for (size_t i = 0; (name = server_service_name(server, i)); i++) {
		_cleanup_buf_ struct buf one = BUF_INIT;

		wire_put_bytes(&one, 1, slice_of(name));
		wire_put_bytes(&list, 1, buf_slice(&one));
	}
	wire_put_bytes(answer, ANSWER_LIST, buf_slice(&list));
}

static struct error *reflection_reply(const struct server *server, struct slice request,
				      struct buf *answer)
{
	struct wire wire = wire_of(request);
	struct wire_field field, asked = {0};

	if (request.len > REFLECTION_REQUEST_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "a question of %zu bytes is over the limit of %d",
				 request.len, REFLECTION_REQUEST_MAX);
	while (wire_next(&wire, &field)) {
		if (field.number >= ASK_FILE && field.number <= ASK_LIST &&
		    field.type == WIRE_BYTES)
			asked = field;
	}
	if (wire.is_bad)
		return error_new(ERROR_INVALID_ARGUMENT, "the question is malformed");
	wire_put_bytes(answer, ANSWER_REQUEST, request);
	if (asked.number == ASK_LIST)
		reflection_list(server, answer);
	else if (asked.number == ASK_FILE || asked.number == ASK_SYMBOL)
		reflection_find((enum reflection_ask)asked.number, asked.bytes, answer);
	else
		reflection_error(ERROR_UNIMPLEMENTED, "there are no extensions of",
				 asked.bytes, answer);
	return NULL;
}

static enum rpc_verdict reflection_step(struct rpc_in *in, void *service)
{
	_cleanup_buf_ struct buf answer = BUF_INIT;
	struct slice request;
	struct error *err;
	bool is_end;

	if (!rpc_can_send(in) || !rpc_receive(in, &request, &is_end))
		return RPC_LATER;
	if (is_end)
		return RPC_DONE;
	err = reflection_reply(service, request, &answer);
	if (err)
		return rpc_fail(in, err);
	rpc_send_raw(in, buf_slice(&answer), (struct slice){NULL, 0}, NULL, NULL);
	return RPC_LATER;
}

#define REFLECTION_FLAGS RPC_RIGHTS(ACCESS_ALL)

static const struct rpc_handler reflection_methods[] = {
	{{&reflection__server_reflection__descriptor, "ServerReflectionInfo"},
	 RPC_BIDI,
	 REFLECTION_FLAGS,
	 reflection_step},
	{{&reflection_alpha__server_reflection__descriptor, "ServerReflectionInfo"},
	 RPC_BIDI,
	 REFLECTION_FLAGS,
	 reflection_step},
};
const struct rpc_handlers reflection_handlers = {reflection_methods,
						 ARRAY_SIZE(reflection_methods)};
