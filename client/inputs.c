/*
 * Owns the imports and the Directories that merging made. A single directory at the root
 * is its import as it is; anything else goes through treebuild. Main thread.
 */
#include "client/inputs.h"

#include <string.h>

#include "client/artifact.h"
#include "client/subject.h"
#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/cas/upload.h"
#include "lib/tree/dirset.h"
#include "lib/tree/treebuild.h"

#define LOG_MODULE "client"
#include "lib/base/log.h"

struct inputs {
	struct client *client;
	const struct tree_upload_changes *changes;
	struct import **imports;
	size_t n_imports;
	struct dirset made;   /* Directories made by merging */
	struct digest *known; /* roots of --input-digest */
	size_t n_known;
	bool was_sent; /* at least once */
	struct digest root;
};

void *inputs_free(struct inputs *inputs)
{
	if (!inputs)
		return NULL;
	for (size_t i = 0; i < inputs->n_imports; i++)
		import_free(inputs->imports[i]);
	dirset_deinit(&inputs->made);
	free(inputs->known);
	free(inputs->imports);
	free(inputs);
	return NULL;
}

const struct digest *inputs_root(const struct inputs *inputs)
{
	return &inputs->root;
}

bool inputs_have_mtimes(const struct inputs *inputs)
{
	return inputs->n_imports && import_has_mtimes(inputs->imports[0]);
}

static struct error *inputs_emit(void *ctx, const struct digest *digest,
				 struct slice bytes)
{
	struct inputs *inputs = ctx;

	(void)dirset_add_copy(&inputs->made, digest, bytes);
	return NULL;
}

/* A Directory from one of the imports, or from the service. */
static struct error *inputs_load(void *ctx, const struct digest *digest,
				 struct tree_dir **dir_out)
{
	struct inputs *inputs = ctx;
	struct error *err;

	for (size_t i = 0; i < inputs->n_imports; i++) {
		err = import_load(inputs->imports[i], digest, dir_out);
		if (error_code(err) != ERROR_NOT_FOUND)
			return err;
		error_free(err);
	}
	err = client_open_fetch(inputs->client);
	return err ? err : dircache_get(inputs->client->dirs, digest, NULL, dir_out);
}

/* Splits "WHAT=AT" at the last "=" (in a copy); AT is relative, "" is the root. */
static struct error *inputs_split(const char *text, char **what_out, char **at_out)
{
	_cleanup_free_ char *copy = alloc_string(text);
	char *equals = strrchr(copy, '=');
	const char *at = "";
	struct error *err;

	if (equals && access(copy, F_OK) < 0) { /* a directory may have "=" in its name */
		*equals = '\0';
		at = equals + 1;
		at += strspn(at, "/");
	}
	err = file_path_clean(at, at_out);
	if (err)
		return error_wrap(err, "the place in the input root");
	*what_out = take(copy);
	return NULL;
}

static struct error *inputs_put_import(struct treebuild *build,
				       const struct import *import, const char *what,
				       const char *at)
{
	const char *slash = strrchr(what, '/');

	if (import_kind(import) == TREE_DIR)
		return treebuild_put_tree(build, at, import_digest(import));
	/* a file, too, may be an input: at its own name, or where it is asked for */
	return treebuild_put_file(build,
				  *at     ? at
				  : slash ? slash + 1
					  : what,
				  import_digest(import), import_is_executable(import),
				  import_props(import));
}

static struct error *inputs_add_dir(struct inputs *inputs, struct treebuild *build,
				    const char *text)
{
	_cleanup_free_ char *what = NULL;
	_cleanup_free_ char *at = NULL;
	struct import **import = &inputs->imports[inputs->n_imports];
	struct error *err;

	err = inputs_split(text, &what, &at);
	if (!err)
		err = tree_upload_import(inputs->client, what, inputs->changes, import);
	if (err)
		return error_wrap(err, "--input");
	inputs->n_imports++;
	return error_wrap(inputs_put_import(build, *import, what, at), "--input %s",
			  text);
}

