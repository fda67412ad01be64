// SPDX-License-Identifier: Apache-2.0
// Probe: what a supervisor asks a container about its health, as text, as JSON, and one attempt over a socket. The
// socket is made in the container's network namespace by the supervisor itself: no process is started there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "oci/json.h"
#include "skink/engine.h"

namespace skink::supervise {

oci::Json probe_json(const Probe& probe);
Probe probe_of(const oci::Json* json);

/// How an attempt ended.
struct ProbeResult {
  bool good = false;
  std::string text;  ///< what was answered, or why not
};

/// Of an answer not more than this is read.
inline constexpr std::size_t kMostAnswer = 16U << 10;
/// What is asked by http:// and https://, and what an answer means that has come so far; `over`: no more will come.
std::string http_request(const Probe& probe);
std::optional<ProbeResult> judge_http(std::string_view answer, bool over);

/// One attempt of a probe that is not exec; of https:// the connection alone, see tls_probe.h. Never blocks; the caller
/// polls fd() and drops it when its time is over.
class ProbeAttempt {
 public:
  /// Connects to the container whose first process `init_pidfd` and `init_pid` are. A failure is one of the probe.
  static Result<ProbeAttempt> begin(const Probe& probe, int init_pidfd, pid_t init_pid);
  [[nodiscard]] int fd() const { return socket_.get(); }
  /// What to wait for, as epoll has it.
  [[nodiscard]] std::uint32_t events() const;
  /// Goes on after an event; nothing while the answer is not there yet.
  std::optional<ProbeResult> advance();

 private:
  explicit ProbeAttempt(const Probe& probe);
  std::optional<ProbeResult> send();
  std::optional<ProbeResult> receive();
  [[nodiscard]] std::optional<ProbeResult> judge(bool over);
  [[nodiscard]] std::optional<ProbeResult> judge_grpc(bool over);

  Probe::Kind kind_;
  UniqueFd socket_;
  bool connected_ = false;
  std::string request_, answer_;
  std::string message_;        ///< gRPC: the payload of DATA frames so far
  std::size_t frames_at_ = 0;  ///< gRPC: what of the answer was looked at
};

}  // namespace skink::supervise
