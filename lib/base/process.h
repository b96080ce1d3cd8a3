/*
 * What the kernel grants this process, and whom it ends first where memory is short.
 * Called by main at start, before there are threads; afterwards anybody may ask.
 *
 * What is raised here is inherited: whoever starts foreign programs gives them back what
 * is usual (worker/sandbox/program_serve.c).
 */
#pragma once

#include <stddef.h>

/* Standard input, output and error that are closed get a descriptor each that can only
 * fail (EBADF): else what is opened next would have their numbers, and be written to.
 * First of all. */
void process_keep_standard(void);
/* Raises the limit of open descriptors to the hard one. */
void process_raise_descriptors(void);
/* How many may be open at once: the soft limit as it is now. */
size_t process_descriptors(void);

/* Where memory is short on the machine, others than this process are ended first, as far
 * as the kernel lets it ask for that. */
void process_outlive_others(void);
