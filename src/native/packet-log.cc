#include "packet-log.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "packet-fields.h"
#include "system-error.h"

namespace knp {

namespace {

/** So many packets the kernel gathers before it sends them, or as many as come in so much time. */
constexpr uint32_t kBatchPackets = 64;
constexpr uint32_t kBatchHundredths = 1;
/** What the kernel writes beside the packet: less than this. */
constexpr size_t kOverheadBytes = 384;
/** Beyond it a length is not told apart. */
constexpr int32_t kUnknownLength = 0xffff;
constexpr uint32_t kMaxCopyBytes = 512;
constexpr uint32_t kConfigSequence = 1;
constexpr uint16_t kConfigType = (NFNL_SUBSYS_ULOG << 8) | NFULNL_MSG_CONFIG;
constexpr uint16_t kPacketType = (NFNL_SUBSYS_ULOG << 8) | NFULNL_MSG_PACKET;

template <typename T>
T Load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

uint32_t Number(Napi::Object options, const char* name) {
  const Napi::Value value = options.Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

}  // namespace

Napi::Function PacketLog::Define(Napi::Env env) {
  return DefineClass(env, "PacketLog",
                     {
                         InstanceMethod<&PacketLog::Receive>("receive"),
                         InstanceMethod<&PacketLog::Lost>("lost"),
                         InstanceMethod<&PacketLog::Close>("close"),
                     });
}

PacketLog::PacketLog(const Napi::CallbackInfo& info) : Napi::ObjectWrap<PacketLog>(info) { Open(info); }

void PacketLog::Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsObject()) return ThrowSystemError(env, "options", EINVAL);
  const Napi::Object options = info[0].As<Napi::Object>();
  const uint32_t group = Number(options, "group");
  const uint32_t receiveBufferBytes = Number(options, "receiveBufferBytes");
  copyBytes_ = Number(options, "copyBytes");
  if (group > 0xffff || copyBytes_ == 0 || copyBytes_ > kMaxCopyBytes || receiveBufferBytes > INT32_MAX / 2) {
    return ThrowSystemError(env, "options", EINVAL);
  }
  Allocate(env, info.This().As<Napi::Object>());
  if (env.IsExceptionPending()) return;
  int error = socket_.Open();
  if (error != 0) return ThrowSystemError(env, "socket", error);
  socket_.RaiseReceiveBuffer(static_cast<int>(receiveBufferBytes));
  error = Bind(static_cast<uint16_t>(group));
  if (error != 0) {
    socket_.Close();
    return ThrowSystemError(env, "bind", error);
  }
  info.This().As<Napi::Object>().DefineProperty(
      Napi::PropertyDescriptor::Value("wakeFd", Napi::Number::New(env, socket_.fd()), napi_enumerable));
}

void PacketLog::Allocate(Napi::Env env, Napi::Object self) {
  Napi::Int32Array packets = Napi::Int32Array::New(env, kBatchPackets * kFields);
  Napi::Uint8Array denied = Napi::Uint8Array::New(env, kBatchPackets);
  Napi::Uint8Array bytes = Napi::Uint8Array::New(env, kBatchPackets * (kOverheadBytes + copyBytes_));
  Napi::Float64Array state = Napi::Float64Array::New(env, kStates);
  if (env.IsExceptionPending()) return;
  packets_ = packets.Data();
  denied_ = denied.Data();
  arena_ = bytes.Data();
  state_ = state.Data();
  // Neither writable nor configurable: the pointers above stay good as long as `self` lives.
  self.DefineProperties({
      Napi::PropertyDescriptor::Value("packets", packets, napi_enumerable),
      Napi::PropertyDescriptor::Value("denied", denied, napi_enumerable),
      Napi::PropertyDescriptor::Value("bytes", bytes, napi_enumerable),
      Napi::PropertyDescriptor::Value("state", state, napi_enumerable),
  });
}

