// SPDX-License-Identifier: Apache-2.0
#include "state/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/text.h"
#include "launch/launch.h"
#include "oci/json.h"
#include "state/record.h"

namespace skink::state {
namespace {

constexpr const char* kConfigFile = "config.json";
constexpr const char* kCacheDir = ".cache";
constexpr std::chrono::milliseconds kLockTime{30'000};

Error unknown(const std::string& id) {
  return Error::make(Code::not_found, "container ", quoted(id), ": container does not exist");
}

}  // namespace

Result<ContainerId> ContainerId::parse(std::string_view text) {
  constexpr std::size_t kLongest = 255;
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' ||
           c == '-' || c == '.';
  };
  if (text.empty() || text.size() > kLongest || text == "." || text == ".." || text == kCacheDir ||
      !std::all_of(text.begin(), text.end(), good))
    return Error::make(Code::invalid_config, "container id ", quoted(text.substr(0, kLongest)),
                       ": use 1 to 255 letters, digits and _+-.");
  return ContainerId(std::string(text));
}

std::string_view to_text(Status status) {
  switch (status) {
    case Status::creating: return "creating";
    case Status::created: return "created";
    case Status::running: return "running";
    case Status::paused: return "paused";
    default: return "stopped";
  }
}

Result<void> Container::save(const Record& record) {
  TRY_CTX(fs::write_file_atomic(dir_fd(), kRecordFile, dump_record(record), 0600), "container ", record.id);
  record_ = record;
  return {};
}

Result<void> Container::save_config(std::string_view json) {
  return fs::write_file_atomic(dir_fd(), kConfigFile, json, 0600);
}

Result<std::string> Container::config() const { return fs::read_file(dir_fd(), kConfigFile, oci::kConfigLimit); }

Result<oci::Spec> Container::spec() const { return oci::parse_spec(TRY(config())); }

bool Container::is_worked_on() const {
  if (locked_) return false;
  auto again = sys::open_at(dir_fd(), ".", O_RDONLY | O_DIRECTORY);
  return again && !fs::Lock::try_take(*std::move(again), fs::Lock::Mode::shared, record_.id);
}

Status Container::status() const {
  // Without a process: it is being made just now, or its maker was killed half way and nothing runs.
  if (record_.init.pid == 0) return is_worked_on() ? Status::creating : Status::stopped;
  // A zombie counts as gone: engines ask just before they reap it.
  if (!alive_state(record_.init)) return Status::stopped;
  if (record_.cgroup && cgroup::is_frozen(*record_.cgroup)) return Status::paused;
  const auto has = [&](const char* name) { return sys::stat_at(dir_fd(), name, AT_SYMLINK_NOFOLLOW).has_value(); };
  // `start` removes the socket; where it was killed before that, nobody answers.
  if (has(kStartSocket)) return launch::awaits_start(dir_fd(), kStartSocket) ? Status::created : Status::running;
  return has(kUnreadySocket) ? Status::creating : Status::running;
}

// The sticky bit of its directory, which means nothing else there and comes with what has to be asked anyway.
void Container::mark_started() const { (void)::fchmod(dir_fd(), S_ISVTX | 0700); }

Result<Root> Root::open(const std::string& path) { return Root(TRY(fs::open_private(path))); }

Result<void> Root::check_free(const ContainerId& id) const {
  if (!sys::is_there(dir_.get(), id.text().c_str())) return {};
  return Error::make(Code::exists, "container ", quoted(id.text()), ": container with given ID already exists");
}

Result<Container> Root::create(const ContainerId& id, const Record& record) {
  auto made = sys::mkdir_at(dir_.get(), id.text().c_str(), 0700);
  if (!made && made.error().errnum() == EEXIST) TRY(check_free(id));
  TRY(std::move(made));
  const auto lock = [&]() -> Result<fs::Lock> {
    UniqueFd dir = TRY(sys::open_at(dir_.get(), id.text().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    return fs::Lock::take(std::move(dir), fs::Lock::Mode::exclusive, id.text());
  };
  // Whatever there was too little of, a descriptor or space: a directory that is empty goes without any. What is in one
  // goes under its lock alone, else it can be another's by now.
  auto locked = lock();
  if (!locked) {
    (void)sys::unlink_at(dir_.get(), id.text().c_str(), AT_REMOVEDIR);
    return std::move(locked).error();
  }
  Container container(std::move(*locked), Record{});
  auto saved = container.save(record);
  if (!saved) {
    if (!sys::unlink_at(dir_.get(), id.text().c_str(), AT_REMOVEDIR))
      (void)fs::remove_tree(dir_.get(), id.text().c_str());
    return std::move(saved).error();
  }
  return container;
}

namespace {

// The record, or an empty one where there is none. Nothing when the directory itself was removed meanwhile.
Result<std::optional<Record>> read_record(int dir_fd, const std::string& id) {
  auto text = fs::read_private_file(dir_fd, kRecordFile, kRecordLimit);
  if (text)
    return std::optional<Record>(
        TRY_CTX(parse_record(*std::move(text), id), "container ", quoted(id), ": ", kRecordFile));
  if (text.error().errnum() != ENOENT) return std::move(text.error().context(str("container ", quoted(id))));
  if (TRY(sys::stat_fd(dir_fd, id)).st_nlink == 0) return std::optional<Record>{};
  std::optional<Record> empty(std::in_place);
  empty->id = id;
  return empty;
}

// The numbers of who started us, and of who started that: as /proc has them, which for a hook in the container's pid
// namespace is still the host's.
std::vector<pid_t> ancestors() {
  constexpr std::size_t kMost = 256;
  std::vector<pid_t> found;
  const auto self = sys::readlink_at(AT_FDCWD, "/proc/self");
  auto pid = self ? parse_int<pid_t>(*self) : std::nullopt;
  while (pid && *pid > 1 && found.size() < kMost) {
    const auto stat = sys::process_stat(*pid);
    pid = stat ? std::optional(stat->parent) : std::nullopt;
    if (pid) found.push_back(*pid);
  }
  return found;
}

// A hook that asks for its own container would wait for the command that waits for the hook.
bool is_held_by_ancestor(int root_fd, const std::string& id) {
  const auto directory = sys::stat_at(root_fd, id.c_str(), AT_SYMLINK_NOFOLLOW);
  if (!directory) return false;
  const std::vector<pid_t> family = ancestors();
  return std::ranges::any_of(fs::lock_holders(*directory),
                             [&](pid_t holder) { return std::ranges::find(family, holder) != family.end(); });
}

// A command that hangs (in a hook, say) must not make others wait for ever.
Result<fs::Lock> take_lock(int root_fd, const std::string& id) {
  constexpr std::chrono::milliseconds kLongest{20};
  std::chrono::milliseconds pause{1}, waited{0};
  for (;;) {
    auto opened = sys::open_at(root_fd, id.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!opened && opened.error().errnum() == ENOENT) return unknown(id);
    auto lock = fs::Lock::try_take(TRY(std::move(opened)), fs::Lock::Mode::exclusive, id);
    if (lock || lock.error().code() != Code::busy) return lock;
    if (waited.count() == 0 && is_held_by_ancestor(root_fd, id))
      return Error::make(Code::busy, "container ", quoted(id), ": the command that runs this hook is at work on it; ",
                         "until a hook has ended, it can use state, ps, events and kill on its own container");
    if (waited >= kLockTime)
      return Error::make(Code::busy, "container ", quoted(id), ": another command has worked on it for ",
                         kLockTime.count() / 1000, " s and does not end");
    const timespec time{0, static_cast<long>(pause.count()) * 1'000'000};
    (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
    waited += pause;
    pause = std::min(pause * 2, kLongest);
  }
}

}  // namespace

Result<Container> Root::find(const ContainerId& id) const {
  constexpr int kTries = 16;
  for (int i = 0; i < kTries; ++i) {
    auto lock = TRY(take_lock(dir_.get(), id.text()));
    // Whoever held the lock may have removed the directory, and somebody else have made a new one: look again (fault
    // F12).
    auto record = TRY(read_record(lock.fd(), id.text()));
    if (record) return Container(std::move(lock), *std::move(record));
  }
  return unknown(id.text());
}

Result<Container> Root::find_damaged(const ContainerId& id) const {
  auto lock = TRY(take_lock(dir_.get(), id.text()));
  TRY_CTX(fs::check_private(lock.fd(), "its directory"), "container ", quoted(id.text()));
  Record empty;
  empty.id = id.text();
  return Container(std::move(lock), std::move(empty));
}

Result<Container> Root::look(const ContainerId& id) const {
  auto opened = sys::open_at(dir_.get(), id.text().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!opened && opened.error().errnum() == ENOENT) return unknown(id.text());
  UniqueFd dir = TRY(std::move(opened));
  auto record = TRY(read_record(dir.get(), id.text()));
  if (!record) return unknown(id.text());
  return Container(std::move(dir), *std::move(record));
}

Result<void> Root::remove(Container container) { return fs::remove_tree(dir_.get(), container.record().id.c_str()); }

Result<std::vector<std::string>> Root::list() const {
  std::vector<std::string> ids;
  for (auto& entry : TRY(fs::list(dir_.get())))
    if (entry.type == DT_DIR && entry.name != kCacheDir) ids.push_back(std::move(entry.name));
  std::sort(ids.begin(), ids.end());
  return ids;
}

Result<UniqueFd> Root::open_cache() const {
  auto opened = sys::open_at(dir_.get(), kCacheDir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!opened && opened.error().errnum() == ENOENT) {
    auto made = sys::mkdir_at(dir_.get(), kCacheDir, 0700);
    if (!made && made.error().errnum() != EEXIST) return std::move(made).error();
    opened = sys::open_at(dir_.get(), kCacheDir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  }
  return opened;
}

std::string owner_of(const Container& container) {
  const auto status = sys::stat_fd(container.dir_fd(), container.record().id);
  const std::uint32_t uid = status ? status->st_uid : 0;
  if (uid == 0) return "root";
  constexpr std::size_t kMost = 10U << 20;
  const auto passwd = fs::read_file(AT_FDCWD, "/etc/passwd", kMost);
  if (passwd)
    for (const std::string_view line : split(*passwd, '\n')) {
      const auto fields = split(line, ':');
      if (fields.size() > 2 && parse_int<std::uint32_t>(fields[2]) == uid) return std::string(fields[0]);
    }
  return str('#', uid);
}

// Members of this and no other name: CRI-O reads the answer over a record of its own.
std::string dump_state(const Record& record, Status status, std::string_view owner, bool pretty) {
  oci::Json json;
  json["ociVersion"] = oci::kSpecVersion;
  json["id"] = record.id;
  json["pid"] = status == Status::stopped ? 0 : record.init.pid;
  json["status"] = to_text(status);
  json["bundle"] = record.bundle;
  json["rootfs"] = record.rootfs;
  // One that is being made, or whose record is lost, has none, and clients parse it as a time.
  json["created"] = record.created.empty() ? "0001-01-01T00:00:00Z" : record.created;
  if (!record.annotations.empty()) json["annotations"] = record.annotations;
  json["owner"] = owner;
  return oci::dump_json(json, pretty);
}

}  // namespace skink::state
