#ifndef KNP_UNIX_DATAGRAM_H
#define KNP_UNIX_DATAGRAM_H

#include <string>
#include <vector>

namespace knp {

/**
 * Sends one datagram to a unix socket, with duplicates of descriptors attached. A path that begins with `@` is an abstract
 * name. Waits for a receiver that is busy, for at most 2 s. Returns 0, or an errno.
 */
int SendUnixDatagram(const std::string& path, const std::string& text, const std::vector<int>& descriptors);

}  // namespace knp

#endif
