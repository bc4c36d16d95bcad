#include "queue.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "packet-fields.h"
#include "system-error.h"

namespace knp {

namespace {

/** Room in a slot for all that comes before the payload; the kernel uses less than half of it. */
constexpr size_t kOverheadBytes = 512;
constexpr uint32_t kMaxCopyBytes = 0xffff - NLA_HDRLEN;
constexpr size_t kMaxCapacity = 1 << 16;
constexpr uint32_t kConfigSequence = 1;
constexpr uint32_t kRepeatSequence = 2;
constexpr uint16_t kVerdictType = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_VERDICT;
constexpr uint16_t kBatchVerdictType = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_VERDICT_BATCH;
constexpr uint16_t kConfigType = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_CONFIG;
constexpr uint16_t kPacketType = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET;

template <typename T>
T Load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

bool IsTransient(int error) { return error == EAGAIN || error == ENOBUFS || error == ENOMEM; }

uint32_t Number(Napi::Object options, const char* name) {
  const Napi::Value value = options.Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

}  // namespace

struct Queue::Answer {
  nlmsghdr header;
  nfgenmsg family;
  nlattr verdictAttribute;
  nfqnl_msg_verdict_hdr verdict;
  nlattr markAttribute;
  uint32_t mark;
};

Napi::Function Queue::Define(Napi::Env env) {
  return DefineClass(env, "Queue",
                     {
                         InstanceMethod<&Queue::Receive>("receive"),
                         InstanceMethod<&Queue::SendAnswers>("answer"),
                         InstanceMethod<&Queue::SendLateAnswers>("answerLate"),
                         InstanceMethod<&Queue::Counters>("counters"),
                         InstanceMethod<&Queue::Close>("close"),
                     });
}

Queue::Queue(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Queue>(info) { Open(info); }

void Queue::Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) return ThrowSystemError(env, "options", EINVAL);
  const Napi::Object options = info[0].As<Napi::Object>();
  const uint32_t number = Number(options, "number");
  const uint32_t maxLength = Number(options, "maxLength");
  const uint32_t receiveBufferBytes = Number(options, "receiveBufferBytes");
  copyBytes_ = Number(options, "copyBytes");
  capacity_ = Number(options, "capacity");
  if (number > 0xffff || maxLength == 0 || copyBytes_ == 0 || copyBytes_ > kMaxCopyBytes || capacity_ == 0 ||
      capacity_ > kMaxCapacity || receiveBufferBytes > INT32_MAX / 2) {
    return ThrowSystemError(env, "options", EINVAL);
  }

  Allocate(env, info.This().As<Napi::Object>());
  if (env.IsExceptionPending()) return;

  const Napi::Value kept = options.Get("keptFd");
  const bool isKept = kept.IsNumber();
  int error = isKept ? socket_.Adopt(kept.As<Napi::Number>().Int32Value()) : socket_.Open();
  if (error != 0) return ThrowSystemError(env, isKept ? "adopt" : "socket", error);
  socket_.RaiseReceiveBuffer(static_cast<int>(receiveBufferBytes));
  socket_.RaiseSendBuffer(static_cast<int>(capacity_ * sizeof(Answer) * 2 + 65536));
  error = isKept ? TakeOver(static_cast<uint16_t>(number), maxLength, Number(options, "lastId"))
                 : Bind(static_cast<uint16_t>(number), maxLength);
  if (error != 0) {
    socket_.Close();
    return ThrowSystemError(env, isKept ? "take over" : "bind", error);
  }
  const Napi::Number fd = Napi::Number::New(env, socket_.fd());
  info.This().As<Napi::Object>().DefineProperties({
      Napi::PropertyDescriptor::Value("socketFd", fd, napi_enumerable),
      Napi::PropertyDescriptor::Value("wakeFd", fd, napi_enumerable),
  });
}

void Queue::Allocate(Napi::Env env, Napi::Object self) {
  slotBytes_ = (kOverheadBytes + copyBytes_ + 63) & ~size_t{63};
  Napi::Int32Array packets = Napi::Int32Array::New(env, capacity_ * kFields);
  Napi::Int32Array marks = Napi::Int32Array::New(env, capacity_);
  Napi::Uint8Array held = Napi::Uint8Array::New(env, capacity_);
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, capacity_ * slotBytes_);
  Napi::Float64Array state = Napi::Float64Array::New(env, kStates);
  if (env.IsExceptionPending()) return;
  packets_ = packets.Data();
  marks_ = marks.Data();
  held_ = held.Data();
  arena_ = bytes.Data();
  state_ = state.Data();
  state_[kReceivedMs] = state_[kAnsweredMs] = ClockMs(CLOCK_MONOTONIC);
  // Neither writable nor configurable: the pointers above stay good as long as `self` lives.
  self.DefineProperties({
      Napi::PropertyDescriptor::Value("capacity", Napi::Number::New(env, static_cast<double>(capacity_)),
                                      napi_enumerable),
      Napi::PropertyDescriptor::Value("packets", packets, napi_enumerable),
      Napi::PropertyDescriptor::Value("marks", marks, napi_enumerable),
      Napi::PropertyDescriptor::Value("held", held, napi_enumerable),
      Napi::PropertyDescriptor::Value("bytes", bytes, napi_enumerable),
      Napi::PropertyDescriptor::Value("state", state, napi_enumerable),
  });

