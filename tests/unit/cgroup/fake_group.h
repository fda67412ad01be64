// SPDX-License-Identifier: Apache-2.0
// FakeGroup: a directory with ordinary files in place of a group's control files.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "cgroup/limits.h"
#include "fs/dir.h"

namespace skink::cgroup {

class FakeGroup {
 public:
  /// Files that a group has, and what is in them. A write replaces the beginning, as ordinary files do, so files to be
  /// written start empty.
  FakeGroup(bool unified, std::string controllers, const std::vector<std::pair<std::string, std::string>>& files) {
    path_ = "/tmp/skink-fake-cgroup-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) ::abort();
    fd_ = UniqueFd{::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
    place_ = {{path_, unified ? "" : std::move(controllers), unified}, "/g"};
    for (const auto& [name, text] : files) std::ofstream(path_ + "/" + name) << text;
  }
  FakeGroup(const FakeGroup&) = delete;
  FakeGroup& operator=(const FakeGroup&) = delete;
  ~FakeGroup() { (void)fs::remove_tree(AT_FDCWD, path_.c_str()); }

  [[nodiscard]] Targets targets() const { return Targets({target()}); }
  [[nodiscard]] Target target() const { return {fd_.get(), &place_}; }
  [[nodiscard]] std::string text(const std::string& name) const {
    std::ifstream file(path_ + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd fd_;
  Place place_;
};

}  // namespace skink::cgroup