int PacketLog::Bind(uint16_t group) {
  struct {
    nlmsghdr header;
    nfgenmsg family;
    nlattr commandAttribute;
    nfulnl_msg_config_cmd command;
    uint8_t commandPadding[NLA_ALIGN(sizeof(nfulnl_msg_config_cmd)) - sizeof(nfulnl_msg_config_cmd)];
    nlattr modeAttribute;
    nfulnl_msg_config_mode mode;
    uint8_t modePadding[NLA_ALIGN(sizeof(nfulnl_msg_config_mode)) - sizeof(nfulnl_msg_config_mode)];
    nlattr sizeAttribute;
    uint32_t size;
    nlattr timeoutAttribute;
    uint32_t timeout;
    nlattr thresholdAttribute;
    uint32_t threshold;
    nlattr flagsAttribute;
    uint16_t flags;
    uint16_t flagsPadding;
  } request{};
  static_assert(sizeof request == 16 + 4 + 8 + 12 + 8 + 8 + 8 + 8, "the layout of a config message has no padding");
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = kConfigType;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.header.nlmsg_seq = kConfigSequence;
  request.family.nfgen_family = AF_UNSPEC;
  request.family.version = NFNETLINK_V0;
  request.family.res_id = htons(group);
  request.commandAttribute = {NLA_HDRLEN + sizeof request.command, NFULA_CFG_CMD};
  request.command.command = NFULNL_CFG_CMD_BIND;
  request.modeAttribute = {NLA_HDRLEN + sizeof request.mode, NFULA_CFG_MODE};
  request.mode.copy_range = htonl(copyBytes_);
  request.mode.copy_mode = NFULNL_COPY_PACKET;
  request.sizeAttribute = {NLA_HDRLEN + sizeof request.size, NFULA_CFG_NLBUFSIZ};
  request.size = htonl(static_cast<uint32_t>(kBatchPackets * (kOverheadBytes + copyBytes_)));
  request.timeoutAttribute = {NLA_HDRLEN + sizeof request.timeout, NFULA_CFG_TIMEOUT};
  request.timeout = htonl(kBatchHundredths);
  request.thresholdAttribute = {NLA_HDRLEN + sizeof request.threshold, NFULA_CFG_QTHRESH};
  request.threshold = htonl(kBatchPackets);
  request.flagsAttribute = {NLA_HDRLEN + sizeof request.flags, NFULA_CFG_FLAGS};
  request.flags = htons(NFULNL_CFG_F_SEQ);

  const int unsent = socket_.Send(&request, sizeof request);
  if (unsent != 0) return unsent;
  // Packets can come before the acknowledgement: they are handed out by the first receive().
  while (rows_ < kBatchPackets) {
    uint8_t* into = arena_ + rows_ * (kOverheadBytes + copyBytes_);
    const size_t room = (kBatchPackets - rows_) * (kOverheadBytes + copyBytes_);
    const ssize_t length = recv(socket_.fd(), into, room, MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EINTR || errno == ENOBUFS) continue;
      return errno;
    }
    const int error = Parse(into, static_cast<size_t>(length));
    if (error >= 0) return error;
  }
  return EOVERFLOW;
}

Napi::Value PacketLog::Receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!socket_.IsOpen()) {
    ThrowSystemError(env, "receive", EBADF);
    return env.Undefined();
  }
  const int timeoutMs = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
  if (rows_ == 0) {
    const int error = ReceiveBatch(timeoutMs);
    if (error != 0) {
      ThrowSystemError(env, "receive", error);
      return env.Undefined();
    }
  }
  const size_t rows = rows_;
  rows_ = 0;
  state_[kReceivedMs] = ClockMs(CLOCK_MONOTONIC);
  state_[kReceivedEpochMs] = ClockMs(CLOCK_REALTIME);
  return Napi::Number::New(env, static_cast<double>(rows));
}