  vectors_.resize(capacity_);
  headers_.resize(capacity_);
  for (size_t i = 0; i < capacity_; i++) {
    vectors_[i] = {Slot(i), slotBytes_};
    headers_[i] = {};
    headers_[i].msg_hdr.msg_iov = &vectors_[i];
    headers_[i].msg_hdr.msg_iovlen = 1;
  }

  Answer answer{};
  static_assert(sizeof(Answer) == 40, "the layout of a verdict message has no padding");
  answer.header.nlmsg_len = sizeof answer;
  answer.header.nlmsg_type = kVerdictType;
  answer.header.nlmsg_flags = NLM_F_REQUEST;
  answer.family.nfgen_family = AF_UNSPEC;
  answer.family.version = NFNETLINK_V0;
  answer.verdictAttribute = {NLA_HDRLEN + sizeof answer.verdict, NFQA_VERDICT_HDR};
  answer.verdict.verdict = htonl(NF_ACCEPT);
  answer.markAttribute = {NLA_HDRLEN + sizeof answer.mark, NFQA_MARK};
  answers_.assign(capacity_, answer);
  lateAnswers_.assign(capacity_, answer);
}

int Queue::Configure(uint16_t number, uint32_t maxLength, Command command) {
  // All in one message: a queue that is bound and has no copy mode yet drops what arrives.
  struct {
    nlmsghdr header;
    nfgenmsg family;
    nlattr paramsAttribute;
    nfqnl_msg_config_params params;
    uint8_t paramsPadding[NLA_ALIGN(sizeof(nfqnl_msg_config_params)) - sizeof(nfqnl_msg_config_params)];
    nlattr maxLengthAttribute;
    uint32_t maxLength;
    nlattr maskAttribute;
    uint32_t mask;
    nlattr flagsAttribute;
    uint32_t flags;
    // At the end, where it can be left out.
    nlattr commandAttribute;
    nfqnl_msg_config_cmd command;
  } request{};
  static_assert(sizeof request == 16 + 4 + 12 + 8 + 8 + 8 + 8, "the layout of a config message has no padding");
  request.header.nlmsg_len = sizeof request;
  if (command == Command::kNone) request.header.nlmsg_len -= sizeof request.commandAttribute + sizeof request.command;
  request.header.nlmsg_type = kConfigType;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.header.nlmsg_seq = kConfigSequence;
  request.family.res_id = htons(number);
  request.paramsAttribute = {NLA_HDRLEN + sizeof request.params, NFQA_CFG_PARAMS};
  request.params.copy_range = htonl(copyBytes_);
  request.params.copy_mode = NFQNL_COPY_PACKET;
  request.maxLengthAttribute = {NLA_HDRLEN + sizeof request.maxLength, NFQA_CFG_QUEUE_MAXLEN};
  request.maxLength = htonl(maxLength);
  request.maskAttribute = {NLA_HDRLEN + sizeof request.mask, NFQA_CFG_MASK};
  request.mask = htonl(NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_GSO);
  request.flagsAttribute = {NLA_HDRLEN + sizeof request.flags, NFQA_CFG_FLAGS};
  request.flags = request.mask;
  request.commandAttribute = {NLA_HDRLEN + sizeof request.command, NFQA_CFG_CMD};
  request.command.command = NFQNL_CFG_CMD_BIND;

  for (Answer& answer : answers_) answer.family.res_id = htons(number);
  for (Answer& answer : lateAnswers_) answer.family.res_id = htons(number);
  return socket_.Send(&request, request.header.nlmsg_len);
}

