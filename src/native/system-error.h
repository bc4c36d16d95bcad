#ifndef KNP_SYSTEM_ERROR_H
#define KNP_SYSTEM_ERROR_H

#include <napi.h>

namespace knp {

/** Makes a JavaScript Error pending, with `errno` (positive), `code` ("EPERM") and `operation` ("bind"). */
void ThrowSystemError(Napi::Env env, const char* operation, int error);

}  // namespace knp

#endif
