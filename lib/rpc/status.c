/*
 * Owns the way of an error over the wire: google.rpc.Status with PreconditionFailure (the
 * missing blobs) and RetryInfo, in a message or in a call's trailing metadata.
 *
 * An error's text may hold any bytes (paths do), a protobuf string may not: what is no
 * UTF-8 goes as '?'. Metadata has a limit of a few KiB with most peers, so a status there
 * leaves out what would not fit; one inside a message has all of it.
 */
#include <string.h>

#include "lib/base/text.h"
#include "lib/rpc/core.h"

#define STATUS_TEXT_MAX     2048
#define STATUS_NS_PER_MS    1000000
#define STATUS_MS_MAX       ((int64_t)24 * 3600 * 1000)
#define STATUS_PRECONDITION "type.googleapis.com/google.rpc.PreconditionFailure"
#define STATUS_RETRY        "type.googleapis.com/google.rpc.RetryInfo"

static char *status_text(const char *text, struct arena *arena)
{
	char *copy = arena_zero(arena, strnlen(text, STATUS_TEXT_MAX) + 1);
	size_t len = 0;

	if (!copy)
		return NULL;
	for (const unsigned char *s = (const unsigned char *)text; *s;) {
		size_t n = text_utf8_len((struct slice){s, strnlen((const char *)s, 4)});

		if (len + (n ? n : 1) > STATUS_TEXT_MAX)
			break;
		if (n)
			memcpy(copy + len, s, n);
		else
			copy[len] = '?';
		len += n ? n : 1;
		s += n ? n : 1;
	}
	return copy;
}

static Pb__Any *status_pack(const char *type_url, const ProtobufCMessage *message,
			    struct arena *arena)
{
	Pb__Any *any = arena_new(arena, Pb__Any);
	size_t len = protobuf_c_message_get_packed_size(message);
	char *url = arena_string(arena, type_url);
	uint8_t *value = arena_alloc(arena, len);

	if (arena->is_full)
		return NULL;
	pb__any__init(any);
	any->type_url = url;
	any->value.data = value;
	any->value.len = protobuf_c_message_pack(message, any->value.data);
	return any;
}

static Pb__Any *status_missing(const struct error *err, struct arena *arena)
{
	typedef Rpcstatus__PreconditionFailure__Violation violation;
	Rpcstatus__PreconditionFailure failure = RPCSTATUS__PRECONDITION_FAILURE__INIT;
	static char type[] = "MISSING";
	size_t n = error_n_missing(err);

	failure.violations = arena_array(arena, n, sizeof(violation *));
	for (size_t i = 0; i < n && failure.violations; i++) {
		violation *v = arena_new(arena, violation);
		char *subject = status_text(error_missing(err, i), arena);

		if (!v || !subject)
			return NULL;
		rpcstatus__precondition_failure__violation__init(v);
		v->type = type;
		v->subject = subject;
		failure.violations[failure.n_violations++] = v;
	}
	return status_pack(STATUS_PRECONDITION, &failure.base, arena);
}

static Pb__Any *status_retry(int64_t delay_ms, struct arena *arena)
{
	Rpcstatus__RetryInfo info = RPCSTATUS__RETRY_INFO__INIT;
	Pb__Duration delay = PB__DURATION__INIT;

	delay.seconds = delay_ms / 1000;
	delay.nanos = (int32_t)(delay_ms % 1000 * STATUS_NS_PER_MS);
	info.retry_delay = &delay;
	return status_pack(STATUS_RETRY, &info.base, arena);
}

const char *rpc_status_text(const struct error *err, struct arena *arena)
{
	const char *text = status_text(error_text(err), arena);

	return text ? text : "no memory is left to say what went wrong";
}

Rpcstatus__Status *rpc_status_message(const struct error *err, struct arena *arena)
{
	Rpcstatus__Status *status = arena_new(arena, Rpcstatus__Status);
	Pb__Any **details = arena_array(arena, 2, sizeof(Pb__Any *));
	size_t n = 0;

	if (!status || !details)
		return NULL;
	rpcstatus__status__init(status);
	status->code = (int32_t)error_code(err);
	if (!err)
		return status;
	status->message = status_text(error_text(err), arena);
	if (error_n_missing(err) > 0)
		details[n++] = status_missing(err, arena);
	if (error_retry_delay_ms(err) >= 0)
		details[n++] = status_retry(error_retry_delay_ms(err), arena);
	status->details = details;
	status->n_details = n;
	return arena->is_full ? NULL : status;
}

