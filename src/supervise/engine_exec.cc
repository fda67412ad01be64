// SPDX-License-Identifier: Apache-2.0
// Engine::exec, the client's side. The process gets pipes or a terminal of its own, never our descriptors: what it is
// given it can open again (a terminal of the host, a file that standard output was redirected to).
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>

#include "fs/dir.h"
#include "security/security.h"
#include "supervise/engine_impl.h"
#include "supervise/exits.h"
#include "supervise/front.h"
#include "sys/file.h"

namespace skink {
namespace supervise {
namespace {

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe(const oci::User& user) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  if (::fchown(ends[0], user.uid, user.gid) != 0) return Error::from_errno(errno, "chown of a pipe");
  return pipe;
}

void set_env(oci::Strings& env, const std::string& entry, bool replace) {
  const std::string key = entry.substr(0, entry.find('=') + 1);
  const auto same = std::find_if(env.begin(), env.end(), [&](const auto& have) { return have.starts_with(key); });
  if (same == env.end()) env.push_back(entry);
  else if (replace) *same = entry;
}

// The process as the container's own, with what the options change; the user is looked up inside.
Result<oci::Process> make_process(const oci::Spec& spec, const Status& status, const ExecOptions& options) {
  oci::Process process = spec.process.value_or(oci::Process{});
  process.terminal = options.tty;
  process.console_size.reset();
  process.args = options.args;
  if (process.args.empty()) return Error::make(Code::invalid_config, "exec: no program was given");
  if (!options.working_dir.empty()) process.cwd = options.working_dir;
  if (process.cwd.empty()) process.cwd = "/";
  for (const auto& entry : options.env) set_env(process.env, entry, true);
  if (options.tty) set_env(process.env, "TERM=xterm", false);
  if (!options.user.empty()) {
    // Order: the root is opened while the pidfd shows that the number still means the container.
    const UniqueFd pidfd = TRY(sys::open_identified(status.init));
    const std::string root = str("/proc/", status.init.pid, "/root");
    const UniqueFd root_fd = TRY(sys::open_at(AT_FDCWD, root.c_str(), O_PATH | O_DIRECTORY));
    TRY(sys::signal_pidfd(pidfd.get(), 0));
    const auto user = TRY_CTX(security::resolve_user(root_fd.get(), options.user, {}), "user");
    process.user = oci::User{.uid = user.uid, .gid = user.gid, .umask = {}, .additional_gids = user.groups};
    set_env(process.env, str("HOME=", user.home), true);
    // Another user than root has none of root's capabilities, as with docker.
    if (process.capabilities && user.uid != 0 && !options.privileged)
      process.capabilities->effective = process.capabilities->permitted = process.capabilities->ambient = 0;
    if (process.capabilities && user.uid == 0)
      process.capabilities->effective = process.capabilities->permitted = process.capabilities->bounding;
  }
  if (options.privileged) {
    const std::uint64_t all = security::all_capabilities();
    process.capabilities = oci::Capabilities{.bounding = all, .effective = all, .permitted = all};
  }
  return process;
}

Result<UniqueFd> process_document(const oci::Process& process) {
  oci::Spec carrier;
  carrier.oci_version = oci::kSpecVersion;
  carrier.process = process;
  const auto json = TRY(oci::parse_json(oci::dump_spec(carrier), oci::kConfigLimit));
  const oci::Json* found = oci::find(json, "process");
  if (found == nullptr) return Error::make(Code::internal, "a spec without its process");
  UniqueFd file = TRY(sys::sealed_memfd("skink-exec", oci::dump_json(*found), false));
  if (::lseek(file.get(), 0, SEEK_SET) < 0) return Error::from_errno(errno, "lseek");
  return file;
}

class ExecSession {
 public:
  ExecSession(const Roots& roots, std::string id, const ExecOptions& options)
      : roots_(roots), id_(std::move(id)), options_(options) {}
  Result<int> run();

 private:
  Result<Status> running_status();
  Result<oci::Process> process();
  Error lost(const std::string& token, Patience& patience);
  Result<void> launch(const oci::Process& process);
  Result<bool> on_control();
  Result<LastExit> end_without_supervisor(const Error& why) const;
  Result<std::optional<Output>> next_output();

