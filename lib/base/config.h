/*
 * The YAML file of a program's options. The only home of libyaml.
 */
#pragma once

#include "lib/base/option.h"

/* Sets each definition that the file names. An unknown key or a bad value is
 * INVALID_ARGUMENT with its line. */
struct error *config_load(const char *path, const struct option_program *program);
