#define _GNU_SOURCE
/*
 * Packets that ordinary sockets do not send, and a look at what arrives.
 *
 *   raw ping SRC DST [--timeout MS] [--count N]
 *   raw send IFACE DSTMAC|auto                    hex lines on standard input
 *   raw send any routed                           likewise, on the way that the kernel routes them: past its output
 *   raw sniff IFACE|any SECONDS [--count N] [--outgoing]
 *   raw syn SRC DST PORT [--flags SAFRPU] [--sport N] [--seq N] [--ack N] [--count N] [--wait MS]
 *
 * Everything is layer 3: packets begin with the IPv4 or IPv6 header. Exit status: 0 done (ping, --wait: answered),
 * 1 no answer, 2 usage, 3 the system refused.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
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

enum { EXIT_NO_ANSWER = 1, EXIT_USAGE = 2, EXIT_SYSTEM = 3, MAX_PACKET = 65535 };

struct endpoint {
  struct sockaddr_storage address;
  socklen_t length;
};

static _Noreturn void usage(void) {
  fprintf(stderr, "usage: raw ping SRC DST [--timeout MS] [--count N]\n"
                  "       raw send IFACE DSTMAC|auto <HEXLINES\n"
                  "       raw send any routed <HEXLINES\n"
                  "       raw sniff IFACE|any SECONDS [--count N] [--outgoing]\n"
                  "       raw syn SRC DST PORT [--flags SAFRPU] [--sport N] [--seq N] [--ack N] [--count N] [--wait MS]\n");
  exit(EXIT_USAGE);
}

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "raw: %s: %s\n", what, strerror(errno));
  exit(EXIT_SYSTEM);
}

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static unsigned long number(const char *text, unsigned long max) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 0);
  if (errno || *text == '\0' || *end != '\0' || value > max) {
    fprintf(stderr, "raw: %s: not a number up to %lu\n", text, max);
    exit(EXIT_USAGE);
  }
  return value;
}

static struct endpoint endpoint(const char *text) {
  struct endpoint result = {0};
  struct sockaddr_in *v4 = (struct sockaddr_in *)&result.address;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&result.address;
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    result.length = sizeof *v4;
  } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    result.length = sizeof *v6;
  } else {
    fprintf(stderr, "raw: %s: not an address\n", text);
    exit(EXIT_USAGE);
  }
  return result;
}

static int family(const struct endpoint *end) { return end->address.ss_family; }

static const void *address_bytes(const struct endpoint *end) {
  return family(end) == AF_INET ? (const void *)&((const struct sockaddr_in *)&end->address)->sin_addr
                                : (const void *)&((const struct sockaddr_in6 *)&end->address)->sin6_addr;
}

static size_t address_size(const struct endpoint *end) { return family(end) == AF_INET ? 4 : 16; }

static void same_family(const struct endpoint *source, const struct endpoint *destination) {
  if (family(source) == family(destination)) return;
  fprintf(stderr, "raw: SRC and DST are of different families\n");
  exit(EXIT_USAGE);
}

/* RFC 1071, without the final complement. */
static uint32_t add_to_sum(uint32_t sum, const void *data, size_t length) {
  const uint8_t *bytes = data;
  for (; length > 1; length -= 2, bytes += 2) sum += (uint32_t)(bytes[0] << 8 | bytes[1]);
  if (length) sum += (uint32_t)(bytes[0] << 8);
  return sum;
}

