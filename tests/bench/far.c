/*
 * Distance, on a kernel without netem: a TCP proxy on loopback that holds every byte back
 * for half a round trip and lets through so many a second, each way.
 *
 *	far TARGET_PORT RTT_US BITS_PER_SECOND
 *
 * Prints the port that it listens at, then serves until its standard input ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX 256
#define CHUNK     (64 << 10)
#define HELD_MAX  (64 << 20) /* bytes on their way, of one direction of one connection */

struct chunk {
	struct chunk *next;
	int64_t due_ns;
	size_t len;
	size_t done;
	char bytes[CHUNK];
};

struct way { /* one direction of one connection */
	int from;
	int to;
	struct chunk *first;
	struct chunk **end;
	size_t held;
	bool is_read_out; /* the sender has ended */
	bool is_over;
};

static struct way ways[2 * PAIRS_MAX];
static size_t n_ways;
static int64_t free_ns[2]; /* when each direction's line is free again */
static int64_t delay_ns;
static double ns_per_byte;

static int64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons((uint16_t)port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void way_new(int from, int to)
{
	ways[n_ways] = (struct way){.from = from, .to = to};
	ways[n_ways].end = &ways[n_ways].first;
	n_ways++;
}

static void take_in(int listener, int target_port)
{
	struct sockaddr_in address = loopback(target_port);
	int near = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	if (near < 0 || far < 0 || n_ways == 2 * PAIRS_MAX ||
	    connect(far, (struct sockaddr *)&address, sizeof(address)) < 0) {
		(void)close(near);
		(void)close(far);
		return;
	}
	(void)setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	way_new(near, far);
	way_new(far, near);
}

/* Reads what came, and says when it arrives. */
static void way_read(struct way *way)
{
	struct chunk *chunk = calloc(1, sizeof(*chunk));
	int64_t *line = &free_ns[(way - ways) % 2];
	ssize_t n = recv(way->from, chunk->bytes, CHUNK, MSG_DONTWAIT);
	int64_t now = now_ns();

	if (n <= 0) {
		way->is_read_out |= n == 0 || errno != EAGAIN;
		free(chunk);
		return;
	}
	*line = (*line > now ? *line : now) + (int64_t)((double)n * ns_per_byte);
	chunk->len = (size_t)n;
	chunk->due_ns = *line + delay_ns;
	way->held += chunk->len;
	*way->end = chunk;
	way->end = &chunk->next;
}

static void way_write(struct way *way, int64_t now)
{
	while (way->first && way->first->due_ns <= now) {
		struct chunk *chunk = way->first;
		ssize_t n = send(way->to, chunk->bytes + chunk->done,
				 chunk->len - chunk->done, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			chunk->due_ns = now + 100000; /* its reader is slow */
			return;
		}
		if (n >= 0) {
			chunk->done += (size_t)n;
			if (chunk->done < chunk->len)
				continue;
		}
		way->first = chunk->next;
		if (!way->first)
			way->end = &way->first;
		way->held -= chunk->len;
		free(chunk);
	}
	if (way->is_read_out && !way->first && !way->is_over) {
		(void)shutdown(way->to, SHUT_WR);
		way->is_over = true;
	}
}

static int serve(int listener, int target_port)
{
	static struct pollfd fds[2 * PAIRS_MAX + 2];

	for (;;) {
		int64_t now = now_ns();
		int64_t due = now + 1000000000;
		struct timespec wait;

		fds[0] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
		fds[1] = (struct pollfd){.fd = listener, .events = POLLIN};
		for (size_t i = 0; i < n_ways; i++) {
			struct way *way = &ways[i];

			way_write(way, now);
			if (way->first && way->first->due_ns < due)
				due = way->first->due_ns;
			fds[i + 2] = (struct pollfd){
				.fd = way->is_read_out || way->held > HELD_MAX
					      ? -1
					      : way->from,
				.events = POLLIN};
		}
		due = due > now ? due - now : 0;
		wait = (struct timespec){.tv_sec = due / 1000000000,
					 .tv_nsec = due % 1000000000};
		if (ppoll(fds, n_ways + 2, &wait, NULL) < 0 && errno != EINTR)
			return 1;
		for (size_t i = 0; i < n_ways; i++)
			if (fds[i + 2].revents)
				way_read(&ways[i]);
		if (fds[1].revents)
			take_in(listener, target_port);
		if (fds[0].revents)
			return 0;
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = loopback(0);
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 4) {
		(void)fprintf(stderr, "usage: far TARGET_PORT RTT_US BITS_PER_SECOND\n");
		return 2;
	}
	delay_ns = strtoll(argv[2], NULL, 10) * 1000 / 2;
	ns_per_byte = 8e9 / strtod(argv[3], NULL);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) < 0 ||
	    listen(listener, 64) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &len) < 0) {
		perror("far");
		return 1;
	}
	(void)printf("%d\n", ntohs(address.sin_port));
	(void)fflush(stdout);
	return serve(listener, atoi(argv[1]));
}
