/*
 * What the files of foresight share:
 *
 *   foresight_file.c      files by digest, and where in the root a name leads
 *   foresight_hint.c      names that may lead to files
 *   foresight_place.c     where programs and libraries are looked for
 *   foresight_compiler.c  where a compiler looks: headers, its parts, start files
 *   foresight_python.c    where Python looks for modules
 *   foresight_module.c    where Perl, Node and Go do
 *   foresight_walk.c      walks over directories, from what was opened in turn
 *   foresight.c           what happens, and what it yields
 *
 * Threads: foresight's.
 */
#pragma once

#include "lib/base/arena.h"
#include "lib/base/htab.h"
#include "lib/base/list.h"
#include "predict/foresight.h"
#include "predict/resolve.h"

#define FORESIGHT_LIKELY                                                                 \
	0.5 /* what is less so is not looked into before it is opened                    \
	     */
#define FORESIGHT_FILES_MAX    200000
#define FORESIGHT_HINTS_MAX    200000
#define FORESIGHT_DIRS_MAX     256    /* of one search path */
#define FORESIGHT_WORDS_MAX    100000 /* of one response file */
#define FORESIGHT_RESPONSE_MAX ((size_t)4 << 20)
#define FORESIGHT_RESPONSES    16 /* that others wait for */
/* What an action may have thought of it in all, in names looked up: one that makes more
 * work than any real one is left alone. What it opens is more to think about. */
#define FORESIGHT_EFFORT          ((int64_t)8 << 20)
#define FORESIGHT_EFFORT_OPENED   256
#define FORESIGHT_EFFORT_ENTRIES  8   /* of a listing that is gone through, for one */
#define FORESIGHT_EFFORT_SCANNED  256 /* bytes of a file that is looked into, for one */
#define FORESIGHT_EFFORT_RESPONSE 4   /* the same, where they are words */
#define FORESIGHT_EFFORT_PASSED   16  /* of wishes that are passed over, for one */
/* What one look may cost beyond a turn's end: no real one costs a quarter. */
#define FORESIGHT_LOOK_MAX    ((int64_t)16 << 10)
#define FORESIGHT_ENTRIES_MAX ((uint32_t)64 << 10) /* of a listing; the rest is left */

enum foresight_state {
	FORESIGHT_WANTED, /* in the list of its source */
	FORESIGHT_ASKED,  /* a wish that was yielded */
	FORESIGHT_HERE,   /* its blob is at hand, or was brought */
	FORESIGHT_GONE,   /* it could not be brought, or does not pay */
};

struct foresight_file {
	struct hnode by_digest;
	struct list link; /* while it is wanted; else in no list */
	struct digest digest;
	const char *path; /* where it was first found: in the arena */
	double probability;
	enum foresight_source source;
	enum foresight_state state;
	bool is_asked;  /* ever */
	bool is_needed; /* the command waits for it: only its coming is of interest */
	bool is_opened;
	bool is_late;     /* it was under way when it was opened */
	bool is_known;    /* a profile knows what is read beside it */
	bool is_response; /* it holds arguments */
	bool is_scanned;  /* or need not be */
};

enum foresight_hint_kind {
	HINT_PATH,     /* from the working directory, or absolute */
	HINT_RESPONSE, /* the same, a file of more arguments */
	HINT_ROOTED,   /* from dir */
	HINT_BESIDE,   /* the same, as Node has it: its ending may be left out */
	HINT_PROGRAM,  /* along PATH */
	HINT_TOOL,     /* the same, and it says what kind of command this is */
	HINT_QUOTED,   /* include: beside dir, then as below */
	HINT_ANGLED,
	HINT_NEXT,     /* behind dir on the search path */
	HINT_NEAR,     /* small headers in a directory from which one was included */
	HINT_LIBRARY,  /* a shared library, dir has the RUNPATH */
	HINT_LINKED,   /* what -l names */
	HINT_MODULE,   /* of Python; dir is the importing file's */
	HINT_PERL,     /* a module's path */
	HINT_PACKAGE,  /* of Node; dir is the requiring file's */
	HINT_GO,       /* the directory of a package */
	HINT_COMPILER, /* the compiler's own places and parts */
	HINT_PYTHON,   /* the interpreter's own */
	HINT_KINDS,
};

