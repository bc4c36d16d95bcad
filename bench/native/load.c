/*
 * Opens and closes TCP connections, or sends datagrams and waits for their echoes, and says how long each took.
 *
 *   load --source A[,A...] --destination A[,A...] --ports FIRST-LAST [--tuples N] [--concurrency N] [--seconds S]
 *        [--rate PER_SECOND] [--offset N] [--timeout MS] [--udp [--keep]]
 *
 * Attempt number n is of tuple n: a source, a destination and a destination port. Tuples that follow each other differ in
 * both addresses as long as they can; one comes back only after all of them, or after the first --tuples of them. --offset
 * is the first number. Without --rate there are always --concurrency attempts under way; with it, an attempt is due every
 * 1/rate seconds and its time counts from when it was due. Every attempt has a socket of its own, and connections are
 * reset, so that no port stays in TIME_WAIT. With --keep there are --concurrency sockets that stay, and each sends its next
 * datagram when the last one has come back.
 *
 * Prints {"completed", "failures", "seconds", "p50", "p99", "max"}: times in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ADDRESSES = 256, MAX_CONCURRENCY = 4096 };

struct addresses {
  struct sockaddr_storage list[MAX_ADDRESSES];
  size_t count;
};

struct attempt {
  int fd;
  int64_t due;
};

static struct addresses sources, destinations;
static unsigned first_port, last_port;
static uint64_t tuples = UINT64_MAX;
static bool udp, keep;
static int64_t timeout_ns = 3000000000;
static uint32_t *times;
static size_t completed, capacity;
static unsigned long failures;

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(3);
}

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void parse_addresses(char *text, struct addresses *into) {
  for (char *one = strtok(text, ","); one; one = strtok(0, ",")) {
    struct sockaddr_storage *address = &into->list[into->count];
    struct sockaddr_in *v4 = (void *)address;
    struct sockaddr_in6 *v6 = (void *)address;
    if (into->count == MAX_ADDRESSES) exit(2);
    if (inet_pton(AF_INET, one, &v4->sin_addr) == 1) v4->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, one, &v6->sin6_addr) == 1) v6->sin6_family = AF_INET6;
    else {
      fprintf(stderr, "load: %s: not an address\n", one);
      exit(2);
    }
    into->count++;
  }
}

static void record(int64_t ns) {
  if (completed == capacity) {
    capacity = capacity ? 2 * capacity : 1 << 16;
    times = realloc(times, capacity * sizeof *times);
    if (!times) fail("memory");
  }
  int64_t tenths = ns / 100;
  times[completed++] = tenths > UINT32_MAX ? UINT32_MAX : (uint32_t)tenths;
}

/* A socket bound to the source of the n-th tuple, and its destination. The kernel chooses the source port when it connects. */
static int prepare(uint64_t n, bool blocking, struct sockaddr_storage *to) {
  unsigned ports = last_port - first_port + 1;
  n %= tuples;
  uint64_t destination = n % destinations.count;
  *to = destinations.list[destination];
  n /= destinations.count;
  /* The sources take turns: knp limits what one of them may put into the queue. */
  struct sockaddr_storage *from = &sources.list[(n + destination) % sources.count];
  n /= sources.count;
  uint16_t port = htons((uint16_t)(first_port + n % ports));
  if (to->ss_family == AF_INET) ((struct sockaddr_in *)to)->sin_port = port;
  else ((struct sockaddr_in6 *)to)->sin6_port = port;
  int type = (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK);
  int fd = socket(to->ss_family, type, 0);
  if (fd < 0) fail("socket");
  int on = 1;
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)from, from->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)))
    fail("bind");
  if (blocking) {
    struct timeval limit = {timeout_ns / 1000000000, timeout_ns / 1000 % 1000000};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  return fd;
}

static int begin(int fd, const struct sockaddr_storage *to) {
  socklen_t size = to->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  if (connect(fd, (const struct sockaddr *)to, size)) return -1;
  return udp && send(fd, "knp", 3, 0) < 0 ? -1 : 0;
}

