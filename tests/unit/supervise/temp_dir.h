// SPDX-License-Identifier: Apache-2.0
// A directory for one test, removed with it.
#pragma once

#include <fcntl.h>
#include <stdlib.h>

#include <string>

#include "fs/dir.h"
#include "sys/file.h"

namespace skink::supervise {

class TempDir {
 public:
  TempDir() {
    std::string path = "/tmp/skink-supervise-test.XXXXXX";
    path_ = ::mkdtemp(path.data());
    fd_ = sys::open_at(AT_FDCWD, path_.c_str(), O_RDONLY | O_DIRECTORY).value();
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { (void)fs::remove_tree(AT_FDCWD, path_.c_str()); }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  UniqueFd fd_;
};

}  // namespace skink::supervise
