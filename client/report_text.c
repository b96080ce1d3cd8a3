/* Owns nothing; main thread. The report comes from our worker; others send none. */
#include "client/report_text.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "client/destination.h"
#include "client/retries.h"
#include "lib/base/alloc.h"
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/units.h"
#include "lib/rpc/any.h"
#include "lib/tree/hasher.h"

static const Lazyroot__ReadReport *report_text_find(
	const struct execution_outcome *outcome, struct arena *arena)
{
	const Reapi__ExecutedActionMetadata *metadata =
		outcome->response->result->execution_metadata;

	for (size_t i = 0; metadata && i < metadata->n_auxiliary_metadata; i++) {
		const ProtobufCMessage *report =
			rpc_any_message(metadata->auxiliary_metadata[i],
					&lazyroot__read_report__descriptor, arena);

		if (report)
			return (const Lazyroot__ReadReport *)report;
	}
	return NULL;
}

void report_text_each_note(const struct execution_outcome *outcome,
			   void (*fn)(void *ctx, const char *note), void *ctx)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)16 << 20);
	const Lazyroot__ReadReport *report = report_text_find(outcome, &arena);

	for (size_t i = 0; report && i < report->n_notes; i++)
		fn(ctx, report->notes[i]);
}

/* Parts of a message that peers may leave out. */
static const Lazyroot__ReadReport__Input report_no_input =
	LAZYROOT__READ_REPORT__INPUT__INIT;
static const Lazyroot__ReadReport__Fetched report_no_fetched =
	LAZYROOT__READ_REPORT__FETCHED__INIT;
static const Lazyroot__ReadReport__Times report_no_times =
	LAZYROOT__READ_REPORT__TIMES__INIT;
static const Lazyroot__ReadReport__Usage report_no_usage =
	LAZYROOT__READ_REPORT__USAGE__INIT;

static const Lazyroot__ReadReport__Count report_no_count =
	LAZYROOT__READ_REPORT__COUNT__INIT;

#define PART(report, name) ((report)->name ? (report)->name : &report_no_##name)

static json_t *report_text_slowest(const Lazyroot__ReadReport *report)
{
	json_t *slowest = json_array();

	for (size_t i = 0; i < report->n_slowest; i++) {
		const Lazyroot__ReadReport__SlowFile *slow = report->slowest[i];

		(void)json_array_append_new(
			slowest,
			json_pack("{s:s,s:I,s:f}", "path", slow->path, "bytes",
				  (json_int_t)slow->bytes, "ms",
				  client_ms((int64_t)slow->microseconds * 1000)));
	}
	return slowest;
}

static json_t *report_text_notes(const Lazyroot__ReadReport *report)
{
	json_t *notes = json_array();

	for (size_t i = 0; i < report->n_notes; i++)
		(void)json_array_append_new(notes, json_string(report->notes[i]));
	return notes;
}

static json_t *report_text_count(const Lazyroot__ReadReport__Count *count)
{
	count = count ? count : &report_no_count;
	return json_pack("{s:I,s:I}", "files", (json_int_t)count->files, "bytes",
			 (json_int_t)count->bytes);
}

/* By source; a name that comes twice counts once. */
static json_t *report_text_foresight(const Lazyroot__ReadReport__Foresight *foresight)
{
	json_t *json = json_pack("{s:o}", "missed", report_text_count(foresight->missed));

	for (size_t i = 0; i < foresight->n_sources; i++) {
		const Lazyroot__ReadReport__Foresight__Source *source =
			foresight->sources[i];

		(void)json_object_set_new(
			json, source->name,
			json_pack("{s:o,s:o,s:o}", "useful",
				  report_text_count(source->useful), "late",
				  report_text_count(source->late), "wasted",
				  report_text_count(source->wasted)));
	}
	return json;
}

static json_t *report_text_times(const struct report_text_config *config,
				 const Lazyroot__ReadReport__Times *times)
{
	return json_pack("{s:o,s:f,s:f,s:f,s:f,s:f}", "queued",
			 config->queued_ns >= 0 ? json_real(client_ms(config->queued_ns))
						: json_null(),
			 "staging", client_ms(times->staging * 1000), "command",
			 client_ms(times->command * 1000), "waiting_for_data",
			 client_ms(times->waiting_for_data * 1000), "capture",
			 client_ms(times->capture * 1000), "upload",
			 client_ms(times->upload * 1000));
}

