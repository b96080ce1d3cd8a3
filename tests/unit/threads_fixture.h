/*
 * A process that gets no more threads: what asks for one fails as under a limit of the
 * system.
 */
#pragma once

void threads_deny(void);
void threads_allow(void);
