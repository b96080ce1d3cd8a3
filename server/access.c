/*
 * Owns the grants. They are parsed once and stay; only the hash of a token changes when
 * its file does, under the lock. Of tokens nothing but SHA-256 is kept, and two of those
 * are compared without an early end, so that time tells nothing about them.
 *
 * A token has no white space inside, so a file may hold several.
 *
 * A call asks two or three times, each a walk over the grants: a handful of comparisons,
 * and one hash where the call brings a token.
 */
#define LOG_MODULE "access"

#include "server/access.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/alloc.h"
#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/sync.h"
#include "lib/tree/hasher.h"

#define ACCESS_TOKENS_SIZE (1 << 20) /* of a file of tokens */
#define ACCESS_TOKENS_MAX  64        /* in it */
#define ACCESS_GRANTS_MAX  10000
#define ACCESS_TEXT_MAX    256 /* a list of rights in words */
#define ACCESS_NAME_MAX    512 /* of a caller, in a refusal */

enum access_who {
	ACCESS_ANYONE,
	ACCESS_LOCAL,
	ACCESS_CN,
	ACCESS_SUBJECT,
	ACCESS_SAN,
	ACCESS_TOKEN,
};

struct access_grant {
	enum access_who who;
	char *name;     /* of the certificate, or the token's file; else NULL */
	char *instance; /* NULL: all of them */
	unsigned int rights;
	struct file_stamp stamp; /* of the token's file; the ticking thread's */
	struct digest *tokens;   /* of its lines; guarded by mutex, as is n_tokens */
	size_t n_tokens;
};

struct access {
	struct access_grant *grants;
	size_t n;
	bool has_tokens;         /* some grant is by token */
	struct sync_mutex mutex; /* a leaf */
};

static const struct {
	const char *prefix;
	enum access_who who;
} access_prefixes[] = {
	{"cn:", ACCESS_CN},
	{"subject:", ACCESS_SUBJECT},
	{"san:", ACCESS_SAN},
	{"token:", ACCESS_TOKEN},
};

static const char *const access_words[] = {
	"cas-read", "cas-write", "ac-read", "ac-write", "execute", "worker", "operate",
};

/* ---- reading grants ------------------------------------------------------------- */

static struct error *access_parse_rights(const char *text, size_t len, unsigned int *out)
{
	const char *end = text + len;

	*out = 0;
	for (const char *at = text; at <= end;) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		size_t n = (size_t)((comma ? comma : end) - at);
		struct slice word = {(const uint8_t *)at, n};
		unsigned int right = slice_is(word, "all") ? ACCESS_ALL : 0;

		for (size_t i = 0; i < ARRAY_SIZE(access_words); i++) {
			if (slice_is(word, access_words[i]))
				right = 1u << i;
		}
		if (right == 0)
			return error_new(
				ERROR_INVALID_ARGUMENT,
				"\"%.*s\" is no right: cas-read, cas-write, ac-read, "
				"ac-write, execute, worker, operate or all",
				(int)n, at);
		*out |= right;
		at += n + 1;
	}
	return NULL;
}

static struct error *access_parse_who(const char *text, size_t len,
				      struct access_grant *grant)
{
	struct slice word = {(const uint8_t *)text, len};

	if (slice_is(word, "anyone") || slice_is(word, "local")) {
		grant->who = text[0] == 'a' ? ACCESS_ANYONE : ACCESS_LOCAL;
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(access_prefixes); i++) {
		size_t n = strlen(access_prefixes[i].prefix);

		if (len <= n || memcmp(text, access_prefixes[i].prefix, n) != 0)
			continue;
		grant->who = access_prefixes[i].who;
		grant->name = alloc_printf("%.*s", (int)(len - n), text + n);
		return NULL;
	}
	return error_new(ERROR_INVALID_ARGUMENT,
			 "\"%.*s\" names nobody: anyone, local, cn:NAME, subject:NAME, "
			 "san:NAME or token:FILE",
			 (int)len, text);
}

