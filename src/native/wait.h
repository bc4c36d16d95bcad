#ifndef KNP_WAIT_H
#define KNP_WAIT_H

namespace knp {

/**
 * Waits until `fd` can be read or the eventfd was written, for at most `timeoutMs` (below 0: for ever), and takes the wakes: `woken`
 * says whether there were any. Returns 0, or an errno.
 */
int WaitForInput(int fd, int eventFd, int timeoutMs, bool* readable, bool* woken);

}  // namespace knp

#endif
