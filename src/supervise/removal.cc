// SPDX-License-Identifier: Apache-2.0
#include "supervise/removal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "fs/dir.h"
#include "supervise/records.h"
#include "sys/file.h"

namespace skink::supervise {

void remove_writable_layers(int store_dir_fd, std::string_view kept) {
  const auto entries = fs::list(store_dir_fd);
  if (!entries) return;
  for (const auto& entry : *entries)
    if (entry.name.starts_with("upper.") && entry.name != kept) (void)fs::remove_tree(store_dir_fd, entry.name.c_str());
}

Result<void> remove_run_dir(int run_containers_fd, const std::string& id, int only_fd) {
  if (only_fd >= 0) {
    const auto ours = TRY(sys::stat_fd(only_fd, id));
    const auto there = sys::stat_at(run_containers_fd, id.c_str(), AT_SYMLINK_NOFOLLOW);
    if (!there || there->st_ino != ours.st_ino || there->st_dev != ours.st_dev) return {};
  }
  return fs::remove_tree(run_containers_fd, id.c_str());
}

Result<void> remove_name(int names_fd, const std::string& name, const std::string& id) {
  if (!is_name(name)) return {};
  // The lock keeps a create that finds the name stale from taking it between our look and our unlink.
  const auto lock =
      TRY(fs::Lock::take(TRY(sys::open_at(names_fd, ".", O_RDONLY | O_DIRECTORY)), fs::Lock::Mode::exclusive, kNames));
  const auto target = sys::readlink_at(names_fd, name.c_str());
  if (target && *target == name_target(id) && ::unlinkat(names_fd, name.c_str(), 0) != 0 && errno != ENOENT)
    return Error::from_errno(errno, "unlink name ", name);
  return {};
}

Result<void> remove_store_dir(int store_containers_fd, int names_fd, const std::string& id, const std::string& name,
                              const std::function<void()>& when_gone) {
  // Order: out of sight by one rename, then the name, then the contents. Killed in between, what is left has a name of
  // its own (kGonePrefix) and is swept by the next command that sees it.
  const std::string gone = str(kGonePrefix, id);
  auto renamed = sys::rename_at(store_containers_fd, id.c_str(), store_containers_fd, gone.c_str());
  if (!renamed && renamed.error().errnum() != ENOENT) {
    TRY(fs::remove_tree(store_containers_fd, gone.c_str()));
    renamed = sys::rename_at(store_containers_fd, id.c_str(), store_containers_fd, gone.c_str());
    if (!renamed) return renamed;
  }
  if (renamed) when_gone();
  TRY(remove_name(names_fd, name, id));
  return fs::remove_tree(store_containers_fd, gone.c_str());
}

void sweep(int store_containers_fd, int names_fd, const std::string& entry) {
  if (entry.starts_with(kGonePrefix)) {
    (void)fs::remove_tree(store_containers_fd, entry.c_str());
    return;
  }
  if (!entry.starts_with(kNewPrefix)) return;
  // A create that is at work holds the lock.
  auto dir = sys::open_at(store_containers_fd, entry.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!dir) return;
  const auto lock = fs::Lock::try_take(std::move(*dir), fs::Lock::Mode::exclusive, entry);
  if (!lock) return;
  // Order: only with the lock can be told that it is a draft still, and not the container that it has become since.
  const auto ours = sys::stat_fd(lock->fd(), entry);
  const auto there = sys::stat_at(store_containers_fd, entry.c_str(), AT_SYMLINK_NOFOLLOW);
  if (!ours || !there || ours->st_ino != there->st_ino) return;
  // Killed between taking its name and its last step: the name goes with it.
  if (const auto text = fs::read_file(lock->fd(), kContainerFile, kRecordLimit))
    if (const auto container = parse_container(*text)) (void)remove_name(names_fd, container->name, container->id);
  (void)fs::remove_tree(store_containers_fd, entry.c_str());
}

}  // namespace skink::supervise