static struct error *access_check_instance(const struct access_grant *grant,
					   const struct option_list *instances)
{
	for (size_t i = 0; i < instances->n; i++) {
		if (!grant->instance || strcmp(instances->items[i], grant->instance) == 0)
			return NULL;
	}
	return error_new(ERROR_INVALID_ARGUMENT, "instance \"%s\" is not offered",
			 grant->instance);
}

static void access_take_tokens(struct access *access, struct access_grant *grant,
			       struct digest *tokens, size_t n)
{
	sync_lock(&access->mutex);
	free(grant->tokens);
	grant->tokens = tokens;
	grant->n_tokens = n;
	sync_unlock(&access->mutex);
}

/* A token a line: while one is replaced, the old and the new. A file without any is
 * refused at start; later it is how the last one is taken back. */
static struct error *access_read_tokens(struct access *access, struct access_grant *grant,
					bool is_start)
{
	_cleanup_free_ struct digest *tokens = NULL;
	_cleanup_buf_ struct buf text = BUF_INIT;
	size_t n = 0;
	struct error *err;

	err = file_read_all(AT_FDCWD, grant->name, ACCESS_TOKENS_SIZE, &text);
	if (error_code(err) == ERROR_NOT_FOUND)
		err = error_recode(err, ERROR_INVALID_ARGUMENT);
	if (err)
		return error_wrap(err, "tokens %s", grant->name);
	tokens = alloc_array(ACCESS_TOKENS_MAX, sizeof(*tokens));
	for (const char *at = buf_string(&text); *at;) {
		size_t len = strcspn(at, " \t\r\n");

		if (len > 0 && n == ACCESS_TOKENS_MAX)
			return error_new(ERROR_INVALID_ARGUMENT,
					 "tokens %s are more than %d", grant->name,
					 ACCESS_TOKENS_MAX);
		if (len > 0)
			hasher_digest(at, len, &tokens[n++]);
		at += len + strspn(at + len, " \t\r\n");
	}
	if (n == 0 && is_start)
		return error_new(ERROR_INVALID_ARGUMENT, "tokens %s: the file is empty",
				 grant->name);
	access_take_tokens(access, grant, take(tokens), n);
	return NULL;
}

static struct error *access_parse(struct access *access, const char *text,
				  const struct option_list *instances,
				  struct access_grant *grant)
{
	const char *equals = strrchr(text, '=');
	const char *at = equals ? strchr(equals, '@') : NULL;
	const char *end = at ? at : text + strlen(text);
	struct error *err;

	if (!equals)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "it is not WHO=RIGHT[,RIGHT...][@INSTANCE]");
	err = access_parse_who(text, (size_t)(equals - text), grant);
	if (!err)
		err = access_parse_rights(equals + 1, (size_t)(end - equals - 1),
					  &grant->rights);
	if (!err && at) {
		grant->instance = alloc_string(at + 1);
		err = access_check_instance(grant, instances);
	}
	if (!err && grant->who == ACCESS_TOKEN) {
		access->has_tokens = true;
		(void)file_stamp_update(&grant->stamp, grant->name);
		err = access_read_tokens(access, grant, true);
	}
	return err;
}

/* ---- where it may listen -------------------------------------------------------- */

static struct error *access_check_address(const struct access_config *config,
					  const char *text)
{
	_cleanup_(rpc_address_deinit) struct rpc_address address = {0};
	struct error *err = rpc_address_parse(text, &address);

	if (err)
		return error_wrap(err, "--listen");
	if (!address.is_tls && !address.is_unix && config->has_tls_files)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--listen %s is not encrypted, so TLS options have no "
				 "meaning there: write grpcs://",
				 text);
	if (rpc_address_is_local(&address) || config->is_insecure)
		return NULL;
	if (!address.is_tls)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--listen %s is open to other machines: that takes "
				 "grpcs:// and a --grant, or --insecure",
				 text);
	if (config->grants->n == 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--listen %s is open to other machines, but no --grant "
				 "says who may do what (or --insecure: everybody)",
				 text);
	return NULL;
}

