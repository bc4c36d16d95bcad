#ifndef KNP_NETLINK_MONITOR_H
#define KNP_NETLINK_MONITOR_H

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "descriptor.h"
#include "netfilter-socket.h"

namespace knp {

/**
 * Netlink sockets that have joined multicast groups, and an eventfd. Reads no message: datagrams are handed out raw.
 *
 * Used by one thread; its eventfd may be written by any.
 */
class NetlinkMonitor : public Napi::ObjectWrap<NetlinkMonitor> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit NetlinkMonitor(const Napi::CallbackInfo& info);

 private:
  Napi::Value Receive(const Napi::CallbackInfo& info);
  Napi::Value Duplicate(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  void Open(const Napi::CallbackInfo& info);
  /** Opens one socket. Returns 0, or an errno. */
  int Subscribe(Napi::Object subscription, int receiveBufferBytes);
  /** Waits until a datagram or a wake is there; `ready_` says where. Returns 0, or an errno. */
  int Wait(int timeoutMs);

  std::vector<std::unique_ptr<NetfilterSocket>> sockets_;
  Descriptor event_;
  std::vector<uint8_t> scratch_;
  std::vector<bool> ready_;
  /** Which socket is read first, in turn: a flood in one does not silence the others. */
  size_t first_ = 0;
};

}  // namespace knp

#endif