struct foresight_hint {
	struct hnode seen; /* by what it says: asked for once */
	struct list link;  /* while a Directory is missing for it, or a turn */
	enum foresight_hint_kind kind;
	enum foresight_source source;
	double probability;
	const char *dir;
	const char *text;
};

/* Looks for what a hint names, and wants what it finds. */
typedef enum resolve_outcome foresight_look_fn(struct foresight *foresight,
					       const struct foresight_hint *hint);

struct foresight_dirs { /* a search path: directories from the root, clean or not */
	const char *of[FORESIGHT_DIRS_MAX];
	size_t n;
};

enum foresight_language { LANGUAGE_NONE, LANGUAGE_C, LANGUAGE_CXX };

struct foresight_compiler {
	bool is_compiler;
	bool is_ready; /* the places below are known */
	bool has_stdinc;
	bool is_linking;
	bool is_translating; /* a source, or what may be one, was named */
	enum foresight_language language;
	enum foresight_language translated; /* whose parts were named */
	struct foresight_dirs quote;        /* -iquote */
	struct foresight_dirs user;         /* -I */
	struct foresight_dirs system;       /* -isystem */
	struct foresight_dirs cxx;          /* its own: of C++, … */
	struct foresight_dirs own;          /* … those that no sysroot moves, … */
	struct foresight_dirs rooted;       /* … and those below the sysroot */
	struct foresight_dirs after;        /* -idirafter */
	struct foresight_dirs libraries;
	struct foresight_dirs homes; /* where its parts may stand */
	int64_t near_bytes;          /* wanted only since they stand near */
	const char *sysroot; /* from the root, or absolute; NULL: the root itself */
	/* what they say decides where headers are */
	struct foresight_file *responses[FORESIGHT_RESPONSES];
	size_t n_responses;
};

struct foresight_python {
	bool is_python;
	bool is_ready;
	char tag[32];       /* "cpython-311" */
	const char *script; /* the script's directory; NULL: there is none */
	const char *dir;    /* "usr/lib/python3.11" */
	struct foresight_dirs path;
};

struct foresight_walk;

struct foresight {
	const struct foresight_world *world;
	struct resolve_world resolve;
	struct arena arena;
	struct arena scratch; /* for one look, which may be taken again and again */
	unsigned int n_looking;
	int64_t effort; /* that is left … */
	int64_t turn;   /* … and of it, before it is another's turn */
	bool is_resting;
	struct digest root;
	const char *mount;
	const char *workdir;
	struct foresight_dirs programs; /* PATH, as absolute paths */
	const char *python_path;
	bool is_shell; /* the command is a script, of more commands */

	struct htab files;
	struct list wanted[FORESIGHT_SOURCES];
	size_t n_files;
	foresight_look_fn *const *look_for; /* by kind */
	struct htab hints;
	struct list pending; /* hints for which a Directory is missing … */
	struct list todo;    /* … or a turn */
	size_t n_hints;

	bool has_tool;
	struct digest tool;
	struct foresight_compiler compiler;
	struct foresight_python python;
	const char
		*go_root; /* where Go's own packages are, in src; NULL: this is no Go */
	struct foresight_walk *walks; /* foresight_walk.c */

	struct profile_read *reads;
	size_t n_reads;
	size_t reads_cap;
	int64_t bytes_opened;
	int64_t bytes_ahead;                 /* that were wished for and not opened yet */
	int64_t n_opened[FORESIGHT_SOURCES]; /* of a source's wishes … */
	int64_t n_asked[FORESIGHT_SOURCES];
	int64_t n_allowed[FORESIGHT_SOURCES]; /* of them, not opened yet, at once */
	int64_t n_judged[FORESIGHT_SOURCES];  /* how many were opened by then */
	struct foresight_count missed;
};

/* foresight_file.c */

struct foresight_file *foresight_file_find(const struct foresight *foresight,
					   const struct digest *digest);
/* Found or made; NULL where there are too many. */
struct foresight_file *foresight_file_get(struct foresight *foresight,
					  const struct digest *digest, const char *path);

/* path from the root (or absolute as the command sees it): a file that it leads to is
 * wanted. *found_out (may be NULL) where it is one, a directory included. */
