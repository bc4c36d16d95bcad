/*
 * /agnhost in the pods' image. Where the kernel has SCTP it is the real program, /agnhost.real. Where it has none, it does
 * what the suites ask of SCTP over a raw socket: it listens for `porter`, and calls for `connect`. The packets are those
 * of RFC 9260's handshake (INIT, INIT ACK, COOKIE ECHO, COOKIE ACK), so that connection tracking, translation and
 * policies see real associations. IPv4 only. Everything but SCTP is the real program's.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum chunk { INIT = 1, INIT_ACK = 2, ABORT = 6, COOKIE_ECHO = 10, COOKIE_ACK = 11 };
enum { HEADER = 12, CHUNK = 4, INIT_BODY = 16, STATE_COOKIE = 7, WINDOW = 64 << 10, RESEND_MS = 500 };

struct packet {
  struct in_addr peer;
  uint16_t from, to;
  uint32_t tag;
  uint8_t type;
  uint8_t body[64];
  size_t length; /* of the body, a multiple of 4 */
};

static uint16_t load16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t load32(const uint8_t *at) { return (uint32_t)load16(at) << 16 | load16(at + 2); }
static void store16(uint8_t *at, uint32_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}
static void store32(uint8_t *at, uint32_t value) {
  store16(at, value >> 16);
  store16(at + 2, value & 0xffff);
}

static int fail(const char *message) {
  fprintf(stderr, "%s\n", message);
  return 1;
}

static long now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static uint32_t random_tag(void) {
  uint32_t value = 0;
  if (getrandom(&value, sizeof value, 0) != sizeof value) value = (uint32_t)now_ms();
  return value | 1; /* 0 is no tag */
}

/* CRC-32c (RFC 3309), a bit at a time: a few packets a second are all there is. */
static uint32_t checksum(const uint8_t *bytes, size_t length) {
  uint32_t remainder = 0xffffffff;
  for (size_t i = 0; i < length * 8; i++) {
    const bool bit = (bytes[i / 8] >> i % 8 & 1) != (remainder & 1);
    remainder = remainder >> 1 ^ (bit ? 0x82f63b78 : 0);
  }
  return ~remainder;
}

static void send_packet(int fd, const struct packet *packet) {
  uint8_t bytes[HEADER + CHUNK + sizeof packet->body] = {0};
  const size_t length = HEADER + CHUNK + packet->length;
  store16(bytes, packet->from);
  store16(bytes + 2, packet->to);
  store32(bytes + 4, packet->tag);
  bytes[HEADER] = packet->type;
  store16(bytes + HEADER + 2, (uint32_t)(CHUNK + packet->length));
  memcpy(bytes + HEADER + CHUNK, packet->body, packet->length);
  const uint32_t sum = checksum(bytes, length);
  for (int i = 0; i < 4; i++) bytes[8 + i] = (uint8_t)(sum >> 8 * i); /* the one field with its low byte first */
  const struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = packet->peer};
  sendto(fd, bytes, length, 0, (const struct sockaddr *)&to, sizeof to);
}

/* The next packet, of which the first chunk counts. False when `until` (-1: never) has come. */
static bool receive_packet(int fd, struct packet *packet, long until) {
  for (;;) {
    const long left = until - now_ms();
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    if (until >= 0 && left <= 0) return false;
    if (poll(&waiting, 1, until < 0 ? -1 : (int)left) <= 0) continue;
    uint8_t bytes[2048];
    const ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    const size_t start = (bytes[0] & 15) * 4;
    if (got < 20 || (size_t)got < start + HEADER + CHUNK) continue;
    const uint8_t *at = bytes + start;
    const size_t body = load16(at + HEADER + 2);
    if (body < CHUNK || (size_t)got < start + HEADER + body) continue;
    memcpy(&packet->peer, bytes + 12, sizeof packet->peer);
    packet->from = load16(at);
    packet->to = load16(at + 2);
    packet->tag = load32(at + 4);
    packet->type = at[HEADER];
    packet->length = body - CHUNK < sizeof packet->body ? body - CHUNK : sizeof packet->body;
    memcpy(packet->body, at + HEADER + CHUNK, packet->length);
    return true;
  }
}

static size_t init_body(uint8_t *body, uint32_t tag) {
  store32(body, tag);
  store32(body + 4, WINDOW);
  store16(body + 8, 1);
  store16(body + 10, 1);
  store32(body + 12, tag);
  return INIT_BODY;
}

/* Makes the COOKIE ECHO that answers an INIT ACK. False when there is no cookie that fits. */
static bool echo_cookie(const struct packet *ack, struct packet *echo) {
  for (size_t at = INIT_BODY; at + 4 <= ack->length;) {
    const size_t length = load16(ack->body + at + 2);
    if (length < 4 || at + length > ack->length) return false;
    if (load16(ack->body + at) == STATE_COOKIE) {
      echo->type = COOKIE_ECHO;
      echo->tag = load32(ack->body);
      echo->length = length - 4;
      memcpy(echo->body, ack->body + at + 4, echo->length);
      return true;
    }
    at += (length + 3) / 4 * 4;
  }
  return false;
}

