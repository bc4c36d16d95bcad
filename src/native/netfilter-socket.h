#ifndef KNP_NETFILTER_SOCKET_H
#define KNP_NETFILTER_SOCKET_H

#include <sys/types.h>

#include <cstddef>

#include "descriptor.h"

namespace knp {

/** A NETLINK_NETFILTER socket that talks to the kernel. */
class NetfilterSocket {
 public:
  /** Returns 0, or an errno. */
  int Open();
  void Close() { descriptor_.Reset(); }
  bool IsOpen() const { return descriptor_.IsOpen(); }
  int fd() const { return descriptor_.get(); }

  /** As large as the kernel allows, up to this. */
  void RaiseSendBuffer(int bytes);
  void RaiseReceiveBuffer(int bytes);
  /** Sends one datagram, whole or not at all. Returns 0, or an errno. */
  int Send(const void* data, size_t length);

 private:
  void RaiseBuffer(int forced, int plain, int bytes);

  Descriptor descriptor_;
};

}  // namespace knp

#endif
