// SPDX-License-Identifier: Apache-2.0
#include "image/prune.h"

#include <algorithm>
#include <map>
#include <span>

#include "fs/usage.h"
#include "image/check.h"
#include "image/layout.h"
#include "image/records.h"
#include "image/stored_layer.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::size_t kAtOnce = 64;  // images that are locked together: each takes a descriptor

class Pruning {
 public:
  Pruning(int store_fd, const PruneRequest& request, Session& session)
      : store_fd_(store_fd), request_(request), session_(session) {}
  // Under the store's lock: only renames, however much it is.
  Result<void> run();
  [[nodiscard]] Pruned& result() { return result_; }

 private:
  Result<void> take_images();
  Result<void> take_some(std::span<Image> images);
  Result<void> take_layers();
  Result<void> take_scaffolds();
  Result<void> drop_lost_names();

  int store_fd_;
  const PruneRequest& request_;
  Session& session_;
  Pruned result_;
};

Result<void> Pruning::take_images() {
  std::vector<Image> images;
  // All are read before any goes: with one that cannot be read nobody knows what the others share with it.
  for (const auto& hex : TRY(list_images(store_fd_))) {
    Image image = TRY(read_image(store_fd_, hex));
    const bool may_go = (request_.all || image.names.empty()) && (!request_.fits || request_.fits(image));
    if (may_go) images.push_back(std::move(image));
  }
  for (std::size_t first = 0; first < images.size(); first += kAtOnce)
    TRY(take_some({images.data() + first, std::min(kAtOnce, images.size() - first)}));
  return {};
}

// Locked before it is asked who uses them: who is making a container of one has locked it until he has written that
// down.
Result<void> Pruning::take_some(std::span<Image> images) {
  std::vector<std::pair<Image*, fs::Lock>> free;
  for (Image& image : images) {
    auto lock = lock_unused_image(store_fd_, image, {});
    if (lock) free.emplace_back(&image, std::move(*lock));
    else if (lock.error().code() != Code::busy) return lock.error();
  }
  if (free.empty()) return {};
  const auto users = request_.users ? TRY(request_.users()) : std::map<std::string, std::vector<std::string>>{};
  for (auto& [image, lock] : free) {
    if (users.contains(image->id.text())) continue;
    // A power cut may leave some that lead nowhere, which the next prune takes.
    for (const auto& name : image->names)
      TRY(drop_name(store_fd_, image->id.hex(), name, fs::Durability::volatile_state));
    TRY(take_image(store_fd_, image->id.hex(), session_));
    result_.images.push_back(std::move(*image));
  }
  return {};
}

Result<void> Pruning::take_layers() {
  const auto needed = TRY(referenced_layers(store_fd_));
  std::vector<std::string> needless;
  for (auto& hex : TRY(list_layers(store_fd_)))
    if (!needed.contains(hex)) needless.push_back(std::move(hex));
  result_.layers += TRY(take_unneeded(store_fd_, needless, session_));
  return {};
}

Result<void> Pruning::take_scaffolds() {
  const UniqueFd images = TRY(open_part(store_fd_, kImages));
  const UniqueFd scaffolds = TRY(open_part(store_fd_, kScaffolds));
  for (const auto& entry : TRY(fs::list(scaffolds.get()))) {
    if (!oci::Digest::parse("sha256:" + hex_of(entry.name)) || TRY(exists(images.get(), hex_of(entry.name)))) continue;
    TRY(session_.take(scaffolds.get(), entry.name));
    ++result_.leftovers;
  }
  return {};
}

Result<void> Pruning::drop_lost_names() {
  const UniqueFd images = TRY(open_part(store_fd_, kImages));
  const UniqueFd names = TRY(open_part(store_fd_, kNames));
  for (const auto& entry : TRY(fs::list(names.get()))) {
    const auto target = read_name(store_fd_, decode_name(entry.name));
    if (!target || TRY(exists(images.get(), *target))) continue;
    TRY(sys::unlink_at(names.get(), entry.name.c_str()));
    ++result_.leftovers;
  }
  return {};
}

Result<void> Pruning::run() {
  const auto lock = TRY(lock_store(store_fd_));
  TRY(take_images());
  TRY(take_layers());
  TRY(take_scaffolds());
  return drop_lost_names();
}

}  // namespace

Result<Pruned> prune_store(const Store& store, const PruneRequest& request) {
  const int store_fd = store.dir_fd();
  Session session = TRY(Session::begin(store_fd));
  Pruning pruning(store_fd, request, session);
  Pruned& result = pruning.result();
  const auto prune = [&]() -> Result<void> {
    const auto swept = TRY(sweep_sessions(store_fd));
    result.leftovers += swept.count;
    result.bytes += swept.bytes;
    return pruning.run();
  };
  auto done = prune();
  // Mounted, they would keep their space.
  auto unmounted = store.sweep_mounts();
  auto bytes = fs::disk_usage(session.fd(), ".");
  auto ended = session.end();
  if (!done) return std::move(done).error();
  if (!unmounted) return std::move(unmounted).error();
  if (!ended) return std::move(ended).error();
  result.bytes += TRY(std::move(bytes));
  return std::move(result);
}

}  // namespace skink::image
