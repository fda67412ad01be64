// SPDX-License-Identifier: Apache-2.0
// Engine::start_attached: a container in the foreground. Its output is read back from the spool, so that the caller and
// `logs` see the same bytes and a stopped caller never stops the container.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "fs/dir.h"
#include "supervise/engine_impl.h"
#include "supervise/exits.h"
#include "supervise/front.h"
#include "supervise/log_reader.h"
#include "sys/file.h"

namespace skink {
namespace supervise {
namespace {

// After this many of them a program that ignores being asked to end is killed, so that ^C always works in the end.
constexpr int kMostPoliteRequests = 3;
constexpr int kMostAttempts = 8;

class Attachment {
 public:
  Attachment(const Roots& roots, std::string id, const AttachOptions& options)
      : roots_(roots), id_(std::move(id)), options_(options) {}

  Result<int> run();

 private:
  Result<void> open_log(int store_dir);
  Result<void> join();
  Result<void> connect();
  Result<void> request(int socket);
  Result<bool> on_control();
  Result<bool> reconnect();
  void take_event(Message& message);
  void on_signal(int signal);
  Result<std::optional<Output>> next_output();
  [[nodiscard]] std::string who() const { return str("container ", id_.substr(0, 12)); }

  const Roots& roots_;
  std::string id_;
  AttachOptions options_;
  Supervised supervised_;
  std::optional<LogReader> reader_;
  UniqueFd output_event_;  // the supervisor writes to it when there is more to read
  std::optional<RawTerminal> raw_;
  Front front_;
  std::array<bool, 2> mid_line_{};  // what was shown last of each stream
  std::optional<Output> gap_;       // to be told next
  bool launched_ = false, over_ = false, has_input_ = false;
  int polite_requests_ = 0;
  int hang_ups_ = 0;  // in a row
  std::optional<LastExit> last_;
  oci::Json said_last_;  // with the end, or why nothing was started
};

Result<void> Attachment::open_log(int store_dir) {
  TRY(Spool::make(store_dir));  // of a container that never ran
  reader_ = TRY(LogReader::open(store_dir));
  TRY(reader_->skip_to_end());
  // Not inotify: to close one takes the kernel a grace period of several milliseconds.
  output_event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!output_event_) return Error::from_errno(errno, "eventfd");
  return {};
}

// Nothing is started, whatever becomes of the container meanwhile: the wish of somebody who stops it stands.
Result<void> Attachment::join() {
  supervised_.store_dir = TRY(open_container(roots_, id_));
  supervised_.alive = TRY(open_alive(supervised_.store_dir.get()));
  TRY(open_log(supervised_.store_dir.get()));
  launched_ = true;
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    Patience patience(roots_, id_, Patience::Limits::of_start());
    auto socket = connect_supervisor(roots_, id_, patience);
    if (!socket && socket.error().code() == Code::not_found) return Error::make(Code::busy, who(), " is not running");
    supervised_.socket = TRY(std::move(socket));
    if (request(supervised_.socket.get())) return {};
  }
  return Error::make(Code::busy, "its supervisor dies again and again");
}

Result<void> Attachment::connect() {
  if (options_.only_running) return join();
  supervised_ = TRY(ensure_supervisor(
      roots_, id_,
      [this](int store_dir) -> Result<void> {
        TRY(check_passed_output(store_dir, id_));
        return reader_ ? Result<void>{} : open_log(store_dir);
      },
      [this](int socket) { return request(socket); }));
  return {};
}

Result<void> Attachment::request(int socket) {
  const int event = output_event_.get();
  TRY(send_message(socket, {{"op", "attach"}, {"stdin", options_.stdin_open}}, {&event, 1}));
  if (!launched_) TRY(send_message(socket, {{"op", "start"}}));
  return {};
}

// The supervisor is gone without a farewell. Either it was killed, and another is on its way, or it came to its end.
Result<bool> Attachment::reconnect() {
  supervised_.socket.reset();
  if (!launched_) {
    TRY(check_files(supervised_.store_dir.get(), id_));
    TRY(connect());
    return false;
  }
  // Again and again, it has no room for us at all.
  if (++hang_ups_ > kMostAttempts) pause_ms(20);
  Patience patience(roots_, id_, Patience::Limits::of_start());
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    auto socket = connect_supervisor(roots_, id_, patience);
    if (!socket && socket.error().code() == Code::not_found) {
      if ((last_ = TRY_CTX(recorded_end(roots_, id_, supervised_.store_dir.get()), who()))) return true;
      continue;
    }
    // It may run on.
    if (!socket) return Error::make(Code::busy, who(), ": nobody can be asked how it ends: ", socket.error().text());
    supervised_.socket = std::move(*socket);
    if (request(supervised_.socket.get())) return false;
  }
  return Error::make(Code::busy, "its supervisor dies again and again");
}