static int call(const char *target, long timeout_ms) {
  char host[INET_ADDRSTRLEN];
  const char *colon = strrchr(target, ':');
  struct packet next = {.type = INIT};
  if (!colon || (size_t)(colon - target) >= sizeof host) return fail("OTHER: not an IPv4 address and a port");
  memcpy(host, target, (size_t)(colon - target));
  host[colon - target] = 0;
  if (inet_pton(AF_INET, host, &next.peer) != 1) return fail("OTHER: not an IPv4 address");
  const int fd = socket(AF_INET, SOCK_RAW, IPPROTO_SCTP);
  if (fd < 0) return fail("OTHER: no raw socket");
  const uint32_t tag = random_tag();
  next.from = (uint16_t)(32768 + random_tag() % 28000);
  next.to = (uint16_t)atoi(colon + 1);
  next.length = init_body(next.body, tag);
  const long end = now_ms() + timeout_ms;
  while (now_ms() < end) {
    send_packet(fd, &next);
    const long again = now_ms() + RESEND_MS < end ? now_ms() + RESEND_MS : end;
    struct packet got;
    while (receive_packet(fd, &got, again)) {
      if (got.peer.s_addr != next.peer.s_addr || got.from != next.to || got.to != next.from || got.tag != tag) continue;
      if (got.type == ABORT) return fail("REFUSED");
      if (got.type == INIT_ACK && next.type == INIT && echo_cookie(&got, &next)) break;
      if (got.type == COOKIE_ACK) {
        next.type = ABORT;
        next.length = 0;
        send_packet(fd, &next);
        return 0;
      }
    }
  }
  return fail("TIMEOUT");
}

/* Answers every INIT and every COOKIE ECHO to the ports of SERVE_SCTP_PORT_*; keeps nothing of either. */
static void listen_forever(int fd, const bool *is_open) {
  const uint32_t tag = random_tag();
  struct packet got;
  while (receive_packet(fd, &got, -1)) {
    struct packet answer = {.peer = got.peer, .from = got.to, .to = got.from};
    if (!is_open[got.to]) continue;
    if (got.type == INIT && got.length >= INIT_BODY) {
      answer.type = INIT_ACK;
      answer.tag = load32(got.body);
      answer.length = init_body(answer.body, tag);
      store16(answer.body + answer.length, STATE_COOKIE);
      store16(answer.body + answer.length + 2, 8);
      memcpy(answer.body + answer.length + 4, got.body, 4);
      answer.length += 8;
      send_packet(fd, &answer);
    } else if (got.type == COOKIE_ECHO && got.length >= 4 && got.tag == tag) {
      answer.type = COOKIE_ACK;
      answer.tag = load32(got.body);
      send_packet(fd, &answer);
    }
  }
}

static int serve(void) {
  static bool is_open[1 << 16];
  static const char prefix[] = "SERVE_SCTP_PORT_";
  bool any = false;
  for (char **variable = environ; *variable; variable++) {
    if (strncmp(*variable, prefix, sizeof prefix - 1) != 0) continue;
    is_open[atoi(*variable + sizeof prefix - 1) & 0xffff] = any = true;
  }
  if (!any) return -1;
  const int fd = socket(AF_INET, SOCK_RAW, IPPROTO_SCTP);
  if (fd < 0) return fail("OTHER: no raw socket");
  listen_forever(fd, is_open);
  return 0;
}

/* `--timeout=3s`, `=500ms`, `=1m` */
static long milliseconds(const char *text) {
  char *unit;
  const double value = strtod(text, &unit);
  return (long)(value * (strcmp(unit, "ms") == 0 ? 1 : *unit == 'm' ? 60000 : 1000));
}

static int stand_in(int count, char **arguments) {
  if (count > 1 && strcmp(arguments[1], "porter") == 0) return serve();
  if (count < 2 || strcmp(arguments[1], "connect") != 0) return -1;
  const char *target = NULL;
  bool is_sctp = false;
  long timeout_ms = 3000;
  for (int i = 2; i < count; i++) {
    if (strcmp(arguments[i], "--protocol=sctp") == 0) is_sctp = true;
    else if (strncmp(arguments[i], "--timeout=", 10) == 0) timeout_ms = milliseconds(arguments[i] + 10);
    else if (arguments[i][0] != '-') target = arguments[i];
  }
  return is_sctp && target ? call(target, timeout_ms) : -1;
}

int main(int count, char **arguments) {
  const int kernel = socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP);
  if (kernel < 0) {
    const int status = stand_in(count, arguments);
    if (status >= 0) return status;
  } else {
    close(kernel);
  }
  execv("/agnhost.real", arguments);
  return fail("OTHER: /agnhost.real is missing");
}
