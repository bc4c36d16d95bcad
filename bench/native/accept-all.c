/*
 * The least a queue listener can do: accepts every packet with a mark. What knp is compared with.
 *
 *   accept-all QUEUE [--mark-and MASK] [--mark-or BITS] [--copy BYTES] [--max-length PACKETS]
 *
 * A packet's answer is NF_ACCEPT with mark (its mark & MASK) | BITS. Many packets are received with one call and answered
 * with one. Prints "ready" when bound; ends on SIGTERM or SIGINT and then prints {"packets", "batches", "lost"}.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, VERDICT_SIZE = 48 };

static volatile sig_atomic_t stopped;

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "accept-all: %s: %s\n", what, strerror(errno));
  exit(3);
}

static struct nlmsghdr *put_header(void *buffer, uint16_t type, uint16_t flags, uint16_t queue) {
  struct nlmsghdr *header = buffer;
  memset(buffer, 0, NLMSG_LENGTH(sizeof(struct nfgenmsg)));
  header->nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg));
  header->nlmsg_type = (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | type);
  header->nlmsg_flags = NLM_F_REQUEST | flags;
  struct nfgenmsg *body = NLMSG_DATA(header);
  body->version = NFNETLINK_V0;
  body->res_id = htons(queue);
  return header;
}

static void put_attribute(struct nlmsghdr *header, uint16_t type, const void *data, uint16_t length) {
  struct nlattr *attribute = (void *)((char *)header + NLMSG_ALIGN(header->nlmsg_len));
  attribute->nla_type = type;
  attribute->nla_len = (uint16_t)(NLA_HDRLEN + length);
  memcpy((char *)attribute + NLA_HDRLEN, data, length);
  header->nlmsg_len = (uint32_t)(NLMSG_ALIGN(header->nlmsg_len) + NLA_ALIGN(attribute->nla_len));
}

/* Sends a configuration message and waits for the kernel's word on it. */
static void configure(int fd, struct nlmsghdr *header, const char *what) {
  char answer[8192] __attribute__((aligned(8)));
  if (send(fd, header, header->nlmsg_len, 0) < 0) fail(what);
  for (;;) {
    ssize_t length = recv(fd, answer, sizeof answer, 0);
    if (length < 0) fail(what);
    struct nlmsghdr *reply = (void *)answer;
    if (reply->nlmsg_type != NLMSG_ERROR) continue;
    errno = -((struct nlmsgerr *)NLMSG_DATA(reply))->error;
    if (errno) fail(what);
    return;
  }
}

static void bind_queue(int fd, uint16_t queue, uint32_t copy, uint32_t max_length) {
  char buffer[256] __attribute__((aligned(8)));
  struct nlmsghdr *header = put_header(buffer, NFQNL_MSG_CONFIG, NLM_F_ACK, queue);
  struct nfqnl_msg_config_cmd command = {.command = NFQNL_CFG_CMD_BIND};
  put_attribute(header, NFQA_CFG_CMD, &command, sizeof command);
  configure(fd, header, "bind");
  header = put_header(buffer, NFQNL_MSG_CONFIG, NLM_F_ACK, queue);
  struct nfqnl_msg_config_params parameters = {.copy_range = htonl(copy), .copy_mode = NFQNL_COPY_PACKET};
  uint32_t flags = htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN), length = htonl(max_length);
  put_attribute(header, NFQA_CFG_PARAMS, &parameters, sizeof parameters);
  put_attribute(header, NFQA_CFG_FLAGS, &flags, sizeof flags);
  put_attribute(header, NFQA_CFG_MASK, &flags, sizeof flags);
  put_attribute(header, NFQA_CFG_QUEUE_MAXLEN, &length, sizeof length);
  configure(fd, header, "configure");
}

