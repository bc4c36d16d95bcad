#include "system-error.h"

#include <cerrno>
#include <cstring>
#include <string>

namespace knp {

namespace {

// strerrorname_np needs glibc 2.32; these are the errors that netlink and sockets give.
const char* Name(int error) {
  switch (error) {
    case EPERM: return "EPERM";
    case ENOENT: return "ENOENT";
    case EINTR: return "EINTR";
    case EIO: return "EIO";
    case EBADF: return "EBADF";
    case EAGAIN: return "EAGAIN";
    case ENOMEM: return "ENOMEM";
    case EACCES: return "EACCES";
    case EBUSY: return "EBUSY";
    case EEXIST: return "EEXIST";
    case ENODEV: return "ENODEV";
    case EINVAL: return "EINVAL";
    case ENFILE: return "ENFILE";
    case EMFILE: return "EMFILE";
    case ERANGE: return "ERANGE";
    case EMSGSIZE: return "EMSGSIZE";
    case EPROTONOSUPPORT: return "EPROTONOSUPPORT";
    case EOPNOTSUPP: return "EOPNOTSUPP";
    case EAFNOSUPPORT: return "EAFNOSUPPORT";
    case EADDRINUSE: return "EADDRINUSE";
    case ENOBUFS: return "ENOBUFS";
    case ETIMEDOUT: return "ETIMEDOUT";
    case ECONNREFUSED: return "ECONNREFUSED";
    case EOVERFLOW: return "EOVERFLOW";
    default: return "UNKNOWN";
  }
}

}  // namespace

void ThrowSystemError(Napi::Env env, const char* operation, int error) {
  const std::string message = std::string(operation) + ": " + std::strerror(error);
  Napi::Error thrown = Napi::Error::New(env, message);
  Napi::Object object = thrown.Value();
  object.Set("errno", Napi::Number::New(env, error));
  object.Set("code", Napi::String::New(env, Name(error)));
  object.Set("operation", Napi::String::New(env, operation));
  thrown.ThrowAsJavaScriptException();
}

}  // namespace knp