Result<bool> Attachment::on_control() {
  auto message = receive_message(supervised_.socket.get());
  if (!message && message.error().code() == Code::busy) return false;
  if (!message) return over_ = TRY(reconnect());
  hang_ups_ = 0;
  if (message->json.contains("error")) {
    // An answer to a signal that came too late is nothing to us.
    if (launched_ && !oci::get_bool(message->json, "refused")) return false;
    said_last_ = message->json;
    return error_of(message->json);
  }
  if (message->json.contains("ok")) {
    launched_ = true;
    front_.patience = nullptr;
  }
  take_event(*message);
  return over_;
}

void Attachment::take_event(Message& message) {
  const std::string event = oci::get_string(message.json, "event");
  if (event == "done") {
    if (auto last = parse_last_exit(oci::get_string(message.json, "exit", "{}"))) last_ = std::move(*last);
    if (last_ && options_.stopped_is_success && oci::get_bool(message.json, "stopped")) last_ = LastExit{};
    said_last_ = message.json;
    over_ = true;
  }
  if (event == "started" && options_.on_running) options_.on_running();
  if (event == "changed" && options_.on_change) options_.on_change();
  if (event != "started" || message.fds.empty()) return;
  const bool terminal = oci::get_bool(message.json, "terminal");
  if (terminal && options_.stdin_open && !raw_) raw_.emplace(0);
  // Without -i a terminal gets window sizes but no input.
  if (!has_input_ || terminal) front_.set_input(std::move(message.fds[0]), terminal, options_.stdin_open);
  has_input_ = true;
}

void Attachment::on_signal(int signal) {
  const bool ends = signal == SIGINT || signal == SIGTERM || signal == SIGQUIT;
  if (ends && ++polite_requests_ > kMostPoliteRequests) signal = SIGKILL;
  // An answer is not awaited here: errors come by on_control and mean that the program is gone.
  (void)send_message(supervised_.socket.get(), {{"op", "kill"}, {"signal", signal}, {"ends", ends}});
}

Result<std::optional<Output>> Attachment::next_output() {
  if (gap_) return std::exchange(gap_, std::nullopt);
  // Order: the event is read away before the look at the files, so that none is missed.
  std::uint64_t count = 0;
  (void)!::read(output_event_.get(), &count, sizeof count);
  auto piece = TRY(reader_->next());
  if (!piece && over_) piece = TRY(reader_->rest());
  if (!piece) return std::optional<Output>{};
  const int fd = piece->stream == Stream::out ? 1 : 2;
  bool& mid_line = mid_line_[static_cast<std::size_t>(piece->stream)];
  if (piece->missing == 0) {
    mid_line = !piece->bytes.ends_with('\n');
    return std::optional(Output{.fd = fd, .bytes = std::string(piece->bytes)});
  }
  const std::string_view end_of_line = raw_ ? "\r\n" : "\n";
  Output gap{.fd = 2, .bytes = str("skink: ", gap_text(*piece), end_of_line)};
  if (!std::exchange(mid_line, false)) return std::optional(std::move(gap));
  gap_ = std::move(gap);
  return std::optional(Output{.fd = fd, .bytes = std::string(end_of_line)});
}

Result<int> Attachment::run() {
  const auto signals = TRY(ForwardedSignals::take(options_.forward_signals));
  TRY(connect());
  front_.control_fd = [this] { return supervised_.socket.get(); };
  front_.on_control = [this] { return on_control(); };
  front_.next_output = [this] { return next_output(); };
  front_.on_signal = [this](int signal) { on_signal(signal); };
  front_.output_fds = {output_event_.get()};
  front_.detach_keys = options_.detach_keys;
  Patience patience(roots_, id_, Patience::Limits::of_start());
  if (!launched_) front_.patience = [&patience] { return patience.check(); };
  auto done = front_.run(signals);
  raw_.reset();
  if (done && front_.detached()) return 0;
  // Only so that it can be removed or started at once; how it ended is known.
  patience.heard(said_last_);
  if (done || !launched_) (void)await_no_supervisor(supervised_.alive.get(), patience);
  if (!done) return std::move(done).error();
  return TRY_CTX(status_of_end(last_.value_or(unknown_exit())), who());
}

}  // namespace
}  // namespace supervise

Result<int> Engine::start_attached(const std::string& id, const AttachOptions& options) {
  return supervise::Attachment(impl_->roots, id, options).run();
}

}  // namespace skink
