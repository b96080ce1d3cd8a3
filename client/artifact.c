/* Owns nothing but what one call makes; main thread, and the fetcher's pool calls back.
 */
#include "client/artifact.h"

#include <string.h>
#include <sys/param.h>

#include "client/result_outputs.h"
#include "lib/base/alloc.h"
#include "lib/base/sync.h"
#include "lib/base/text.h"
#include "lib/cas/treeload.h"
#include "lib/tree/dirset.h"
#include "lib/tree/hasher.h"
#include "lib/tree/treebuild.h"

#define ARTIFACT_URI "urn:x-lazyroot:artifact:"
#define ARTIFACT_PLAIN                                                                   \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"

#define ARTIFACT_TREES_MAX ((size_t)1 << 30) /* bytes of one artifact's Directories */
#define ARTIFACT_AT_ONCE   65536             /* blobs on their way … */
#define ARTIFACT_SLICE     8192 /* … of which so many are asked for in one go */

/* Names */

bool artifact_is_path(const char *text)
{
	return *text == '/' || strcmp(text, ".") == 0 || strcmp(text, "..") == 0 ||
	       strncmp(text, "./", 2) == 0 || strncmp(text, "../", 3) == 0;
}

struct error *artifact_check_name(const char *name)
{
	_cleanup_error_ struct error *no_digest = NULL;
	struct digest digest;

	if (!*name || strlen(name) > ARTIFACT_NAME_MAX)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "an artifact's name has 1 to %d bytes",
				 ARTIFACT_NAME_MAX);
	if (*name == '-' || artifact_is_path(name) || !text_is_plain(slice_of(name)))
		return error_new(ERROR_INVALID_ARGUMENT,
				 "\"%s\" is no name of an artifact: it begins with -, / "
				 "or ./, or is no plain text",
				 name);
	no_digest = digest_parse(name, &digest);
	if (no_digest)
		return NULL;
	return error_new(ERROR_INVALID_ARGUMENT,
			 "%s is a digest, and no name of an artifact", name);
}

char *artifact_uri(const char *name)
{
	struct buf uri = BUF_INIT;

	buf_add_string(&uri, ARTIFACT_URI);
	for (const char *at = name; *at; at++) {
		if (strchr(ARTIFACT_PLAIN, *at))
			buf_add_byte(&uri, (uint8_t)*at);
		else
			buf_printf(&uri, "%%%02X", (unsigned int)(uint8_t)*at);
	}
	return buf_steal_string(&uri);
}

/* Making one */

static struct error *artifact_load(void *ctx, const struct digest *digest,
				   struct tree_dir **dir_out)
{
	struct client *client = ctx;

	return dircache_get(client->dirs, digest, NULL, dir_out);
}

static struct error *artifact_emit(void *ctx, const struct digest *digest,
				   struct slice bytes)
{
	struct client *client = ctx;

	return store_put(client->local.store, digest, bytes.data, bytes.len);
}

struct artifact_build {
	struct client *client;
	const struct artifact_source *source;
	struct declared_places asked;
	struct treebuild *build;
};

/* Where an output lies in the artifact; what was not asked for is no part of it. */
static struct error *artifact_place(const struct artifact_build *make, const char *path,
				    char **place_out)
{
	_cleanup_free_ char *place = NULL;
	struct error *err;

	*place_out = NULL;
	if (!declared_places_have(&make->asked, path))
		return NULL;
	err = declared_place(&make->source->declared, path, &place);
	if (!err)
		*place_out =
			alloc_printf("outputs%s%s", place && *place ? "/" : "", place);
	return err;
}

static struct error *artifact_add_output(void *ctx, const struct result_output *output)
{
	const struct artifact_build *make = ctx;
	_cleanup_free_ char *place = NULL;
	struct error *err = artifact_place(make, output->path, &place);

	return err || !place
		       ? err
		       : result_outputs_put(make->client, make->build, place, output);
}

/* Bytes that we have, as a file of the artifact. */
static struct error *artifact_add_bytes(const struct artifact_build *make,
					const char *name, struct slice bytes)
{
	struct digest digest;
	struct error *err;

	hasher_digest(bytes.data, bytes.len, &digest);
	err = store_put(make->client->local.store, &digest, bytes.data, bytes.len);
	return err ? err : treebuild_put_file(make->build, name, &digest, false, NULL);
}

static struct error *artifact_add_text(const struct artifact_build *make,
				       const char *name, const ProtobufCBinaryData *raw,
				       const Reapi__Digest *wire)
{
	struct digest digest;
	struct error *err;

	if (raw->len)
		return artifact_add_bytes(make, name,
					  (struct slice){raw->data, raw->len});
	if (!wire)
		return NULL;
	err = digest_from_wire(wire, &digest);
	if (err || !digest.size)
		return err;
	return treebuild_put_file(make->build, name, &digest, false, NULL);
}

static struct error *artifact_add_all(struct artifact_build *make)
{
	const Reapi__ActionResult *result = make->source->result;
	_cleanup_buf_ struct buf encoded = BUF_INIT;
	struct error *err = treebuild_put_dir(make->build, "outputs", NULL);

