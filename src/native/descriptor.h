#ifndef KNP_DESCRIPTOR_H
#define KNP_DESCRIPTOR_H

#include <unistd.h>

namespace knp {

/** Owns one file descriptor and closes it. */
class Descriptor {
 public:
  Descriptor() = default;
  ~Descriptor() { Reset(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  bool IsOpen() const { return fd_ >= 0; }

  void Reset(int fd = -1) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace knp

#endif