int Queue::Bind(uint16_t number, uint32_t maxLength) {
  const int unsent = Configure(number, maxLength, Command::kBind);
  if (unsent != 0) return unsent;

  // Packets can come before the acknowledgement: they are kept and handed out by the first receive().
  while (rows_ < capacity_) {
    msghdr* header = &headers_[rows_].msg_hdr;
    const ssize_t length = recvmsg(socket_.fd(), header, MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (errno == ENOBUFS) {
        overflows_++;
        continue;
      }
      return errno;
    }
    const int error = Parse(Slot(rows_), static_cast<size_t>(length));
    if (error >= 0) return error;
  }
  return EOVERFLOW;
}

int Queue::TakeOver(uint16_t number, uint32_t maxLength, uint32_t lastId) {
  // Packets come in the order of their ids. What the former process has received and not answered is in the queue still,
  // and nobody is told of it again: all before the first packet that can still be received or, where there is none, up to
  // `lastId`.
  for (;;) {
    const ssize_t length = recv(socket_.fd(), Slot(0), slotBytes_, MSG_DONTWAIT | MSG_PEEK);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (errno == ENOBUFS) {
        overflows_++;
        continue;
      }
      if (errno != EAGAIN) return errno;
      break;
    }
    Parse(Slot(0), static_cast<size_t>(length));
    if (rows_ > 0) {
      rows_ = 0;
      lastId = ntohl(answers_[0].verdict.id) - 1;
      break;
    }
    // Told to the former process.
    recv(socket_.fd(), Slot(0), slotBytes_, MSG_DONTWAIT);
  }
  answerErrors_ = 0;

  const int unsent = Configure(number, maxLength, Command::kNone);
  if (unsent != 0) return unsent;

  struct {
    nlmsghdr header;
    nfgenmsg family;
    nlattr verdictAttribute;
    nfqnl_msg_verdict_hdr verdict;
  } request{};
  static_assert(sizeof request == 16 + 4 + 12, "the layout of a verdict message has no padding");
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = kBatchVerdictType;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.header.nlmsg_seq = kRepeatSequence;
  request.family.res_id = htons(number);
  request.verdictAttribute = {NLA_HDRLEN + sizeof request.verdict, NFQA_VERDICT_HDR};
  // They meet the divert rule once more, which queues them behind all others under new ids. Without a mark each keeps its
  // own.
  request.verdict.verdict = htonl(NF_REPEAT);
  request.verdict.id = htonl(lastId);
  return socket_.Send(&request, sizeof request);
}

Napi::Value Queue::Receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!socket_.IsOpen()) {
    ThrowSystemError(env, "receive", EBADF);
    return env.Undefined();
  }
  if (handedOut_) {
    ThrowSystemError(env, "receive", EBUSY);
    return env.Undefined();
  }
  if (rows_ == 0) {
    const int error = ReceiveBatch(info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1);
    if (error != 0) {
      ThrowSystemError(env, "receive", error);
      return env.Undefined();
    }
  }
  handedOut_ = rows_ > 0;
  state_[kReceivedMs] = ClockMs(CLOCK_MONOTONIC);
  state_[kReceivedEpochMs] = ClockMs(CLOCK_REALTIME);
  return Napi::Number::New(env, static_cast<double>(rows_));
}

