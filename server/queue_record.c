/*
 * Owns the form of records: protobuf's encoding, without a .proto file, since nobody but
 * this file reads it. Numbers of fields are never used again for something else; unknown
 * ones, of a newer server, are passed over.
 */
#include "server/queue_record.h"

#include <string.h>

#include "lib/base/text.h"
#include "lib/base/wire.h"

#define RECORD_STRING_MAX ((size_t)64 << 10) /* bytes of one string */

enum { PROPERTY_NAME = 1, PROPERTY_VALUE = 2 };

enum {
	SESSION_NAME = 1,
	SESSION_INSTANCE,
	SESSION_BOT_ID,
	SESSION_OWNER,
	SESSION_IS_OWNER_PROVEN,
	SESSION_CAPACITY,
	SESSION_PROPERTY,
};

enum {
	JOB_INSTANCE = 1,
	JOB_HASH,
	JOB_SIZE,
	JOB_ACTION,
	JOB_REQUIRED,
	JOB_PRIORITY,
	JOB_TURN,
	JOB_DO_NOT_CACHE,
	JOB_LIMIT,
	JOB_WALL,
	JOB_TRIES,
	JOB_IS_COMPLETED,
	JOB_SESSION,
	JOB_LEASE,
	JOB_IS_RUNNING,
	JOB_STARTED,
	JOB_PARTIAL,
};

enum {
	OPERATION_NAME = 1,
	OPERATION_CLIENT,
	OPERATION_JOB,
	OPERATION_IS_DETACHED,
	OPERATION_IS_CANCELLED,
	OPERATION_COMPLETED,
	OPERATION_REQUEST,
};

/* ---- writing -------------------------------------------------------------------- */

static void record_put_string(struct buf *out, uint32_t field, const char *text)
{
	if (text && text[0])
		wire_put_bytes(out, field, slice_of(text));
}

static void record_put_properties(struct buf *out, uint32_t field,
				  const struct queue_property *list, size_t n)
{
	_cleanup_buf_ struct buf one = BUF_INIT;

	for (size_t i = 0; i < n; i++) {
		buf_clear(&one);
		record_put_string(&one, PROPERTY_NAME, list[i].name);
		record_put_string(&one, PROPERTY_VALUE, list[i].value);
		wire_put_bytes(out, field, buf_slice(&one));
	}
}

void queue_record_session(const struct queue_saved_session *saved, struct buf *out)
{
	const struct queue_bot *bot = &saved->bot;

	record_put_string(out, SESSION_NAME, saved->name);
	record_put_string(out, SESSION_INSTANCE, bot->instance);
	record_put_string(out, SESSION_BOT_ID, bot->bot_id);
	record_put_string(out, SESSION_OWNER, bot->owner);
	wire_put_int(out, SESSION_IS_OWNER_PROVEN, bot->is_owner_proven);
	wire_put_int(out, SESSION_CAPACITY, bot->capacity);
	record_put_properties(out, SESSION_PROPERTY, bot->properties, bot->n_properties);
}

void queue_record_job(const struct queue_saved_job *saved, struct buf *out)
{
	const struct queue_spec *spec = &saved->spec;
	const struct slice hash = {spec->action_digest.hash, DIGEST_HASH_SIZE};

	record_put_string(out, JOB_INSTANCE, spec->instance);
	wire_put_bytes(out, JOB_HASH, hash);
	wire_put_int(out, JOB_SIZE, (uint64_t)spec->action_digest.size);
	if (spec->action.len > 0)
		wire_put_bytes(out, JOB_ACTION, spec->action);
	record_put_properties(out, JOB_REQUIRED, spec->required, spec->n_required);
	wire_put_int(out, JOB_PRIORITY, (uint64_t)(int64_t)spec->priority);
	wire_put_int(out, JOB_TURN, saved->turn);
	wire_put_int(out, JOB_DO_NOT_CACHE, spec->do_not_cache);
	wire_put_int(out, JOB_LIMIT, (uint64_t)spec->limit_ns);
	wire_put_int(out, JOB_WALL, (uint64_t)spec->wall_ns);
	wire_put_int(out, JOB_TRIES, saved->n_tries);
	wire_put_int(out, JOB_IS_COMPLETED, saved->is_completed);
	wire_put_int(out, JOB_SESSION, saved->session);
	record_put_string(out, JOB_LEASE, saved->lease);
	wire_put_int(out, JOB_IS_RUNNING, saved->is_running);
	wire_put_int(out, JOB_STARTED, (uint64_t)saved->started_wall_ns);
	if (saved->partial.len > 0)
		wire_put_bytes(out, JOB_PARTIAL, saved->partial);
}

