#include "scheduling.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace knp {

namespace {

/** struct sched_attr of linux/sched/types.h in its first version: the C library has none. */
struct SchedulingAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;
  uint64_t deadline;
  uint64_t period;
};

constexpr uint32_t kNormalPolicy = 0;
constexpr int kMaxNice = 19;

}  // namespace

int GiveWay(int threadId, int nice, uint64_t sliceNs) {
  SchedulingAttributes attributes{};
  if (syscall(SYS_sched_getattr, threadId, &attributes, sizeof attributes, 0) != 0) return errno;
  if (attributes.policy != kNormalPolicy) return 0;
  attributes.size = sizeof attributes;
  attributes.nice = std::min(attributes.nice + nice, kMaxNice);
  attributes.runtime = sliceNs;
  return syscall(SYS_sched_setattr, threadId, &attributes, 0) == 0 ? 0 : errno;
}

int ThreadId() { return static_cast<int>(syscall(SYS_gettid)); }

}  // namespace knp
