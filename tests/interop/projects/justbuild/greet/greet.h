/* The same: what the program says. */
#pragma once
const char *greet(void);
