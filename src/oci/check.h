// SPDX-License-Identifier: Apache-2.0
// The parts of check_spec and what they share. Internal to oci/.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "oci/rules.h"
#include "oci/spec.h"

namespace skink::oci {

/// The findings so far. A path is put together only when something is wrong with it.
class Findings {
 public:
  /// "<path>: <pieces>".
  template <typename... Pieces>
  void add(const std::string& path, const Pieces&... pieces) {
    list_.push_back(Error::make(Code::invalid_config, path, ": ", pieces...));
  }
  void add(Error error) { list_.push_back(std::move(error)); }
  [[nodiscard]] const std::vector<Error>& list() const { return list_; }
  std::vector<Error> take() { return std::move(list_); }

 private:
  std::vector<Error> list_;
};

/// "linux.devices[3]": an element of a list.
inline std::string at(std::string_view path, std::size_t index) { return str(path, '[', index, ']'); }
/// "linux.sysctl["net.x"]": a member of a map.
inline std::string at(std::string_view path, const std::string& key) { return str(path, '[', brief(key), ']'); }

/// One component of a path that is safe to look up: not empty, ".", "..", longer than 255 bytes, or with '/' or control
/// bytes in it (attack A81).
bool is_file_name(std::string_view name);
/// A path with ".." as one of its components.
bool has_dotdot(std::string_view path);
bool has_control(std::string_view text);
/// "0-3,7": the kernel's lists of CPUs and memory nodes.
bool is_number_list(std::string_view text, std::uint32_t most = 8191);
/// What the kernel takes as the name of a network interface.
bool is_interface_name(std::string_view name);

void check_env(const std::string& path, const Strings& env, Findings& findings);
void check_absolute(const std::string& path, std::string_view value, Findings& findings);
void check_mappings(const std::string& path, const std::vector<IdMapping>& mappings, Findings& findings);

void check_process(const Process& process, bool cwd_required, Findings& findings);
void check_resources(const std::string& path, const Resources& resources, Findings& findings);
void check_sysctl(const Spec& spec, Findings& findings);
void check_seccomp(const Seccomp& seccomp, Findings& findings);
void check_linux(const Spec& spec, Findings& findings);

}  // namespace skink::oci
