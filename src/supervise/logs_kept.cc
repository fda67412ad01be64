// SPDX-License-Identifier: Apache-2.0
// How much of a container's output is kept. By default the spool bounds itself; with --log-opt compress what is older
// than the newest max-size is packed by a helper, a part of max-size each, and what is older than max-file of them
// goes.
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "base/durations.h"
#include "fs/dir.h"
#include "supervise/helper.h"
#include "supervise/packed_log.h"
#include "supervise/supervisor.h"

namespace skink::supervise {
namespace {

// Whether a part of so many bytes may fit when it is compressed: what is tried in vain reads and compresses all of it.
Result<void> look_for_room(std::uint64_t bytes) {
  constexpr std::uint64_t kLikelyRatio = 8;
  struct statvfs disk {};
  // Without a limit it has no blocks at all, as a tmpfs may be.
  if (::fstatvfs(kFdStoreDir, &disk) != 0 || disk.f_blocks == 0 || disk.f_bfree * disk.f_frsize >= bytes / kLikelyRatio)
    return {};
  return Error::from_errno(ENOSPC, "compress the log");
}

}  // namespace

// A file for node agents follows the spool. Whatever is the matter with it is told, and changes nothing else.
void Supervisor::open_cri_log() {
  constexpr std::uint64_t kUsuallyKept = 128ULL << 20, kMostTurn = 1ULL << 20, kLeastTurn = 2048;
  if (container_.cri_log.path.empty()) return;
  const LogLimits& limits = container_.log_limits;
  const auto size = static_cast<std::uint64_t>(limits.max_size);
  const std::uint64_t kept = size == 0 ? kUsuallyKept : size * (limits.max_files - (limits.compress ? 1 : 0));
  auto opened = CriFile::open(kFdStoreDir, container_.cri_log, kept);
  if (!opened) {
    complain(std::move(opened).error().context("the CRI log"));
    return;
  }
  cri_ = std::move(*opened);
  // So that it can be told in time that the file is behind.
  spool_->set_turn(std::clamp(kept / 8, kLeastTurn, kMostTurn));
  follow_logs();
}

void Supervisor::pump(Stream stream, int fd) {
  // A flood waits in its pipe for a file that is written; nobody waits for one that cannot be.
  if (!cri_ || !cri_->is_behind(spool_->ends())) (void)spool_->pump(stream, fd, true);
  output_came();
}

void Supervisor::follow_logs() {
  if (journal_) journal_->forward();
  if (!cri_) return;
  if (auto written = cri_->forward(); !written) complain(written.error());
}

void Supervisor::open_logs() {
  const LogLimits& limits = container_.log_limits;
  // Whoever was attached to a predecessor finds the output whole when he comes back.
  if (container_.log_driver == "none") keep_until_ns_ = fs::monotonic_ns() + 2 * kSecond;
  if (limits.max_size == 0) return;
  const auto size = static_cast<std::uint64_t>(limits.max_size);
  if (!limits.compress) {
    spool_->set_limit(size * limits.max_files);
    return;
  }
  spool_->set_limit(~std::uint64_t{0});
  spool_->set_index_limit(size * limits.max_files);
  sweep_packing(kFdStoreDir);
  for (const Stream stream : {Stream::out, Stream::err})
    for (const auto& part : list_packed(kFdStoreDir, stream)) {
      auto& to = packed_to_[static_cast<std::size_t>(stream)];
      to = std::max(to, part.to);
      // A predecessor may have been killed between the two.
      spool_->give_back(stream, to);
    }
  rotate_logs();
}

void Supervisor::rotate_logs() {
  const LogLimits& limits = container_.log_limits;
  if (!limits.compress || limits.max_size == 0) return;
  const auto size = static_cast<std::uint64_t>(limits.max_size);
  for (const Stream stream : {Stream::out, Stream::err}) {
    const std::uint64_t whole = spool_->end_of(stream) / size;
    if (whole >= limits.max_files) drop_old(stream, (whole - limits.max_files + 1) * size);
  }
  if (packing_ >= 0 || pack_again_ns_ != 0) return;
  for (const Stream stream : {Stream::out, Stream::err})
    if (packing_ < 0 && pack_again_ns_ == 0 &&
        packed_to_[static_cast<std::size_t>(stream)] + size <= spool_->end_of(stream))
      pack_next(stream);
}

// What could not be packed in time goes as it is.
void Supervisor::drop_old(Stream stream, std::uint64_t before) {
  const auto i = static_cast<std::size_t>(stream);
  if (dropped_to_[i] >= before) return;
  dropped_to_[i] = before;
  if (packed_to_[i] < before) {
    // Order: it reads no more when the bytes go. What it reads in its last call it cannot write.
    if (packing_ >= 0 && packing_stream_ == stream) (void)sys::signal_pidfd(packing_, SIGKILL);
    packed_to_[i] = before;
  }
  spool_->give_back(stream, before);
  for (const auto& part : list_packed(kFdStoreDir, stream))
    if (part.to <= before) (void)::unlinkat(kFdStoreDir, part.name.c_str(), 0);
}

void Supervisor::pack_next(Stream stream) {
  const auto i = static_cast<std::size_t>(stream);
  const std::uint64_t from = packed_to_[i];
  const std::uint64_t to = from + static_cast<std::uint64_t>(container_.log_limits.max_size);
  if (auto room = look_for_room(to - from); !room) {
    pack_later(&room.error());
    return;
  }
  const int keep[] = {kFdStoreDir};
  const bool told = pack_failures_ > 0;
  const auto work = [=] {
    constexpr int kModest = 10;
    (void)!::nice(kModest);
    const auto packed = pack_log(kFdStoreDir, stream, from, to);
    if (!packed && !told) complain(packed.error());
    return packed ? 0 : 1;
  };
  const auto done = [this, stream, i, from, to](int status) {
    packing_ = -1;
    if (status != 0) sweep_packing(kFdStoreDir);
    if (packed_to_[i] == from && status == 0) {
      packed_to_[i] = to;
      pack_failures_ = 0;
      spool_->give_back(stream, to);
    } else if (packed_to_[i] == from) {
      pack_later(nullptr);
    }
    rotate_logs();
  };
  auto helper = add_helper("skink-pack", keep, work, done);
  if (helper) {
    packing_ = *helper;
    packing_stream_ = stream;
    return;
  }
  pack_later(&helper.error());
}

// A full disk may be full for days: each attempt costs as much as one that succeeds, and what is told is kept in
// memory.
void Supervisor::pack_later(const Error* error) {
  constexpr unsigned kMostDoublings = 8;
  if (error != nullptr && pack_failures_ == 0) complain(*error);
  pack_again_ns_ = fs::monotonic_ns() + (kSecond << std::min(pack_failures_, kMostDoublings));
  ++pack_failures_;
}

void Supervisor::check_logs(std::int64_t now) {
  if (pack_again_ns_ != 0 && now >= pack_again_ns_) {
    pack_again_ns_ = 0;
    rotate_logs();
  }
  if (keep_until_ns_ != 0 && now >= keep_until_ns_) {
    keep_until_ns_ = 0;
    choose_keeping();
  }
}

// --log-driver none: for those who are attached, and nobody else.
void Supervisor::choose_keeping() {
  if (container_.log_driver != "none" || keep_until_ns_ != 0) return;
  const bool wanted = std::ranges::any_of(clients_, [](const auto& client) { return client.second.attached; });
  if (auto chosen = spool_->keep(wanted); !chosen) complain(chosen.error());
}

// Who is attached has the files open.
void Supervisor::forget_logs() {
  for (const char* name : kStreamFiles) (void)::unlinkat(kFdStoreDir, name, 0);
  (void)::unlinkat(kFdStoreDir, kIndexFile, 0);
  (void)::unlinkat(kFdStoreDir, kGapFile, 0);
}

}  // namespace skink::supervise