int Queue::ReceiveBatch(int timeoutMs) {
  const int flags = socket_.WaitFlags(timeoutMs);
  // An overflow is reported once, ahead of what is waiting behind it; the bound is against an endless storm.
  for (int attempt = 0; attempt < 16; attempt++) {
    const int count =
        recvmmsg(socket_.fd(), headers_.data(), static_cast<unsigned>(capacity_), flags | MSG_WAITFORONE, nullptr);
    if (count < 0) {
      if (errno == EAGAIN) return 0;
      if (errno == EINTR) continue;
      if (errno != ENOBUFS) return errno;
      overflows_++;
      continue;
    }
    for (int i = 0; i < count; i++) {
      if ((headers_[i].msg_hdr.msg_flags & MSG_TRUNC) != 0) truncated_++;
      const int refused = Parse(Slot(static_cast<size_t>(i)), headers_[i].msg_len);
      // Of the settings of a queue that was taken over.
      if (refused > 0) return refused;
    }
    return 0;
  }
  return 0;
}

int Queue::Parse(uint8_t* datagram, size_t length) {
  int acknowledged = -1;
  while (length >= NLMSG_HDRLEN) {
    const nlmsghdr header = Load<nlmsghdr>(datagram);
    if (header.nlmsg_len < NLMSG_HDRLEN) break;
    // A truncated message is read as far as it goes: its id comes first, and it must be answered.
    const size_t bytes = std::min<size_t>(header.nlmsg_len, length);
    if (header.nlmsg_type == kPacketType) {
      if (rows_ < capacity_ && ParsePacket(datagram, bytes)) rows_++;
    } else if (header.nlmsg_type == NLMSG_ERROR && bytes >= NLMSG_LENGTH(sizeof(int32_t))) {
      const int error = -Load<int32_t>(datagram + NLMSG_HDRLEN);
      if (header.nlmsg_seq == kConfigSequence) {
        acknowledged = error;
      } else if (header.nlmsg_seq == kRepeatSequence && error == ENOENT) {
        // Nothing was left without an answer.
      } else if (error != 0) {
        answerErrors_++;
      }
    }
    const size_t step = std::min<size_t>(NLMSG_ALIGN(bytes), length);
    datagram += step;
    length -= step;
  }
  return acknowledged;
}

bool Queue::ParsePacket(uint8_t* message, size_t length) {
  if (length < NLMSG_LENGTH(sizeof(nfgenmsg))) return false;
  int32_t row[kFields] = {};
  bool identified = false;
  uint32_t id = 0;
  bool hasOriginalLength = false;

  size_t at = NLMSG_LENGTH(sizeof(nfgenmsg));
  while (at + NLA_HDRLEN <= length) {
    const nlattr attribute = Load<nlattr>(message + at);
    if (attribute.nla_len < NLA_HDRLEN) break;
    const uint8_t* value = message + at + NLA_HDRLEN;
    const size_t bytes = std::min<size_t>(attribute.nla_len - NLA_HDRLEN, length - at - NLA_HDRLEN);
    switch (attribute.nla_type & NLA_TYPE_MASK) {
      case NFQA_PACKET_HDR:
        if (bytes >= sizeof(nfqnl_msg_packet_hdr)) {
          const auto header = Load<nfqnl_msg_packet_hdr>(value);
          identified = true;
          id = header.packet_id;
          row[kHook] = header.hook;
          const uint16_t protocol = ntohs(header.hw_protocol);
          row[kFamily] = protocol == ETH_P_IP ? 4 : protocol == ETH_P_IPV6 ? 6 : 0;
        }
        break;
      case NFQA_MARK:
        if (bytes >= 4) row[kMark] = static_cast<int32_t>(ntohl(Load<uint32_t>(value)));
        break;
      case NFQA_IFINDEX_INDEV:
        if (bytes >= 4) row[kInInterface] = static_cast<int32_t>(ntohl(Load<uint32_t>(value)));
        break;
      case NFQA_IFINDEX_OUTDEV:
        if (bytes >= 4) row[kOutInterface] = static_cast<int32_t>(ntohl(Load<uint32_t>(value)));
        break;
      case NFQA_CAP_LEN:
        if (bytes >= 4) {
          row[kOriginalLength] = static_cast<int32_t>(ntohl(Load<uint32_t>(value)));
          hasOriginalLength = true;
        }
        break;
      case NFQA_PAYLOAD:
        row[kOffset] = static_cast<int32_t>(value - arena_);
        row[kLength] = static_cast<int32_t>(bytes);
        break;
      default:
        break;
    }
    at += std::min<size_t>(NLA_ALIGN(attribute.nla_len), length - at);
  }
  // Without its id a packet cannot be answered; the kernel puts it first.
  if (!identified) return false;
  if (!hasOriginalLength) row[kOriginalLength] = row[kLength];
  row[kId] = static_cast<int32_t>(ntohl(id));
  std::memcpy(packets_ + rows_ * kFields, row, sizeof row);
  answers_[rows_].verdict.id = id;
  return true;
}