static void finish(int fd) {
  struct linger reset = {1, 0};
  if (!udp) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(fd);
}

static void sleep_until(int64_t when) {
  struct timespec time = {when / 1000000000, when % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, 0) == EINTR) continue;
}

/* One at a time, without an event loop's own time in the measurement. */
static void run_one(uint64_t number, int64_t start, int64_t end, double rate) {
  for (uint64_t i = 0;; i++) {
    struct sockaddr_storage to;
    int64_t due = rate > 0 ? start + (int64_t)((double)i / rate * 1e9) : 0;
    if ((rate > 0 ? due : now_ns()) >= end) return;
    int fd = prepare(number + i, true, &to);
    if (rate > 0) sleep_until(due);
    else due = now_ns();
    char answer[8];
    bool done = begin(fd, &to) == 0 && (!udp || recv(fd, answer, sizeof answer, 0) >= 0);
    if (done) record(now_ns() - due);
    else failures++;
    finish(fd);
  }
}

static void run_many(uint64_t number, unsigned concurrency, int64_t start, int64_t end, double rate) {
  static struct attempt attempts[MAX_CONCURRENCY];
  static unsigned idle[MAX_CONCURRENCY];
  unsigned idle_count = concurrency;
  uint64_t begun = 0;
  int64_t next_scan = start + 50000000;
  int poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) fail("epoll");
  for (unsigned i = 0; i < concurrency; i++) {
    attempts[i].fd = -1;
    idle[i] = i;
  }
  for (;;) {
    int64_t now = now_ns();
    if (now >= end && idle_count == concurrency) return;
    int64_t due = now;
    while (idle_count && now < end) {
      if (rate > 0) due = start + (int64_t)((double)begun / rate * 1e9);
      if (due > now || due >= end) break;
      struct attempt *attempt = &attempts[idle[--idle_count]];
      struct sockaddr_storage to;
      attempt->fd = prepare(number + begun++, false, &to);
      now = now_ns();
      attempt->due = rate > 0 ? due : now;
      struct epoll_event event = {.events = udp ? EPOLLIN : EPOLLOUT, .data.u32 = (uint32_t)(attempt - attempts)};
      if (begin(attempt->fd, &to) && errno != EINPROGRESS) event.events = EPOLLOUT; /* the error is collected below */
      if (epoll_ctl(poller, EPOLL_CTL_ADD, attempt->fd, &event)) fail("epoll_ctl");
    }
    struct epoll_event events[256];
    int64_t wait = 10000000;
    if (rate > 0 && idle_count && now < end) wait = due > now ? due - now : 0;
    struct timespec limit = {0, wait > 10000000 ? 10000000 : wait};
    int count = epoll_pwait2(poller, events, 256, &limit, 0);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    now = now_ns();
    for (int i = 0; i < count; i++) {
      struct attempt *attempt = &attempts[events[i].data.u32];
      int error = 0;
      socklen_t size = sizeof error;
      getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &size);
      if (error || (udp && !(events[i].events & EPOLLIN))) failures++;
      else record(now - attempt->due);
      finish(attempt->fd);
      attempt->fd = -1;
      idle[idle_count++] = (unsigned)(attempt - attempts);
    }
    if (now < next_scan) continue;
    next_scan = now + 50000000;
    for (unsigned i = 0; i < concurrency; i++) {
      if (attempts[i].fd < 0 || now - attempts[i].due < timeout_ns) continue;
      failures++;
      finish(attempts[i].fd);
      attempts[i].fd = -1;
      idle[idle_count++] = i;
    }
  }
}

