#ifndef KNP_PACKET_FIELDS_H
#define KNP_PACKET_FIELDS_H

#include <ctime>

namespace knp {

/** int32 values in a row of `packets`, of queues and of logs; the order is that of queue.ts. */
enum Field { kFamily, kHook, kMark, kOffset, kLength, kOriginalLength, kInInterface, kOutInterface, kId, kFields };

/** float64 values of `state`, of queues and of logs; the order is that of queue.ts. */
enum State { kReceivedMs, kReceivedEpochMs, kAnsweredMs, kStates };

/** A clock in ms: CLOCK_MONOTONIC, or CLOCK_REALTIME for the time since 1970. */
inline double ClockMs(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

}  // namespace knp

#endif  // KNP_PACKET_FIELDS_H
