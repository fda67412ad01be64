// SPDX-License-Identifier: Apache-2.0
#include "launch/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/text.h"
#include "fs/dir.h"
#include "oci/json.h"
#include "plan/child_plan.h"
#include "sys/file.h"
#include "sys/interrupt.h"
#include "sys/process.h"

namespace skink::launch {

std::string state_json(const HookState& state) {
  oci::Json json;
  json["ociVersion"] = oci::kSpecVersion;
  json["id"] = state.id;
  json["status"] = state.status;
  if (state.pid != 0) json["pid"] = state.pid;
  json["bundle"] = state.bundle;
  if (state.annotations != nullptr && !state.annotations->empty()) json["annotations"] = *state.annotations;
  return oci::dump_json(json);
}

HookState state_of(const std::string& id, const std::string& bundle, const oci::Spec& spec, std::string_view status,
                   pid_t pid) {
  HookState state;
  state.id = id;
  state.status = status;
  state.bundle = bundle;
  state.pid = pid;
  state.annotations = &spec.annotations;
  return state;
}

StateText state_around_pid(const HookState& state) {
  HookState without = state;
  without.pid = 0;
  return {R"({"pid":)", str(',', state_json(without).substr(1))};
}

namespace {

std::string shown(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return printable(text);
}

}  // namespace

std::string hook_name(std::string_view kind, std::size_t index) {
  return str("hooks.", kind, '[', index, "]: error running ", kind, " hook #", index);
}

std::string hook_output(int fd) {
  constexpr std::size_t kMost = plan::kHookOutput + 16;
  std::string text(kMost, '\0');
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return shown(std::move(text));
}

Error hook_failure(unsigned status, const std::string& output) {
  const std::string text = output.empty() ? "" : ": " + output;
  if (status < plan::kHookSignal) return Error::make(Code::os, "exit status ", status, text);
  const auto signal = static_cast<int>(status - plan::kHookSignal);
  // Go's words for it, as they stand in runc's messages: "bad system call".
  const char* const known = ::sigdescr_np(signal);
  std::string words = known != nullptr ? str(" (", std::string_view(known), ")") : "";
  for (char& letter : words)
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  return Error::make(Code::os, "was ended by signal ", sys::signal_name(signal), words, text);
}

namespace {

// The end of what a hook prints, however much that is.
class Output {
 public:
  // The hook's end is open for both ways, so that the pipe never breaks under what the hook leaves behind: neither the
  // end of our reading nor our end sends it SIGPIPE.
  Result<void> open() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe2");
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
    if (::fcntl(read_.get(), F_SETFL, O_RDONLY | O_NONBLOCK) != 0) return Error::from_errno(errno, "fcntl");
    auto both = sys::open_at(AT_FDCWD, str("/proc/self/fd/", write_.get()).c_str(), O_RDWR);
    if (both) write_ = std::move(*both);
    return {};
  }
  [[nodiscard]] int for_hook() const { return write_.get(); }
  [[nodiscard]] int for_us() const { return read_.get(); }

  // What is in the pipe now: false when that is nothing.
  bool take() {
    std::array<char, plan::kHookOutput> piece;  // NOLINT: filled by read
    const ssize_t got = ::read(read_.get(), piece.data(), piece.size());
    if (got <= 0) return got < 0 && errno == EINTR;
    text_.append(piece.data(), static_cast<std::size_t>(got));
    if (text_.size() <= plan::kHookOutput) return true;
    text_.erase(0, text_.size() - plan::kHookOutput);
    cut_ = true;
    return true;
  }

  // When the hook has ended. What it has left behind and goes on printing finds a pipe that is full, not one that
  // blocks.
  std::string finish() {
    constexpr int kPieces = 64;
    (void)::fcntl(write_.get(), F_SETFL, O_RDWR | O_NONBLOCK);
    for (int i = 0; i < kPieces && take(); ++i) {
    }
    return shown(str(cut_ ? "[...]" : "", text_));
  }

 private:
  UniqueFd read_, write_;
  std::string text_;
  bool cut_ = false;
};

}  // namespace

namespace {

// What posix_spawn needs, released at the end of its life.
class Actions {
 public:
  Actions() {
    posix_spawn_file_actions_init(&files_);
    posix_spawnattr_init(&attributes_);
  }
  ~Actions() {
    posix_spawn_file_actions_destroy(&files_);
    posix_spawnattr_destroy(&attributes_);
  }
  Actions(const Actions&) = delete;
  Actions& operator=(const Actions&) = delete;
  posix_spawn_file_actions_t* files() { return &files_; }
  posix_spawnattr_t* attributes() { return &attributes_; }