enum resolve_outcome foresight_want(struct foresight *foresight, const char *base,
				    struct slice path, enum foresight_source source,
				    double probability, struct resolved *found_out);
/* As above, where the digest is known already. */
struct foresight_file *foresight_want_file(struct foresight *foresight,
					   const struct digest *digest, const char *path,
					   enum foresight_source source,
					   double probability);
/* Work that a name looked up is not the measure of. */
void foresight_spend(struct foresight *foresight, int64_t n, int64_t n_for_one);
/* How many of a listing's entries are gone through; they are spent for. */
uint32_t foresight_entries(struct foresight *foresight, const struct tree_dir *dir);
/* The listing of a directory of the root (NULL: absent), and how many of its entries are
 * gone through. FOUND: the caller unrefs it. */
enum resolve_outcome foresight_list(struct foresight *foresight, const char *dir,
				    struct tree_dir **entries_out, uint32_t *n_out);
/* The path's place in the root; ABSENT where it lies outside. */
enum resolve_outcome foresight_resolve(struct foresight *foresight, const char *base,
				       struct slice path, struct resolved *out);
void foresight_dirs_add(struct foresight *foresight, struct foresight_dirs *dirs,
			const char *dir);
/* dir/name in the scratch arena; NULL where it is full. */
const char *foresight_join(struct foresight *foresight, const char *dir,
			   const char *name);

/* foresight_hint.c */

void foresight_hint(struct foresight *foresight, enum foresight_hint_kind kind,
		    enum foresight_source source, double probability, const char *dir,
		    struct slice text);
void foresight_hint_again(struct foresight *foresight); /* those that wait */
/* Goes on with those for which there was no time. */
void foresight_hint_go_on(struct foresight *foresight);

/* foresight_place.c */

/* Along PATH, or where the text says; *found (may be NULL) is what it is. */
enum resolve_outcome foresight_place_program(struct foresight *foresight,
					     const struct foresight_hint *hint,
					     struct resolved *found);
foresight_look_fn foresight_place_library; /* where ld.so looks */
/* What nearly every program of the root starts with, before its bytes say so: that saves
 * the round trip that they take. */
void foresight_place_start(struct foresight *foresight);

/* foresight_compiler.c */

/* A file of more arguments is wanted: headers are looked for when it was read, or will
 * not come. */
void foresight_compiler_await(struct foresight *foresight, struct foresight_file *file);
/* What a response file says. */
void foresight_compiler_response(struct foresight *foresight, struct slice text);
/* What the command line says, before any tool is found. */
void foresight_compiler_begin(struct foresight *foresight,
			      const struct foresight_action *action);
/* tool: its path in the root, without links; name: as it was called. */
void foresight_compiler_found(struct foresight *foresight, const char *tool,
			      const char *name);
/* The command opened this file; where it is a compiler, it is one that a script runs. */
void foresight_compiler_started(struct foresight *foresight, const char *path);
foresight_look_fn foresight_compiler_settle; /* text: the tool's path */
foresight_look_fn foresight_compiler_include;
foresight_look_fn foresight_compiler_near;
foresight_look_fn foresight_compiler_library;

/* foresight_python.c */

void foresight_python_found(struct foresight *foresight, const char *tool);
/* A module is run as a program: -m. */
void foresight_python_run(struct foresight *foresight, struct slice module);
foresight_look_fn foresight_python_settle; /* text: the tool's path */
foresight_look_fn foresight_python_module;

/* foresight_module.c */

foresight_look_fn foresight_module_perl;
foresight_look_fn foresight_module_node;
/* tool: its path in the root; where it is Go's, that has packages beside it. */
void foresight_module_go_found(struct foresight *foresight, const char *tool);
foresight_look_fn foresight_module_go;
/* A path from the requiring file's directory, its ending perhaps left out. */
foresight_look_fn foresight_module_beside;

/* foresight_walk.c */

/* path: clean, from the root; was_missed: nobody had thought of it. */
void foresight_walk_opened(struct foresight *foresight, const char *path,
			   enum tree_kind kind, bool was_missed);
/* The command line names this directory. */
void foresight_walk_named(struct foresight *foresight, const char *path);
/* Wants some more of what the walks lead to; false where nothing came of it. */
bool foresight_walk_on(struct foresight *foresight);
void foresight_walk_deinit(struct foresight *foresight);