static struct error *access_check_config(const struct access_config *config)
{
	struct error *err = NULL;

	for (size_t i = 0; i < config->listen->n && !err; i++)
		err = access_check_address(config, config->listen->items[i]);
	if (err)
		return err;
	if (config->has_client_ca && config->grants->n == 0)
		return error_new(ERROR_INVALID_ARGUMENT,
				 "--tls-client-ca asks clients who they are, but no "
				 "--grant says what they may do");
	if (config->grants->n > ACCESS_GRANTS_MAX)
		return error_new(ERROR_INVALID_ARGUMENT, "%zu grants are too many",
				 config->grants->n);
	return NULL;
}

/* Without a grant: all but writing the results of actions, which others would trust. */
static void access_add_default(struct access *access, bool is_insecure)
{
	access->grants = alloc_array(1, sizeof(*access->grants));
	access->grants[access->n++] = (struct access_grant){
		.who = is_insecure ? ACCESS_ANYONE : ACCESS_LOCAL,
		.rights = ACCESS_ALL & ~ACCESS_AC_WRITE,
	};
	if (is_insecure)
		log_warn("everybody who reaches this server may read, store and execute "
			 "here, and be a worker: --insecure, and no --grant");
	else
		log_info("only this machine is served: its processes may read, store and "
			 "execute, and be workers; --grant lets others in");
}

struct error *access_new(const struct access_config *config, struct access **access_out)
{
	_cleanup_(access_freep) struct access *access = NULL;
	struct error *err = access_check_config(config);

	if (err)
		return err;
	access = alloc_new(struct access);
	sync_mutex_init(&access->mutex);
	if (config->grants->n == 0)
		access_add_default(access, config->is_insecure);
	else
		access->grants = alloc_array(config->grants->n, sizeof(*access->grants));
	for (size_t i = 0; i < config->grants->n; i++) {
		err = access_parse(access, config->grants->items[i], config->instances,
				   &access->grants[access->n++]);
		if (err)
			return error_wrap(err, "--grant %s", config->grants->items[i]);
	}
	*access_out = take(access);
	return NULL;
}

void *access_free(struct access *access)
{
	if (!access)
		return NULL;
	for (size_t i = 0; i < access->n; i++) {
		free(access->grants[i].name);
		free(access->grants[i].instance);
		free(access->grants[i].tokens);
	}
	free(access->grants);
	sync_mutex_deinit(&access->mutex);
	free(access);
	return NULL;
}

static bool access_is_gone(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 && errno == ENOENT;
}

/* Who takes the file away takes its tokens back; one that cannot be read says nothing. */
static void access_look_again(struct access *access, struct access_grant *grant)
{
	struct error *err;

	if (access_is_gone(grant->name)) {
		if (grant->n_tokens)
			log_warn("tokens %s are gone: nobody has one now", grant->name);
		access_take_tokens(access, grant, NULL, 0);
		grant->stamp = (struct file_stamp){0};
		return;
	}
	if (!file_stamp_update(&grant->stamp, grant->name))
		return;
	err = access_read_tokens(access, grant, false);
	if (err)
		log_drop(LOG_WARN, err, "the tokens stay as they were");
	else if (!grant->n_tokens)
		log_warn("tokens %s: the file is empty: nobody has one now", grant->name);
	else
		log_info("tokens %s were read again", grant->name);
}

void access_tick(struct access *access)
{
	for (size_t i = 0; i < access->n; i++) {
		if (access->grants[i].who == ACCESS_TOKEN)
			access_look_again(access, &access->grants[i]);
	}
}

/* ---- asking --------------------------------------------------------------------- */

static bool access_same_digest(const struct digest *a, const struct digest *b)
{
	volatile unsigned int difference = 0;

	for (size_t i = 0; i < sizeof(a->hash); i++)
		difference |= (unsigned int)(a->hash[i] ^ b->hash[i]);
	return difference == 0;
}

