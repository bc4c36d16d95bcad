#include "unix-datagram.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "descriptor.h"

namespace knp {

namespace {

constexpr timeval kPatience = {2, 0};
/** SCM_MAX_FD of the kernel. */
constexpr size_t kMaxDescriptors = 253;

}  // namespace

int SendUnixDatagram(const std::string& path, const std::string& text, const std::vector<int>& descriptors) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path || descriptors.size() > kMaxDescriptors) return EINVAL;
  std::memcpy(address.sun_path, path.data(), path.size());
  socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  // An abstract name begins with a zero byte and ends with its length; a path ends with a zero byte.
  if (path[0] == '@') {
    address.sun_path[0] = '\0';
  } else {
    length++;
  }

  iovec body = {const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = length;
  message.msg_iov = &body;
  message.msg_iovlen = 1;
  const size_t bytes = descriptors.size() * sizeof(int);
  std::vector<unsigned char> control(CMSG_SPACE(bytes));
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(bytes);
    std::memcpy(CMSG_DATA(header), descriptors.data(), bytes);
  }

  Descriptor sender;
  sender.Reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!sender.IsOpen()) return errno;
  setsockopt(sender.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  ssize_t sent;
  do {
    sent = sendmsg(sender.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

}  // namespace knp
