// SPDX-License-Identifier: Apache-2.0
#include "state/record.h"

#include "base/text.h"
#include "oci/flat.h"
#include "oci/json.h"

namespace skink::state {

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
  if (record.group_id != 0) json["groupId"] = record.group_id;
  json["cgroupManager"] = record.manager;
  if (record.cgroup) json["cgroup"] = cgroup::dump_location(*record.cgroup);
  if (record.unit) {
    json["unit"] = record.unit->name;
    json["slice"] = record.unit->slice;
    json["userManager"] = record.unit->manager == cgroup::bus::Manager::user;
  }
  if (record.resctrl) {
    json["resctrl"] = record.resctrl->name;
    json["resctrlMonitor"] = record.resctrl->monitor;
    json["resctrlMade"] = record.resctrl->made_by_us ? 1 : 0;
  }
  if (record.shares_pids) json["sharesPids"] = true;
  if (record.has_poststart) json["hasPoststart"] = true;
  if (record.has_poststop) json["hasPoststop"] = true;
  if (!record.annotations.empty()) json["annotations"] = record.annotations;
  return oci::dump_json(json);
}

namespace {

// A document as a tree, with the members of oci::FlatObject.
struct Tree {
  const oci::Json& json;
  [[nodiscard]] std::string get_string(std::string_view key) const { return oci::get_string(json, key); }
  [[nodiscard]] std::int64_t get_int(std::string_view key) const { return oci::get_int(json, key); }
  [[nodiscard]] bool get_bool(std::string_view key) const { return oci::get_bool(json, key); }
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> get_strings(std::string_view key) const {
    std::vector<std::pair<std::string, std::string>> strings;
    if (const auto* object = oci::find(json, key); object != nullptr && object->is_object())
      for (const auto& [name, value] : object->get_ref<const oci::Json::object_t&>())
        strings.emplace_back(name, value.is_string() ? value.get_ref<const oci::Json::string_t&>() : std::string{});
    return strings;
  }
};

template <typename Document>
Record read_members(const Document& document) {
  Record record;
  record.id = document.get_string("id");
  record.bundle = document.get_string("bundle");
  record.rootfs = document.get_string("rootfs");
  record.created = document.get_string("created");
  record.init.pid = static_cast<pid_t>(document.get_int("pid"));
  record.init.start_time = static_cast<std::uint64_t>(document.get_int("startTime"));
  record.init.boot_id = document.get_string("bootId");
  record.host_root = static_cast<std::uint64_t>(document.get_int("hostRoot"));
  record.group_id = static_cast<std::uint64_t>(document.get_int("groupId"));
  cgroup::Unit unit;
  unit.name = document.get_string("unit");
  unit.slice = document.get_string("slice");
  if (document.get_bool("userManager")) unit.manager = cgroup::bus::Manager::user;
  if (!unit.name.empty()) record.unit = std::move(unit);
  cgroup::ResctrlGroup group;
  group.name = document.get_string("resctrl");
  group.monitor = document.get_string("resctrlMonitor");
  group.made_by_us = document.get_int("resctrlMade") == 1;
  if (!group.name.empty()) record.resctrl = std::move(group);
  record.manager = document.get_string("cgroupManager");
  if (record.manager.empty()) record.manager = "cgroupfs";
  record.shares_pids = document.get_bool("sharesPids");
  record.has_poststart = document.get_bool("hasPoststart");
  record.has_poststop = document.get_bool("hasPoststop");
  for (const auto& [name, value] : document.get_strings("annotations"))
    record.annotations[std::string(name)] = std::string(value);
  return record;
}

Result<Record> with_groups(Record record, std::string_view groups, const std::string& id) {
  if (record.id != id) return Error::make(Code::corrupt, "it is of container ", quoted(record.id));
  if (!groups.empty()) record.cgroup = TRY(cgroup::parse_location(groups));
  return record;
}

}  // namespace

Result<Record> parse_record(std::string text, const std::string& id) {
  std::string copy = text;
  if (const auto flat = oci::FlatObject::parse(copy))
    return with_groups(read_members(*flat), flat->get_string("cgroup"), id);
  const auto json = TRY(oci::parse_json(text, kRecordLimit));
  return with_groups(read_members(Tree{json}), oci::get_string(json, "cgroup"), id);
}

std::optional<Glimpse> glimpse_record(std::string& text, const std::string& id) {
  const auto flat = oci::FlatObject::parse(text);
  if (!flat) return std::nullopt;
  Glimpse glimpse{read_members(*flat), flat->get_string("cgroup")};
  // A path that climbs is parse_record()'s to refuse.
  if (glimpse.record.id != id || glimpse.groups.find("/.") != std::string_view::npos) return std::nullopt;
  return glimpse;
}

std::optional<char> alive_state(const sys::ProcessIdentity& identity) {
  const auto boot = sys::boot_id();
  if (!boot || *boot != identity.boot_id) return std::nullopt;
  const auto now = sys::process_stat(identity.pid);
  if (!now || now->start_time != identity.start_time) return std::nullopt;
  return now->state;
}

}  // namespace skink::state
