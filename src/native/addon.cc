#include <malloc.h>
#include <napi.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "grace.h"
#include "netfilter-socket.h"
#include "netlink-monitor.h"
#include "netlink.h"
#include "packet-log.h"
#include "queue.h"
#include "scheduling.h"
#include "system-error.h"
#include "unix-datagram.h"

namespace {

/** A number that was an eventfd may belong to something else by now, which eight bytes would damage. */
bool IsEventDescriptor(int fd) {
  char path[32];
  char target[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  constexpr char expected[] = "anon_inode:[eventfd]";
  const ssize_t length = readlink(path, target, sizeof target);
  return length == sizeof expected - 1 && std::memcmp(target, expected, sizeof expected - 1) == 0;
}

bool WakeEvent(int fd) {
  const uint64_t one = 1;
  ssize_t written;
  do {
    written = write(fd, &one, sizeof one);
  } while (written < 0 && errno == EINTR);
  // EAGAIN is a full counter, which wakes as well.
  return written == sizeof one || errno == EAGAIN;
}

Napi::Value Wake(const Napi::CallbackInfo& info) {
  const int fd = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
  const bool woken = IsEventDescriptor(fd) ? WakeEvent(fd) : knp::NetfilterSocket::Wake(fd);
  return Napi::Boolean::New(info.Env(), woken);
}

Napi::Value PortId(const Napi::CallbackInfo& info) {
  const int fd = info[0].IsNumber() ? info[0].As<Napi::Number>().Int32Value() : -1;
  return Napi::Number::New(info.Env(), knp::NetfilterSocket::PortIdOf(fd));
}

void TrimMemory(const Napi::CallbackInfo&) {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

Napi::Value GiveWay(const Napi::CallbackInfo& info) {
  int error = EINVAL;
  if (info[0].IsNumber() && info[1].IsNumber() && info[2].IsNumber()) {
    const double sliceMs = info[2].As<Napi::Number>().DoubleValue();
    if (sliceMs >= 0 && sliceMs <= 100) {
      error = knp::GiveWay(info[0].As<Napi::Number>().Int32Value(), info[1].As<Napi::Number>().Int32Value(),
                           static_cast<uint64_t>(sliceMs * 1e6));
    }
  }
  return Napi::Number::New(info.Env(), error);
}

Napi::Value ThreadId(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), knp::ThreadId()); }

/** Of a multicast group, with a netlink socket. Answers an errno, 0 for done. */
Napi::Value SetMembership(const Napi::CallbackInfo& info) {
  int error = EINVAL;
  if (info[0].IsNumber() && info[1].IsNumber() && info[2].IsBoolean()) {
    error = knp::NetfilterSocket::SetMembership(info[0].As<Napi::Number>().Int32Value(),
                                                info[1].As<Napi::Number>().Uint32Value(),
                                                info[2].As<Napi::Boolean>().Value());
  }
  return Napi::Number::New(info.Env(), error);
}

void SendDatagram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString() || !info[1].IsString() || !info[2].IsArray()) {
    return knp::ThrowSystemError(env, "send", EINVAL);
  }
  const Napi::Array list = info[2].As<Napi::Array>();
  std::vector<int> descriptors;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value fd = list.Get(i);
    if (!fd.IsNumber()) return knp::ThrowSystemError(env, "send", EINVAL);
    descriptors.push_back(fd.As<Napi::Number>().Int32Value());
  }
  const int error = knp::SendUnixDatagram(info[0].As<Napi::String>(), info[1].As<Napi::String>(), descriptors);
  if (error != 0) knp::ThrowSystemError(env, "send", error);
}

// No state outside the objects: the addon can be loaded by any number of worker threads.
Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("Queue", knp::Queue::Define(env));
  exports.Set("PacketLog", knp::PacketLog::Define(env));
  exports.Set("NetlinkSocket", knp::NetlinkSocket::Define(env));
  exports.Set("NetlinkMonitor", knp::NetlinkMonitor::Define(env));
  exports.Set("awaitGracePeriod", Napi::Function::New(env, knp::GracePeriod::Await, "awaitGracePeriod"));
  exports.Set("wake", Napi::Function::New(env, Wake, "wake"));
  exports.Set("portId", Napi::Function::New(env, PortId, "portId"));
  exports.Set("trimMemory", Napi::Function::New(env, TrimMemory, "trimMemory"));
  exports.Set("giveWay", Napi::Function::New(env, GiveWay, "giveWay"));
  exports.Set("threadId", Napi::Function::New(env, ThreadId, "threadId"));
  exports.Set("setMembership", Napi::Function::New(env, SetMembership, "setMembership"));
  exports.Set("pageBytes", Napi::Number::New(env, static_cast<double>(sysconf(_SC_PAGESIZE))));
  exports.Set("sendDatagram", Napi::Function::New(env, SendDatagram, "sendDatagram"));
  return exports;
}

}  // namespace

NODE_API_MODULE(knp, Init)
