#include "grace.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace knp {

namespace {

// MEMBARRIER_CMD_GLOBAL, by the name that headers before 4.16 have as well.
constexpr int kGlobal = MEMBARRIER_CMD_SHARED;

}  // namespace

GracePeriod::GracePeriod(Napi::Env env)
    : Napi::AsyncWorker(env, "knp:grace"), deferred_(Napi::Promise::Deferred::New(env)) {}

Napi::Value GracePeriod::Await(const Napi::CallbackInfo& info) {
  // It deletes itself when it has ended.
  auto* period = new GracePeriod(info.Env());
  const Napi::Promise promise = period->deferred_.Promise();
  period->Queue();
  return promise;
}

void GracePeriod::Execute() {
  if (syscall(SYS_membarrier, kGlobal, 0, 0) != 0) error_ = errno;
}

void GracePeriod::OnOK() { deferred_.Resolve(Napi::Number::New(Env(), error_)); }

}  // namespace knp