	if (!err)
		err = result_outputs_each(result, artifact_add_output, make);
	rpc_encode(&result->base, &encoded);
	if (!err)
		err = artifact_add_text(make, "stdout", &result->stdout_raw,
					result->stdout_digest);
	if (!err)
		err = artifact_add_text(make, "stderr", &result->stderr_raw,
					result->stderr_digest);
	if (!err)
		err = artifact_add_bytes(make, "result", buf_slice(&encoded));
	if (!err)
		err = artifact_add_bytes(make, "action", make->source->action);
	return err ? err : artifact_add_bytes(make, "command", make->source->command);
}

struct error *artifact_make(struct client *client, const struct artifact_source *source,
			    struct digest *root_out)
{
	_cleanup_(treebuild_freep) struct treebuild *build =
		treebuild_new(artifact_load, client);
	struct artifact_build make = {.client = client, .source = source, .build = build};
	_cleanup_free_ struct digest *blobs = NULL;
	struct digest root;
	size_t n;
	struct error *err;

	declared_asked(&source->declared, &make.asked);
	err = artifact_add_all(&make);
	declared_places_deinit(&make.asked);
	if (!err)
		err = treebuild_finish(build, artifact_emit, client, &root);
	if (!err)
		err = artifact_blobs(client->dirs, &root, artifact_limits(client), &blobs,
				     &n, NULL);
	if (!err)
		err = artifact_bring(client->fetch, blobs, n);
	if (err)
		return error_wrap(err, "make an artifact of the result");
	*root_out = root;
	return NULL;
}

/* Finding one */

struct error *artifact_root(struct client *client, const char *name,
			    struct digest *root_out)
{
	_cleanup_(artifact_names_closep) struct artifact_names *names = NULL;
	struct artifact_name found;
	bool is_found = false;
	struct error *err = artifact_check_name(name);

	if (!err)
		err = artifact_names_open(&client->local, &names);
	if (!err)
		err = artifact_names_get(names, name, &found, &is_found);
	if (err)
		return err;
	if (!is_found)
		return error_new(ERROR_NOT_FOUND,
				 "there is no artifact \"%s\" here (lazyroot pull may "
				 "bring it, run --artifact makes one)",
				 name);
	*root_out = found.root;
	return NULL;
}

struct error *artifact_find(struct client *client, const char *name,
			    struct digest *tree_out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	const struct tree_node *node;
	struct digest root;
	struct error *err = artifact_root(client, name, &root);

	if (!err)
		err = client_open_fetch(client);
	if (!err)
		err = dircache_find_path(client->dirs, &root, "outputs", &dir, &node);
	if (!err && node->kind != TREE_DIR)
		err = error_new(ERROR_DATA_LOSS, "its outputs are no directory");
	if (err)
		return error_wrap(err, "artifact %s", name);
	*tree_out = node->digest;
	return NULL;
}

#define ARTIFACT_HASH_LIKE 40 /* characters: some hash, and hardly a name */

struct error *artifact_check_text(struct client *client, const char *text,
				  struct digest *digest_out, bool *is_digest_out)
{
	_cleanup_error_ struct error *no_digest = client_digest(text, digest_out);
	struct digest root;
	struct error *err;

	*is_digest_out = !no_digest;
	if (!no_digest)
		return NULL;
	err = artifact_root(client, text, &root);
	if (!err || (error_code(err) != ERROR_NOT_FOUND &&
		     error_code(err) != ERROR_INVALID_ARGUMENT))
		return err;
	error_free(err);
	if (strspn(text, "0123456789abcdef") >= ARTIFACT_HASH_LIKE) /* it was to be one */
		return take(no_digest);
	return error_new(ERROR_INVALID_ARGUMENT,
			 "\"%s\" is neither a digest (HASH/SIZE) nor an artifact here "
			 "(lazyroot artifacts lists those, pull brings them)%s",
			 text,
			 access(text, F_OK) == 0
				 ? "; a directory is named with ./ or / before it"
				 : "");
}

struct error *artifact_or_digest(struct client *client, const char *text,
				 struct digest *out)
{
	bool is_digest;
	struct error *err = artifact_check_text(client, text, out, &is_digest);

	return err || is_digest ? err : artifact_find(client, text, out);
}

/* Its blobs */

struct artifact_list {
	struct digest *blobs;
	size_t n, cap;
};

static void artifact_list_deinit(struct artifact_list *list)
{
	free(list->blobs);
}

static void artifact_list_add(struct artifact_list *list, const struct digest *digest)
{
	list->blobs =
		alloc_grow(list->blobs, &list->cap, list->n + 1, sizeof(*list->blobs));
	list->blobs[list->n++] = *digest;
}

static int artifact_list_order(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct digest));
}

/* Each once; by then there is no order to keep. A table of those that were met would
 * take several times the memory. */
