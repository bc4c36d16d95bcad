#include "wait.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>

namespace knp {

int WaitForInput(int fd, int eventFd, int timeoutMs, bool* readable, bool* woken) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + std::chrono::milliseconds(std::max(timeoutMs, 0));
  pollfd watched[2] = {{fd, POLLIN, 0}, {eventFd, POLLIN, 0}};
  int remainingMs = timeoutMs;
  for (;;) {
    const int count = poll(watched, 2, remainingMs);
    if (count >= 0) break;
    if (errno != EINTR) return errno;
    if (timeoutMs >= 0) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
      remainingMs = static_cast<int>(std::max<int64_t>(left, 0));
    }
  }
  *woken = watched[1].revents != 0;
  if (*woken) {
    uint64_t wakes;
    // Nothing to read is fine: the eventfd does not block, and one read takes all wakes.
    if (read(eventFd, &wakes, sizeof wakes) < 0 && errno != EAGAIN && errno != EINTR) return errno;
  }
  *readable = watched[0].revents != 0;
  return 0;
}

}  // namespace knp