/* A call's peer as grants compare it: its token hashed, once. */
struct access_peer {
	struct rpc_in *in;
	const struct rpc_caller *peer;
	bool has_token; /* it gave one */
	bool is_hashed;
	struct digest token;
};

static struct access_peer access_peer_of(const struct access *access, struct rpc_in *in)
{
	struct access_peer who = {.in = in, .peer = rpc_caller(in)};

	who.has_token = who.peer->token.len > 0;
	who.is_hashed = who.has_token && access->has_tokens;
	if (who.is_hashed)
		hasher_digest(who.peer->token.data, who.peer->token.len, &who.token);
	return who;
}

static bool access_is_name(void *name, struct slice san)
{
	return slice_is(san, name);
}

static bool access_is_token(struct access *access, const struct access_grant *grant,
			    const struct access_peer *who)
{
	bool is_one = false;

	if (!who->is_hashed)
		return false;
	sync_lock(&access->mutex);
	for (size_t i = 0; i < grant->n_tokens; i++)
		is_one |= access_same_digest(&grant->tokens[i], &who->token);
	sync_unlock(&access->mutex);
	return is_one;
}

static bool access_is(struct access *access, const struct access_grant *grant,
		      const struct access_peer *who)
{
	const struct rpc_caller *peer = who->peer;

	switch (grant->who) {
	case ACCESS_ANYONE:
		return true;
	case ACCESS_LOCAL:
		return peer->is_local;
	case ACCESS_CN:
		return peer->has_certificate && slice_is(peer->cn, grant->name);
	case ACCESS_SUBJECT:
		return peer->has_certificate && slice_is(peer->subject, grant->name);
	case ACCESS_SAN:
		return peer->has_certificate &&
		       rpc_caller_each_san(who->in, access_is_name, grant->name);
	case ACCESS_TOKEN:
		return access_is_token(access, grant, who);
	}
	return false;
}

bool access_has_other_than_certificates(const struct access *access)
{
	for (size_t i = 0; i < access->n; i++) {
		enum access_who who = access->grants[i].who;

		if (who == ACCESS_ANYONE || who == ACCESS_LOCAL || who == ACCESS_TOKEN)
			return true;
	}
	return false;
}

static unsigned int access_rights_of(struct access *access, const struct access_peer *who,
				     const char *instance)
{
	unsigned int rights = 0;

	for (size_t i = 0; i < access->n; i++) {
		const struct access_grant *grant = &access->grants[i];

		if (instance && grant->instance && strcmp(grant->instance, instance) != 0)
			continue;
		if ((rights & grant->rights) != grant->rights &&
		    access_is(access, grant, who))
			rights |= grant->rights;
	}
	return rights;
}

unsigned int access_rights(struct access *access, struct rpc_in *in, const char *instance)
{
	const struct access_peer who = access_peer_of(access, in);

	return access_rights_of(access, &who, instance);
}

/* The grant of a token that this call brings, or NULL. */
static const struct access_grant *access_token_grant(struct access *access,
						     const struct access_peer *who)
{
	for (size_t i = 0; i < access->n; i++) {
		const struct access_grant *grant = &access->grants[i];

		if (grant->who == ACCESS_TOKEN && access_is_token(access, grant, who))
			return grant;
	}
	return NULL;
}

/* As a grant would write it; false: it did not say who it is. */
static bool access_name(struct access *access, const struct access_peer *who, char *name,
			size_t size)
{
	const struct rpc_caller *peer = who->peer;
	const struct access_grant *grant = access_token_grant(access, who);

	if (peer->has_certificate && peer->cn.len > 0)
		(void)snprintf(name, size, "cn:%.*s", (int)peer->cn.len,
			       (const char *)peer->cn.data);
	else if (peer->has_certificate)
		(void)snprintf(name, size, "subject:%.*s", (int)peer->subject.len,
			       (const char *)peer->subject.data);
	else if (grant)
		(void)snprintf(name, size, "token:%s", grant->name);
	else if (peer->is_local && !who->has_token)
		(void)snprintf(name, size, "local");
	else
		return false;
	return true;
}

