#include "netlink-monitor.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "system-error.h"

namespace knp {

namespace {

/** The kernel's notifications are a page or two; a dump's datagram is 32 KiB. */
constexpr size_t kScratchBytes = 1 << 17;
constexpr uint32_t kMaxSubscriptions = 16;
constexpr uint32_t kMaxGroups = 32;

uint32_t Number(Napi::Object options, const char* name) {
  const Napi::Value value = options.Get(name);
  return value.IsNumber() ? value.As<Napi::Number>().Uint32Value() : 0;
}

}  // namespace

Napi::Function NetlinkMonitor::Define(Napi::Env env) {
  return DefineClass(env, "NetlinkMonitor",
                     {
                         InstanceMethod<&NetlinkMonitor::Receive>("receive"),
                         InstanceMethod<&NetlinkMonitor::Duplicate>("duplicate"),
                         InstanceMethod<&NetlinkMonitor::Close>("close"),
                     });
}

NetlinkMonitor::NetlinkMonitor(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NetlinkMonitor>(info) { Open(info); }

void NetlinkMonitor::Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsArray() || !info[1].IsNumber()) return ThrowSystemError(env, "options", EINVAL);
  const Napi::Array subscriptions = info[0].As<Napi::Array>();
  const uint32_t receiveBufferBytes = info[1].As<Napi::Number>().Uint32Value();
  if (subscriptions.Length() == 0 || subscriptions.Length() > kMaxSubscriptions || receiveBufferBytes > INT32_MAX / 2) {
    return ThrowSystemError(env, "options", EINVAL);
  }
  event_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_.IsOpen()) return ThrowSystemError(env, "eventfd", errno);
  for (uint32_t i = 0; i < subscriptions.Length(); i++) {
    const Napi::Value subscription = subscriptions.Get(i);
    const int error = subscription.IsObject()
                          ? Subscribe(subscription.As<Napi::Object>(), static_cast<int>(receiveBufferBytes))
                          : EINVAL;
    if (error != 0) {
      sockets_.clear();
      return ThrowSystemError(env, "subscribe", error);
    }
  }
  ready_.resize(sockets_.size());
  scratch_.resize(kScratchBytes);
  info.This().As<Napi::Object>().DefineProperty(
      Napi::PropertyDescriptor::Value("wakeFd", Napi::Number::New(env, event_.get()), napi_enumerable));
}

int NetlinkMonitor::Subscribe(Napi::Object subscription, int receiveBufferBytes) {
  const Napi::Value groups = subscription.Get("groups");
  if (!groups.IsArray() || groups.As<Napi::Array>().Length() > kMaxGroups) return EINVAL;
  auto socket = std::make_unique<NetfilterSocket>();
  int error = socket->Open(static_cast<int>(Number(subscription, "protocol")));
  if (error != 0) return error;
  if (receiveBufferBytes > 0) socket->RaiseReceiveBuffer(receiveBufferBytes);
  for (uint32_t i = 0; i < groups.As<Napi::Array>().Length(); i++) {
    const Napi::Value group = groups.As<Napi::Array>().Get(i);
    if (!group.IsNumber()) return EINVAL;
    error = socket->Join(group.As<Napi::Number>().Uint32Value());
    if (error != 0) return error;
  }
  sockets_.push_back(std::move(socket));
  return 0;
}

Napi::Value NetlinkMonitor::Receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto fail = [&env](int error) {
    ThrowSystemError(env, "receive", error);
    return env.Undefined();
  };
  if (sockets_.empty()) return fail(EBADF);
  const int error = Wait(info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1);
  if (error != 0) return fail(error);
  for (size_t turn = 0; turn < sockets_.size(); turn++) {
    const size_t index = (first_ + turn) % sockets_.size();
    if (!ready_[index]) continue;
    sockaddr_nl sender{};
    socklen_t senderLength = sizeof sender;
    const ssize_t length = recvfrom(sockets_[index]->fd(), scratch_.data(), scratch_.size(), MSG_DONTWAIT | MSG_TRUNC,
                                    reinterpret_cast<sockaddr*>(&sender), &senderLength);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (length < 0 && errno != ENOBUFS) return fail(errno);
    // Other processes can send to this socket as well.
    if (length >= 0 && sender.nl_pid != 0) continue;
    first_ = index + 1;
    Napi::Object datagram = Napi::Object::New(env);
    datagram.Set("source", Napi::Number::New(env, static_cast<double>(index)));
    const bool isWhole = length >= 0 && static_cast<size_t>(length) <= scratch_.size();
    datagram.Set("bytes", isWhole ? Napi::Value(Napi::Buffer<uint8_t>::Copy(env, scratch_.data(), length))
                                  : env.Undefined());
    return datagram;
  }
  return env.Undefined();
}

int NetlinkMonitor::Wait(int timeoutMs) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(std::max(timeoutMs, 0));
  pollfd watched[kMaxSubscriptions + 1];
  for (size_t i = 0; i < sockets_.size(); i++) watched[i] = {sockets_[i]->fd(), POLLIN, 0};
  pollfd& event = watched[sockets_.size()];
  event = {event_.get(), POLLIN, 0};
  int remainingMs = timeoutMs;
  for (;;) {
    const int count = poll(watched, static_cast<nfds_t>(sockets_.size() + 1), remainingMs);
    if (count >= 0) break;
    if (errno != EINTR) return errno;
    if (timeoutMs >= 0) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
      remainingMs = static_cast<int>(std::max<int64_t>(left, 0));
    }
  }
  if (event.revents != 0) {
    uint64_t wakes;
    // Nothing to read is fine: the eventfd does not block, and one read takes all wakes.
    if (read(event_.get(), &wakes, sizeof wakes) < 0 && errno != EAGAIN && errno != EINTR) return errno;
  }
  for (size_t i = 0; i < sockets_.size(); i++) ready_[i] = watched[i].revents != 0;
  return 0;
}

Napi::Value NetlinkMonitor::Duplicate(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t source = info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : UINT32_MAX;
  const int fd = source < sockets_.size() ? fcntl(sockets_[source]->fd(), F_DUPFD_CLOEXEC, 0) : -1;
  if (fd < 0) ThrowSystemError(env, "duplicate", source < sockets_.size() ? errno : EBADF);
  return Napi::Number::New(env, fd);
}

void NetlinkMonitor::Close(const Napi::CallbackInfo&) {
  sockets_.clear();
  event_.Reset();
}

}  // namespace knp
