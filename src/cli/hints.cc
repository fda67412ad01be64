// SPDX-License-Identifier: Apache-2.0
// Looking for the cause of a failure.
#include "cli/hints.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "cli/human.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

constexpr std::uint64_t kLastLines = 20;
constexpr std::size_t kMostOutput = 256U << 10;

// Points descriptor `fd` at `target_fd` for as long as it lives.
class Redirection {
 public:
  static Result<Redirection> make(int fd, int target_fd) {
    UniqueFd saved = TRY(sys::dup_fd(fd, 3));
    if (::dup2(target_fd, fd) < 0) return Error::from_errno(errno, "dup2");
    return Redirection(fd, std::move(saved));
  }
  Redirection(Redirection&&) = default;
  Redirection& operator=(Redirection&&) = delete;
  ~Redirection() {
    if (saved_) ::dup2(saved_.get(), fd_);
  }

 private:
  Redirection(int fd, UniqueFd saved) : fd_(fd), saved_(std::move(saved)) {}
  int fd_;
  UniqueFd saved_;
};

// The engine writes logs to descriptors 1 and 2; for a moment both are a file in memory.
Result<std::string> capture_output(Engine& engine, const std::string& id) {
  const UniqueFd file(::memfd_create("skink-last-output", MFD_CLOEXEC));
  if (!file) return Error::from_errno(errno, "memfd_create");
  {
    const Redirection out = TRY(Redirection::make(1, file.get()));
    const Redirection err = TRY(Redirection::make(2, file.get()));
    LogOptions options;
    options.tail = kLastLines;
    TRY(engine.logs(id, options));
  }
  const auto end = ::lseek(file.get(), 0, SEEK_END);
  const auto most = static_cast<off_t>(kMostOutput);
  if (::lseek(file.get(), end > most ? end - most : 0, SEEK_SET) < 0) return Error::from_errno(errno, "lseek");
  return sys::read_all(file.get(), kMostOutput, "the last output");
}

}  // namespace

bool tells_of_read_only_root(std::string_view output) {
  return output.find("Read-only file system") != std::string_view::npos ||
         output.find("EROFS") != std::string_view::npos;
}

std::string last_output(Engine& engine, const std::string& id) {
  auto output = capture_output(engine, id);
  return output ? std::move(*output) : std::string();
}

void explain_failure(Context& context, Engine& engine, const std::string& id) {
  const auto info = engine.info(id);
  if (!info) return;  // --rm has removed it
  if (info->last_exit && info->last_exit->oom)
    context.note(str(info->name, ": ended by the kernel for want of memory; give it more with -m"));
  if (tells_of_read_only_root(last_output(engine, id)))
    context.note(str(info->name, ": the root is read-only: --tmpfs PATH makes one directory writable, --writable all"));
}

}  // namespace skink::cli
