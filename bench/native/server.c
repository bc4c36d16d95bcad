/*
 * Accepts and closes TCP connections, or echoes datagrams, on a range of ports, over IPv4 and IPv6.
 *
 *   server FIRST-LAST [--udp]
 *
 * Prints "ready" when every port is open and runs until it is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "server: %s: %s\n", what, strerror(errno));
  exit(3);
}

/* From the address that was asked: the machine has several. */
static void echo(int fd) {
  char data[2048], control[256];
  struct sockaddr_in6 peer;
  for (;;) {
    struct iovec vector = {data, sizeof data};
    struct msghdr message = {.msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = &vector, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(fd, &message, 0);
    if (length < 0) return;
    vector.iov_len = (size_t)length;
    (void)!sendmsg(fd, &message, 0);
  }
}

static void accept_all(int fd) {
  for (int peer; (peer = accept4(fd, 0, 0, SOCK_CLOEXEC)) >= 0 || errno == ECONNABORTED;) {
    if (peer >= 0) close(peer);
  }
}

int main(int argc, char **argv) {
  unsigned first, last;
  if (argc < 2 || sscanf(argv[1], "%u-%u", &first, &last) != 2 || first > last || last > 65535) {
    fprintf(stderr, "usage: server FIRST-LAST [--udp]\n");
    return 2;
  }
  bool udp = argc > 2 && strcmp(argv[2], "--udp") == 0;
  struct rlimit files = {1 << 20, 1 << 20};
  setrlimit(RLIMIT_NOFILE, &files);
  int poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) fail("epoll");
  for (unsigned port = first; port <= last; port++) {
    int fd = socket(AF_INET6, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, off = 0;
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    if (fd < 0) fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (udp) setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address)) fail("bind");
    if (!udp && listen(fd, 4096)) fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
  }
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
      if (udp) echo(events[i].data.fd);
      else accept_all(events[i].data.fd);
    }
  }
}
