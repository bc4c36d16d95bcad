#ifndef KNP_PACKET_FIELDS_H
#define KNP_PACKET_FIELDS_H

namespace knp {

/** int32 values in a row of `packets`, of queues and of logs; the order is that of queue.ts. */
enum Field { kFamily, kHook, kMark, kOffset, kLength, kOriginalLength, kInInterface, kOutInterface, kId, kFields };

}  // namespace knp

#endif  // KNP_PACKET_FIELDS_H
