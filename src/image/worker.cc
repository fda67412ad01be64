// SPDX-License-Identifier: Apache-2.0
#include "image/worker.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>

#include "base/text.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::uint64_t kSecondsFloor = 600;
constexpr std::uint64_t kBytesPerSecond = 1U << 20;
constexpr std::size_t kErrorMost = 32U << 10;
// The first byte of an answer says what follows.
constexpr char kDone = '+', kFailed = '-';

std::string describe(const Error& error) {
  return kFailed + oci::dump_json(oci::Json{{"error", printable(error.text()).substr(0, kErrorMost)},
                                            {"code", static_cast<int>(error.code())},
                                            {"errno", error.errnum()}});
}

// What a worker says where operator new finds nothing: made before, since nothing can be made then. An exception would
// end in abort(), whose calls the filter forbids.
struct LastWords {
  int fd = -1;
  std::string no_memory, no_disk;
};
LastWords& last_words() {
  static LastWords words;
  return words;
}

[[noreturn]] void say_out_of_memory() {
  (void)sys::write_all(last_words().fd, last_words().no_memory, "answer");
  ::_exit(0);
}

// Where a file is mapped and the disk has no room for what is written there.
[[noreturn]] void say_out_of_disk(int /*signal*/) {
  (void)sys::write_all(last_words().fd, last_words().no_disk, "answer");
  ::_exit(0);
}

[[noreturn]] void work_confined(const WorkerTerms& terms, int answer_fd, const Worker::Work& work) {
  for (const int signal : {SIGPIPE, SIGXFSZ}) (void)::signal(signal, SIG_IGN);
  (void)::signal(SIGXCPU, SIG_DFL);
  (void)::signal(SIGBUS, say_out_of_disk);
  last_words() = {answer_fd,
                  describe(Error::from_errno(ENOMEM, "out of memory: the ", std::string_view(terms.name),
                                             " may use at most ", terms.limits.memory >> 20, " MiB")),
                  describe(Error::from_errno(ENOSPC, "the large window of its zstd data is kept in the store"))};
  std::set_new_handler(say_out_of_memory);
  std::vector<int> keep = terms.keep;
  keep.push_back(answer_fd);
  Result<std::string> done = std::string();
  if (auto confined = confine(keep, terms.limits); !confined)
    done = std::move(confined).error().context(std::string_view(terms.name));
  else done = work();
  (void)sys::write_all(answer_fd, done ? kDone + *done : describe(done.error()), "answer");
  ::_exit(0);
}

Error read_error(std::string_view text) {
  const auto answer = oci::parse_json(text);
  if (!answer) return answer.error();
  const std::int64_t code = oci::get_int(*answer, "code", static_cast<int>(Code::internal));
  const bool known = code >= 0 && code <= static_cast<int>(Code::not_executable);
  return Error::make(known ? static_cast<Code>(code) : Code::internal, printable(oci::get_string(*answer, "error")))
      .numbered(static_cast<int>(oci::get_int(*answer, "errno", 0)));
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return status;
}

}  // namespace

std::uint64_t seconds_for(std::uint64_t bytes) { return kSecondsFloor + bytes / kBytesPerSecond; }

ConfineLimits worker_limits(std::uint64_t memory, std::uint64_t work, std::uint64_t mapped) {
  return {.memory = memory, .mapped = memory + kWorkerProgram + mapped, .seconds = seconds_for(work)};
}

Result<Worker> Worker::start(const WorkerTerms& terms, const Work& work) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  UniqueFd answer(ends[0]);
  const UniqueFd write_end(ends[1]);
  Worker worker(terms.name, terms.answer_most);
  worker.pid_ = ::fork();
  if (worker.pid_ < 0) return Error::from_errno(errno, "fork");
  if (worker.pid_ == 0) work_confined(terms, write_end.get(), work);
  worker.answer_ = std::move(answer);
  return worker;
}

namespace {

// Without it nobody changes the limits of a process of another user: then the lower one could not be raised again.
bool may_change_limits() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2] = {};
  if (::syscall(SYS_capget, &header, sets) != 0) return false;
  return (sets[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE)) != 0;
}

}  // namespace

void Worker::limit_memory(std::uint64_t bytes) const {
  // Only the soft limit, as the hard one cannot be raised again without a privilege. The worker sets its own once: to
  // this one, if it is lower already.
  rlimit ours{};
  if (kIsWatched || pid_ < 0 || !may_change_limits() || ::getrlimit(RLIMIT_DATA, &ours) != 0) return;
  const rlimit both{std::min({rlim_t{bytes}, rlim_t{kWorkerMemory}, ours.rlim_cur}),
                    std::min(rlim_t{kWorkerMemory}, ours.rlim_max)};
  (void)::prlimit(pid_, RLIMIT_DATA, &both, nullptr);
}

Result<std::string> Worker::end() {
  // One that says too much gets EPIPE for the rest.
  auto text = sys::read_all(answer_.get(), answer_most_ + 1, str("answer of the ", std::string_view(name_)));
  answer_.reset();
  const int status = wait_for(std::exchange(pid_, -1));
  if (WIFSIGNALED(status))
    return Error::make(Code::internal, "the ", std::string_view(name_), " was killed by signal ", WTERMSIG(status),
                       WTERMSIG(status) == SIGSYS    ? ": it made a system call that it has no business with"
                       : WTERMSIG(status) == SIGXCPU ? ": it took far more processor time than its work may"
                                                     : "");
  if (!text) return std::move(text).error();
  if (text->starts_with(kDone)) {
    text->erase(0, 1);  // it may be large: not copied
    return text;
  }
  if (!text->starts_with(kFailed))
    return Error::make(Code::internal, "the ", std::string_view(name_), " ended without a word");
  return read_error(std::string_view(*text).substr(1));
}

void Worker::stop() {
  if (pid_ < 0) return;
  answer_.reset();
  (void)::kill(pid_, SIGKILL);
  (void)wait_for(std::exchange(pid_, -1));
}

Result<std::string> run_worker(const WorkerTerms& terms, const Worker::Work& work) {
  Worker worker = TRY(Worker::start(terms, work));
  return worker.end();
}

}  // namespace skink::image