/* Datagrams of sockets that stay. */
static void run_kept(uint64_t number, unsigned concurrency, int64_t start, int64_t end) {
  static struct attempt attempts[MAX_CONCURRENCY];
  int64_t next_scan = start;
  int poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) fail("epoll");
  for (unsigned i = 0; i < concurrency; i++) {
    struct sockaddr_storage to;
    attempts[i].fd = prepare(number + i, false, &to);
    attempts[i].due = now_ns();
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, attempts[i].fd, &event)) fail("epoll_ctl");
    if (begin(attempts[i].fd, &to)) fail("send");
  }
  for (int64_t now = start; now < end;) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, 10);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    now = now_ns();
    for (int i = 0; i < count; i++) {
      struct attempt *attempt = &attempts[events[i].data.u32];
      char answer[8];
      /* What goes wrong, a refusal too, is a failure when its time is over. */
      if (recv(attempt->fd, answer, sizeof answer, 0) < 0) continue;
      record(now - attempt->due);
      attempt->due = now_ns();
      (void)!send(attempt->fd, "knp", 3, 0);
    }
    if (now < next_scan) continue;
    next_scan = now + 50000000;
    for (unsigned i = 0; i < concurrency; i++) {
      if (now - attempts[i].due < timeout_ns) continue;
      failures++;
      attempts[i].due = now;
      (void)!send(attempts[i].fd, "knp", 3, 0);
    }
  }
}

static int ascending(const void *left, const void *right) {
  uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
  return a < b ? -1 : a > b;
}

static double percentile(double share) {
  return completed ? times[(size_t)((double)(completed - 1) * share)] / 10.0 : 0;
}

int main(int argc, char **argv) {
  static const struct option options[] = {
      {"source", 1, 0, 's'},  {"destination", 1, 0, 'd'}, {"ports", 1, 0, 'p'}, {"tuples", 1, 0, 'n'},
      {"concurrency", 1, 0, 'c'}, {"seconds", 1, 0, 't'},     {"rate", 1, 0, 'r'},  {"offset", 1, 0, 'o'},
      {"timeout", 1, 0, 'w'}, {"udp", 0, 0, 'u'},         {"keep", 0, 0, 'k'},  {0}};
  unsigned concurrency = 1;
  double seconds = 1, rate = 0;
  uint64_t offset = 0;
  for (int option; (option = getopt_long(argc, argv, "", options, 0)) != -1;) {
    switch (option) {
      case 's': parse_addresses(optarg, &sources); break;
      case 'd': parse_addresses(optarg, &destinations); break;
      case 'p': sscanf(optarg, "%u-%u", &first_port, &last_port); break;
      case 'c': concurrency = (unsigned)atoi(optarg); break;
      case 't': seconds = atof(optarg); break;
      case 'r': rate = atof(optarg); break;
      case 'o': offset = strtoull(optarg, 0, 10); break;
      case 'w': timeout_ns = atoll(optarg) * 1000000; break;
      case 'n': tuples = strtoull(optarg, 0, 10); break;
      case 'u': udp = true; break;
      case 'k': keep = true; break;
      default: return 2;
    }
  }
  if (!sources.count || !destinations.count || !first_port || last_port < first_port || last_port > 65535 || !tuples || !concurrency ||
      concurrency > MAX_CONCURRENCY || (keep && !udp)) {
    fprintf(stderr, "usage: load --source A[,A] --destination A[,A] --ports FIRST-LAST [--tuples N] [--concurrency N]\n"
                    "            [--seconds S] [--rate PER_SECOND] [--offset N] [--timeout MS] [--udp [--keep]]\n");
    return 2;
  }
  struct rlimit files = {1 << 16, 1 << 16};
  setrlimit(RLIMIT_NOFILE, &files);
  int64_t start = now_ns(), end = start + (int64_t)(seconds * 1e9);
  if (keep) run_kept(offset, concurrency, start, end);
  else if (concurrency == 1) run_one(offset, start, end, rate);
  else run_many(offset, concurrency, start, end, rate);
  double took = (double)(now_ns() - start) / 1e9;
  qsort(times, completed, sizeof *times, ascending);
  printf("{\"completed\":%zu,\"failures\":%lu,\"seconds\":%.3f,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f}\n", completed, failures,
         took, percentile(0.5), percentile(0.99), percentile(1));
  return 0;
}