static void report_text_add(json_t *json, const struct report_text_config *config,
			    const Lazyroot__ReadReport *report)
{
	const Lazyroot__ReadReport__Input *input = PART(report, input);
	const Lazyroot__ReadReport__Opened *opened = report->opened;
	const Lazyroot__ReadReport__Fetched *fetched = PART(report, fetched);
	const Lazyroot__ReadReport__Usage *usage = PART(report, usage);

	(void)json_object_set_new(
		json, "input",
		input->known
			? json_pack("{s:I,s:I,s:I}", "files", (json_int_t)input->files,
				    "directories", (json_int_t)input->directories,
				    "bytes", (json_int_t)input->bytes)
			: json_pack("{s:n,s:n,s:n}", "files", "directories", "bytes"));
	(void)json_object_set_new(json, "opened",
				  opened ? json_pack("{s:I,s:I}", "files",
						     (json_int_t)opened->files, "bytes",
						     (json_int_t)opened->bytes)
					 : json_null());
	(void)json_object_set_new(json, "fetched",
				  json_pack("{s:I,s:I,s:I}", "blobs",
					    (json_int_t)fetched->blobs, "bytes",
					    (json_int_t)fetched->bytes, "round_trips",
					    (json_int_t)fetched->round_trips));
	(void)json_object_set_new(json, "time_ms",
				  report_text_times(config, PART(report, times)));
	(void)json_object_set_new(
		json, "usage",
		json_pack("{s:I,s:f,s:f,s:I,s:I}", "peak_memory_bytes",
			  (json_int_t)usage->peak_memory_bytes, "cpu_user_ms",
			  client_ms(usage->cpu_user_us * 1000), "cpu_system_ms",
			  client_ms(usage->cpu_system_us * 1000), "read_bytes",
			  (json_int_t)usage->read_bytes, "written_bytes",
			  (json_int_t)usage->written_bytes));
	if (report->foresight)
		(void)json_object_set_new(json, "foresight",
					  report_text_foresight(report->foresight));
	(void)json_object_set_new(json, "slowest", report_text_slowest(report));
	(void)json_object_set_new(json, "notes", report_text_notes(report));
}

/* Outputs, for scripts */

static json_t *report_text_wire(const Reapi__Digest *wire)
{
	struct digest digest;
	struct error *err = digest_from_wire(wire, &digest);

	if (!err)
		return client_json_digest(&digest);
	error_free(err);
	return json_null();
}

static void report_text_output(json_t *outputs, const char *path, const char *type,
			       const char *key, json_t *value)
{
	(void)json_array_append_new(outputs, json_pack("{s:o,s:s,s:o}", "path",
						       client_json_bytes(slice_of(path)),
						       "type", type, key, value));
}

static json_t *report_text_outputs(const Reapi__ActionResult *result)
{
	json_t *outputs = json_array();

	for (size_t i = 0; i < result->n_output_files; i++) {
		const Reapi__OutputFile *file = result->output_files[i];

		report_text_output(outputs, file->path, "file", "digest",
				   report_text_wire(file->digest));
		(void)json_object_set_new(json_array_get(outputs, i), "executable",
					  json_boolean(file->is_executable));
	}
	for (size_t i = 0; i < result->n_output_directories; i++) {
		const Reapi__OutputDirectory *dir = result->output_directories[i];

		report_text_output(outputs, dir->path, "directory", "digest",
				   report_text_wire(dir->root_directory_digest
							    ? dir->root_directory_digest
							    : dir->tree_digest));
	}
	for (size_t i = 0; i < result->n_output_symlinks; i++)
		report_text_output(
			outputs, result->output_symlinks[i]->path, "symlink", "target",
			client_json_bytes(slice_of(result->output_symlinks[i]->target)));
	return outputs;
}

/* A log's digest, whichever way it came. */
static json_t *report_text_log(const ProtobufCBinaryData *raw, const Reapi__Digest *wire)
{
	struct digest digest;

	if (wire && !raw->len)
		return report_text_wire(wire);
	hasher_digest(raw->data, raw->len, &digest);
	return client_json_digest(&digest);
}

static void report_text_add_result(json_t *json, const struct report_text_config *config,
				   const Reapi__ActionResult *result)
{
	_cleanup_(declared_places_deinit) struct declared_places held;
	const struct declared *declared = &config->declared;
	json_t *missing = json_array();

	declared_held(declared, result, &held);
	(void)json_object_set_new(json, "outputs", report_text_outputs(result));
	(void)json_object_set_new(
		json, "stdout",
		report_text_log(&result->stdout_raw, result->stdout_digest));
	(void)json_object_set_new(
		json, "stderr",
		report_text_log(&result->stderr_raw, result->stderr_digest));
	for (size_t i = 0; declared->outputs && i < declared->outputs->n; i++) {
		const char *path = declared->outputs->items[i];

		if (!declared_places_have(&held, path))
			(void)json_array_append_new(missing,
						    client_json_bytes(slice_of(path)));
	}
	(void)json_object_set_new(json, "missing_outputs",
				  declared->outputs ? missing : json_null());
	if (!declared->outputs)
		json_decref(missing);
}

