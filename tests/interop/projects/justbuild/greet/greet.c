/* The same: what the program says. */
#include "greet/greet.h"

const char *greet(void)
{
	return "hello by justbuild";
}
