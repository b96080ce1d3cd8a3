/*
 * Who may do what: the grants of --grant, and the question whether a call's peer has a
 * right in an instance. A grant is WHO=RIGHT[,RIGHT...][@INSTANCE].
 *
 * Every method of the server says in its table which rights let a call in (any one of
 * them is enough); a call whose peer has none of them in any instance is refused before
 * its first step, and the step's own check of the instance asks again for that instance.
 *
 * Threads: any; what changes (tokens read again) has a lock of its own inside.
 */
#pragma once

#include "lib/base/option.h"
#include "lib/rpc/caller.h"

enum access_right {
	ACCESS_CAS_READ = 1 << 0,
	ACCESS_CAS_WRITE = 1 << 1,
	ACCESS_AC_READ = 1 << 2,
	ACCESS_AC_WRITE = 1 << 3,
	ACCESS_EXECUTE = 1 << 4,
	ACCESS_WORKER = 1 << 5,
	ACCESS_OPERATE = 1 << 6,
	ACCESS_ALL = (1 << 7) - 1,
	ACCESS_OPEN = 1 << 7, /* of a method: whoever reaches the port; no grant's */
};

#define ACCESS_OWNER_MAX 128 /* of what access_owner() writes, with the NUL */

struct access;

struct access_config {
	const struct option_list *listen;    /* addresses */
	const struct option_list *grants;    /* none: this machine may all but ac-write */
	const struct option_list *instances; /* a grant's must be one of them */
	bool has_tls_files;                  /* a certificate, a key */
	bool has_client_ca;
	bool is_insecure;
};

/* INVALID_ARGUMENT says which grant is wrong, or why it must not listen there. */
struct error *access_new(const struct access_config *config, struct access **access_out);
void *access_free(struct access *access);
CLEANUP_DEFINE(struct access, access_free)
/* Reads tokens again whose files changed: about once a second. */
void access_tick(struct access *access);
/* For rpc_server_config: access is a struct access. */
struct error *access_admit(struct rpc_in *in, void *access);
/* False: nobody without a certificate has any right, so the handshake may ask for one. */
bool access_has_other_than_certificates(const struct access *access);

/* What the peer of this call may do in an instance; NULL: in any. */
unsigned int access_rights(struct access *access, struct rpc_in *in,
			   const char *instance);
/* PERMISSION_DENIED, or UNAUTHENTICATED where the peer did not say who it is, unless it
 * has one of the rights that the call's method asks for. */
struct error *access_check(struct access *access, struct rpc_in *in,
			   const char *instance);
/*
 * Who the peer is, for what belongs to one: its certificate's names, the grant that
 * its token opens, else its host. True: by a credential, so that nobody else can be it.
 */
bool access_owner(struct access *access, struct rpc_in *in,
		  char owner[static ACCESS_OWNER_MAX]);