static json_t *report_text_json(const struct report_text_config *config,
				const struct execution_outcome *outcome, int exit_code)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)16 << 20);
	const Lazyroot__ReadReport *report = report_text_find(outcome, &arena);
	const Reapi__ExecutedActionMetadata *metadata =
		outcome->response->result->execution_metadata;
	json_t *json = json_pack("{s:i,s:b}", "exit_code", exit_code, "cached",
				 outcome->response->cached_result);

	(void)json_object_set_new(
		json, "action",
		client_json_digest(config->action ? config->action : &outcome->action));
	(void)json_object_set_new(json, "operation",
				  outcome->operation ? json_string(outcome->operation)
						     : json_null());
	(void)json_object_set_new(json, "retries",
				  json_integer((json_int_t)retries_count()));
	(void)json_object_set_new(json, "worker",
				  metadata && *metadata->worker
					  ? json_string(metadata->worker)
					  : json_null());
	(void)json_object_set_new(json, "wall_ms", json_real(client_ms(config->wall_ns)));
	report_text_add_result(json, config, outcome->response->result);
	if (report)
		report_text_add(json, config, report);
	return json;
}

/* "opened 412 of 25,151 files · fetched 14.2 MB of 1.5 GB · waited 35 ms for data" */
static void report_text_reads(const Lazyroot__ReadReport *report, struct buf *line)
{
	const Lazyroot__ReadReport__Input *input = PART(report, input);
	char text[UNITS_TEXT_MAX];

	buf_printf(line, " · staged in %s",
		   units_format_duration(PART(report, times)->staging * 1000, text));
	if (report->opened)
		buf_printf(line, " · opened %s",
			   units_format_count(report->opened->files, text));
	if (report->opened && input->known)
		buf_printf(line, " of %s", units_format_count(input->files, text));
	if (report->opened)
		buf_add_string(line, " files");
	buf_printf(line, " · fetched %s",
		   units_format_size(PART(report, fetched)->bytes, text));
	/* the tree's own description is fetched, too, and may be more than its files */
	if (input->known && PART(report, fetched)->bytes > input->bytes)
		buf_printf(line, ", mostly names, for %s of files",
			   units_format_size(input->bytes, text));
	else if (input->known)
		buf_printf(line, " of %s", units_format_size(input->bytes, text));
	buf_printf(line, " · waited %s for data",
		   units_format_duration(PART(report, times)->waiting_for_data * 1000,
					 text));
}

static void report_text_line(const struct report_text_config *config,
			     const struct execution_outcome *outcome, int exit_code)
{
	_cleanup_arena_ struct arena arena = ARENA_INIT((size_t)16 << 20);
	const Lazyroot__ReadReport *report = report_text_find(outcome, &arena);
	_cleanup_buf_ struct buf line = BUF_INIT;
	struct say_few notes = {0};
	char text[UNITS_TEXT_MAX];

	buf_printf(&line, "exit %d in %s", exit_code,
		   units_format_duration(config->wall_ns, text));
	if (outcome->response->cached_result)
		buf_add_string(&line, " · from the cache");
	else if (report)
		report_text_reads(report, &line);
	if (retries_count() == 1)
		buf_add_string(&line, " · tried again once");
	else if (retries_count())
		buf_printf(&line, " · tried again %s times",
			   units_format_count((int64_t)retries_count(), text));
	say("%s", buf_string(&line));
	for (size_t i = 0; report && i < report->n_notes; i++)
		if (say_few(&notes))
			say_escaped("note", report->notes[i]);
	say_rest(&notes, "notes");
}

bool report_text_is_on_stdout(const struct report_text_config *config)
{
	return config->file && strcmp(config->file, "-") == 0;
}

static struct error *report_text_write(const char *path, const json_t *json)
{
	_cleanup_free_ char *text = json_dumps(json, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	_cleanup_fd_ int fd = -1;
	struct error *err = destination_open_stream(path, &fd);

	if (!err && fd >= 0)
		return file_write_all(fd, text, strlen(text));
	return err ? err : file_replace(AT_FDCWD, path, text, strlen(text), 0644);
}

struct error *report_text_deliver(const struct report_text_config *config,
				  const struct execution_outcome *outcome, int exit_code)
{
	bool is_stdout = config->client->is_json || report_text_is_on_stdout(config);
	struct error *err = NULL;
	json_t *json;

	if (!config->client->is_quiet)
		report_text_line(config, outcome, exit_code);
	if (!config->file && !config->client->is_json)
		return NULL;
	json = report_text_json(config, outcome, exit_code);
	if (config->file && !report_text_is_on_stdout(config))
		err = report_text_write(config->file, json);
	if (is_stdout && !err)
		client_print_json(json_incref(json));
	json_decref(json);
	return error_wrap(err, "--report");
}