static struct error *inputs_add_digest(struct inputs *inputs, struct treebuild *build,
				       const char *text)
{
	_cleanup_free_ char *what = NULL;
	struct digest root;
	_cleanup_free_ char *at = NULL;
	struct error *err;

	err = inputs_split(text, &what, &at);
	if (!err)
		err = client_open_fetch(inputs->client);
	if (!err)
		err = subject_root(inputs->client, what, &root);
	if (!err)
		err = treebuild_put_tree(build, at, &root);
	if (!err)
		inputs->known[inputs->n_known++] = root;
	return error_wrap(err, "--input-digest %s", text);
}

struct error *inputs_check(struct client *client, const struct option_list *dirs,
			   const struct option_list *digests)
{
	struct error *err = NULL;

	for (size_t i = 0; i < dirs->n && !err; i++) {
		_cleanup_free_ char *what = NULL;
		_cleanup_free_ char *at = NULL;

		err = error_wrap(inputs_split(dirs->items[i], &what, &at), "--input");
	}
	for (size_t i = 0; i < digests->n && !err; i++) {
		_cleanup_free_ char *what = NULL;
		_cleanup_free_ char *at = NULL;

		err = inputs_split(digests->items[i], &what, &at);
		if (!err)
			err = subject_check(client, what);
		err = error_wrap(err, "--input-digest");
	}
	return err;
}

static struct error *inputs_build_once(struct client *client,
				       const struct option_list *dirs,
				       const struct option_list *digests,
				       const struct tree_upload_changes *changes,
				       struct inputs **out)
{
	_cleanup_(inputs_freep) struct inputs *inputs = alloc_new(struct inputs);
	_cleanup_(treebuild_freep) struct treebuild *build = NULL;
	struct error *err = NULL;

	inputs->client = client;
	inputs->changes = changes;
	inputs->imports = alloc_array(dirs->n, sizeof(*inputs->imports));
	inputs->known = alloc_array(digests->n, sizeof(*inputs->known));
	build = treebuild_new(inputs_load, inputs);
	for (size_t i = 0; !err && i < dirs->n; i++)
		err = inputs_add_dir(inputs, build, dirs->items[i]);
	for (size_t i = 0; !err && i < digests->n; i++)
		err = inputs_add_digest(inputs, build, digests->items[i]);
	if (!err)
		err = treebuild_finish(build, inputs_emit, inputs, &inputs->root);
	if (err)
		return err;
	*out = take(inputs);
	return NULL;
}

/* Times are compared within the whole root: where one input has them, all have. */
static bool inputs_lack_mtimes(const struct inputs *inputs)
{
	size_t n = 0;

	for (size_t i = 0; i < inputs->n_imports; i++)
		n += import_has_mtimes(inputs->imports[i]);
	return n && n < inputs->n_imports;
}

struct error *inputs_build(struct client *client, const struct option_list *dirs,
			   const struct option_list *digests,
			   struct tree_upload_changes *changes, struct inputs **out)
{
	_cleanup_(inputs_freep) struct inputs *inputs = NULL;
	struct error *err = inputs_build_once(client, dirs, digests, changes, &inputs);

	if (!err && inputs_lack_mtimes(inputs)) {
		changes->with_mtimes = true;
		inputs = inputs_free(inputs);
		err = inputs_build_once(client, dirs, digests, changes, &inputs);
	}
	if (err)
		return err;
	*out = take(inputs);
	return NULL;
}

struct error *inputs_send_known(struct client *client, const struct digest *root)
{
	const struct upload_config config = {
		.remote = client->remote, .store = client->local.store, .dir_fd = -1};
	_cleanup_free_ struct blob_source *items = NULL;
	_cleanup_free_ struct digest *blobs = NULL;
	_cleanup_free_ bool *is_missing = NULL;
	size_t n = 0, n_items = 0;
	struct error *err = artifact_blobs(client->dirs, root, artifact_limits(client),
					   &blobs, &n, NULL);

