/*
 * Connections that last, and the server for them.
 *
 *   flows server ADDRESS[,ADDRESS...] PORT[,PORT...]
 *   flows client
 *
 * The server takes TCP and UDP at every address and port. It sends back what it gets; after a message of kind `p` (UDP) or
 * `d` (TCP) it sends by itself instead, every 2 ms for a minute.
 *
 * The client takes commands, one a line, and answers each with a line of JSON:
 *
 *   open GROUP KIND udp|tcp SOURCE DESTINATION PORT COUNT INTERVAL_US
 *     KIND is `echo`: each connection sends a numbered message every INTERVAL, and they take turns; `push` and `download`:
 *     the server sends; `idle`: one message, then nothing until `wake`.
 *   wake GROUP INTERVAL_US      idle connections send one message, one connection after the other
 *   report GROUP                {"flows", "silent", "sent", "answered", "lost", "retransmitted", "slowestMs", "lastAtMs", "woken", "lastWokenMs"}
 *   close GROUP
 *
 * `silent`: connections on which nothing has come back yet. `lost`: messages without an echo for 2 s. `lastAtMs`: when
 * anything came last, in ms since 1970; `woken`: woken connections that got their message back; `lastWokenMs`: when the last
 * of those messages was sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

enum { MESSAGE = 16, RING = 64, MAX_FLOWS = 1 << 16, MAX_PUSHES = 256, CHUNK = 1000 };
static const int64_t GRACE_NS = 2000000000, PUSH_INTERVAL_NS = 2000000, PUSH_NS = 60000000000, CONNECT_NS = 20000000;

struct message {
  char kind;
  char padding[3];
  uint32_t sequence;
  int64_t sent_at;
};
_Static_assert(sizeof(struct message) == MESSAGE, "message");

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "flows: %s: %s\n", what, strerror(errno));
  exit(3);
}

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static socklen_t parse_address(const char *text, unsigned port, struct sockaddr_storage *into) {
  struct sockaddr_in *v4 = (void *)into;
  struct sockaddr_in6 *v6 = (void *)into;
  memset(into, 0, sizeof *into);
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)port);
    return sizeof *v4;
  }
  if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    return sizeof *v6;
  }
  fprintf(stderr, "flows: %s: not an address\n", text);
  exit(2);
}

static int open_socket(int family, bool udp) {
  int fd = socket(family, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int on = 1;
  if (fd < 0) fail("socket");
  if (!udp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

static void watch(int poller, int fd, uint64_t data) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

/* ---- server ---- */

enum role { DATAGRAMS, LISTENER, STREAM };

struct push {
  int fd;
  struct sockaddr_storage peer;
  socklen_t peer_size; /* 0 for a stream */
  int64_t until;
  uint32_t sequence;
};

static struct push pushes[MAX_PUSHES];

static void begin_push(int fd, const struct sockaddr_storage *peer, socklen_t peer_size) {
  int64_t now = now_ns();
  for (int i = 0; i < MAX_PUSHES; i++) {
    if (pushes[i].until > now) continue;
    pushes[i] = (struct push){.fd = fd, .peer_size = peer_size, .until = now + PUSH_NS};
    if (peer) pushes[i].peer = *peer;
    return;
  }
  fprintf(stderr, "flows: more than %d clients to send to\n", MAX_PUSHES);
}

static void push_all(int64_t now) {
  static char chunk[CHUNK];
  for (int i = 0; i < MAX_PUSHES; i++) {
    struct push *push = &pushes[i];
    if (push->until <= now) continue;
    struct message message = {.kind = 'p', .sequence = push->sequence++, .sent_at = now};
    memcpy(chunk, &message, sizeof message);
    if (push->peer_size) (void)!sendto(push->fd, chunk, CHUNK, 0, (void *)&push->peer, push->peer_size);
    else (void)!send(push->fd, chunk, CHUNK, MSG_NOSIGNAL);
  }
}

static void end_stream(int fd) {
  for (int i = 0; i < MAX_PUSHES; i++)
    if (pushes[i].fd == fd && !pushes[i].peer_size) pushes[i].until = 0;
  close(fd);
}

