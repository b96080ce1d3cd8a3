#include <stdio.h>

#include "greet/greet.h"

int main(void) { return puts(greet()) < 0; }