void rpc_status_encode(const struct error *err, struct buf *out)
{
	rpc_status_encode_short(err, SIZE_MAX, out);
}

void rpc_status_encode_short(const struct error *err, size_t limit, struct buf *out)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	Rpcstatus__Status *status = rpc_status_message(err, &arena);
	Rpcstatus__Status bare = RPCSTATUS__STATUS__INIT; /* where memory is short */

	if (!status) {
		bare.code = (int32_t)error_code(err);
		status = &bare;
	}
	if (protobuf_c_message_get_packed_size(&status->base) > limit)
		status->n_details = 0;
	rpc_encode(&status->base, out);
}

static void status_read_missing(struct error *err, struct slice bytes,
				struct arena *arena)
{
	Rpcstatus__PreconditionFailure *failure =
		(Rpcstatus__PreconditionFailure *)rpc_decode(
			&rpcstatus__precondition_failure__descriptor, bytes, arena);

	for (size_t i = 0; failure && i < failure->n_violations; i++) {
		if (strcmp(failure->violations[i]->type, "MISSING") == 0)
			error_add_missing(err, failure->violations[i]->subject);
	}
}

static void status_read_retry(struct error *err, struct slice bytes, struct arena *arena)
{
	Rpcstatus__RetryInfo *info = (Rpcstatus__RetryInfo *)rpc_decode(
		&rpcstatus__retry_info__descriptor, bytes, arena);
	const Pb__Duration *delay = info ? info->retry_delay : NULL;
	int64_t ms;

	/* a Duration's nanos may be anything on the wire, also less than no time */
	if (!delay || delay->seconds < 0)
		return;
	ms = delay->seconds < STATUS_MS_MAX / 1000
		     ? delay->seconds * 1000 + delay->nanos / STATUS_NS_PER_MS
		     : STATUS_MS_MAX;
	if (ms < 0)
		ms = 0;
	error_set_retry_delay_ms(err, ms < STATUS_MS_MAX ? ms : STATUS_MS_MAX);
}

static enum error_code status_code(int64_t code)
{
	return code > ERROR_OK && code <= ERROR_UNAUTHENTICATED ? (enum error_code)code
								: ERROR_UNKNOWN;
}

struct error *rpc_status_error(const Rpcstatus__Status *status)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	struct error *err;

	if (!status || status->code == ERROR_OK)
		return NULL;
	err = error_new(status_code(status->code), "%s",
			status->message[0] ? status->message
					   : "the peer gives no reason");
	for (size_t i = 0; i < status->n_details; i++) {
		const Pb__Any *any = status->details[i];
		struct slice bytes = {any->value.data, any->value.len};

		if (strcmp(any->type_url, STATUS_PRECONDITION) == 0)
			status_read_missing(err, bytes, &arena);
		else if (strcmp(any->type_url, STATUS_RETRY) == 0)
			status_read_retry(err, bytes, &arena);
	}
	return err;
}

struct error *rpc_status_decode(struct slice bytes)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT(RPC_ARENA_MAX);
	ProtobufCMessage *status =
		rpc_decode(&rpcstatus__status__descriptor, bytes, &arena);

	if (!status)
		return error_new(ERROR_INTERNAL,
				 "the peer's google.rpc.Status is malformed");
	return rpc_status_error((Rpcstatus__Status *)status);
}

struct error *rpc_status_of_call(grpc_status_code code, const grpc_slice *text,
				 const grpc_metadata_array *trailers)
{
	struct slice view = rpc_slice_view(text);
	int len = (int)(view.len < STATUS_TEXT_MAX ? view.len : STATUS_TEXT_MAX);

	if (code == GRPC_STATUS_OK)
		return NULL;
	for (size_t i = 0; i < trailers->count; i++) {
		_cleanup_error_ struct error *err = NULL;

		if (grpc_slice_str_cmp(trailers->metadata[i].key, RPC_STATUS_HEADER) != 0)
			continue;
		err = rpc_status_decode(rpc_slice_view(&trailers->metadata[i].value));
		if (err && error_code(err) == status_code(code))
			return take(err);
	}
	if (len == 0)
		return error_new(status_code(code), "the peer gives no reason");
	return error_new(status_code(code), "%.*s", len, (const char *)view.data);
}