static int serve(char *addresses, char *ports) {
  int poller = epoll_create1(EPOLL_CLOEXEC), size = 8 << 20, on = 1;
  char *rest;
  for (char *address = strtok_r(addresses, ",", &rest); address; address = strtok_r(0, ",", &rest)) {
    char list[256], *others;
    snprintf(list, sizeof list, "%s", ports);
    for (char *port = strtok_r(list, ",", &others); port; port = strtok_r(0, ",", &others)) {
      struct sockaddr_storage own;
      socklen_t own_size = parse_address(address, (unsigned)atoi(port), &own);
      for (int udp = 0; udp < 2; udp++) {
        int fd = open_socket(own.ss_family, udp);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
        if (bind(fd, (void *)&own, own_size)) fail("bind");
        if (!udp && listen(fd, 4096)) fail("listen");
        watch(poller, fd, (uint64_t)(udp ? DATAGRAMS : LISTENER) << 32 | (uint32_t)fd);
      }
    }
  }
  puts("ready");
  fflush(stdout);
  int64_t next_push = now_ns();
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, 2);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
      int fd = (int)(events[i].data.u64 & UINT32_MAX);
      enum role role = (enum role)(events[i].data.u64 >> 32);
      char data[4096];
      if (role == LISTENER) {
        for (int peer; (peer = accept4(fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
          setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          watch(poller, peer, (uint64_t)STREAM << 32 | (uint32_t)peer);
        }
        continue;
      }
      for (;;) {
        struct sockaddr_storage peer;
        socklen_t peer_size = sizeof peer;
        ssize_t length = recvfrom(fd, data, sizeof data, 0, (void *)&peer, &peer_size);
        if (length < 0 && role == DATAGRAMS && errno != EAGAIN) continue; /* an ICMP error */
        if (length < 0 && errno == EAGAIN) break;
        if (length <= 0 && role == STREAM) {
          end_stream(fd);
          break;
        }
        if (role == DATAGRAMS && data[0] == 'p') begin_push(fd, &peer, peer_size);
        else if (role == STREAM && data[0] == 'd') begin_push(fd, 0, 0);
        else if (role == DATAGRAMS) (void)!sendto(fd, data, (size_t)length, 0, (void *)&peer, peer_size);
        else (void)!send(fd, data, (size_t)length, MSG_NOSIGNAL);
      }
    }
    int64_t now = now_ns();
    if (now < next_push) continue;
    next_push = now + PUSH_INTERVAL_NS;
    push_all(now);
  }
}

/* ---- client ---- */

enum kind { ECHO_, PUSH, DOWNLOAD, IDLE };
static const char *const kinds[] = {"echo", "push", "download", "idle"};

struct flow {
  int fd; /* -1: a free place */
  char group[16];
  enum kind kind;
  bool udp, is_woken;
  int64_t interval;
  uint32_t sequence;   /* of the next message */
  uint64_t unanswered; /* of the last RING messages, by sequence % RING */
  int64_t sent_at[RING];
  unsigned long answered, lost;
  int64_t last_at, slowest, woken_at;
  size_t partial_length;
  char partial[MESSAGE];
};

static struct flow *flows;
static int64_t *due; /* when each flow sends next; apart, because all are looked at every millisecond */
static size_t flow_count;
static int poller;

static void send_message(size_t index, int64_t now) {
  struct flow *flow = &flows[index];
  uint64_t bit = 1ull << flow->sequence % RING;
  struct tcp_info info;
  socklen_t size = sizeof info;
  if (!flow->udp && !flow->sequence && !getsockopt(flow->fd, IPPROTO_TCP, TCP_INFO, &info, &size) && info.tcpi_state == TCP_SYN_SENT) {
    due[index] = now + CONNECT_NS; /* on a busy machine that takes its time */
    return;
  }
  if (flow->unanswered & bit) flow->lost++;
  flow->unanswered |= bit;
  flow->sent_at[flow->sequence % RING] = now;
  struct message message = {.kind = "epde"[flow->kind], .sequence = flow->sequence++, .sent_at = now};
  /* An ICMP error of an earlier message is reported here, and the message not sent. */
  if (send(flow->fd, &message, sizeof message, MSG_NOSIGNAL) < 0 && flow->udp) (void)!send(flow->fd, &message, sizeof message, MSG_NOSIGNAL);
}

