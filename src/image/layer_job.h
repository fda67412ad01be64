// SPDX-License-Identifier: Apache-2.0
// LayerJob: the import of one layer in a process of its own, so that several go on side by side. It is no confined one:
// it hashes, and starts those that are.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"
#include "image/importer.h"

namespace skink::image {

class LayerJob {
 public:
  /// The calling process must have one thread. What `request` points to is used in the process alone.
  static Result<LayerJob> start(ImportRequest request);
  LayerJob(LayerJob&& other) noexcept;
  LayerJob& operator=(LayerJob&&) = delete;
  LayerJob(const LayerJob&) = delete;
  LayerJob& operator=(const LayerJob&) = delete;
  ~LayerJob();

  /// Readable when it has ended.
  [[nodiscard]] int answer_fd() const { return answer_.get(); }
  /// Packed bytes that were read so far, as far as one can believe a process that reads them.
  [[nodiscard]] std::uint64_t progress() const;
  /// Whether it has made the layer and waits for the disk.
  [[nodiscard]] bool is_syncing() const;
  /// Waits for its end. Once. The layer and its recipe are on disk then.
  Result<Imported> end();
  /// Kills it, and what it has started, and waits. Harmless after end().
  void stop();

 private:
  LayerJob() = default;
  pid_t pid_ = -1;
  UniqueFd answer_;
  struct Shared {
    std::uint64_t bytes = 0;
    std::uint32_t syncs = 0;
  };
  Shared* shared_ = nullptr;  // a page that is shared with it
};

/// How many jobs go on at once here: one for each two processors, as a job keeps two of them busy, and at least two.
std::size_t jobs_most();

}  // namespace skink::image
