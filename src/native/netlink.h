#ifndef KNP_NETLINK_H
#define KNP_NETLINK_H

#include <napi.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "netfilter-socket.h"

namespace knp {

/** A netlink socket that sends whole requests and collects their raw replies. Blocks its thread. */
class NetlinkSocket : public Napi::ObjectWrap<NetlinkSocket> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NetlinkSocket(const Napi::CallbackInfo& info);

 private:
  Napi::Value Request(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  /** Receives one datagram into `scratch_`. Returns its length, or -1 with errno. */
  ssize_t ReceiveOne();
  /** Whether a datagram in `scratch_` ends the request. */
  bool IsLast(size_t length, uint32_t firstSequence, uint32_t lastSequence) const;

  NetfilterSocket socket_;
  std::vector<uint8_t> scratch_;
};

}  // namespace knp

#endif
