// SPDX-License-Identifier: Apache-2.0
// parse_image_config: what an image runs by default, checked before any of it is used (attack A77).
#include <array>
#include <limits>

#include "base/text.h"
#include "oci/image.h"
#include "oci/reader.h"

namespace skink::oci {
namespace {

constexpr std::size_t kMostLayers = 1000;
constexpr std::size_t kMostPath = 4095;  // PATH_MAX without its NUL
constexpr std::size_t kMostWord = 256;   // user and group names, signals

// What parse_history() reads of a configuration.
struct History {
  std::vector<HistoryEntry> entries;
};

struct RootFs {
  std::string type;
  std::vector<Digest> diff_ids;
};

bool is_port(std::string_view text) {
  const auto number = parse_int<std::uint16_t>(text);
  return number.has_value() && *number != 0;
}

/// "80", "80/tcp", "8000-8010/udp".
bool is_exposed_port(std::string_view text) {
  const auto protocol = split_once(text, '/');
  const std::string_view ports = protocol ? protocol->first : text;
  if (protocol && protocol->second != "tcp" && protocol->second != "udp" && protocol->second != "sctp") return false;
  const auto range = split_once(ports, '-');
  return range ? is_port(range->first) && is_port(range->second) : is_port(ports);
}

bool is_volume(std::string_view path) {
  const bool root = path.find_first_not_of('/') == std::string_view::npos;
  return path.starts_with('/') && !root && path.size() <= kMostPath;
}

void check_run(Reader& io, const ImageRun& run) {
  for (const std::string& entry : run.env)
    if (entry.find('=') == std::string::npos || entry.starts_with('='))
      io.fail_at("Env", str(brief(entry), " is not NAME=VALUE"));
  for (const std::string& port : run.exposed_ports)
    if (!is_exposed_port(port)) io.fail_at("ExposedPorts", str(brief(port), " is not a port such as 80/tcp"));
  for (const std::string& path : run.volumes)
    if (!is_volume(path)) io.fail_at("Volumes", str(brief(path), " is not an absolute path below /"));
  if (run.user.size() > kMostWord) io.fail_at("User", "is longer than 256 bytes");
  if (run.stop_signal.size() > kMostWord) io.fail_at("StopSignal", "is longer than 256 bytes");
  if (run.working_dir.size() > kMostPath) io.fail_at("WorkingDir", "is longer than 4095 bytes");
}

}  // namespace

static void describe(Reader& io, Healthcheck& check) {
  const Range<std::int64_t> from_zero{0, std::numeric_limits<std::int64_t>::max()};
  io.may("Test", check.test);
  io.may("Interval", check.interval_ns, from_zero);
  io.may("Timeout", check.timeout_ns, from_zero);
  io.may("StartPeriod", check.start_period_ns, from_zero);
  io.may("Retries", check.retries, from_zero);
}

static void describe(Reader& io, ImageRun& run) {
  io.may("User", run.user);
  io.may("ExposedPorts", run.exposed_ports, KeysOf{});
  io.may("Env", run.env);
  io.may("Entrypoint", run.entrypoint);
  io.may("Cmd", run.cmd);
  io.may("Volumes", run.volumes, KeysOf{});
  io.may("WorkingDir", run.working_dir);
  io.may("Labels", run.labels);
  io.may("StopSignal", run.stop_signal);
  io.may("Healthcheck", run.healthcheck);
  check_run(io, run);
}

static void describe(Reader& io, RootFs& rootfs) {
  constexpr std::array<std::string_view, 1> kTypes{"layers"};
  io.must("type", rootfs.type, Words{kTypes});
  io.may("diff_ids", rootfs.diff_ids);  // as "layers" of a manifest
  if (rootfs.diff_ids.size() > kMostLayers) io.fail_at("diff_ids", "has more than 1000 entries");
}

static void describe(Reader& io, ImageConfig& config) {
  io.must("architecture", config.platform.architecture);
  io.must("os", config.platform.os);
  io.may("variant", config.platform.variant);
  io.may("created", config.created);
  io.may("author", config.author);
  io.may("config", config.run);
  RootFs rootfs;
  io.must("rootfs", rootfs);
  config.diff_ids = std::move(rootfs.diff_ids);
}

static void describe(Reader& io, HistoryEntry& entry) {
  io.may("created", entry.created);
  io.may("created_by", entry.created_by);
  io.may("author", entry.author);
  io.may("comment", entry.comment);
  io.may("empty_layer", entry.empty_layer);
}

static void describe(Reader& io, History& history) { io.may("history", history.entries); }

Result<std::vector<HistoryEntry>> parse_history(std::string_view json) {
  return TRY(read_document<History>(json, kDocumentLimit)).entries;
}

Result<ImageConfig> parse_image_config(std::string_view json) {
  auto config = read_document<ImageConfig>(json, kDocumentLimit);
  if (!config && config.error().code() == Code::invalid_config) return std::move(config).error().as(Code::corrupt);
  return config;
}

}  // namespace skink::oci
