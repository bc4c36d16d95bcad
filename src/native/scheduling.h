#ifndef KNP_SCHEDULING_H
#define KNP_SCHEDULING_H

#include <cstdint>

namespace knp {

/**
 * Has a thread give way to others: `nice` is added to its nice value, and from Linux 6.12 on a thread with a shorter time slice
 * than `sliceNs` (0.1 to 100 ms; "sched_runtime" of sched_setattr(2)) that is to run takes the processor at once. A thread of
 * another than the normal scheduling policy is left as it is. Answers an errno, 0 for done.
 */
int GiveWay(int threadId, int nice, uint64_t sliceNs);

/** The calling thread, as /proc/self/task names it. */
int ThreadId();

}  // namespace knp

#endif