static void take_echo(struct flow *flow, const struct message *message, int64_t now) {
  uint64_t bit = 1ull << message->sequence % RING;
  int64_t sent_at = flow->sent_at[message->sequence % RING];
  if (!(flow->unanswered & bit) || sent_at != message->sent_at) return;
  flow->unanswered &= ~bit;
  flow->answered++;
  if (now - sent_at > flow->slowest) flow->slowest = now - sent_at;
  if (flow->is_woken && sent_at >= flow->woken_at) flow->woken_at = sent_at;
  flow->last_at = now;
}

static void receive(size_t index) {
  struct flow *flow = &flows[index];
  char data[65536];
  for (;;) {
    ssize_t length = recv(flow->fd, data, sizeof data, 0);
    int64_t now = now_ns();
    if (length < 0 && errno == EAGAIN) return;
    if (length < 0 && flow->udp) continue; /* an ICMP error; the next call tells of no other */
    if (length <= 0) {
      epoll_ctl(poller, EPOLL_CTL_DEL, flow->fd, 0);
      return;
    }
    if (flow->kind == PUSH || flow->kind == DOWNLOAD) {
      flow->answered++;
      flow->last_at = now;
      continue;
    }
    /* The port may be an earlier connection's, to which the server is still sending. */
    if (flow->udp && length != MESSAGE) continue;
    for (char *at = data; length > 0;) {
      size_t part = MESSAGE - flow->partial_length;
      if (part > (size_t)length) part = (size_t)length;
      memcpy(flow->partial + flow->partial_length, at, part);
      flow->partial_length += part;
      at += part;
      length -= (ssize_t)part;
      if (flow->partial_length < MESSAGE) break;
      struct message message;
      memcpy(&message, flow->partial, sizeof message);
      take_echo(flow, &message, now);
      flow->partial_length = 0;
    }
  }
}

static void connect_flow(const char *group, enum kind kind, bool udp, const char *from, const char *to, unsigned port, int64_t interval, int64_t first) {
  size_t index = 0;
  while (index < flow_count && flows[index].fd >= 0) index++;
  if (index == MAX_FLOWS) {
    fprintf(stderr, "flows: more than %d connections\n", MAX_FLOWS);
    exit(2);
  }
  if (index == flow_count) flow_count++;
  struct sockaddr_storage own, peer;
  socklen_t own_size = parse_address(from, 0, &own), peer_size = parse_address(to, port, &peer);
  int fd = open_socket(peer.ss_family, udp), on = 1;
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  if (bind(fd, (void *)&own, own_size)) fail("bind");
  if (connect(fd, (void *)&peer, peer_size) && errno != EINPROGRESS) fail("connect");
  flows[index] = (struct flow){.fd = fd, .kind = kind, .udp = udp, .interval = interval};
  snprintf(flows[index].group, sizeof flows[index].group, "%s", group);
  due[index] = first;
  watch(poller, fd, index);
}

static void report(const char *group) {
  size_t count = 0, silent = 0, retransmitted = 0, woken = 0;
  unsigned long sent = 0, answered = 0, lost = 0;
  int64_t now = now_ns(), last_at = 0, slowest = 0, woken_at = 0;
  for (size_t i = 0; i < flow_count; i++) {
    struct flow *flow = &flows[i];
    if (flow->fd < 0 || strcmp(flow->group, group) != 0) continue;
    count++;
    if (!flow->answered) silent++;
    sent += flow->sequence;
    answered += flow->answered;
    lost += flow->lost;
    if (flow->kind == ECHO_ || flow->kind == IDLE)
      for (unsigned bit = 0; bit < RING; bit++) lost += (flow->unanswered >> bit & 1) && now - flow->sent_at[bit] > GRACE_NS;
    if (flow->last_at > last_at) last_at = flow->last_at;
    if (flow->slowest > slowest) slowest = flow->slowest;
    if (flow->woken_at) woken++;
    if (flow->woken_at > woken_at) woken_at = flow->woken_at;
    struct tcp_info info;
    socklen_t size = sizeof info;
    if (!flow->udp && !getsockopt(flow->fd, IPPROTO_TCP, TCP_INFO, &info, &size)) retransmitted += info.tcpi_total_retrans;
  }
  printf("{\"flows\":%zu,\"silent\":%zu,\"sent\":%lu,\"answered\":%lu,\"lost\":%lu,\"retransmitted\":%zu,\"slowestMs\":%.3f,\"lastAtMs\":%.3f,"
         "\"woken\":%zu,\"lastWokenMs\":%.3f}\n",
         count, silent, sent, answered, lost, retransmitted, (double)slowest / 1e6, (double)last_at / 1e6, woken,
         (double)woken_at / 1e6);
}

