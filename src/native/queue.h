#ifndef KNP_QUEUE_H
#define KNP_QUEUE_H

#include <napi.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "descriptor.h"
#include "netfilter-socket.h"

namespace knp {

/**
 * One bound NFQUEUE. Reads netlink framing only and never looks into a packet.
 *
 * Used by one thread; any may wake it. Everything the packet path touches is allocated once.
 * Every packet handed out by receive() is answered by the next answer(), or held back by it and answered by its id later.
 */
class Queue : public Napi::ObjectWrap<Queue> {
 public:
  static Napi::Function Define(Napi::Env env);
  explicit Queue(const Napi::CallbackInfo& info);

 private:
  /** The bytes of one verdict message, as the kernel reads them. */
  struct Answer;

  Napi::Value Receive(const Napi::CallbackInfo& info);
  void SendAnswers(const Napi::CallbackInfo& info);
  void SendLateAnswers(const Napi::CallbackInfo& info);
  Napi::Value Counters(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  void Open(const Napi::CallbackInfo& info);
  void Allocate(Napi::Env env, Napi::Object self);
  int Bind(uint16_t number, uint32_t maxLength);
  /**
   * Goes on with a queue that the socket has bound already. `lastId` is the id of a packet that was queued before, or 0.
   * Returns 0, or an errno.
   */
  int TakeOver(uint16_t number, uint32_t maxLength, uint32_t lastId);
  enum class Command { kBind, kNone };
  /** Asks for all settings of the queue, in one message; the kernel acknowledges it. Returns 0, or an errno. */
  int Configure(uint16_t number, uint32_t maxLength, Command command);
  /** Waits until something comes, and fills the rows from what is there. Returns 0, or an errno. */
  int ReceiveBatch(int timeoutMs);
  /** Returns the errno of the acknowledgement of the settings, or -1 when the datagram holds none. */
  int Parse(uint8_t* datagram, size_t length);
  bool ParsePacket(uint8_t* message, size_t length);
  /** Sends answers together, or one by one where the kernel takes them in no other way. */
  void SendAll(const Answer* answers, size_t count);
  /** Sends answers, trying again while the kernel is short of memory. */
  bool Send(const void* data, size_t length);
  uint8_t* Slot(size_t index) { return arena_ + index * slotBytes_; }

  NetfilterSocket socket_;

  uint32_t copyBytes_ = 0;
  size_t capacity_ = 0;
  size_t slotBytes_ = 0;

  // Views of ArrayBuffers that `this` holds as constant properties, so they live as long as it does.
  int32_t* packets_ = nullptr;
  int32_t* marks_ = nullptr;
  uint8_t* held_ = nullptr;
  uint8_t* arena_ = nullptr;
  double* state_ = nullptr;

  std::vector<iovec> vectors_;
  std::vector<mmsghdr> headers_;
  std::vector<Answer> answers_;
  std::vector<Answer> lateAnswers_;

  size_t rows_ = 0;
  bool handedOut_ = false;

  uint64_t overflows_ = 0;
  uint64_t answerErrors_ = 0;
  uint64_t truncated_ = 0;
};

}  // namespace knp

#endif
