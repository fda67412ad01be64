// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace skink {

std::string_view errno_text(int errnum) {
  const char* text = strerrordesc_np(errnum);
  return text != nullptr ? text : "Unknown error";
}

namespace {
Code code_of(int errnum) {
  switch (errnum) {
    case ENOENT: return Code::not_found;
    case EEXIST: return Code::exists;
    case EACCES:
    case EPERM: return Code::denied;
    case EBUSY: return Code::busy;
    default: return Code::os;
  }
}
}  // namespace

Error Error::os_error(int errnum, std::string step) {
  step += ": ";
  step += errno_text(errnum);
  Error error(code_of(errnum), std::move(step));
  error.errnum_ = errnum;
  return error;
}

Error& Error::also(const Error& other) {
  text_ += "; also: ";
  text_ += other.text_;
  return *this;
}

}  // namespace skink