/* Appends the verdict on a packet and returns its length, or 0 if the message is no packet. */
static size_t answer(const struct nlmsghdr *message, char *into, uint32_t mark_and, uint32_t mark_or) {
  if (message->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET)) return 0;
  const struct nfgenmsg *body = NLMSG_DATA(message);
  const char *position = (const char *)body + NLMSG_ALIGN(sizeof *body);
  const char *end = (const char *)message + message->nlmsg_len;
  uint32_t mark = 0, id = 0;
  for (const struct nlattr *attribute; position + NLA_HDRLEN <= end; position += NLA_ALIGN(attribute->nla_len)) {
    attribute = (const void *)position;
    if (attribute->nla_len < NLA_HDRLEN) break;
    uint16_t type = attribute->nla_type & NLA_TYPE_MASK;
    if (type == NFQA_PACKET_HDR) memcpy(&id, position + NLA_HDRLEN, sizeof id);
    if (type == NFQA_MARK) memcpy(&mark, position + NLA_HDRLEN, sizeof mark);
    if (type == NFQA_PAYLOAD) break;
  }
  struct nlmsghdr *header = put_header(into, NFQNL_MSG_VERDICT, 0, ntohs(body->res_id));
  struct nfqnl_msg_verdict_hdr verdict = {.verdict = htonl(NF_ACCEPT), .id = id};
  put_attribute(header, NFQA_VERDICT_HDR, &verdict, sizeof verdict);
  mark = htonl((ntohl(mark) & mark_and) | mark_or);
  put_attribute(header, NFQA_MARK, &mark, sizeof mark);
  return header->nlmsg_len;
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"mark-and", 1, 0, 'a'}, {"mark-or", 1, 0, 'o'}, {"copy", 1, 0, 'c'}, {"max-length", 1, 0, 'l'}, {0}};
  uint32_t mark_and = UINT32_MAX, mark_or = 0, copy = 160, max_length = 8192;
  for (int option; (option = getopt_long(argc, argv, "", options, 0)) != -1;) {
    uint32_t value = optarg ? (uint32_t)strtoul(optarg, 0, 0) : 0;
    switch (option) {
      case 'a': mark_and = value; break;
      case 'o': mark_or = value; break;
      case 'c': copy = value; break;
      case 'l': max_length = value; break;
      default: return 2;
    }
  }
  if (argc - optind != 1) {
    fprintf(stderr, "usage: accept-all QUEUE [--mark-and MASK] [--mark-or BITS] [--copy BYTES] [--max-length PACKETS]\n");
    return 2;
  }
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  int size = 16 << 20, on = 1;
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on);
  bind_queue(fd, (uint16_t)strtoul(argv[optind], 0, 0), copy, max_length);
  struct sigaction action = {.sa_handler = stop}; /* without SA_RESTART: it ends the receive */
  sigaction(SIGTERM, &action, 0);
  sigaction(SIGINT, &action, 0);
  puts("ready");
  fflush(stdout);

  static char packets[BATCH][4096] __attribute__((aligned(8)));
  static char verdicts[BATCH * VERDICT_SIZE] __attribute__((aligned(8)));
  struct iovec vectors[BATCH];
  struct mmsghdr messages[BATCH];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < BATCH; i++) {
    vectors[i] = (struct iovec){packets[i], sizeof packets[i]};
    messages[i].msg_hdr.msg_iov = &vectors[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  unsigned long answered = 0, batches = 0, lost = 0;
  while (!stopped) {
    int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, 0);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != ENOBUFS) fail("receive");
      lost++;
      continue;
    }
    size_t length = 0;
    for (int i = 0; i < count; i++) {
      size_t one = answer((void *)packets[i], verdicts + length, mark_and, mark_or);
      if (one) answered++;
      length += one;
    }
    batches++;
    if (length && send(fd, verdicts, length, 0) < 0) lost++;
  }
  printf("{\"packets\":%lu,\"batches\":%lu,\"lost\":%lu}\n", answered, batches, lost);
  return 0;
}