 private:
  posix_spawn_file_actions_t files_{};
  posix_spawnattr_t attributes_{};
};

std::vector<char*> pointers(const oci::Strings& words) {
  std::vector<char*> out;
  out.reserve(words.size() + 1);
  for (const auto& word : words) out.push_back(const_cast<char*>(word.c_str()));
  out.push_back(nullptr);
  return out;
}

Result<pid_t> spawn_hook(const oci::Hook& hook, const std::string& directory, int in_fd, int out_fd) {
  Actions actions;
  posix_spawn_file_actions_adddup2(actions.files(), in_fd, 0);
  posix_spawn_file_actions_adddup2(actions.files(), out_fd, 1);
  posix_spawn_file_actions_adddup2(actions.files(), out_fd, 2);
  // A bundle may be gone by the time its container is deleted.
  const bool is_there = ::access(directory.c_str(), X_OK) == 0;
  posix_spawn_file_actions_addchdir_np(actions.files(), is_there ? directory.c_str() : "/");
  sigset_t set;
  sigemptyset(&set);
  posix_spawnattr_setsigmask(actions.attributes(), &set);
  sigfillset(&set);
  posix_spawnattr_setsigdefault(actions.attributes(), &set);
  posix_spawnattr_setpgroup(actions.attributes(), 0);
  posix_spawnattr_setflags(actions.attributes(),
                           POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  const oci::Strings args = hook.args.empty() ? oci::Strings{hook.path} : hook.args;
  auto argv = pointers(args);
  auto envp = pointers(hook.env);
  pid_t pid = 0;
  const int rc =
      ::posix_spawn(&pid, hook.path.c_str(), actions.files(), actions.attributes(), argv.data(), envp.data());
  if (rc != 0) return Error::from_errno(rc, "execute");
  return pid;
}

enum class End { itself, timeout, orphaned, interrupted };

// Until the hook has ended, its time is up, the container's process, for which it works, is dead, or so are we to be.
End watch_hook(int pidfd, const std::optional<int>& timeout_seconds, int process_pidfd, Output& output) {
  std::array<pollfd, 3> watched{{{pidfd, POLLIN, 0}, {process_pidfd, POLLIN, 0}, {output.for_us(), POLLIN, 0}}};
  constexpr std::int64_t kMillisecond = 1'000'000, kSecond = 1'000 * kMillisecond;
  const std::int64_t end = fs::monotonic_ns() + timeout_seconds.value_or(0) * kSecond;
  for (;;) {
    const std::int64_t left = std::max<std::int64_t>(end - fs::monotonic_ns(), 0);
    const timespec timeout{left / kSecond, left % kSecond};
    const int ready = ::ppoll(watched.data(), watched.size(), timeout_seconds ? &timeout : nullptr, nullptr);
    if (ready < 0 && sys::interrupted()) return End::interrupted;
    if (ready < 0) continue;
    if (watched[0].revents != 0) return End::itself;
    if (watched[1].revents != 0) return End::orphaned;
    if (timeout_seconds && left == 0) return End::timeout;
    if (watched[2].revents != 0) output.take();
  }
}

Result<sys::ExitStatus> wait_hook(pid_t pid, int pidfd, const oci::Hook& hook, int process_pidfd, Output& output,
                                  End& end) {
  end = watch_hook(pidfd, hook.timeout_seconds, process_pidfd, output);
  if (end != End::itself) {
    ::kill(-pid, SIGKILL);
    (void)sys::signal_pidfd(pidfd, SIGKILL);
  }
  sys::ExitStatus status;
  TRY(sys::wait_pidfd(pidfd, status, true));
  return status;
}

Result<void> run_hook(const oci::Hook& hook, const HookState& state, int in_fd) {
  Output output;
  TRY(output.open());
  const pid_t pid = TRY(spawn_hook(hook, state.bundle, in_fd, output.for_hook()));
  auto opened = sys::open_pidfd(pid);
  if (!opened) {  // it runs already, and nothing would watch over it or reap it
    ::kill(-pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return std::move(opened).error();
  }
  const UniqueFd pidfd = std::move(*opened);
  End end{};
  const auto status = TRY(wait_hook(pid, pidfd.get(), hook, state.process_pidfd, output, end));
  const std::string text = output.finish();
  if (end == End::orphaned) return Error::make(Code::os, "was killed, since the container's process has ended");
  if (end == End::interrupted) return Error::from_errno(EINTR, "was killed");
  if (end == End::timeout)
    return Error::make(Code::os, "ran past its timeout of ", *hook.timeout_seconds, " s and was killed");
  if (status.shell_status() == 0) return {};
  const bool exited = status.code == CLD_EXITED;
  return hook_failure(static_cast<unsigned>(status.status) + (exited ? 0 : plan::kHookSignal), text);
}

}  // namespace

Result<void> run_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind, const HookState& state) {
  if (hooks.empty()) return {};
  const std::string json = state_json(state);
  for (std::size_t i = 0; i < hooks.size(); ++i) {
    // A file and not a pipe: a hook that never reads its input gives no EPIPE, and each reads from the start.
    const UniqueFd input = TRY(sys::sealed_memfd("hook-state", json, false));
    if (::lseek(input.get(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek");
    TRY_CTX(run_hook(hooks[i], state, input.get()), hook_name(kind, i), ": ", printable(hooks[i].path));
  }
  return {};
}

}  // namespace skink::launch