static void command(char *line) {
  char group[16], kind[16], protocol[4], from[64], to[64];
  unsigned port, count;
  long interval_us;
  int64_t now = now_ns();
  if (sscanf(line, "open %15s %15s %3s %63s %63s %u %u %ld", group, kind, protocol, from, to, &port, &count, &interval_us) == 8) {
    int64_t interval = interval_us * 1000;
    for (unsigned i = 0; i < count; i++) {
      for (enum kind each = ECHO_; each <= IDLE; each++) {
        /* TCP sends when it is connected: not at once. */
        int64_t first = now + CONNECT_NS + (each == ECHO_ ? interval * i / count : 0);
        if (strcmp(kind, kinds[each]) == 0) connect_flow(group, each, strcmp(protocol, "udp") == 0, from, to, port, interval, first);
      }
    }
    puts("{}");
  } else if (sscanf(line, "wake %15s %ld", group, &interval_us) == 2) {
    unsigned turn = 0;
    for (size_t i = 0; i < flow_count; i++) {
      if (flows[i].fd < 0 || strcmp(flows[i].group, group) != 0) continue;
      due[i] = now + interval_us * 1000 * turn++;
      flows[i].is_woken = true;
    }
    puts("{}");
  } else if (sscanf(line, "report %15s", group) == 1) {
    report(group);
  } else if (sscanf(line, "close %15s", group) == 1) {
    for (size_t i = 0; i < flow_count; i++) {
      if (flows[i].fd < 0 || strcmp(flows[i].group, group) != 0) continue;
      struct linger reset = {1, 0};
      if (!flows[i].udp) setsockopt(flows[i].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      close(flows[i].fd);
      flows[i].fd = -1;
      due[i] = INT64_MAX;
    }
    puts("{}");
  } else {
    fprintf(stderr, "flows: not a command: %s\n", line);
    exit(2);
  }
  fflush(stdout);
}

static int run_client(void) {
  static char input[1 << 16];
  size_t length = 0;
  poller = epoll_create1(EPOLL_CLOEXEC);
  flows = calloc(MAX_FLOWS, sizeof *flows);
  due = calloc(MAX_FLOWS, sizeof *due);
  if (poller < 0 || !flows || !due) fail("memory");
  watch(poller, STDIN_FILENO, UINT64_MAX);
  int64_t next = now_ns();
  for (;;) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, 1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
      if (events[i].data.u64 != UINT64_MAX) {
        receive(events[i].data.u64);
        continue;
      }
      ssize_t got = read(STDIN_FILENO, input + length, sizeof input - 1 - length);
      if (got <= 0) return 0;
      length += (size_t)got;
      for (char *end; (end = memchr(input, '\n', length));) {
        *end = 0;
        command(input);
        length -= (size_t)(end + 1 - input);
        memmove(input, end + 1, length);
      }
    }
    int64_t now = now_ns();
    if (now < next) continue;
    next = now + 500000;
    for (size_t i = 0; i < flow_count; i++) {
      if (due[i] > now) continue;
      /* What is behind skips a turn: more at once would be another load. */
      due[i] = flows[i].kind != ECHO_ ? INT64_MAX : due[i] + flows[i].interval > now ? due[i] + flows[i].interval : now + flows[i].interval;
      send_message(i, now);
    }
  }
}

int main(int argc, char **argv) {
  struct rlimit files = {1 << 17, 1 << 17};
  setrlimit(RLIMIT_NOFILE, &files);
  if (argc == 4 && strcmp(argv[1], "server") == 0) return serve(argv[2], argv[3]);
  if (argc == 2 && strcmp(argv[1], "client") == 0) return run_client();
  fprintf(stderr, "usage: flows server ADDRESS[,ADDRESS...] PORT[,PORT...] | flows client\n");
  return 2;
}
