// SPDX-License-Identifier: Apache-2.0
// What a list of containers tells of each, in a dozen system calls: whatever is not as usual is looked at in full.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "state/record.h"
#include "state/state.h"

namespace skink::state {
namespace {

bool is_roots_alone(const struct stat& status) { return status.st_uid == 0 && (status.st_mode & 022U) == 0; }

struct Text {
  std::string text;
  bool started = false;  ///< Container::mark_started()
};

// The usual record, of a directory and in a file that are root's alone (attack A36); its directory is no link.
std::optional<Text> read_usual(int root_fd, const std::string& id) {
  constexpr std::size_t kUsual = 4096;
  const auto directory = sys::stat_at(root_fd, id.c_str(), AT_SYMLINK_NOFOLLOW);
  if (!directory || !S_ISDIR(directory->st_mode) || !is_roots_alone(*directory)) return std::nullopt;
  const std::string path = id + '/' + kRecordFile;
  const auto file = sys::open_beneath(root_fd, path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!file) return std::nullopt;
  const auto status = sys::stat_fd(file->get(), path);
  if (!status || !S_ISREG(status->st_mode) || !is_roots_alone(*status)) return std::nullopt;
  const auto size = static_cast<std::size_t>(status->st_size);
  if (size > kUsual) return std::nullopt;
  std::string text(size, '\0');
  if (::read(file->get(), text.data(), size) != status->st_size) return std::nullopt;
  return Text{std::move(text), (directory->st_mode & S_ISVTX) != 0};
}

// Of a container that is neither being made nor waits for start.
std::optional<Status> usual_status(int root_fd, const Glimpse& glimpse, bool started) {
  const auto& record = glimpse.record;
  if (record.init.pid == 0) return std::nullopt;
  const auto state = alive_state(record.init);
  if (!state) return Status::stopped;
  if (cgroup::may_be_frozen(glimpse.groups, *state) && cgroup::is_frozen(glimpse.groups)) return Status::paused;
  for (const char* const name : {kStartSocket, kUnreadySocket})
    if (!started && sys::stat_at(root_fd, (record.id + '/' + name).c_str(), AT_SYMLINK_NOFOLLOW)) return std::nullopt;
  return Status::running;
}

std::optional<Listed> quick_look(int root_fd, const std::string& id) {
  static const bool is_root = ::geteuid() == 0;
  if (!is_root) return std::nullopt;
  auto text = read_usual(root_fd, id);
  if (!text) return std::nullopt;
  auto glimpse = glimpse_record(text->text, id);
  if (!glimpse) return std::nullopt;
  const auto status = usual_status(root_fd, *glimpse, text->started);
  if (!status) return std::nullopt;
  return Listed{std::move(glimpse->record), *status, "root"};
}

}  // namespace

Result<Listed> Root::glance(const ContainerId& id) const {
  if (auto quick = quick_look(dir_.get(), id.text())) return *std::move(quick);
  const Container container = TRY(look(id));
  return Listed{container.record(), container.status(), owner_of(container)};
}

}  // namespace skink::state
