/*
 * Tries connections between random ends, new ones all the time and some that last, and says of each what became of it.
 *
 *   attempts SOURCE[,SOURCE...] DESTINATION[,DESTINATION...] PORT[,PORT...] --rate PER_SECOND --lasting N --interval MS
 *            --timeout MS --seed N
 *
 * TCP and UDP alike, IPv4 and IPv6 as the addresses are. A new TCP connection is reset as soon as it is open, a datagram
 * waits for its echo. A lasting connection sends every INTERVAL; over TCP the next message waits for the last one's echo, and
 * a connection that fails is opened again.
 *
 * Prints a line each: KIND PROTOCOL SOURCE DESTINATION PORT BEGIN END OUTCOME
 *   KIND       new; message (a datagram of a lasting connection); exchange (a TCP message, which TCP sends again if need be)
 *   SOURCE, DESTINATION   by number, as they were given, from 0
 *   BEGIN, END  ms since 1970
 *   OUTCOME    ok, refused (whatever error), timeout, or late: a timeout while the machine had stood still
 * Runs until its input ends.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ADDRESSES = 64, MAX_PORTS = 16, MAX_NEW = 1 << 14, MAX_LASTING = 1024, RING = 64, STEP_NS = 2000000 };
static const int64_t RETRY_NS = 100000000, STALL_NS = 50000000;

struct addresses {
  struct sockaddr_storage list[MAX_ADDRESSES];
  unsigned count;
};

struct ends {
  bool udp;
  unsigned source, destination, port;
};

struct message {
  uint64_t number; /* of the socket: a port may be used again while an answer to its last owner is under way; below it an `e`, for echo */
  uint64_t sequence;
};

struct attempt {
  int fd; /* -1: a free place */
  struct ends ends;
  int64_t begun;
  uint64_t number;
};

struct lasting {
  int fd; /* -1: to be opened again */
  struct ends ends;
  bool is_open; /* of TCP */
  int64_t due;
  int64_t begun; /* of TCP: the opening or the message under way; 0: none */
  uint64_t number, sequence;
  int64_t sent_at[RING]; /* of UDP, by sequence % RING; 0: answered */
};

static struct addresses sources, destinations;
static unsigned ports[MAX_PORTS], port_count;
static int64_t timeout_ns = 900000000, interval_ns = 50000000;
static uint64_t state, sockets;
static int64_t stalled_at; /* when this program last went on after it had not run for STALL_NS */
static int poller;
static struct attempt attempts[MAX_NEW];
static unsigned idle[MAX_NEW], idle_count;
static struct lasting lasting[MAX_LASTING];

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "attempts: %s: %s\n", what, strerror(errno));
  exit(3);
}

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* splitmix64 */
static unsigned below(unsigned limit) {
  uint64_t mixed = state += 0x9e3779b97f4a7c15;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
  return (unsigned)((mixed ^ mixed >> 31) % limit);
}

static void parse_addresses(char *text, struct addresses *into) {
  for (char *one = strtok(text, ","); one; one = strtok(0, ",")) {
    if (into->count == MAX_ADDRESSES) exit(2);
    struct sockaddr_storage *address = &into->list[into->count++];
    struct sockaddr_in *v4 = (void *)address;
    struct sockaddr_in6 *v6 = (void *)address;
    if (inet_pton(AF_INET, one, &v4->sin_addr) == 1) v4->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, one, &v6->sin6_addr) == 1) v6->sin6_family = AF_INET6;
    else {
      fprintf(stderr, "attempts: %s: not an address\n", one);
      exit(2);
    }
  }
}

static struct ends choose(void) {
  struct ends ends = {.udp = below(2), .source = below(sources.count), .port = ports[below(port_count)]};
  do ends.destination = below(destinations.count);
  while (destinations.list[ends.destination].ss_family != sources.list[ends.source].ss_family);
  return ends;
}

static uint64_t next_number(void) {
  return ++sockets << 8 | 'e';
}