	if (err)
		return err;
	is_missing = alloc_array(n, sizeof(bool));
	items = alloc_array(n, sizeof(*items));
	err = remote_find_missing(client->remote, blobs, n, is_missing);
	for (size_t i = 0; !err && i < n; i++)
		if (is_missing[i])
			items[n_items++] = (struct blob_source){.digest = blobs[i],
								.from = BLOB_STORE};
	return err || !n_items ? err : upload_run(&config, items, n_items, NULL);
}

struct error *inputs_upload(struct client *client, struct inputs *inputs,
			    const struct blob_source *more, size_t n_more,
			    struct tree_upload_changes *changes)
{
	size_t n = inputs->made.n + n_more;
	_cleanup_free_ struct blob_source *items = alloc_array(n, sizeof(*items));
	struct error *err = NULL;

	/*
	 * Known trees are taken to be where they are asked for: a tree that an earlier
	 * run left there costs nothing to use again. Where the service says that
	 * something is missing, it may be here (a pulled artifact, what a local run
	 * made), and goes there.
	 */
	for (size_t i = 0; inputs->was_sent && !err && i < inputs->n_known; i++)
		err = inputs_send_known(client, &inputs->known[i]);
	inputs->was_sent = true;
	for (size_t i = 0; i < inputs->made.n; i++)
		items[i] = dirset_item(&inputs->made, i);
	for (size_t i = 0; i < n_more; i++)
		items[inputs->made.n + i] = more[i];
	/* the first import carries the rest along: one FindMissing in the common case */
	for (size_t i = 1; !err && i < inputs->n_imports; i++)
		err = tree_upload_upload(client, inputs->imports[i], NULL, 0, changes,
					 NULL);
	if (err)
		return err;
	return tree_upload_upload(client, inputs->n_imports ? inputs->imports[0] : NULL,
				  items, n, changes, NULL);
}

/* All that they are made of; of known trees, the roots. */
static struct store_pinned *inputs_list(const struct inputs *inputs,
					const struct blob_source *more, size_t n_more,
					size_t *n_out)
{
	size_t max = inputs->made.n + inputs->n_known + n_more, n = 0;
	struct store_pinned *list = alloc_array(max, sizeof(*list));

	for (size_t i = 0; i < inputs->made.n; i++)
		list[n++].digest = dirset_item(&inputs->made, i).digest;
	for (size_t i = 0; i < inputs->n_known; i++)
		list[n++] = (struct store_pinned){inputs->known[i], true};
	for (size_t i = 0; i < n_more; i++)
		list[n++].digest = more[i].digest;
	for (size_t i = 0; i < inputs->n_imports; i++) {
		size_t n_items;
		const struct blob_source *items =
			import_items(inputs->imports[i], &n_items);

		list = alloc_resize(list, n + n_items, sizeof(*list));
		for (size_t k = 0; k < n_items; k++)
			list[n++] = (struct store_pinned){items[k].digest, false};
	}
	*n_out = n;
	return list;
}

static void inputs_pin(struct client *client, const struct inputs *inputs,
		       const struct blob_source *more, size_t n_more,
		       struct store_pin **pin)
{
	struct store_pin *before = take(*pin);
	size_t n;
	_cleanup_free_ struct store_pinned *list = inputs_list(inputs, more, n_more, &n);

	log_drop(LOG_WARN, store_pin_new(client->local.store, list, n, pin),
		 "inputs may go from the local store before they are read");
	store_pin_free(before);
}

struct error *inputs_store(struct client *client, const struct inputs *inputs,
			   const struct blob_source *more, size_t n_more,
			   struct tree_upload_changes *changes, struct store_pin **pin)
{
	struct error *err = local_open_store(&client->local);

	if (!err)
		inputs_pin(client, inputs, more, n_more, pin);
	for (size_t i = 0; !err && i < inputs->n_imports; i++)
		err = tree_upload_store(client, inputs->imports[i], NULL, 0, changes,
					NULL);
	for (size_t i = 0; !err && i < inputs->made.n; i++) {
		const struct blob_source item = dirset_item(&inputs->made, i);

		err = tree_upload_store(client, NULL, &item, 1, changes, NULL);
	}
	return err ? err : tree_upload_store(client, NULL, more, n_more, changes, NULL);
}