void queue_record_operation(const struct queue_saved_operation *saved, struct buf *out)
{
	record_put_string(out, OPERATION_NAME, saved->name);
	record_put_string(out, OPERATION_CLIENT, saved->client);
	wire_put_int(out, OPERATION_JOB, saved->job);
	wire_put_int(out, OPERATION_IS_DETACHED, saved->is_detached);
	wire_put_int(out, OPERATION_IS_CANCELLED, saved->is_cancelled);
	wire_put_int(out, OPERATION_COMPLETED, (uint64_t)saved->completed_wall_ns);
	if (saved->request.len > 0)
		wire_put_bytes(out, OPERATION_REQUEST, saved->request);
}

/* ---- reading -------------------------------------------------------------------- */

/* A record that is taken apart; is_bad is sticky. */
struct record {
	struct wire wire;
	struct arena *arena;
	bool is_bad;
};

static struct record record_of(struct slice bytes, struct arena *arena)
{
	return (struct record){.wire = wire_of(bytes), .arena = arena};
}

static bool record_next(struct record *record, struct wire_field *field)
{
	return !record->is_bad && wire_next(&record->wire, field);
}

static bool record_end(const struct record *record)
{
	return !record->is_bad && !record->wire.is_bad && !record->arena->is_full;
}

static struct slice record_bytes(struct record *record, const struct wire_field *field)
{
	if (field->type == WIRE_BYTES)
		return field->bytes;
	record->is_bad = true;
	return (struct slice){NULL, 0};
}

static uint64_t record_number(struct record *record, const struct wire_field *field)
{
	if (field->type == WIRE_VARINT)
		return field->value;
	record->is_bad = true;
	return 0;
}

/* Those of a time, a size, a limit: none is negative. */
static int64_t record_int(struct record *record, const struct wire_field *field)
{
	uint64_t value = record_number(record, field);

	record->is_bad = record->is_bad || value > INT64_MAX;
	return record->is_bad ? 0 : (int64_t)value;
}

static int32_t record_priority(struct record *record, const struct wire_field *field)
{
	int64_t value = (int64_t)record_number(record, field);

	record->is_bad = record->is_bad || value < INT32_MIN || value > INT32_MAX;
	return record->is_bad ? 0 : (int32_t)value;
}

static const char *record_string(struct record *record, const struct wire_field *field)
{
	struct slice bytes = record_bytes(record, field);
	char *text;

	if (record->is_bad || bytes.len > RECORD_STRING_MAX || !text_is_utf8(bytes) ||
	    (bytes.len > 0 && memchr(bytes.data, '\0', bytes.len))) {
		record->is_bad = true;
		return "";
	}
	text = arena_zero(record->arena, bytes.len + 1);
	if (text && bytes.len > 0)
		memcpy(text, bytes.data, bytes.len);
	return text ? text : "";
}

static struct queue_property record_property(struct record *record,
					     const struct wire_field *field)
{
	struct queue_property property = {"", ""};
	struct record inner = record_of(record_bytes(record, field), record->arena);
	struct wire_field one;

	while (record_next(&inner, &one)) {
		if (one.number == PROPERTY_NAME)
			property.name = record_string(&inner, &one);
		else if (one.number == PROPERTY_VALUE)
			property.value = record_string(&inner, &one);
	}
	record->is_bad = record->is_bad || !record_end(&inner);
	return property;
}

/* All properties of a record, in order. */
static struct queue_property *record_properties(struct record *record, struct slice bytes,
						uint32_t number, size_t *n_out)
{
	struct wire wire = wire_of(bytes);
	struct wire_field field;
	struct queue_property *list;
	size_t n = 0;

	while (wire_next(&wire, &field))
		n += field.number == number;
	list = arena_array(record->arena, n, sizeof(*list));
	wire = wire_of(bytes);
	n = 0;
	while (list && !record->is_bad && wire_next(&wire, &field)) {
		if (field.number == number)
			list[n++] = record_property(record, &field);
	}
	*n_out = n;
	return list;
}

bool queue_record_read_session(struct slice bytes, struct arena *arena,
			       struct queue_saved_session *out)
{
	struct record record = record_of(bytes, arena);
	struct queue_saved_session saved = {
		.name = "", .bot = {.instance = "", .bot_id = "", .owner = ""}};
	struct queue_bot *bot = &saved.bot;
	struct wire_field field;

