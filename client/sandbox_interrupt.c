/* Owns nothing but the wait. Threads: main; the signal's calls sandbox_interrupted(). */
#include "client/interrupt.h"
#include "client/sandbox_impl.h"

/* A command ends at once when it is killed; what it wrote may take a while to remove. */
#define SANDBOX_INTERRUPT_NS (10 * NS_PER_S)

static void sandbox_interrupted(const void *ctx, const char *what)
{
	struct sandbox_interrupt *interrupt = (void *)(uintptr_t)ctx;

	(void)what;
	sync_lock(&interrupt->mutex);
	if (interrupt->target)
		interrupt->cancel(interrupt->target);
	sync_unlock(&interrupt->mutex);
	(void)latch_wait_until(&interrupt->tidy, clock_mono_ns() + SANDBOX_INTERRUPT_NS);
}

void sandbox_interrupt_begin(struct sandbox_interrupt *interrupt,
			     void (*cancel)(void *target), void *target)
{
	interrupt->cancel = cancel;
	sync_mutex_init(&interrupt->mutex);
	sync_alone(&interrupt->mutex);
	interrupt->target = target;
	latch_init(&interrupt->tidy, 1);
	interrupt_set(sandbox_interrupted, interrupt, NULL);
}

void sandbox_interrupt_over(struct sandbox_interrupt *interrupt)
{
	sync_lock(&interrupt->mutex);
	interrupt->target = NULL;
	sync_unlock(&interrupt->mutex);
}

void sandbox_interrupt_end(struct sandbox_interrupt *interrupt)
{
	latch_down(&interrupt->tidy);
	interrupt_set(NULL, NULL, NULL);
	latch_deinit(&interrupt->tidy);
	sync_mutex_deinit(&interrupt->mutex);
}