static uint16_t finish_sum(uint32_t sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

/* ---- ping ---- */

static bool is_echo_reply(int ip_family, const uint8_t *packet, ssize_t length, uint16_t id, uint16_t sequence) {
  if (ip_family == AF_INET) {
    if (length < 20 || length < (packet[0] & 15) * 4 + 8) return false;
    packet += (packet[0] & 15) * 4; /* IPv6 raw sockets deliver no IP header */
  } else if (length < 8) {
    return false;
  }
  uint8_t reply = ip_family == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
  return packet[0] == reply && packet[4] == id >> 8 && packet[5] == (id & 255) && packet[6] == sequence >> 8 &&
         packet[7] == (sequence & 255);
}

/* An ICMP error that quotes our echo request; gives its type and code. */
static bool is_error(int ip_family, const uint8_t *packet, ssize_t length, uint16_t id, uint8_t *type, uint8_t *code) {
  if (ip_family == AF_INET) {
    if (length < 20) return false;
    ssize_t header = (packet[0] & 15) * 4;
    packet += header;
    length -= header;
  }
  ssize_t quoted = ip_family == AF_INET ? 20 : 40;
  if (length < 8 + quoted + 8) return false;
  bool error = ip_family == AF_INET ? packet[0] == ICMP_DEST_UNREACH || packet[0] == ICMP_TIME_EXCEEDED : packet[0] < 128;
  const uint8_t *request = packet + 8 + quoted;
  if (!error || request[0] != (ip_family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST)) return false;
  if (request[4] != id >> 8 || request[5] != (id & 255)) return false;
  *type = packet[0];
  *code = packet[1];
  return true;
}

static int ping(int argc, char **argv) {
  static const struct option options[] = {{"timeout", 1, 0, 't'}, {"count", 1, 0, 'c'}, {0}};
  unsigned long timeout = 1000, count = 1;
  for (int option; (option = getopt_long(argc, argv, "", options, 0)) != -1;) {
    if (option == 't') timeout = number(optarg, 600000);
    else if (option == 'c') count = number(optarg, 65535);
    else usage();
  }
  if (argc - optind != 2) usage();
  struct endpoint source = endpoint(argv[optind]), destination = endpoint(argv[optind + 1]);
  same_family(&source, &destination);
  int ip_family = family(&source);
  int fd = socket(ip_family, SOCK_RAW | SOCK_CLOEXEC, ip_family == AF_INET ? IPPROTO_ICMP : (int)IPPROTO_ICMPV6);
  if (fd < 0) fail("socket");
  if (bind(fd, (struct sockaddr *)&source.address, source.length)) fail("bind");
  uint16_t id = (uint16_t)getpid();
  unsigned long answered = 0;
  for (uint16_t sequence = 1; sequence <= count; sequence++) {
    uint8_t request[16] = {ip_family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST};
    memcpy(request + 8, "knp test", 8);
    request[4] = (uint8_t)(id >> 8), request[5] = (uint8_t)id;
    request[6] = (uint8_t)(sequence >> 8), request[7] = (uint8_t)sequence;
    /* The kernel fills in the ICMPv6 checksum itself. */
    uint16_t sum = finish_sum(add_to_sum(0, request, sizeof request));
    if (ip_family == AF_INET) memcpy(request + 2, &sum, 2);
    double start = now_ms();
    if (sendto(fd, request, sizeof request, 0, (struct sockaddr *)&destination.address, destination.length) < 0) {
      printf("error %s\n", strerrorname_np(errno));
      continue;
    }
    for (;;) {
      int left = (int)(start + (double)timeout - now_ms() + 0.999);
      struct pollfd poller = {.fd = fd, .events = POLLIN};
      if (left <= 0 || poll(&poller, 1, left) == 0) {
        printf("timeout\n");
        break;
      }
      uint8_t packet[2048], type, code;
      ssize_t length = recv(fd, packet, sizeof packet, 0);
      if (length < 0) continue;
      if (is_echo_reply(ip_family, packet, length, id, sequence)) {
        printf("reply %.3f ms\n", now_ms() - start);
        answered++;
        break;
      }
      if (is_error(ip_family, packet, length, id, &type, &code)) {
        printf("unreachable type %u code %u\n", type, code);
        break;
      }
    }
    fflush(stdout);
  }
  return answered == count ? 0 : EXIT_NO_ANSWER;
}

/* ---- send ---- */

/* The link-layer address of the interface's one neighbour, which need not be known for the family that is sent. */
static bool neighbour(unsigned index, uint8_t *mac) {
  struct {
    struct nlmsghdr header;
    struct ndmsg body;
  } request = {{sizeof request, RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {.ndm_ifindex = (int)index}};
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0 || send(fd, &request, sizeof request, 0) < 0) fail("rtnetlink");
  bool found = false;
  for (;;) {
    static uint8_t buffer[65536] __attribute__((aligned(8)));
    ssize_t received = recv(fd, buffer, sizeof buffer, 0);
    if (received < 0) fail("rtnetlink");
    int left = (int)received;
    for (struct nlmsghdr *header = (void *)buffer; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) {
        close(fd);
        return found;
      }
      struct ndmsg *body = NLMSG_DATA(header);
      int usable = NUD_PERMANENT | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE;
      if (found || body->ndm_ifindex != (int)index || !(body->ndm_state & usable)) continue;
      int size = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof *body));
      struct rtattr *attribute = (void *)((uint8_t *)body + NLMSG_ALIGN(sizeof *body));
      for (; RTA_OK(attribute, size); attribute = RTA_NEXT(attribute, size)) {
        if (attribute->rta_type == NDA_LLADDR && RTA_PAYLOAD(attribute) == ETH_ALEN) {
          memcpy(mac, RTA_DATA(attribute), ETH_ALEN);
          found = true;
        }
      }
    }
  }
}