static socklen_t size_of(const struct sockaddr_storage *address) {
  return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

/* A socket that connects: watched under this number. */
static int open_socket(const struct ends *ends, uint32_t watched) {
  struct sockaddr_storage *from = &sources.list[ends->source], to = destinations.list[ends->destination];
  if (to.ss_family == AF_INET) ((struct sockaddr_in *)&to)->sin_port = htons((uint16_t)ends->port);
  else ((struct sockaddr_in6 *)&to)->sin6_port = htons((uint16_t)ends->port);
  int fd = socket(to.ss_family, (ends->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0) fail("socket");
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (!ends->udp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (bind(fd, (void *)from, size_of(from))) fail("bind");
  if (connect(fd, (void *)&to, size_of(&to)) && errno != EINPROGRESS) fail("connect");
  struct epoll_event event = {.events = ends->udp ? EPOLLIN : EPOLLOUT, .data.u32 = watched};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
  return fd;
}

static void finish(int fd, bool udp) {
  struct linger reset = {1, 0};
  if (!udp) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(fd);
}

static void print(const char *kind, const struct ends *ends, int64_t begun, int64_t ended, const char *outcome) {
  printf("%s %s %u %u %u %.3f %.3f %s\n", kind, ends->udp ? "udp" : "tcp", ends->source, ends->destination, ends->port, (double)begun / 1e6,
         (double)ended / 1e6, outcome);
}

static const char *timeout_since(int64_t begun) {
  return begun < stalled_at ? "late" : "timeout";
}

static int error_of(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

/* ---- new connections ---- */

static void end_attempt(struct attempt *attempt, int64_t now, const char *outcome) {
  print("new", &attempt->ends, attempt->begun, now, outcome);
  finish(attempt->fd, attempt->ends.udp);
  attempt->fd = -1;
  idle[idle_count++] = (unsigned)(attempt - attempts);
}

static void begin_attempt(void) {
  if (!idle_count) return;
  struct attempt *attempt = &attempts[idle[--idle_count]];
  *attempt = (struct attempt){.ends = choose(), .number = next_number()};
  attempt->begun = now_ns();
  attempt->fd = open_socket(&attempt->ends, (uint32_t)(attempt - attempts));
  struct message message = {.number = attempt->number};
  if (attempt->ends.udp && send(attempt->fd, &message, sizeof message, 0) < 0) end_attempt(attempt, now_ns(), "refused");
}

static void on_attempt(struct attempt *attempt, uint32_t events, int64_t now) {
  if (attempt->fd < 0) return;
  if (!attempt->ends.udp) return end_attempt(attempt, now, error_of(attempt->fd) ? "refused" : "ok");
  struct message message;
  ssize_t length = recv(attempt->fd, &message, sizeof message, 0);
  if (length < 0 && errno == EAGAIN && !(events & EPOLLERR)) return;
  if (length < 0) return end_attempt(attempt, now, "refused");
  if (message.number == attempt->number) end_attempt(attempt, now, "ok");
}

/* ---- lasting connections ---- */

static void reopen(struct lasting *flow, int64_t now) {
  flow->fd = open_socket(&flow->ends, (uint32_t)(MAX_NEW + (flow - lasting)));
  flow->number = next_number();
  flow->is_open = flow->ends.udp;
  flow->begun = flow->ends.udp ? 0 : now;
}

static void end_lasting(struct lasting *flow, int64_t now, const char *outcome) {
  /* An end between two messages says nothing: nothing was tried. */
  if (flow->begun) print(flow->is_open ? "exchange" : "new", &flow->ends, flow->begun, now, outcome);
  finish(flow->fd, false);
  flow->fd = -1;
  flow->due = now + RETRY_NS;
  if (below(4) == 0) flow->ends.source = below(sources.count);
  while (destinations.list[flow->ends.destination].ss_family != sources.list[flow->ends.source].ss_family) flow->ends.destination = below(destinations.count);
}

static void send_lasting(struct lasting *flow, int64_t now) {
  struct message message = {.number = flow->number, .sequence = flow->sequence};
  flow->due = now + interval_ns;
  if (flow->ends.udp) {
    int64_t *sent_at = &flow->sent_at[flow->sequence++ % RING];
    if (*sent_at) print("message", &flow->ends, *sent_at, now, timeout_since(*sent_at));
    *sent_at = now;
    /* What is reported here is the error of an earlier message, and this one was not sent. */
    if (send(flow->fd, &message, sizeof message, 0) < 0 && send(flow->fd, &message, sizeof message, 0) < 0) *sent_at = 0;
    return;
  }
  if (flow->begun) return; /* its turn comes again */
  flow->begun = now;
  flow->sequence++;
  if (send(flow->fd, &message, sizeof message, MSG_NOSIGNAL) < 0) end_lasting(flow, now, "refused");
}

static void on_lasting(struct lasting *flow, int64_t now) {
  struct message message;
  if (flow->fd < 0) return;
  if (!flow->is_open) {
    if (error_of(flow->fd)) return end_lasting(flow, now, "refused");
    print("new", &flow->ends, flow->begun, now, "ok");
    flow->is_open = true;
    flow->begun = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(MAX_NEW + (flow - lasting))};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, flow->fd, &event)) fail("epoll_ctl");
    return;
  }
  for (;;) {
    ssize_t length = recv(flow->fd, &message, sizeof message, 0);
    if (length < 0 && errno == EAGAIN) return;
    if (flow->ends.udp) {
      if (length < 0) continue; /* an ICMP error: that message times out */
      int64_t *sent_at = &flow->sent_at[message.sequence % RING];
      if (message.number != flow->number || !*sent_at || message.sequence + RING <= flow->sequence) continue;
      print("message", &flow->ends, *sent_at, now, "ok");
      *sent_at = 0;
      continue;
    }
    if (length <= 0) {
      return end_lasting(flow, now, "refused");
    }
    /* So short a message comes in one piece. */
    if (flow->begun) print("exchange", &flow->ends, flow->begun, now, "ok");
    flow->begun = 0;
  }
}

static void look_after(struct lasting *flow, int64_t now, bool is_settled) {
  if (flow->fd < 0) {
    if (flow->due <= now) reopen(flow, now);
    return;
  }
  if (flow->ends.udp) {
    for (unsigned i = 0; i < RING; i++) {
      if (!is_settled || !flow->sent_at[i] || now - flow->sent_at[i] < timeout_ns) continue;
      print("message", &flow->ends, flow->sent_at[i], now, timeout_since(flow->sent_at[i]));
      flow->sent_at[i] = 0;
    }
  } else if (is_settled && flow->begun && now - flow->begun >= timeout_ns) return end_lasting(flow, now, timeout_since(flow->begun));
  if (flow->is_open && flow->due <= now) send_lasting(flow, now);
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"rate", 1, 0, 'r'}, {"lasting", 1, 0, 'l'}, {"interval", 1, 0, 'i'}, {"timeout", 1, 0, 't'}, {"seed", 1, 0, 's'}, {0}};
  double rate = 100;
  unsigned lasting_count = 0;
  for (int option; (option = getopt_long(argc, argv, "", options, 0)) != -1;) {
    switch (option) {
      case 'r': rate = atof(optarg); break;
      case 'l': lasting_count = (unsigned)atoi(optarg); break;
      case 'i': interval_ns = atoll(optarg) * 1000000; break;
      case 't': timeout_ns = atoll(optarg) * 1000000; break;
      case 's': state = strtoull(optarg, 0, 10); break;
      default: return 2;
    }
  }
  if (argc - optind != 3 || lasting_count > MAX_LASTING || rate <= 0) {
    fprintf(stderr, "usage: attempts SOURCES DESTINATIONS PORTS [--rate PER_SECOND] [--lasting N] [--interval MS] [--timeout MS] [--seed N]\n");
    return 2;
  }
  parse_addresses(argv[optind], &sources);
  parse_addresses(argv[optind + 1], &destinations);
  for (char *one = strtok(argv[optind + 2], ","); one && port_count < MAX_PORTS; one = strtok(0, ",")) ports[port_count++] = (unsigned)atoi(one);
  struct rlimit files = {1 << 16, 1 << 16};
  setrlimit(RLIMIT_NOFILE, &files);
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) fail("epoll");
  for (unsigned i = 0; i < MAX_NEW; i++) {
    attempts[i].fd = -1;
    idle[idle_count++] = MAX_NEW - 1 - i;
  }
  int64_t start = now_ns(), next = start, begun = 0;
  for (unsigned i = 0; i < lasting_count; i++)
    lasting[i] = (struct lasting){.fd = -1, .ends = choose(), .due = start + interval_ns * i / lasting_count};
  int64_t ran_at = start;
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, 2);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
      uint32_t watched = events[i].data.u32;
      if (watched < MAX_NEW) on_attempt(&attempts[watched], events[i].events, now_ns());
      else on_lasting(&lasting[watched - MAX_NEW], now_ns());
    }
    int64_t now = now_ns();
    if (now - ran_at > STALL_NS) stalled_at = now;
    ran_at = now;
    /* What has come is read before anything is said to be missing. */
    if (now < next || count == 256) continue;
    next = now + STEP_NS;
    bool is_settled = now - stalled_at > timeout_ns;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char rest[64];
    if (poll(&input, 1, 0) > 0 && read(STDIN_FILENO, rest, sizeof rest) <= 0) return fflush(stdout);
    while (begun < (int64_t)((double)(now - start) / 1e9 * rate)) {
      begun++;
      begin_attempt();
    }
    for (unsigned i = 0; i < MAX_NEW; i++)
      if (is_settled && attempts[i].fd >= 0 && now - attempts[i].begun >= timeout_ns) end_attempt(&attempts[i], now, timeout_since(attempts[i].begun));
    for (unsigned i = 0; i < lasting_count; i++) look_after(&lasting[i], now, is_settled);
    fflush(stdout);
  }
}