static void artifact_list_sort(struct artifact_list *list)
{
	size_t n = 0;

	if (list->n)
		qsort(list->blobs, list->n, sizeof(*list->blobs), artifact_list_order);
	for (size_t i = 0; i < list->n; i++)
		if (!n || !digest_equal(&list->blobs[n - 1], &list->blobs[i]))
			list->blobs[n++] = list->blobs[i];
	list->n = n;
}

/* Directories, which are looked into in that order, and apart from them files. */
static struct error *artifact_list_walk(struct dircache *dirs, const struct digest *root,
					int64_t entries_max, struct dirset *seen,
					struct artifact_list *files)
{
	struct error *err = NULL;

	if (root->size)
		(void)dirset_add(seen, root, (struct slice){0});
	for (size_t at = 0; !err && at < seen->n; at++) {
		_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
		struct digest digest = dirset_item(seen, at).digest;

		err = dircache_get(dirs, &digest, NULL, &dir);
		for (size_t i = 0; !err && i < dir->n_nodes; i++) {
			const struct tree_node *node = &dir->nodes[i];

			if (node->kind == TREE_DIR && node->digest.size)
				(void)dirset_add(seen, &node->digest, (struct slice){0});
			if (node->kind == TREE_FILE && node->digest.size)
				artifact_list_add(files, &node->digest);
		}
		if (!err && seen->n + files->n > (uint64_t)entries_max)
			err = treeload_too_many(root, entries_max);
	}
	return err;
}

struct artifact_limits artifact_limits(const struct client *client)
{
	return (struct artifact_limits){.bytes = ARTIFACT_TREES_MAX,
					.entries = client->entries_max};
}

struct error *artifact_blobs(struct dircache *dirs, const struct digest *root,
			     struct artifact_limits limits, struct digest **blobs_out,
			     size_t *n_out, size_t *n_dirs_out)
{
	_cleanup_(artifact_list_deinit) struct artifact_list files = {0};
	_cleanup_(artifact_list_deinit) struct artifact_list all = {0};
	_cleanup_(dirset_deinit) struct dirset seen = {0};
	struct error *err = treeload_to_store(dirs, root, limits.bytes);

	if (!err)
		err = artifact_list_walk(dirs, root, limits.entries, &seen, &files);
	if (err)
		return err;
	artifact_list_sort(&files);
	for (size_t i = 0; i < seen.n; i++) {
		struct digest digest = dirset_item(&seen, i).digest;

		artifact_list_add(&all, &digest);
	}
	for (size_t i = 0; i < files.n; i++)
		if (!dirset_find(&seen, &files.blobs[i], &(struct slice){0}))
			artifact_list_add(&all, &files.blobs[i]);
	if (n_dirs_out)
		*n_dirs_out = seen.n;
	*n_out = all.n;
	*blobs_out = take(all.blobs);
	return NULL;
}

struct artifact_fetch {
	struct sync_mutex mutex;
	struct sync_cond cond;
	unsigned int n_coming SYNC_GUARDED_BY(&mutex);
	struct error *err SYNC_GUARDED_BY(&mutex); /* the first */
	bool is_vain SYNC_GUARDED_BY(&mutex); /* no blob will come, whichever it is */
};

static void artifact_fetched(void *ctx, struct error *err, int fd)
{
	struct artifact_fetch *all = ctx;

	cleanup_fd(&fd);
	sync_lock(&all->mutex);
	all->is_vain = all->is_vain || (err && error_code(err) != ERROR_NOT_FOUND);
	if (!all->err)
		all->err = take(err);
	all->n_coming--;
	sync_signal(&all->cond);
	sync_unlock(&all->mutex);
	error_free(err);
}

static void artifact_await(struct artifact_fetch *all, unsigned int n)
	SYNC_REQUIRES(&all->mutex)
{
	while (all->n_coming > n)
		sync_wait(&all->cond, &all->mutex);
}

/* Room for n more. False: it is in vain. */
static bool artifact_enter(struct artifact_fetch *all, unsigned int n)
{
	bool goes_on;

	sync_lock(&all->mutex);
	artifact_await(all, ARTIFACT_AT_ONCE - n);
	goes_on = !all->is_vain;
	all->n_coming += goes_on ? n : 0;
	sync_unlock(&all->mutex);
	return goes_on;
}

struct error *artifact_bring(struct fetch *fetch, const struct digest *blobs, size_t n)
{
	struct artifact_fetch all = {.mutex = SYNC_MUTEX_INIT};
	struct error *err;

	sync_cond_init(&all.cond);
	for (size_t i = 0, step; i < n; i += step) {
		step = MIN(n - i, (size_t)ARTIFACT_SLICE);
		if (!artifact_enter(&all, (unsigned int)step))
			break;
		fetch_start_all(fetch, blobs + i, step, NULL, artifact_fetched, &all);
	}
	sync_lock(&all.mutex);
	artifact_await(&all, 0);
	err = take(all.err);
	sync_unlock(&all.mutex);
	sync_cond_deinit(&all.cond);
	sync_mutex_deinit(&all.mutex);
	return err;
}
