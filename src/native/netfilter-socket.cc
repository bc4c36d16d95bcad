#include "netfilter-socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cerrno>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace knp {

namespace {

template <typename T>
bool ReadOption(int fd, int option, T* value) {
  socklen_t length = sizeof *value;
  return getsockopt(fd, SOL_SOCKET, option, value, &length) == 0 && length == sizeof *value;
}

uint32_t PortIdAt(int fd) {
  sockaddr_nl address{};
  socklen_t length = sizeof address;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0 ? address.nl_pid : 0;
}

bool IsNetfilterSocket(int fd) {
  int domain;
  int protocol;
  return ReadOption(fd, SO_DOMAIN, &domain) && domain == AF_NETLINK && ReadOption(fd, SO_PROTOCOL, &protocol) &&
         protocol == NETLINK_NETFILTER;
}

}  // namespace

int NetfilterSocket::Open(int protocol) {
  descriptor_.Reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!descriptor_.IsOpen()) return errno;
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  if (bind(fd(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return errno;
  const int on = 1;
  // Errors without the message they are about, but with the kernel's explanation. Older kernels lack both.
  setsockopt(fd(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  setsockopt(fd(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  return 0;
}

int NetfilterSocket::Adopt(int fd) {
  if (PortIdOf(fd) == 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return EINVAL;
  descriptor_.Reset(fd);
  // Whatever the former process had set.
  timeoutMs_ = 0;
  return 0;
}

uint32_t NetfilterSocket::PortIdOf(int fd) {
  if (!IsNetfilterSocket(fd)) return 0;
  Descriptor local;
  local.Reset(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  uint64_t here;
  uint64_t there;
  if (!ReadOption(local.get(), SO_NETNS_COOKIE, &here) || !ReadOption(fd, SO_NETNS_COOKIE, &there)) return 0;
  return here == there ? PortIdAt(fd) : 0;
}

int NetfilterSocket::SetMembership(int fd, uint32_t group, bool isMember) {
  const int option = isMember ? NETLINK_ADD_MEMBERSHIP : NETLINK_DROP_MEMBERSHIP;
  return setsockopt(fd, SOL_NETLINK, option, &group, sizeof group) == 0 ? 0 : errno;
}

uint32_t NetfilterSocket::PortId() const { return PortIdAt(fd()); }

void NetfilterSocket::RaiseSendBuffer(int bytes) { RaiseBuffer(SO_SNDBUFFORCE, SO_SNDBUF, bytes); }

void NetfilterSocket::RaiseReceiveBuffer(int bytes) { RaiseBuffer(SO_RCVBUFFORCE, SO_RCVBUF, bytes); }

void NetfilterSocket::RaiseBuffer(int forced, int plain, int bytes) {
  // The forced form needs CAP_NET_ADMIN in the first user namespace; the plain one is capped by a sysctl.
  if (setsockopt(fd(), SOL_SOCKET, forced, &bytes, sizeof bytes) != 0) {
    setsockopt(fd(), SOL_SOCKET, plain, &bytes, sizeof bytes);
  }
}

int NetfilterSocket::WaitFlags(int timeoutMs) {
  if (timeoutMs == 0) return MSG_DONTWAIT;
  if (timeoutMs != timeoutMs_) {
    // Zero is no limit.
    timeval timeout{};
    if (timeoutMs > 0) timeout = {timeoutMs / 1000, timeoutMs % 1000 * 1000};
    if (setsockopt(fd(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0) timeoutMs_ = timeoutMs;
  }
  return 0;
}

bool NetfilterSocket::Wake(int fd) {
  if (!IsNetfilterSocket(fd)) return false;
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  self.nl_pid = PortIdAt(fd);
  nlmsghdr message{};
  message.nlmsg_len = sizeof message;
  message.nlmsg_type = NLMSG_NOOP;
  ssize_t sent;
  do {
    sent = sendto(fd, &message, sizeof message, MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&self), sizeof self);
  } while (sent < 0 && errno == EINTR);
  return sent == sizeof message;
}

int NetfilterSocket::Send(const void* data, size_t length) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = sendto(fd(), data, length, 0, reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return errno;
  return static_cast<size_t>(sent) == length ? 0 : EMSGSIZE;
}

}  // namespace knp
