#ifndef KNP_GRACE_H
#define KNP_GRACE_H

#include <napi.h>

namespace knp {

/**
 * Waits, on a thread of libuv's pool, until every processor has left what it was doing in the kernel when the wait began
 * (an RCU grace period). The promise is of an errno, 0 when it has been waited for.
 */
class GracePeriod : public Napi::AsyncWorker {
 public:
  static Napi::Value Await(const Napi::CallbackInfo& info);

 protected:
  void Execute() override;
  void OnOK() override;

 private:
  explicit GracePeriod(Napi::Env env);

  Napi::Promise::Deferred deferred_;
  int error_ = 0;
};

}  // namespace knp

#endif
