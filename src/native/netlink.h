#ifndef KNP_NETLINK_H
#define KNP_NETLINK_H

#include <napi.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "netfilter-socket.h"

namespace knp {

/**
 * A netlink socket that sends whole requests and collects their raw replies, or sends one and takes what comes datagram by
 * datagram. Blocks its thread.
 */
class NetlinkSocket : public Napi::ObjectWrap<NetlinkSocket> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NetlinkSocket(const Napi::CallbackInfo& info);

 private:
  Napi::Value Request(const Napi::CallbackInfo& info);
  void Send(const Napi::CallbackInfo& info);
  Napi::Value Receive(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  /** Receives one datagram that has come into `bytes`. Returns its length, or -1 with errno. */
  ssize_t ReceiveOne(uint8_t* bytes, size_t capacity);
  /** Waits until one has come, to the end of the time. Returns 0, or an errno. */
  int Await(std::chrono::steady_clock::time_point end);
  /** Whether a datagram in `scratch_` ends the request. */
  bool IsLast(size_t length, uint32_t firstSequence, uint32_t lastSequence) const;

  NetfilterSocket socket_;
  std::vector<uint8_t> scratch_;
};

}  // namespace knp

#endif
