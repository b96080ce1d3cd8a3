/* What the interop tests have justbuild compile: the program. */
#include <stdio.h>

#include "greet/greet.h"

int main(void)
{
	return puts(greet()) < 0;
}
