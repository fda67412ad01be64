// SPDX-License-Identifier: Apache-2.0
#include "state/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "launch/launch.h"
#include "oci/json.h"

namespace skink::state {
namespace {

constexpr const char* kRecordFile = "state.json";
constexpr const char* kConfigFile = "config.json";
constexpr const char* kCacheDir = ".cache";
constexpr std::size_t kRecordLimit = 1U << 20;

std::string dump_record(const Record& record) {
  oci::Json json;
  json["version"] = 1;
  json["id"] = record.id;
  json["bundle"] = record.bundle;
  json["rootfs"] = record.rootfs;
  json["created"] = record.created;
  json["pid"] = record.init.pid;
  json["startTime"] = record.init.start_time;
  json["bootId"] = record.init.boot_id;
  if (record.host_root != 0) json["hostRoot"] = record.host_root;
  if (record.cgroup) json["cgroup"] = cgroup::dump_location(*record.cgroup);
  if (record.resctrl) {
    json["resctrl"] = record.resctrl->name;
    json["resctrlMonitor"] = record.resctrl->monitor;
    json["resctrlMade"] = record.resctrl->made_by_us ? 1 : 0;
  }
  return oci::dump_json(json);
}

Result<Record> parse_record(std::string_view text, const std::string& id) {
  const auto json = TRY(oci::parse_json(text, kRecordLimit));
  Record record;
  record.id = oci::get_string(json, "id");
  if (record.id != id) return Error::make(Code::corrupt, "it is of container ", quoted(record.id));
  record.bundle = oci::get_string(json, "bundle");
  record.rootfs = oci::get_string(json, "rootfs");
  record.created = oci::get_string(json, "created");
  record.init.pid = static_cast<pid_t>(oci::get_int(json, "pid"));
  record.init.start_time = static_cast<std::uint64_t>(oci::get_int(json, "startTime"));
  record.init.boot_id = oci::get_string(json, "bootId");
  record.host_root = static_cast<std::uint64_t>(oci::get_int(json, "hostRoot"));
  const std::string location = oci::get_string(json, "cgroup");
  if (!location.empty()) record.cgroup = TRY(cgroup::parse_location(location));
  cgroup::ResctrlGroup group;
  group.name = oci::get_string(json, "resctrl");
  group.monitor = oci::get_string(json, "resctrlMonitor");
  group.made_by_us = oci::get_int(json, "resctrlMade") == 1;
  if (!group.name.empty()) record.resctrl = std::move(group);
  return record;
}

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
  if (text.empty() || text.size() > kLongest || text == "." || text == ".." ||
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

Status Container::status() const {
  // Without a record or a process its maker was killed half way: nothing runs.
  if (record_.init.pid == 0) return Status::stopped;
  if (record_.cgroup) {
    const auto group = cgroup::Group::open(*record_.cgroup);
    if (group && group->frozen().value_or(false)) return Status::paused;
  }
  if (!open_init()) return Status::stopped;
  return launch::awaits_start(dir_fd(), kStartSocket) ? Status::created : Status::running;
}

Result<Root> Root::open(const std::string& path) {
  UniqueFd dir = TRY(fs::make_dirs(path));
  TRY(fs::check_private(dir.get(), path));
  return Root(std::move(dir));
}

Result<Container> Root::create(const ContainerId& id, const Record& record) {
  auto made = sys::mkdir_at(dir_.get(), id.text().c_str(), 0700);
  if (!made && made.error().errnum() == EEXIST)
    return Error::make(Code::exists, "container ", quoted(id.text()), ": container with given ID already exists");
  TRY(std::move(made));
  UniqueFd dir = TRY(sys::open_at(dir_.get(), id.text().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  Container container(TRY(fs::Lock::take(std::move(dir), fs::Lock::Mode::exclusive, id.text())), Record{});
  auto saved = container.save(record);
  if (!saved) {
    (void)fs::remove_tree(dir_.get(), id.text().c_str());
    return std::move(saved).error();
  }
  return container;
}

Result<Container> Root::find(const ContainerId& id) const {
  constexpr int kTries = 16;
  for (int i = 0; i < kTries; ++i) {
    auto opened = sys::open_at(dir_.get(), id.text().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!opened && opened.error().errnum() == ENOENT) return unknown(id.text());
    UniqueFd dir = TRY(std::move(opened));
    const auto before = TRY(sys::stat_fd(dir.get(), id.text()));
    auto lock = TRY(fs::Lock::take(std::move(dir), fs::Lock::Mode::exclusive, id.text()));
    // Whoever held the lock may have removed the directory, and somebody else have made a new one: look again (fault
    // F12).
    const auto after = sys::stat_at(dir_.get(), id.text().c_str(), AT_SYMLINK_NOFOLLOW);
    if (!after || after->st_ino != before.st_ino || after->st_dev != before.st_dev) continue;
    auto text = fs::read_file(lock.fd(), kRecordFile, kRecordLimit);
    if (!text && text.error().errnum() == ENOENT) {
      Record empty;
      empty.id = id.text();
      return Container(std::move(lock), std::move(empty));
    }
    Record record =
        TRY_CTX(parse_record(TRY(std::move(text)), id.text()), "container ", quoted(id.text()), ": ", kRecordFile);
    return Container(std::move(lock), std::move(record));
  }
  return unknown(id.text());
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

std::string dump_state(const Record& record, Status status, const oci::Annotations& annotations) {
  oci::Json json;
  json["ociVersion"] = oci::kSpecVersion;
  json["id"] = record.id;
  json["pid"] = status == Status::stopped ? 0 : record.init.pid;
  json["status"] = to_text(status);
  json["bundle"] = record.bundle;
  json["rootfs"] = record.rootfs;
  json["created"] = record.created;
  if (!annotations.empty()) json["annotations"] = annotations;
  return oci::dump_json(json, true);
}

}  // namespace skink::state
