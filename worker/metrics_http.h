/*
 * A page over HTTP, for whatever collects metrics: GET /metrics and nothing else.
 *
 * Threads: one of its own makes the pages; start and free from main.
 */
#pragma once

#include "lib/base/buf.h"
#include "lib/base/error.h"

struct metrics_http;

struct metrics_http_config {
	const char *address; /* HOST:PORT, [HOST]:PORT or :PORT (all of the machine's) */
	void (*write)(const void *page, struct buf *out);
	const void *page; /* borrowed */
};

/* INVALID_ARGUMENT where it is no such address; else what bind(2) says of it. */
struct error *metrics_http_start(const struct metrics_http_config *config,
				 struct metrics_http **out);
void *metrics_http_free(struct metrics_http *http); /* a page being made is waited for */
CLEANUP_DEFINE(struct metrics_http, metrics_http_free)
