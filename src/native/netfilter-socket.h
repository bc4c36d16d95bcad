#ifndef KNP_NETFILTER_SOCKET_H
#define KNP_NETFILTER_SOCKET_H

#include <linux/netlink.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "descriptor.h"

namespace knp {

/** A netlink socket that talks to the kernel: to its netfilter, where nothing else is said. */
class NetfilterSocket {
 public:
  /** Returns 0, or an errno. */
  int Open(int protocol = NETLINK_NETFILTER);
  /**
   * Takes a socket that another process has opened, and closes it from now on. Returns 0, or EINVAL when the descriptor is
   * no netfilter socket of this network namespace; then it is left as it is.
   */
  int Adopt(int fd);
  /** Receives what the kernel tells this multicast group from now on. Returns 0, or an errno. */
  int Join(uint32_t group) { return SetMembership(fd(), group, true); }
  /** The same for any descriptor; also the opposite: what has come already stays to be received. */
  static int SetMembership(int fd, uint32_t group, bool isMember);
  /** The address that the kernel knows the socket by, and writes into what it reports of its requests; 0 for none. */
  uint32_t PortId() const;
  /** That of any descriptor; 0 when it is no netfilter socket, or one of another network namespace. */
  static uint32_t PortIdOf(int fd);
  void Close() { descriptor_.Reset(); }
  bool IsOpen() const { return descriptor_.IsOpen(); }
  int fd() const { return descriptor_.get(); }

  /** As large as the kernel allows, up to this. */
  void RaiseSendBuffer(int bytes);
  void RaiseReceiveBuffer(int bytes);
  /**
   * Prepares for a receive that blocks for at most `timeoutMs` (below 0: for ever) until a datagram comes, and answers the
   * flag that it needs, if any.
   */
  int WaitFlags(int timeoutMs);
  /**
   * Makes the receive that is blocked on the socket behind the descriptor, or the next one, return: from any thread, by a
   * message without a meaning to itself. A poll() beside the receive would cost every packet more. Returns whether it was
   * delivered: not to a socket that is full, whose receive does not block, nor where the descriptor is no netfilter socket.
   */
  static bool Wake(int fd);
  /** Sends one datagram, whole or not at all. Returns 0, or an errno. */
  int Send(const void* data, size_t length);

 private:
  void RaiseBuffer(int forced, int plain, int bytes);

  Descriptor descriptor_;
  /** What the kernel was told last; it begins with no limit. */
  int timeoutMs_ = -1;
};

}  // namespace knp

#endif
