// SPDX-License-Identifier: Apache-2.0
#include "supervise/strays.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "base/text.h"
#include "fs/dir.h"
#include "supervise/records.h"
#include "supervise/status.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink::supervise {

namespace {

bool is_same_file(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

// Where a keeper has the container's record open: whether the path that the kernel knows for it still leads there.
// Nothing when it has none open.
std::optional<bool> can_reach_record(pid_t keeper, const std::string& id, const struct stat& run_dir) {
  constexpr std::string_view kDeleted = " (deleted)";
  const std::string place = str("/proc/", keeper, "/fd");
  const auto dir = sys::open_at(AT_FDCWD, place.c_str(), O_RDONLY | O_DIRECTORY);
  const auto entries = dir ? fs::list(dir->get()) : Result<std::vector<fs::Entry>>(dir.error());
  if (!entries) return std::nullopt;
  const std::string end = str('/', std::string_view(kContainers), '/', id);
  for (const auto& entry : *entries) {
    auto path = sys::readlink_at(dir->get(), entry.name.c_str());
    if (!path) continue;
    if (path->ends_with(kDeleted)) path->resize(path->size() - kDeleted.size());
    const auto open = path->ends_with(end) ? sys::stat_at(dir->get(), entry.name.c_str(), 0)
                                           : Result<struct stat>(Error(Code::not_found, ""));
    if (!open || is_same_file(*open, run_dir)) continue;
    const auto there = sys::stat_at(AT_FDCWD, path->c_str(), AT_SYMLINK_NOFOLLOW);
    return there && is_same_file(*open, *there);
  }
  return std::nullopt;
}

std::optional<Stray> stray_of(int run_containers_fd, const std::string& id) {
  const auto dir = sys::open_at(run_containers_fd, id.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  const auto status = dir ? read_status(dir->get()) : Result<Status>(dir.error());
  if (!status || status->step != Step::running || !sys::open_identified(status->init)) return std::nullopt;
  const auto run_dir = sys::stat_fd(dir->get(), id);
  for (const auto& keeper : {status->supervisor, status->guard}) {
    if (!run_dir || keeper.pid == 0 || !sys::open_identified(keeper)) continue;
    if (const auto reached = can_reach_record(keeper.pid, id, *run_dir))
      return *reached ? std::nullopt : std::optional(Stray{.id = id, .pid = status->init.pid});
  }
  return std::nullopt;
}

}  // namespace

std::vector<Stray> find_strays(int run_containers_fd, int store_containers_fd) {
  std::vector<Stray> strays;
  for (const auto& entry : fs::list(run_containers_fd).value_or(std::vector<fs::Entry>())) {
    if (!is_id(entry.name)) continue;
    if (store_containers_fd >= 0 && sys::is_there(store_containers_fd, entry.name.c_str())) continue;
    if (auto stray = stray_of(run_containers_fd, entry.name)) strays.push_back(std::move(*stray));
  }
  return strays;
}

std::string describe(const std::vector<Stray>& strays) {
  constexpr std::size_t kShown = 4, kDigits = 12;
  std::string text =
      str(strays.size(), strays.size() == 1 ? " container runs whose record" : " containers run whose records",
          " cannot be reached: ");
  for (std::size_t i = 0; i < std::min(strays.size(), kShown); ++i)
    text += str(i == 0 ? "" : ", ", strays[i].id.substr(0, kDigits), " (process ", strays[i].pid, ')');
  return strays.size() > kShown ? text + ", ..." : text;
}

std::vector<Stray> without_store(const std::string& store, int run_containers_fd) {
  if (sys::is_there(AT_FDCWD, str(store, '/', std::string_view(kContainers)).c_str())) return {};
  return find_strays(run_containers_fd, -1);
}

}  // namespace skink::supervise
