/*
 * lazyroot cat: the bytes of a blob, or of a file in a tree, on stdout.
 */
#include "client/subject.h"
#include "lib/base/file.h"

#define CAT_JSON_MAX ((size_t)64 << 20)

static struct error *cat_file(struct client *client, const char *text, const char *path,
			      struct digest *file_out)
{
	_cleanup_(tree_dir_unrefp) struct tree_dir *dir = NULL;
	const struct tree_node *node;
	struct digest root;
	struct error *err = subject_root(client, text, &root);

	if (!err)
		err = client_find(client, &root, path, &dir, &node);
	if (!err && (!node || node->kind != TREE_FILE))
		err = error_new(ERROR_INVALID_ARGUMENT, "%s is not a file",
				*path ? path : text);
	if (!err)
		*file_out = node->digest;
	return err;
}

static void cat_base64(struct slice bytes, struct buf *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		"0123456789+/";

	for (size_t at = 0; at < bytes.len; at += 3) {
		size_t n = bytes.len - at < 3 ? bytes.len - at : 3;
		uint32_t bits = (uint32_t)bytes.data[at] << 16;

		bits |= n > 1 ? (uint32_t)bytes.data[at + 1] << 8 : 0;
		bits |= n > 2 ? bytes.data[at + 2] : 0;
		for (size_t i = 0; i < 4; i++)
			buf_add_byte(out,
				     i <= n ? (uint8_t)digits[bits >> (18 - 6 * i) & 63]
					    : '=');
	}
}

/* The bytes as text where they are UTF-8, else in base64. */
static struct error *cat_json(const struct digest *digest, int fd)
{
	_cleanup_buf_ struct buf bytes = BUF_INIT;
	_cleanup_buf_ struct buf code = BUF_INIT;
	json_t *text;
	struct error *err = file_read_fd(fd, CAT_JSON_MAX, &bytes);

	if (err)
		return error_wrap(err, "as JSON");
	text = json_stringn(buf_string(&bytes), bytes.len); /* NULL: no UTF-8 */
	if (!text)
		cat_base64(buf_slice(&bytes), &code);
	client_print_json(json_pack("{s:o,s:o}", "digest", client_json_digest(digest),
				    text ? "text" : "base64",
				    text ? text : json_string(buf_string(&code))));
	return NULL;
}

/* A digest alone is that blob, whatever it is. */
static struct error *cat(struct client *client, const char *text, const char *path)
{
	_cleanup_fd_ int fd = -1;
	struct digest digest;
	_cleanup_error_ struct error *no_digest = client_digest(text, &digest);
	struct error *err = NULL;

	if (*path || no_digest)
		err = cat_file(client, text, path, &digest);
	if (!err)
		err = fetch_fd(client->fetch, &digest, NULL, &fd);
	if (!err)
		err = client->is_json ? cat_json(&digest, fd)
				      : client_written(STDOUT_FILENO,
						       file_copy(fd, STDOUT_FILENO));
	return err;
}

int cmd_cat(int argc, char **argv)
{
	_cleanup_(client_deinit) struct client client = CLIENT_INIT;
	const struct option_def defs[] = {CLIENT_OPTIONS(&client)};
	const struct option_program program = {
		.name = "lazyroot cat",
		.usage = "DIGEST|TREE PATH",
		.summary = "Prints a blob, or the file at PATH of a tree." SUBJECT_HELP,
		.defs = defs,
		.n_defs = ARRAY_SIZE(defs),
	};
	struct error *err;
	int at, code;

	if (!client_parse_operands(&program, argc, argv, 1, 2,
				   "name one DIGEST, or a TREE and a PATH in it", &at,
				   &code))
		return code;
	err = subject_check(&client, argv[at]);
	if (!err)
		err = client_open_fetch(&client);
	if (err)
		return client_fail_start("cat", err, CLIENT_FAILED);
	err = cat(&client, argv[at], argc - at == 2 ? argv[at + 1] : "");
	return client_fail("cat", err, CLIENT_FAILED);
}
