// SPDX-License-Identifier: Apache-2.0
// Engine::logs: the spooled output for people, once or for as long as the container is supervised.
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <utility>

#include "base/text.h"
#include "fs/dir.h"
#include "supervise/cri_lines.h"
#include "supervise/engine_impl.h"
#include "supervise/log_reader.h"
#include "sys/file.h"

namespace skink {
namespace supervise {
namespace {

class LogPrinter {
 public:
  explicit LogPrinter(const LogOptions& options) : options_(options) {}

  /// False when the reader of our output has gone away.
  Result<bool> print(const LogPiece& piece) {
    const auto stream = static_cast<std::size_t>(piece.stream);
    if (!(piece.stream == Stream::out ? options_.out : options_.err)) return true;
    if (options_.since_ns && piece.time_ns < *options_.since_ns) return true;
    if (options_.until_ns && piece.time_ns > *options_.until_ns) return true;
    if (options_.json) return print_json(piece, stream);
    if (options_.cri) return print_cri(piece);
    if (piece.missing != 0) return print_gap(piece, stream);
    const int fd = piece.stream == Stream::out ? 1 : 2;
    if (!TRY(write(fd, options_.timestamps ? stamped(piece, stream) : std::string(piece.bytes)))) return false;
    at_line_start_[stream] = piece.bytes.ends_with('\n');
    return true;
  }

  /// What is left of lines without an end.
  Result<bool> finish() {
    std::string parts;
    cri_.finish(parts);
    if (!TRY(write(1, parts))) return false;
    for (std::size_t stream = 0; stream < lines_.size(); ++stream)
      if (!lines_[stream].text.empty() && !TRY(write(1, document(stream, true)))) return false;
    return true;
  }

 private:
  struct Line {
    std::string text;
    std::int64_t time_ns = 0;  ///< of its beginning
  };

  // What comes behind it must not look like the rest of the line that it cuts.
  Result<bool> print_gap(const LogPiece& gap, std::size_t stream) {
    const int fd = gap.stream == Stream::out ? 1 : 2;
    if (!std::exchange(at_line_start_[stream], true) && !TRY(write(fd, "\n"))) return false;
    return write(2, str("skink: ", gap_text(gap), '\n'));
  }

  static Result<bool> print_lines(std::string& lines) { return write(1, std::exchange(lines, std::string())); }

  Result<bool> print_cri(const LogPiece& piece) {
    std::string text;
    if (piece.missing != 0) cri_.gap(piece, text);
    for (std::string_view rest = piece.bytes; !rest.empty();) {
      rest.remove_prefix(cri_.take(piece.stream, piece.time_ns, rest, text));
      if (text.size() >= kMostText && !TRY(print_lines(text))) return false;
    }
    return print_lines(text);
  }

  Result<bool> print_json(const LogPiece& piece, std::size_t stream) {
    constexpr std::size_t kLongest = 64U << 10;
    Line& line = lines_[stream];
    std::string documents;
    for (const char byte : piece.bytes) {
      if (line.text.empty()) line.time_ns = piece.time_ns;
      line.text += byte;
      if (byte == '\n' || line.text.size() >= kLongest) documents += document(stream, byte != '\n');
    }
    if (piece.missing != 0) {
      if (!line.text.empty()) documents += document(stream, true);
      documents += oci::dump_json({{"time", fs::rfc3339(piece.time_ns)},
                                   {"stream", name_of(stream)},
                                   {"missing", piece.missing},
                                   {"reason", gap_reason(piece.loss)}}) +
                   "\n";
    }
    return write(1, documents);
  }

  static const char* name_of(std::size_t stream) { return stream == 0 ? "stdout" : "stderr"; }

  std::string document(std::size_t stream, bool partial) {
    Line& line = lines_[stream];
    if (!partial) line.text.pop_back();
    oci::Json json{{"time", fs::rfc3339(line.time_ns)}, {"stream", name_of(stream)}};
    // JSON has no bytes: what is no text comes as hexadecimal digits.
    if (is_utf8(line.text)) json["log"] = line.text;
    else json["bytes"] = to_hex(reinterpret_cast<const std::uint8_t*>(line.text.data()), line.text.size());
    if (partial) json["partial"] = true;
    line.text.clear();
    return oci::dump_json(json) + "\n";
  }

  std::string stamped(const LogPiece& piece, std::size_t stream) {
    std::string text;
    const std::string stamp = fs::rfc3339(piece.time_ns) + " ";
    for (const char byte : piece.bytes) {
      if (at_line_start_[stream]) text += stamp;
      text += byte;
      at_line_start_[stream] = byte == '\n';
    }
    return text;
  }