static ssize_t decode_hex(const char *line, uint8_t *packet) {
  ssize_t length = 0;
  int nibbles = 0, value = 0;
  for (; *line && *line != '\n'; line++) {
    if (*line == ' ' || *line == '\t' || *line == '\r') continue;
    int digit = *line >= '0' && *line <= '9'                   ? *line - '0'
                : (*line | 32) >= 'a' && (*line | 32) <= 'f' ? (*line | 32) - 'a' + 10
                                                             : -1;
    if (digit < 0 || length == MAX_PACKET) return -1;
    value = value << 4 | digit;
    if (++nibbles == 2) {
      packet[length++] = (uint8_t)value;
      nibbles = value = 0;
    }
  }
  return nibbles ? -1 : length;
}

/* IPPROTO_RAW sends the IP header as given, also for IPv6. */
static int send_routed(const uint8_t *packet, ssize_t length) {
  bool v6 = packet[0] >> 4 == 6;
  struct sockaddr_in to4 = {.sin_family = AF_INET};
  struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};
  if (length < (v6 ? 40 : 20)) return -1;
  memcpy(v6 ? (void *)&to6.sin6_addr : (void *)&to4.sin_addr, packet + (v6 ? 24 : 16), v6 ? 16 : 4);
  int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  int on = 1;
  if (fd < 0 || (v6 && setsockopt(fd, IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof on))) fail("socket");
  ssize_t sent = sendto(fd, packet, (size_t)length, 0, v6 ? (struct sockaddr *)&to6 : (struct sockaddr *)&to4,
                        v6 ? sizeof to6 : sizeof to4);
  close(fd);
  return sent == length ? 0 : -1;
}

