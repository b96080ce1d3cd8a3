/*
 * Pins: what a process needs of a shared store stays until it lets go, or dies, whichever
 * process makes room meanwhile. A pin is a list in the staging directory of its process,
 * whose lock says whether that lives; kill -9 leaves no pin that counts. Trees are pinned
 * by their roots: who makes room looks into them, as far as they are there.
 *
 * What is pinned may pass the store's limit; what is not goes first.
 *
 * Threads: any may make and free pins.
 */
#pragma once

#include "lib/base/sync.h"
#include "lib/store/store.h"
#include "lib/tree/dirset.h"

struct store_pinned {
	struct digest digest;
	bool is_tree; /* a Directory, with all below it; else this blob */
};

struct store_pin;

/* They need not be there yet. When this returns, all who make room know of it: what is
 * found in the store from then on stays. Of a shared store. */
struct error *store_pin_new(struct store *store, const struct store_pinned *items,
			    size_t n, struct store_pin **out);
void *store_pin_free(struct store_pin *pin); /* before store_close() */
CLEANUP_DEFINE(struct store_pin, store_pin_free)

/*
 * For who makes room: the pins of all processes, as they were found last. Zeroed, none.
 * Whoever has it held within a transaction of the index sees all that are in force.
 */
struct store_pins {
	struct store_pins_file *files;
	size_t n;
	size_t cap;
	bool is_all; /* more is pinned than could be listed: everything stays */
};
void store_pins_deinit(struct store_pins *pins);
/* Looks again; is_first: also into trees that were not all there. */
void store_pins_load(struct store_pins *pins, int dir_fd, bool is_first);
bool store_pins_have(const struct store_pins *pins, const struct digest *digest);