  static Result<bool> write(int fd, const std::string& text) {
    auto written = sys::write_all(fd, text, fd == 1 ? "standard output" : "standard error");
    if (written) return true;
    if (written.error().errnum() == EPIPE) return false;
    return std::move(written).error();
  }

  static constexpr std::size_t kMostText = 64U << 10;

  const LogOptions& options_;
  std::array<Line, 2> lines_;
  CriLines cri_;
  std::array<bool, 2> at_line_start_ = {true, true};
};

// A reader that goes away is an error of write(2), not the end of us.
class WithoutSigpipe {
 public:
  WithoutSigpipe() {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &ignore, &before_);
  }
  WithoutSigpipe(const WithoutSigpipe&) = delete;
  WithoutSigpipe& operator=(const WithoutSigpipe&) = delete;
  ~WithoutSigpipe() { ::sigaction(SIGPIPE, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

Result<bool> print_present(LogReader& reader, LogPrinter& printer) {
  for (;;) {
    const auto piece = TRY(reader.next());
    if (!piece) return true;
    if (!TRY(printer.print(*piece))) return false;
  }
}

// Whether more may come. Whose keepers were killed together gets new ones, by us if by nobody else, and runs on
// meanwhile.
bool is_kept(const Roots& roots, const std::string& id, int store_dir) {
  if (is_alive(store_dir)) return true;
  const auto run_dir = open_run_dir(roots, id);
  const auto status = run_dir ? read_status(run_dir->get()) : Result<Status>(run_dir.error());
  if (!status || status->step == Step::stopped || !is_abandoned(*status)) return false;
  const auto revived = revive(roots, id);
  return revived || revived.error().code() == Code::busy;
}

Result<void> follow(LogReader& reader, LogPrinter& printer, const std::function<bool()>& may_come) {
  const UniqueFd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify) return Error::from_errno(errno, "inotify_init");
  const std::string index = str("/proc/self/fd/", reader.index_fd());
  if (::inotify_add_watch(inotify.get(), index.c_str(), IN_MODIFY) < 0) return Error::from_errno(errno, "inotify");
  for (;;) {
    // Order: asked before the look at the files, so that nothing written before the end is missed.
    const bool alive = may_come();
    std::array<char, 4096> events;  // NOLINT: thrown away
    while (::read(inotify.get(), events.data(), events.size()) > 0) {
    }
    if (!TRY(print_present(reader, printer)) || !alive) return {};
    constexpr int kLookForTheEndMs = 200;
    // Standard output is watched too: nobody reads any more (`logs -f | head`).
    std::array<pollfd, 2> fds = {
        {{.fd = inotify.get(), .events = POLLIN, .revents = 0}, {.fd = 1, .events = 0, .revents = 0}}};
    if (::poll(fds.data(), fds.size(), kLookForTheEndMs) < 0 && errno != EINTR) return Error::from_errno(errno, "poll");
    if ((fds[1].revents & POLLERR) != 0) return {};
  }
}

}  // namespace
}  // namespace supervise

Result<void> Engine::logs(const std::string& id, const LogOptions& options) {
  using namespace supervise;
  const UniqueFd store_dir = TRY(open_container(impl_->roots, id));
  if (const auto container = read_container(store_dir.get(), id)) {
    if (container->log_driver == "none")
      return Error::make(Code::unsupported, "its output is kept nowhere (--log-driver none)");
    if (container->log_driver == "passthrough")
      return Error::make(Code::unsupported, "its output went to who has started it (--log-driver passthrough)");
  }
  auto opened = LogReader::open(store_dir.get());
  if (!opened && opened.error().errnum() == ENOENT) return {};  // it never ran
  LogReader reader = TRY(std::move(opened));
  if (options.tail)
    TRY(reader.skip_to_tail(*options.tail, options.out, options.err, !is_alive(store_dir.get()), options.until_ns));
  const WithoutSigpipe guard;
  LogPrinter printer(options);
  if (!TRY(print_present(reader, printer))) return {};
  const auto may_come = [&] {
    const bool in_time = !options.until_ns || fs::now_ns() <= *options.until_ns;
    return in_time && is_kept(impl_->roots, id, store_dir.get());
  };
  if (options.follow) TRY(follow(reader, printer, may_come));
  if (is_alive(store_dir.get())) {
    TRY(printer.finish());
    return {};
  }
  // Nobody writes any more: bytes whose supervisor was killed before it noted them are still to come.
  while (const auto piece = TRY(reader.rest()))
    if (!TRY(printer.print(*piece))) return {};
  TRY(printer.finish());
  return {};
}

}  // namespace skink