static int send_lines(int argc, char **argv) {
  if (argc != 3) usage();
  bool routed = strcmp(argv[2], "routed") == 0;
  struct sockaddr_ll target = {.sll_family = AF_PACKET, .sll_halen = ETH_ALEN};
  target.sll_ifindex = (int)if_nametoindex(argv[1]);
  if (!target.sll_ifindex && !routed) fail(argv[1]);
  if (strcmp(argv[2], "auto") == 0) {
    if (!neighbour((unsigned)target.sll_ifindex, target.sll_addr)) {
      fprintf(stderr, "raw: %s: no neighbour is known\n", argv[1]);
      return EXIT_SYSTEM;
    }
  } else if (!routed &&
             sscanf(argv[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &target.sll_addr[0], &target.sll_addr[1], &target.sll_addr[2],
                    &target.sll_addr[3], &target.sll_addr[4], &target.sll_addr[5]) != 6) {
    usage();
  }
  int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  char *line = 0;
  size_t capacity = 0;
  unsigned long sent = 0, number_of_line = 0;
  int status = 0;
  while (getline(&line, &capacity, stdin) >= 0) {
    static uint8_t packet[MAX_PACKET];
    number_of_line++;
    ssize_t length = decode_hex(line, packet);
    if (length == 0) continue;
    if (length < 0) {
      fprintf(stderr, "raw: line %lu: not hex\n", number_of_line);
      status = EXIT_USAGE;
      continue;
    }
    target.sll_protocol = htons(packet[0] >> 4 == 6 ? ETH_P_IPV6 : ETH_P_IP);
    if (routed ? send_routed(packet, length) == 0
               : sendto(fd, packet, (size_t)length, 0, (struct sockaddr *)&target, sizeof target) == length) {
      sent++;
    } else {
      fprintf(stderr, "raw: line %lu: %s\n", number_of_line, strerror(errno));
      status = EXIT_SYSTEM;
    }
  }
  free(line);
  printf("sent %lu\n", sent);
  return status;
}

/* ---- sniff ---- */

static int sniff(int argc, char **argv) {
  static const struct option options[] = {{"count", 1, 0, 'c'}, {"outgoing", 0, 0, 'o'}, {0}};
  unsigned long count = ~0ul;
  bool outgoing = false;
  for (int option; (option = getopt_long(argc, argv, "", options, 0)) != -1;) {
    if (option == 'c') count = number(optarg, 1ul << 32);
    else if (option == 'o') outgoing = true;
    else usage();
  }
  if (argc - optind != 2) usage();
  const char *interface = argv[optind];
  double end = now_ms() + strtod(argv[optind + 1], 0) * 1000;
  struct sockaddr_ll source = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  if (strcmp(interface, "any") != 0 && !(source.sll_ifindex = (int)if_nametoindex(interface))) fail(interface);
  /* Protocol 0 until bound: nothing of other interfaces gets in between. */
  int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int buffer = 64 << 20;
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  if (bind(fd, (struct sockaddr *)&source, sizeof source)) fail("bind");
  fprintf(stderr, "ready\n");
  unsigned long seen = 0;
  while (seen < count) {
    int left = (int)(end - now_ms() + 0.999);
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    if (left <= 0 || poll(&poller, 1, left) == 0) break;
    static uint8_t packet[MAX_PACKET];
    static char text[2 * MAX_PACKET + 1];
    struct sockaddr_ll from;
    socklen_t from_length = sizeof from;
    ssize_t length = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &from_length);
    if (length < 0) continue;
    if ((from.sll_pkttype == PACKET_OUTGOING) != outgoing) continue;
    if (from.sll_protocol != htons(ETH_P_IP) && from.sll_protocol != htons(ETH_P_IPV6)) continue;
    for (ssize_t i = 0; i < length; i++) {
      text[2 * i] = "0123456789abcdef"[packet[i] >> 4];
      text[2 * i + 1] = "0123456789abcdef"[packet[i] & 15];
    }
    text[2 * length] = '\0';
    puts(text);
    fflush(stdout);
    seen++;
  }
  return 0;
}

/* ---- syn ---- */

static uint8_t tcp_flags(const char *text) {
  static const char letters[] = "FSRPAU";
  uint8_t flags = 0;
  for (; *text; text++) {
    const char *found = strchr(letters, *text);
    if (!found) usage();
    flags |= (uint8_t)(1 << (found - letters));
  }
  return flags;
}

static size_t build_tcp(uint8_t *packet, const struct endpoint *source, const struct endpoint *destination,
                        const struct tcphdr *tcp) {
  size_t size = address_size(source);
  size_t header = size == 4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
  if (size == 4) {
    /* The kernel fills in identification and checksum. */
    struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP};
    ip.tot_len = htons((uint16_t)(header + sizeof *tcp));
    memcpy(&ip.saddr, address_bytes(source), 4);
    memcpy(&ip.daddr, address_bytes(destination), 4);
    memcpy(packet, &ip, header);
  } else {
    struct ip6_hdr ip = {0};
    ip.ip6_vfc = 6 << 4;
    ip.ip6_plen = htons(sizeof *tcp);
    ip.ip6_nxt = IPPROTO_TCP;
    ip.ip6_hlim = 64;
    memcpy(&ip.ip6_src, address_bytes(source), 16);
    memcpy(&ip.ip6_dst, address_bytes(destination), 16);
    memcpy(packet, &ip, header);
  }
  struct tcphdr complete = *tcp;
  uint32_t sum = add_to_sum(IPPROTO_TCP + sizeof *tcp, address_bytes(source), size);
  sum = add_to_sum(sum, address_bytes(destination), size);
  complete.check = finish_sum(add_to_sum(sum, tcp, sizeof *tcp));
  memcpy(packet + header, &complete, sizeof complete);
  return header + sizeof complete;
}