  const Roots& roots_;
  std::string id_;
  const ExecOptions& options_;
  UniqueFd socket_, terminal_, out_, err_;
  UniqueFd input_;
  UniqueFd exits_;  // the guard's records, which can be read when all else is gone
  Front front_;
  pid_t pid_ = 0;
  std::int64_t from_ = 0;
  bool over_ = false;
  LastExit last_;
};

// A launch that is under way is waited for, not so one that is to come after a pause.
Result<Status> ExecSession::running_status() {
  constexpr std::int64_t kSoonNs = 1'000'000'000;
  const UniqueFd store_dir = TRY(open_container(roots_, id_));
  Patience patience(roots_, id_);
  for (;;) {
    const auto run_dir = open_run_dir(roots_, id_);
    auto status = run_dir ? read_status(run_dir->get()) : Result<Status>(Error(Code::not_found, ""));
    if (!run_dir && run_dir.error().code() != Code::not_found && run_dir.error().errnum() != ENOENT)
      return run_dir.error();
    const bool may_come = status && status->step != Step::stopped && has_keepers(roots_, id_, store_dir.get());
    if (may_come && status->step == Step::running) {
      const auto init = sys::open_identified(status->init);
      if (init) return status;
      // Want of descriptors, and the like, is no end of a process.
      if (init.error().code() != Code::not_found) return init.error();
    }
    // Its supervisor takes note of its end and of the next run as one.
    if (!may_come || status->stop_wanted)
      return Error::make(Code::busy, "container ", id_.substr(0, 12), " is not running");
    if (status->step == Step::waiting && status->next_try_mono_ns > fs::monotonic_ns() + kSoonNs)
      return Error::make(Code::busy, "container ", id_.substr(0, 12),
                         " is not running: it waits for its next try (skink ps)");
    TRY(patience.check());
    const timespec pause{.tv_sec = 0, .tv_nsec = 5'000'000};
    ::nanosleep(&pause, nullptr);
  }
}

Result<oci::Process> ExecSession::process() {
  const Status status = TRY(running_status());
  if (status.paused) return Error::make(Code::busy, "cannot exec in a paused container; unpause it first");
  const UniqueFd store_dir = TRY(open_container(roots_, id_));
  const auto spec = TRY(oci::parse_spec(TRY(fs::read_file(store_dir.get(), kConfigFile, oci::kConfigLimit))));
  return make_process(spec, status, options_);
}

// The supervisor was killed before it answered. Its successor ends what it had begun, so that nothing runs of which
// nobody knows.
Error ExecSession::lost(const std::string& token, Patience& patience) {
  if (auto socket = connect_supervisor(roots_, id_, patience)) {
    (void)send_message(socket->get(), {{"op", "exec-cancel"}, {"token", token}});
    (void)await_answer(socket->get(), patience);
  }
  return Error::make(Code::busy,
                     "exec: the container's supervisor was killed while it started the process, which was "
                     "ended; try again");
}

Result<void> ExecSession::launch(const oci::Process& process) {
  const UniqueFd document = TRY(process_document(process));
  std::vector<int> fds = {document.get()};
  Pipe in, out, err;
  if (!options_.tty && !options_.detach) {
    out = TRY(make_pipe(process.user));
    err = TRY(make_pipe(process.user));
    if (options_.stdin_open) in = TRY(make_pipe(process.user));
    else in.read = TRY(sys::open_at(AT_FDCWD, "/dev/null", O_RDONLY));
    fds.insert(fds.end(), {in.read.get(), out.write.get(), err.write.get()});
  }
  Patience patience(roots_, id_);
  socket_ = TRY(connect_supervisor(roots_, id_, patience));
  if (const auto run_dir = open_run_dir(roots_, id_))
    if (auto exits = sys::open_at(run_dir->get(), kExitsFile, O_RDONLY | O_NOFOLLOW)) exits_ = std::move(*exits);
  const std::string token = fs::random_hex(8);
  auto sent = send_message(socket_.get(), {{"op", "exec"}, {"detach", options_.detach}, {"token", token}}, fds);
  auto answered = sent ? await_answer(socket_.get(), patience) : Result<Message>(std::move(sent).error());
  if (!answered && is_hang_up(answered.error())) return lost(token, patience);
  Message answer = TRY(std::move(answered));
  if (answer.json.contains("error")) return error_of(answer.json);
  pid_ = static_cast<pid_t>(oci::get_int(answer.json, "pid"));
  from_ = oci::get_int(answer.json, "from");
  if (!answer.fds.empty()) terminal_ = std::move(answer.fds[0]);
  out_ = std::move(out.read);
  err_ = std::move(err.read);
  input_ = std::move(in.write);
  return {};
}

// A status is never made up: it is on record, or nobody can say, nor whether it has ended.
Result<LastExit> ExecSession::end_without_supervisor(const Error& why) const {
  if (why.code() != Code::not_found)
    return Error::make(Code::busy, "exec: nobody can be asked how the program ends: ", why.text());
  if (const auto end = exits_ ? exits_end(exits_.get()) : Result<std::int64_t>(0); end && *end > from_)
    if (const auto record = find_exit(exits_.get(), pid_, from_); record && *record) return last_exit_of(**record);
  return Error::make(Code::busy,
                     "exec: nobody saw how the program ended: the container's guard and supervisor are gone");
}

Result<bool> ExecSession::on_control() {
  auto message = receive_message(socket_.get());
  if (!message && message.error().code() == Code::busy) return false;
  if (!message) {
    // A supervisor that was killed: its successor, or the end of the container, tells how the process ended.
    Patience patience(roots_, id_);
    auto socket = connect_supervisor(roots_, id_, patience);
    if (!socket) {
      last_ = TRY(end_without_supervisor(socket.error()));
      return over_ = true;
    }
    socket_ = std::move(*socket);
    (void)send_message(socket_.get(), {{"op", "exec-wait"}, {"pid", pid_}, {"from", from_}});
    return false;
  }
  if (oci::get_string(message->json, "event") != "exec-done") return false;
  last_ = TRY(parse_last_exit(oci::get_string(message->json, "exit", "{}")));
  return over_ = true;
}

Result<std::optional<Output>> ExecSession::next_output() {
  std::array<char, 16384> bytes;  // NOLINT: filled by read
  const auto read_from = [&](UniqueFd& from, int to) -> std::optional<Output> {
    if (!from) return std::nullopt;
    const ssize_t got = ::read(from.get(), bytes.data(), bytes.size());
    if (got > 0) return Output{.fd = to, .bytes = std::string(bytes.data(), static_cast<std::size_t>(got))};
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    std::erase(front_.output_fds, from.get());
    from.reset();
    return std::nullopt;
  };
  if (auto output = read_from(terminal_, 1)) return output;
  if (auto output = read_from(out_, 1)) return output;
  return read_from(err_, 2);
}

Result<int> ExecSession::run() {
  const oci::Process wanted = TRY(process());
  const auto signals = TRY(ForwardedSignals::take(!options_.detach));
  TRY(launch(wanted));
  if (options_.detach) return 0;
  for (const UniqueFd* fd : {&terminal_, &out_, &err_})
    if (*fd) {
      ::fcntl(fd->get(), F_SETFL, O_NONBLOCK);
      front_.output_fds.push_back(fd->get());
    }
  std::optional<RawTerminal> raw;
  if (terminal_) {
    if (options_.stdin_open) raw.emplace(0);
    front_.set_input(TRY(sys::dup_fd(terminal_.get())), true, options_.stdin_open);
  } else if (input_) {
    front_.set_input(std::move(input_), false, true);
  }
  front_.control_fd = [this] { return socket_.get(); };
  front_.on_control = [this] { return on_control(); };
  front_.next_output = [this] { return next_output(); };
  front_.on_signal = [this](int signal) {
    (void)send_message(socket_.get(), {{"op", "exec-signal"}, {"pid", pid_}, {"signal", signal}});
  };
  TRY(front_.run(signals));
  if (!last_.known)
    return Error::make(Code::internal,
                       "exec: the program has ended, but nobody saw how: the container's guard was killed meanwhile");
  return last_.status;
}

}  // namespace
}  // namespace supervise

Result<int> Engine::exec(const std::string& id, const ExecOptions& options) {
  return supervise::ExecSession(impl_->roots, id, options).run();
}

}  // namespace skink
