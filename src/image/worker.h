// SPDX-License-Identifier: Apache-2.0
// Worker: a confined process (confine.h) that does one piece of work on a stranger's bytes and says at its end what
// came of it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/confine.h"

namespace skink::image {

/// What a worker may be and may say.
struct WorkerTerms {
  const char* name = "importer";  ///< for errors: "the importer was killed by signal 9"
  std::vector<int> keep;          ///< the descriptors that it keeps
  ConfineLimits limits;
  std::size_t answer_most = 64U << 10;  ///< bytes of its answer at most; a longer one is an error
};

/// Bytes of memory of a worker: what any work takes, and 128 for each of at most a million entries of a tar.
inline constexpr std::uint64_t kWorkerBase = 64U << 20;
inline constexpr std::uint64_t kWorkerBytesPerEntry = 128;
inline constexpr std::uint64_t kWorkerMemory = kWorkerBase + 1'000'000 * kWorkerBytesPerEntry;
/// And of address space beside it, for the program, its stack and what it has of its parent's.
inline constexpr std::uint64_t kWorkerProgram = 16U << 20;

/// The limits of a worker with this much memory, whose `work` is on so many bytes, and which has `mapped` bytes of
/// files mapped.
ConfineLimits worker_limits(std::uint64_t memory, std::uint64_t work, std::uint64_t mapped = 0);
/// Seconds of a processor for work on `bytes` packed bytes: far more than a slow host takes.
std::uint64_t seconds_for(std::uint64_t bytes);

class Worker {
 public:
  using Work = std::function<Result<std::string>()>;
  /// The calling process must have one thread. `work` runs in the confined process; what it returns is the answer.
  static Result<Worker> start(const WorkerTerms& terms, const Work& work);
  /// Lowers the limit of its memory, or raises it again as far as it was: for work that is given more the more
  /// it has got to do. Nothing where this process may not
  /// (CAP_SYS_RESOURCE).
  void limit_memory(std::uint64_t bytes) const;
  /// Waits for its end: its answer, or the error that it named or died of. Once.
  Result<std::string> end();
  /// Its answer is not wanted any more: kills it and waits. Harmless after end().
  void stop();

 private:
  Worker(const char* name, std::size_t answer_most) : name_(name), answer_most_(answer_most) {}
  const char* name_;
  std::size_t answer_most_;
  pid_t pid_ = -1;
  UniqueFd answer_;
};

/// Start and end at once.
Result<std::string> run_worker(const WorkerTerms& terms, const Worker::Work& work);

}  // namespace skink::image
