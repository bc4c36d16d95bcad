#include "netlink.h"

#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "system-error.h"

namespace knp {

namespace {

/** The largest datagram a dump gives is 32 KiB. */
constexpr size_t kScratchBytes = 1 << 17;
/** A limit, not an allocation: 100,000 set elements take 2 MiB. */
constexpr int kSendBufferBytes = 128 << 20;
constexpr int kReceiveBufferBytes = 32 << 20;

using Clock = std::chrono::steady_clock;

Clock::time_point EndOf(int timeoutMs) { return Clock::now() + std::chrono::milliseconds(std::max(timeoutMs, 0)); }

bool IsBytes(const Napi::Value& value) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
}

}  // namespace

Napi::Function NetlinkSocket::Define(Napi::Env env) {
  return DefineClass(env, "NetlinkSocket",
                     {
                         InstanceMethod<&NetlinkSocket::Request>("request"),
                         InstanceMethod<&NetlinkSocket::Send>("send"),
                         InstanceMethod<&NetlinkSocket::Receive>("receive"),
                         InstanceMethod<&NetlinkSocket::Close>("close"),
                     });
}

NetlinkSocket::NetlinkSocket(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NetlinkSocket>(info) {
  const int error = info[0].IsNumber() ? socket_.Open(info[0].As<Napi::Number>().Int32Value()) : socket_.Open();
  if (error != 0) {
    ThrowSystemError(info.Env(), "socket", error);
    return;
  }
  socket_.RaiseSendBuffer(kSendBufferBytes);
  socket_.RaiseReceiveBuffer(kReceiveBufferBytes);
  info.This().As<Napi::Object>().DefineProperty(
      Napi::PropertyDescriptor::Value("portId", Napi::Number::New(info.Env(), socket_.PortId()), napi_enumerable));
}

Napi::Value NetlinkSocket::Request(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto fail = [&env](int error) {
    ThrowSystemError(env, "request", error);
    return env.Undefined();
  };
  if (!socket_.IsOpen()) return fail(EBADF);
  if (!IsBytes(info[0]) || !info[1].IsNumber() || !info[2].IsNumber()) return fail(EINVAL);
  const Napi::Uint8Array message = info[0].As<Napi::Uint8Array>();
  const uint32_t lastSequence = info[1].As<Napi::Number>().Uint32Value();
  const int timeoutMs = info[2].As<Napi::Number>().Int32Value();
  if (message.ByteLength() < NLMSG_HDRLEN) return fail(EINVAL);
  nlmsghdr first;
  std::memcpy(&first, message.Data(), sizeof first);

  scratch_.resize(kScratchBytes);
  // What an earlier request that timed out left behind.
  while (ReceiveOne(scratch_.data(), scratch_.size()) >= 0 || errno == ENOBUFS) {
  }

  const int unsent = socket_.Send(message.Data(), message.ByteLength());
  if (unsent != 0) return fail(unsent);

  const Clock::time_point end = EndOf(timeoutMs);
  std::vector<uint8_t> replies;
  bool finished = false;
  bool overflowed = false;
  for (;;) {
    const ssize_t length = ReceiveOne(scratch_.data(), scratch_.size());
    if (length >= 0) {
      replies.insert(replies.end(), scratch_.begin(), scratch_.begin() + length);
      finished = finished || IsLast(static_cast<size_t>(length), first.nlmsg_seq, lastSequence);
      continue;
    }
    if (errno == ENOBUFS) {
      overflowed = true;
      continue;
    }
    if (errno != EAGAIN) return fail(errno);
    if (finished) break;
    // The kernel dropped replies, the last one among them.
    if (overflowed) return fail(ENOBUFS);
    const int error = Await(end);
    if (error != 0) return fail(error);
  }
  return Napi::Buffer<uint8_t>::Copy(env, replies.data(), replies.size());
}

void NetlinkSocket::Send(const Napi::CallbackInfo& info) {
  int error = EBADF;
  if (socket_.IsOpen()) {
    error = EINVAL;
    if (IsBytes(info[0])) {
      const Napi::Uint8Array message = info[0].As<Napi::Uint8Array>();
      error = socket_.Send(message.Data(), message.ByteLength());
    }
  }
  if (error != 0) ThrowSystemError(info.Env(), "send", error);
}

Napi::Value NetlinkSocket::Receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto fail = [&env](int error) {
    ThrowSystemError(env, "receive", error);
    return env.Undefined();
  };
  if (!socket_.IsOpen()) return fail(EBADF);
  if (!IsBytes(info[0]) || !info[1].IsNumber()) return fail(EINVAL);
  Napi::Uint8Array into = info[0].As<Napi::Uint8Array>();
  const Clock::time_point end = EndOf(info[1].As<Napi::Number>().Int32Value());
  for (;;) {
    const ssize_t length = ReceiveOne(into.Data(), into.ByteLength());
    if (length >= 0) return Napi::Number::New(env, static_cast<double>(length));
    if (errno != EAGAIN) return fail(errno);
    const int error = Await(end);
    if (error != 0) return fail(error);
  }
}

ssize_t NetlinkSocket::ReceiveOne(uint8_t* bytes, size_t capacity) {
  for (;;) {
    const ssize_t length = recv(socket_.fd(), bytes, capacity, MSG_DONTWAIT | MSG_TRUNC);
    if (length < 0 && errno == EINTR) continue;
    if (length > static_cast<ssize_t>(capacity)) {
      errno = EMSGSIZE;
      return -1;
    }
    return length;
  }
}

int NetlinkSocket::Await(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  if (left <= 0) return ETIMEDOUT;
  pollfd watched = {socket_.fd(), POLLIN, 0};
  return poll(&watched, 1, static_cast<int>(left)) < 0 && errno != EINTR ? errno : 0;
}

bool NetlinkSocket::IsLast(size_t length, uint32_t firstSequence, uint32_t lastSequence) const {
  for (size_t at = 0; at + NLMSG_HDRLEN <= length;) {
    nlmsghdr header;
    std::memcpy(&header, scratch_.data() + at, sizeof header);
    if (header.nlmsg_len < NLMSG_HDRLEN) break;
    if (header.nlmsg_type == NLMSG_DONE && header.nlmsg_seq == lastSequence) return true;
    if (header.nlmsg_type == NLMSG_ERROR) {
      // A batch that fails as a whole is reported under its first message.
      if (header.nlmsg_seq == lastSequence || header.nlmsg_seq == firstSequence) return true;
    }
    at += NLMSG_ALIGN(header.nlmsg_len);
  }
  return false;
}

void NetlinkSocket::Close(const Napi::CallbackInfo&) { socket_.Close(); }

}  // namespace knp
