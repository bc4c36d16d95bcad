#ifndef KNP_PACKET_LOG_H
#define KNP_PACKET_LOG_H

#include <napi.h>

#include <cstddef>
#include <cstdint>

#include "descriptor.h"
#include "netfilter-socket.h"

namespace knp {

/**
 * One bound group of netfilter's packet log: what rules say `log group` of, some of it at a time. Nobody waits for it; what
 * it cannot keep up with is counted.
 *
 * Used by one thread; any may wake it. Everything that packets touch is allocated once.
 */
class PacketLog : public Napi::ObjectWrap<PacketLog> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit PacketLog(const Napi::CallbackInfo& info);

 private:
  Napi::Value Receive(const Napi::CallbackInfo& info);
  Napi::Value Lost(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  void Open(const Napi::CallbackInfo& info);
  void Allocate(Napi::Env env, Napi::Object self);
  /** Returns 0, or an errno. */
  int Bind(uint16_t group);
  /** Waits until something comes, and fills the rows from one datagram. Returns 0, or an errno. */
  int ReceiveBatch(int timeoutMs);
  /** Returns the errno of the acknowledgement of the settings, or -1 when the datagram holds none. */
  int Parse(const uint8_t* datagram, size_t length);
  bool ParsePacket(const uint8_t* message, size_t length);

  NetfilterSocket socket_;
  uint32_t copyBytes_ = 0;

  // Views of ArrayBuffers that `this` holds as constant properties, so they live as long as it does.
  int32_t* packets_ = nullptr;
  uint8_t* denied_ = nullptr;
  uint8_t* arena_ = nullptr;
  double* state_ = nullptr;

  size_t rows_ = 0;
  /** The number that the next packet has. */
  uint32_t nextSequence_ = 0;
  uint64_t lost_ = 0;
};

}  // namespace knp

#endif
