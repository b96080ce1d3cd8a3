#include "greet/greet.h"

const char *greet(void) { return "hello by justbuild"; }