	while (record_next(&record, &field)) {
		switch (field.number) {
		case SESSION_NAME:
			saved.name = record_string(&record, &field);
			break;
		case SESSION_INSTANCE:
			bot->instance = record_string(&record, &field);
			break;
		case SESSION_BOT_ID:
			bot->bot_id = record_string(&record, &field);
			break;
		case SESSION_OWNER:
			bot->owner = record_string(&record, &field);
			break;
		case SESSION_IS_OWNER_PROVEN:
			bot->is_owner_proven = record_number(&record, &field);
			break;
		case SESSION_CAPACITY:
			bot->capacity = record_number(&record, &field);
			break;
		}
	}
	bot->properties =
		record_properties(&record, bytes, SESSION_PROPERTY, &bot->n_properties);
	if (!record_end(&record))
		return false;
	*out = saved;
	return true;
}

static void record_hash(struct record *record, const struct wire_field *field,
			struct digest *out)
{
	struct slice hash = record_bytes(record, field);

	if (hash.len == DIGEST_HASH_SIZE)
		memcpy(out->hash, hash.data, DIGEST_HASH_SIZE);
	else
		record->is_bad = true;
}

/* What the job is. */
static void record_job_spec(struct record *record, const struct wire_field *field,
			    struct queue_spec *spec)
{
	switch (field->number) {
	case JOB_INSTANCE:
		spec->instance = record_string(record, field);
		break;
	case JOB_HASH:
		record_hash(record, field, &spec->action_digest);
		break;
	case JOB_SIZE:
		spec->action_digest.size = record_int(record, field);
		break;
	case JOB_ACTION:
		spec->action = record_bytes(record, field);
		break;
	case JOB_PRIORITY:
		spec->priority = record_priority(record, field);
		break;
	case JOB_DO_NOT_CACHE:
		spec->do_not_cache = record_number(record, field);
		break;
	case JOB_LIMIT:
		spec->limit_ns = record_int(record, field);
		break;
	case JOB_WALL:
		spec->wall_ns = record_int(record, field);
		break;
	}
}

/* How far it is. */
static void record_job_state(struct record *record, const struct wire_field *field,
			     struct queue_saved_job *saved)
{
	switch (field->number) {
	case JOB_TURN:
		saved->turn = record_number(record, field);
		break;
	case JOB_TRIES:
		saved->n_tries = (unsigned int)record_number(record, field);
		break;
	case JOB_IS_COMPLETED:
		saved->is_completed = record_number(record, field);
		break;
	case JOB_SESSION:
		saved->session = record_number(record, field);
		break;
	case JOB_LEASE:
		saved->lease = record_string(record, field);
		break;
	case JOB_IS_RUNNING:
		saved->is_running = record_number(record, field);
		break;
	case JOB_STARTED:
		saved->started_wall_ns = record_int(record, field);
		break;
	case JOB_PARTIAL:
		saved->partial = record_bytes(record, field);
		break;
	}
}

bool queue_record_read_job(struct slice bytes, struct arena *arena,
			   struct queue_saved_job *out)
{
	struct record record = record_of(bytes, arena);
	struct queue_saved_job saved = {.spec.instance = "", .lease = ""};
	struct wire_field field;

	while (record_next(&record, &field)) {
		record_job_spec(&record, &field, &saved.spec);
		record_job_state(&record, &field, &saved);
	}
	saved.spec.required =
		record_properties(&record, bytes, JOB_REQUIRED, &saved.spec.n_required);
	if (!record_end(&record))
		return false;
	*out = saved;
	return true;
}

bool queue_record_read_operation(struct slice bytes, struct arena *arena,
				 struct queue_saved_operation *out)
{
	struct record record = record_of(bytes, arena);
	struct queue_saved_operation saved = {.name = "", .client = ""};
	struct wire_field field;

	while (record_next(&record, &field)) {
		switch (field.number) {
		case OPERATION_NAME:
			saved.name = record_string(&record, &field);
			break;
		case OPERATION_CLIENT:
			saved.client = record_string(&record, &field);
			break;
		case OPERATION_JOB:
			saved.job = record_number(&record, &field);
			break;
		case OPERATION_IS_DETACHED:
			saved.is_detached = record_number(&record, &field);
			break;
		case OPERATION_IS_CANCELLED:
			saved.is_cancelled = record_number(&record, &field);
			break;
		case OPERATION_COMPLETED:
			saved.completed_wall_ns = record_int(&record, &field);
			break;
		case OPERATION_REQUEST:
			saved.request = record_bytes(&record, &field);
			break;
		}
	}
	if (!record_end(&record))
		return false;
	*out = saved;
	return true;
}