static void access_list(unsigned int rights, char text[static ACCESS_TEXT_MAX])
{
	size_t len = 0;

	text[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(access_words); i++) {
		if (rights & (1u << i))
			len += (size_t)snprintf(text + len, ACCESS_TEXT_MAX - len, "%s%s",
						len ? " or " : "", access_words[i]);
	}
}

static struct error *access_refuse(struct access *access, const struct access_peer *who,
				   unsigned int rights, const char *instance)
{
	_cleanup_free_ char *where =
		instance ? alloc_printf(" in instance \"%.200s\"", instance)
			 : alloc_string("");
	char text[ACCESS_TEXT_MAX], name[ACCESS_NAME_MAX];

	if (rights == 0) /* a method that says none: nobody gets in by a slip of ours */
		return error_new(ERROR_PERMISSION_DENIED, "no right opens this method");
	access_list(rights, text);
	if (!access_name(access, who, name, sizeof(name)))
		return error_new(
			ERROR_UNAUTHENTICATED,
			"the right %s is missing%s, and the caller %s", text, where,
			who->has_token ? "gave a token that this server does not know"
				       : "gave neither a certificate nor a token");
	return error_new(ERROR_PERMISSION_DENIED,
			 "the right %s is missing%s: the server's option --grant "
			 "'%.300s=%s' would give it",
			 text, where, name, access_words[__builtin_ctz(rights)]);
}

static struct error *access_ask(struct access *access, struct rpc_in *in,
				const char *instance)
{
	const struct access_peer who = access_peer_of(access, in);
	unsigned int wanted = rpc_rights(in);
	struct error *err;

	if (wanted & ACCESS_OPEN)
		return NULL;
	if (access_rights_of(access, &who, instance) & wanted)
		return NULL;
	err = access_refuse(access, &who, wanted, instance);
	log_debug("%s: %s", who.peer->host, error_text(err));
	return err;
}

struct error *access_admit(struct rpc_in *in, void *access)
{
	return access_ask(access, in, NULL);
}

struct error *access_check(struct access *access, struct rpc_in *in, const char *instance)
{
	return access_ask(access, in, instance);
}

static bool access_hash_name(void *hasher, struct slice san)
{
	hasher_add(hasher, san.data, san.len);
	hasher_add(hasher, "", 1);
	return false;
}

/* Subject and alternative names: some certificates have only the latter, and both stay
 * when one is renewed. */
static void access_certificate_owner(const struct access_peer *who,
				     char owner[static ACCESS_OWNER_MAX])
{
	_cleanup_(hasher_freep) struct hasher *hasher = hasher_new();
	char hex[DIGEST_HEX_MAX];
	struct digest digest;

	(void)access_hash_name(hasher, who->peer->subject);
	(void)rpc_caller_each_san(who->in, access_hash_name, hasher);
	hasher_end(hasher, &digest);
	(void)snprintf(owner, ACCESS_OWNER_MAX, "certificate:%s",
		       digest_hex(&digest, hex));
}

bool access_owner(struct access *access, struct rpc_in *in,
		  char owner[static ACCESS_OWNER_MAX])
{
	const struct access_peer who = access_peer_of(access, in);
	const struct access_grant *grant;

	if (who.peer->has_certificate) {
		access_certificate_owner(&who, owner);
		return true;
	}
	grant = access_token_grant(access, &who);
	if (grant)
		(void)snprintf(owner, ACCESS_OWNER_MAX, "token:%zu",
			       (size_t)(grant - access->grants));
	else
		(void)snprintf(owner, ACCESS_OWNER_MAX, "host:%s",
			       who.peer->is_local ? "local" : who.peer->host);
	return grant;
}
