// SPDX-License-Identifier: Apache-2.0
#include "cgroup/unit_devices.h"

#include <algorithm>

#include "base/text.h"

namespace skink::cgroup {
namespace {

constexpr std::uint32_t kMinors = 256;  // of a driver that has not asked for more

// A line of /proc/devices.
struct Driver {
  char type;
  std::uint32_t major;
  std::string_view name;
};

std::vector<Driver> drivers_in(std::string_view registered) {
  std::vector<Driver> out;
  char type = 'c';
  for (std::string_view line : split(registered, '\n')) {
    if (line.ends_with(':')) type = line.starts_with("Character") ? 'c' : 'b';
    while (line.starts_with(' ')) line.remove_prefix(1);
    const auto pair = split_once(line, ' ');
    const auto major = pair ? parse_int<std::uint32_t>(pair->first) : std::nullopt;
    if (major) out.push_back({type, *major, pair->second});
  }
  return out;
}

bool is_same_kind(const DeviceMatch& a, const DeviceMatch& b) {
  return a.type == b.type && a.major == b.major && a.minor == b.minor;
}

bool meet(const DeviceMatch& a, const DeviceMatch& b) {
  const bool major = !a.major || !b.major || *a.major == *b.major;
  const bool minor = !a.minor || !b.minor || *a.minor == *b.minor;
  return a.type == b.type && major && minor;
}

// What a v1 group has after the rules: a default, and exceptions to it.
struct Kept {
  bool allowed = true;
  std::vector<DeviceMatch> exceptions;  ///< of type b or c each
};

void keep(Kept& kept, DeviceMatch rule, char type) {
  if (rule.type != 'a' && rule.type != type) return;
  rule.type = type;
  if (rule.allow != kept.allowed) {
    kept.exceptions.push_back(rule);
    return;
  }
  // The kernel takes it from the entry with the same numbers, and changes no other. What is denied for more or fewer
  // devices than were allowed is taken from all of these here.
  for (DeviceMatch& exception : kept.exceptions)
    if (rule.allow ? is_same_kind(exception, rule) : meet(exception, rule)) exception.access &= ~rule.access;
  std::erase_if(kept.exceptions, [](const DeviceMatch& one) { return one.access == 0; });
}

Kept kept_after(const std::vector<DeviceMatch>& rules) {
  Kept kept;
  for (const DeviceMatch& rule : rules) {
    if (rule.all()) kept = {rule.allow, {}};
    else
      for (const char type : {'c', 'b'}) keep(kept, rule, type);
  }
  return kept;
}

class Allowed {
 public:
  explicit Allowed(std::string_view registered) : drivers_(drivers_in(registered)) {}

  // `but` is taken from it.
  void add(const DeviceMatch& rule, const std::vector<DeviceMatch>& but = {}) {
    if (rule.major && rule.minor) add_one(rule, but);
    else if (rule.major) add_major(rule, but);
    else if (!rule.minor) put(str(kind(rule), "-*"), rule.access);  // a minor of any major has no name
  }
  // All but `but`.
  void add_rest(const std::vector<DeviceMatch>& but) {
    for (const Driver& driver : drivers_) {
      if (first_of(driver.type, driver.major) != &driver) continue;
      add({.allow = true, .type = driver.type, .major = driver.major, .minor = {}, .access = kAllAccess}, but);
    }
  }
  [[nodiscard]] bus::Value value() const { return bus::array("(ss)", items_); }

 private:
  static const char* kind(const DeviceMatch& rule) { return rule.type == 'c' ? "char" : "block"; }

  [[nodiscard]] const Driver* first_of(char type, std::uint32_t major) const {
    const auto found =
        std::ranges::find_if(drivers_, [&](const Driver& one) { return one.type == type && one.major == major; });
    return found == drivers_.end() ? nullptr : &*found;
  }

  void add_one(DeviceMatch rule, const std::vector<DeviceMatch>& but) {
    for (const DeviceMatch& other : but)
      if (meet(other, rule)) rule.access &= ~other.access;
    put(str("/dev/", kind(rule), '/', *rule.major, ':', *rule.minor), rule.access);
  }

  // By its driver's name, which can be that of other majors too ("sd"): then one by one.
  void add_major(const DeviceMatch& rule, const std::vector<DeviceMatch>& but) {
    const Driver* const driver = first_of(rule.type, *rule.major);
    if (driver == nullptr) return;
    const bool shared = std::ranges::any_of(drivers_, [&](const Driver& one) {
      return one.type == driver->type && one.name == driver->name && one.major != driver->major;
    });
    if (!shared && std::ranges::none_of(but, [&](const DeviceMatch& other) { return meet(other, rule); })) {
      put(str(kind(rule), '-', driver->name), rule.access);
      return;
    }
    DeviceMatch one = rule;
    for (std::uint32_t minor = 0; minor < kMinors; ++minor) {
      one.minor = minor;
      add_one(one, but);
    }
  }

  void put(std::string words, unsigned access) {
    std::string letters;
    if ((access & BPF_DEVCG_ACC_READ) != 0) letters += 'r';
    if ((access & BPF_DEVCG_ACC_WRITE) != 0) letters += 'w';
    if ((access & BPF_DEVCG_ACC_MKNOD) != 0) letters += 'm';
    if (!letters.empty()) items_.push_back(bus::structure({bus::text(std::move(words)), bus::text(letters)}));
  }

  std::vector<Driver> drivers_;
  std::vector<bus::Value> items_;
};

}  // namespace

std::vector<Property> device_properties(const std::vector<DeviceMatch>& rules, std::string_view registered) {
  const Kept kept = kept_after(rules);
  const bool strict = !kept.allowed || !kept.exceptions.empty();
  Allowed allowed(registered);
  if (kept.allowed && strict) allowed.add_rest(kept.exceptions);
  if (!kept.allowed)
    for (const DeviceMatch& rule : kept.exceptions) allowed.add(rule);
  return {{"DevicePolicy", bus::text(strict ? "strict" : "auto")}, {"DeviceAllow", allowed.value()}};
}

}  // namespace skink::cgroup
