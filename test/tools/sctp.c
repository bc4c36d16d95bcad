#define _GNU_SOURCE
/*
 * SCTP associations, for which Node has no sockets.
 *
 *   sctp serve ADDRESS PORT...                  prints `ready`, then echoes until it is killed
 *   sctp call SOURCE ADDRESS PORT TIMEOUT_MS    prints `echo`, `timeout` or the errno's name
 *
 * Exit status: 0 done (call: echoed), 1 not echoed, 2 usage, 3 the system refused.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_NO_ECHO = 1, EXIT_USAGE = 2, EXIT_SYSTEM = 3, MAX_SOCKETS = 64 };

static const char message[] = "hello";

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "sctp: %s: %s\n", what, strerror(errno));
  exit(EXIT_SYSTEM);
}

static struct addrinfo *resolve(const char *address, const char *port) {
  const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
  struct addrinfo *found;
  if (getaddrinfo(address, port, &hints, &found) != 0) {
    fprintf(stderr, "sctp: %s %s: not an address and a port\n", address, port);
    exit(EXIT_USAGE);
  }
  return found;
}

static int open_socket(const char *address, const char *port) {
  const struct addrinfo *local = resolve(address, port);
  const int fd = socket(local->ai_family, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_SCTP);
  if (fd < 0) fail("socket");
  if (bind(fd, local->ai_addr, local->ai_addrlen) != 0) fail("bind");
  return fd;
}

static _Noreturn void serve(int count, char **arguments) {
  struct pollfd sockets[MAX_SOCKETS];
  nfds_t listeners = 0;
  for (int i = 1; i < count && listeners < MAX_SOCKETS / 2; i++) {
    const int fd = open_socket(arguments[0], arguments[i]);
    if (listen(fd, 16) != 0) fail("listen");
    sockets[listeners++] = (struct pollfd){.fd = fd, .events = POLLIN};
  }
  puts("ready");
  fflush(stdout);
  nfds_t used = listeners;
  for (;;) {
    if (poll(sockets, used, -1) < 0) fail("poll");
    for (nfds_t i = 0; i < used; i++) {
      if (sockets[i].revents == 0) continue;
      if (i < listeners) {
        const int fd = accept4(sockets[i].fd, NULL, NULL, SOCK_NONBLOCK);
        if (fd >= 0 && used < MAX_SOCKETS) sockets[used++] = (struct pollfd){.fd = fd, .events = POLLIN};
        continue;
      }
      char data[256];
      const ssize_t length = recv(sockets[i].fd, data, sizeof data, 0);
      if (length > 0 && send(sockets[i].fd, data, (size_t)length, MSG_NOSIGNAL) == length) continue;
      close(sockets[i].fd);
      sockets[i--] = sockets[--used];
    }
  }
}

static long now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/** Waits for the events until `deadline`; ends the program with `timeout` if they do not come. */
static void await_events(int fd, short events, long deadline) {
  struct pollfd waiting = {.fd = fd, .events = events};
  const long left = deadline - now_ms();
  if (left > 0 && poll(&waiting, 1, (int)left) > 0) return;
  puts("timeout");
  exit(EXIT_NO_ECHO);
}

static int call(const char *source, const char *address, const char *port, long timeout_ms) {
  const long deadline = now_ms() + timeout_ms;
  const struct addrinfo *remote = resolve(address, port);
  const int fd = open_socket(source, "0");
  int error = 0;
  if (connect(fd, remote->ai_addr, remote->ai_addrlen) != 0 && errno != EINPROGRESS) error = errno;
  if (error == 0) {
    await_events(fd, POLLOUT, deadline);
    socklen_t length = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  }
  char data[sizeof message] = {0};
  if (error == 0 && send(fd, message, sizeof message, MSG_NOSIGNAL) < 0) error = errno;
  if (error == 0) {
    await_events(fd, POLLIN, deadline);
    if (recv(fd, data, sizeof data, 0) < 0) error = errno;
  }
  const int is_echo = error == 0 && memcmp(data, message, sizeof message) == 0;
  puts(is_echo ? "echo" : error == 0 ? "closed" : strerrorname_np(error));
  return is_echo ? 0 : EXIT_NO_ECHO;
}

int main(int count, char **arguments) {
  if (count >= 4 && strcmp(arguments[1], "serve") == 0) serve(count - 2, arguments + 2);
  if (count == 6 && strcmp(arguments[1], "call") == 0)
    return call(arguments[2], arguments[3], arguments[4], atol(arguments[5]));
  fprintf(stderr, "usage: sctp serve ADDRESS PORT...\n       sctp call SOURCE ADDRESS PORT TIMEOUT_MS\n");
  return EXIT_USAGE;
}