/* Prints the first answer from the destination's port to ours. */
static bool await_answer(int fd, const struct endpoint *destination, const struct tcphdr *sent, unsigned long wait) {
  double end = now_ms() + (double)wait;
  for (;;) {
    int left = (int)(end - now_ms() + 0.999);
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    if (left <= 0 || poll(&poller, 1, left) == 0) {
      printf("timeout\n");
      return false;
    }
    uint8_t packet[2048];
    struct endpoint from = {.length = sizeof from.address};
    ssize_t length = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&from.address, &from.length);
    ssize_t skip = family(destination) == AF_INET && length >= 20 ? (packet[0] & 15) * 4 : 0;
    struct tcphdr tcp;
    if (length < skip + (ssize_t)sizeof tcp) continue;
    memcpy(&tcp, packet + skip, sizeof tcp);
    if (memcmp(address_bytes(&from), address_bytes(destination), address_size(destination)) != 0) continue;
    if (tcp.source != sent->dest || tcp.dest != sent->source) continue;
    printf("answer %s%s%s%s\n", tcp.syn ? "S" : "", tcp.rst ? "R" : "", tcp.fin ? "F" : "", tcp.ack ? "A" : "");
    return true;
  }
}

static int syn(int argc, char **argv) {
  static const struct option options[] = {{"flags", 1, 0, 'f'}, {"sport", 1, 0, 's'}, {"seq", 1, 0, 'q'},
                                          {"ack", 1, 0, 'a'},   {"count", 1, 0, 'c'}, {"wait", 1, 0, 'w'}, {0}};
  unsigned long count = 1, wait = 0;
  struct tcphdr tcp = {.doff = 5, .window = htons(64240)};
  uint8_t flags = tcp_flags("S");
  tcp.source = htons((uint16_t)(32768 + getpid() % 28000));
  tcp.seq = htonl(1000);
  for (int option; (option = getopt_long(argc, argv, "", options, 0)) != -1;) {
    if (option == 'f') flags = tcp_flags(optarg);
    else if (option == 's') tcp.source = htons((uint16_t)number(optarg, 65535));
    else if (option == 'q') tcp.seq = htonl((uint32_t)number(optarg, UINT32_MAX));
    else if (option == 'a') tcp.ack_seq = htonl((uint32_t)number(optarg, UINT32_MAX));
    else if (option == 'c') count = number(optarg, 1ul << 32);
    else if (option == 'w') wait = number(optarg, 600000);
    else usage();
  }
  if (argc - optind != 3) usage();
  struct endpoint source = endpoint(argv[optind]), destination = endpoint(argv[optind + 1]);
  same_family(&source, &destination);
  tcp.dest = htons((uint16_t)number(argv[optind + 2], 65535));
  tcp.th_flags = flags;
  /* IPPROTO_RAW sends the IP header as given, also for IPv6. */
  int fd = socket(family(&source), SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  int receiver = socket(family(&source), SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP);
  if (fd < 0 || receiver < 0) fail("socket");
  int on = 1;
  if (family(&source) == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_HDRINCL, &on, sizeof on)) fail("IPV6_HDRINCL");
  uint8_t packet[128];
  size_t length = build_tcp(packet, &source, &destination, &tcp);
  unsigned long sent = 0;
  for (unsigned long i = 0; i < count; i++) {
    if (sendto(fd, packet, length, 0, (struct sockaddr *)&destination.address, destination.length) < 0) fail("send");
    sent++;
  }
  printf("sent %lu\n", sent);
  fflush(stdout);
  if (wait && !await_answer(receiver, &destination, &tcp, wait)) return EXIT_NO_ANSWER;
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 2) usage();
  if (strcmp(argv[1], "ping") == 0) return ping(argc - 1, argv + 1);
  if (strcmp(argv[1], "send") == 0) return send_lines(argc - 1, argv + 1);
  if (strcmp(argv[1], "sniff") == 0) return sniff(argc - 1, argv + 1);
  if (strcmp(argv[1], "syn") == 0) return syn(argc - 1, argv + 1);
  usage();
}