void Queue::SendAnswers(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!socket_.IsOpen()) return ThrowSystemError(env, "answer", EBADF);
  const size_t count = info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : 0;
  if (count != (handedOut_ ? rows_ : 0)) return ThrowSystemError(env, "answer", ERANGE);
  if (count == 0) return;
  rows_ = 0;
  handedOut_ = false;
  size_t answered = 0;
  for (size_t i = 0; i < count; i++) {
    if (held_[i] != 0) continue;
    answers_[answered].verdict.id = answers_[i].verdict.id;
    answers_[answered].mark = htonl(static_cast<uint32_t>(marks_[i]));
    answered++;
  }
  if (answered < count) std::memset(held_, 0, count);
  SendAll(answers_.data(), answered);
  state_[kAnsweredMs] = ClockMs(CLOCK_MONOTONIC);
}

void Queue::SendLateAnswers(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!socket_.IsOpen()) return ThrowSystemError(env, "answer late", EBADF);
  if (!info[0].IsTypedArray() || !info[1].IsTypedArray() || !info[2].IsNumber()) {
    return ThrowSystemError(env, "answer late", EINVAL);
  }
  const Napi::Int32Array ids = info[0].As<Napi::Int32Array>();
  const Napi::Int32Array marks = info[1].As<Napi::Int32Array>();
  const size_t count = info[2].As<Napi::Number>().Uint32Value();
  if (ids.TypedArrayType() != napi_int32_array || marks.TypedArrayType() != napi_int32_array) {
    return ThrowSystemError(env, "answer late", EINVAL);
  }
  if (count > capacity_ || count > ids.ElementLength() || count > marks.ElementLength()) {
    return ThrowSystemError(env, "answer late", ERANGE);
  }
  for (size_t i = 0; i < count; i++) {
    lateAnswers_[i].verdict.id = htonl(static_cast<uint32_t>(ids[i]));
    lateAnswers_[i].mark = htonl(static_cast<uint32_t>(marks[i]));
  }
  SendAll(lateAnswers_.data(), count);
}

void Queue::SendAll(const Answer* answers, size_t count) {
  if (count == 0 || Send(answers, count * sizeof(Answer))) return;
  // The kernel took none of them: sent one by one they ask for less memory at a time.
  for (size_t i = 0; i < count; i++) {
    if (!Send(&answers[i], sizeof(Answer))) answerErrors_++;
  }
}

bool Queue::Send(const void* data, size_t length) {
  for (int attempt = 0;; attempt++) {
    const int error = socket_.Send(data, length);
    if (error == 0) return true;
    if (!IsTransient(error) || attempt == 4) return false;
    usleep(100U << attempt);
  }
}

Napi::Value Queue::Counters(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object counters = Napi::Object::New(env);
  counters.Set("overflows", Napi::Number::New(env, static_cast<double>(overflows_)));
  counters.Set("answerErrors", Napi::Number::New(env, static_cast<double>(answerErrors_)));
  counters.Set("truncated", Napi::Number::New(env, static_cast<double>(truncated_)));
  return counters;
}

void Queue::Close(const Napi::CallbackInfo&) {
  // When nobody else has the socket open, the kernel unbinds its queue and drops what waits in it.
  socket_.Close();
  rows_ = 0;
  handedOut_ = false;
}

}  // namespace knp