int PacketLog::ReceiveBatch(int timeoutMs) {
  const int flags = socket_.WaitFlags(timeoutMs);
  // An overflow is reported once, ahead of what is waiting behind it; how much it was the packets' numbers tell.
  for (int attempt = 0; attempt < 16; attempt++) {
    const ssize_t length = recv(socket_.fd(), arena_, kBatchPackets * (kOverheadBytes + copyBytes_), flags);
    if (length >= 0) {
      Parse(arena_, static_cast<size_t>(length));
      return 0;
    }
    if (errno == EAGAIN) return 0;
    if (errno != EINTR && errno != ENOBUFS) return errno;
  }
  return 0;
}

int PacketLog::Parse(const uint8_t* datagram, size_t length) {
  int acknowledged = -1;
  while (length >= NLMSG_HDRLEN) {
    const nlmsghdr header = Load<nlmsghdr>(datagram);
    if (header.nlmsg_len < NLMSG_HDRLEN) break;
    const size_t bytes = std::min<size_t>(header.nlmsg_len, length);
    if (header.nlmsg_type == kPacketType) {
      if (rows_ < kBatchPackets && ParsePacket(datagram, bytes)) rows_++;
    } else if (header.nlmsg_type == NLMSG_ERROR && bytes >= NLMSG_LENGTH(sizeof(int32_t))) {
      if (header.nlmsg_seq == kConfigSequence) acknowledged = -Load<int32_t>(datagram + NLMSG_HDRLEN);
    }
    const size_t step = std::min<size_t>(NLMSG_ALIGN(bytes), length);
    datagram += step;
    length -= step;
  }
  return acknowledged;
}

bool PacketLog::ParsePacket(const uint8_t* message, size_t length) {
  if (length < NLMSG_LENGTH(sizeof(nfgenmsg))) return false;
  int32_t row[kFields] = {};
  bool isDenied = false;
  size_t at = NLMSG_LENGTH(sizeof(nfgenmsg));
  while (at + NLA_HDRLEN <= length) {
    const nlattr attribute = Load<nlattr>(message + at);
    if (attribute.nla_len < NLA_HDRLEN) break;
    const uint8_t* value = message + at + NLA_HDRLEN;
    const size_t bytes = std::min<size_t>(attribute.nla_len - NLA_HDRLEN, length - at - NLA_HDRLEN);
    switch (attribute.nla_type & NLA_TYPE_MASK) {
      case NFULA_PACKET_HDR:
        if (bytes >= sizeof(nfulnl_msg_packet_hdr)) {
          const auto header = Load<nfulnl_msg_packet_hdr>(value);
          row[kHook] = header.hook;
          const uint16_t protocol = ntohs(header.hw_protocol);
          row[kFamily] = protocol == ETH_P_IP ? 4 : protocol == ETH_P_IPV6 ? 6 : 0;
        }
        break;
      case NFULA_PREFIX:
        isDenied = bytes > 0 && value[0] == 'd';
        break;
      case NFULA_SEQ:
        if (bytes >= 4) {
          const uint32_t sequence = ntohl(Load<uint32_t>(value));
          lost_ += sequence - nextSequence_;
          nextSequence_ = sequence + 1;
        }
        break;
      case NFULA_PAYLOAD:
        row[kOffset] = static_cast<int32_t>(value - arena_);
        row[kLength] = static_cast<int32_t>(bytes);
        break;
      default:
        break;
    }
    at += std::min<size_t>(NLA_ALIGN(attribute.nla_len), length - at);
  }
  const bool isCut = static_cast<uint32_t>(row[kLength]) == copyBytes_;
  row[kOriginalLength] = isCut ? kUnknownLength : row[kLength];
  std::memcpy(packets_ + rows_ * kFields, row, sizeof row);
  denied_[rows_] = isDenied ? 1 : 0;
  return true;
}

Napi::Value PacketLog::Lost(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(lost_));
}

void PacketLog::Close(const Napi::CallbackInfo&) {
  socket_.Close();
  rows_ = 0;
}

}  // namespace knp
