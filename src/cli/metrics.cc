// SPDX-License-Identifier: Apache-2.0
// skink metrics: what monitoring wants to know of containers, for node_exporter's textfile collector or a scraper.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/text.h"
#include "cli/metrics_text.h"
#include "cli/verbs.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

struct MetricsCommand {
  std::string output;
  bool http = false;
};

constexpr Option<MetricsCommand> kMetricsOptions[] = {
    {{"http", 0, nullptr, "answer the HTTP request on standard input, for a socket unit"},
     set_switch<&MetricsCommand::http>},
    {{"output", 'o', "FILE", "replace FILE whole instead of printing (mode 0644)"}, set_text<&MetricsCommand::output>},
};

// A collector that reads meanwhile finds the old text or the new one. The temporary file's name ends in ".tmp", which
// the textfile collector passes over.
Result<void> write_output(const std::string& path, std::string_view text) {
  const auto slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return Error::from_errno(EISDIR, path);
  const UniqueFd at = TRY(sys::open_at(AT_FDCWD, directory.c_str(), O_RDONLY | O_DIRECTORY));
  ::umask(022);
  TRY_CTX(fs::write_file_atomic(at.get(), name.c_str(), text, 0644), path);
  return {};
}

// Reads to the end of the request's head: a connection that is closed with something unread in it is reset, and the
// answer may be lost. Bounded, as anybody may be at the other end.
std::string read_request() {
  constexpr std::size_t kMost = 16U << 10;
  constexpr std::int64_t kPatience = 5'000'000'000;
  const std::int64_t end = fs::monotonic_ns() + kPatience;
  std::string request;
  std::array<char, 4096> piece{};
  while (request.size() < kMost && request.find("\r\n\r\n") == std::string::npos) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    const std::int64_t left_ms = (end - fs::monotonic_ns()) / 1'000'000;
    const int ready = left_ms <= 0 ? 0 : ::poll(&input, 1, static_cast<int>(left_ms));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) break;
    const ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (got <= 0) break;
    request.append(piece.data(), static_cast<std::size_t>(got));
  }
  return request;
}

std::string http_answer(std::string_view request, std::string_view text) {
  if (!request.starts_with("GET "))
    return "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
  return str(
      "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
      "Content-Length: ",
      text.size(), "\r\nConnection: close\r\n\r\n", text);
}

Result<std::vector<ContainerSample>> sample_all(const Engine& engine, const std::vector<std::string>* ids) {
  std::vector<ContainerSample> samples;
  for (ContainerInfo& info : ids != nullptr ? infos_of(engine, *ids) : TRY(engine.list()))
    samples.push_back(sample_container(engine, std::move(info)));
  return samples;
}

int run_metrics(Context& context, Arguments args) {
  MetricsCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<MetricsCommand>(context, kMetricsOptions, args, command, names, {0, kAnyNumber}))
    return *status;
  if (command.http && !command.output.empty())
    return context.misuse(Error::make(Code::invalid_config, "--http and --output exclude each other"));
  const std::string request = command.http ? read_request() : std::string();
  const auto fail = [&](const Error& error) {
    if (command.http)
      context.out().print("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    return context.fail(error);
  };
  auto engine = context.open_engine();
  if (!engine) return fail(engine.error());
  int status = 0;
  const auto ids = resolve_each(context, *engine, names, status);
  const auto samples = sample_all(*engine, names.empty() ? nullptr : &ids);
  if (!samples) return fail(samples.error());
  const std::string text = metrics_text(*samples, names.empty());
  if (command.http) context.out().print(http_answer(request, text));
  else if (command.output.empty()) context.out().print(text);
  else if (auto written = write_output(command.output, text); !written) return context.fail(written.error());
  return status;
}

}  // namespace

const Verb kMetricsVerb{
    "metrics",
    "[OPTIONS] [CONTAINER...]",
    "Print what monitoring wants to know of containers, as OpenMetrics",
    R"(Of all containers, or of those named: state, restarts and last exit, and of those that run
CPU, memory, block and network I/O, processes and pressure (PSI). Every series has the labels id
and name. What a host does not tell has no series, such as the traffic with --network host.

The text is OpenMetrics 1.0 and uses only types that Prometheus's older format has too. For
node_exporter's textfile collector, let a timer call it with --output: the file is replaced
whole, so that no half of one is ever read. For a scrape, a socket unit with Accept=yes may
start it with --http, StandardInput=socket and StandardError=journal.

Exit status: 0; 1 on failure or when a CONTAINER does not exist (the others are told).

Examples:
  skink metrics
  skink metrics --output /var/lib/prometheus/node-exporter/skink.prom
)",
    1,
    run_metrics,
};

}  // namespace skink::cli
