// SPDX-License-Identifier: Apache-2.0
// A store of its own for each test, with a canary beside it that nothing may touch.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "fs/dir.h"
#include "image/layer_mount.h"
#include "image/store.h"
#include "maker.h"
#include "sys/mount.h"

namespace skink::image::test {

class Scratch : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "unpacking layers needs root";
    char name[] = "/tmp/skink-image-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    top_ = name;
    ASSERT_EQ(::mkdir((top_ + "/canary").c_str(), 0711), 0);
    write(top_ + "/canary/secret", kSecret);
    ::chmod((top_ + "/canary/secret").c_str(), 0600);
    canary_ = describe_canary();
  }
  void TearDown() override {
    if (top_.empty()) return;
    unmount_layers();
    EXPECT_EQ(describe_canary(), canary_) << "something outside of the store was changed";
    EXPECT_EQ(run("grep -rls " + std::string(kSecret) + " " + top_ + "/store 2>/dev/null | head -3"), "");
    EXPECT_TRUE(fs::remove_tree(AT_FDCWD, top_.c_str()));
  }

  static constexpr const char* kSecret = "token-5f1c9a";

  static void write(const std::string& path, const std::string& bytes) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ASSERT_GE(fd, 0) << path;
    ASSERT_EQ(::write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    ::close(fd);
  }
  static std::string read(const std::string& path) {
    auto text = fs::read_file(AT_FDCWD, path.c_str(), 64U << 20);
    return text ? *text : "(" + text.error().text() + ")";
  }
  static std::string run(const std::string& command) {
    std::string out;
    FILE* pipe = ::popen(command.c_str(), "r");
    char buffer[4096];
    for (std::size_t got = 0; (got = ::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, got);
    ::pclose(pipe);
    return out;
  }
  std::string describe_canary() const {
    return run("cd " + top_ + "/canary && find . -printf '%p %i %m %U %G %s %T@ %l\\n' | sort; cat secret");
  }

  Store store() { return open_store(top_ + "/store"); }
  static Store open_store(const std::string& path) {
    auto opened = Store::open(path);
    EXPECT_TRUE(opened) << opened.error().text();
    return std::move(opened).value();
  }
  std::string archive(const std::string& bytes, const std::string& name = "web.tar") {
    write(top_ + "/" + name, bytes);
    return top_ + "/" + name;
  }
  Result<Loaded> load(const std::string& bytes, const LoadOptions& options = {}) {
    return store().load(archive(bytes), options);
  }
  Result<Loaded> load_layers(const std::vector<std::string>& layers) { return load(oci_archive({.layers = layers})); }
  /// Where the tree of a layer can be looked at. A file is mounted for that, as it is now.
  std::string tree(const std::string& layer) {
    const std::string stored = top_ + "/store/layers/sha256/" + digest(layer).substr(7);
    const UniqueFd file(::open((stored + ".erofs").c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return stored + "/fs";
    const std::string at = top_ + "/layer-" + std::to_string(mounted_.size());
    EXPECT_EQ(::mkdir(at.c_str(), 0700), 0);
    const auto mount = mount_layer_file(file.get());
    EXPECT_TRUE(mount) << mount.error().text();
    const UniqueFd place(::open(at.c_str(), O_PATH | O_CLOEXEC));
    EXPECT_TRUE(sys::attach_mount(mount->get(), place.get(), "layer"));
    mounted_.push_back(at);
    return at;
  }
  void unmount_layers() {
    for (const auto& at : mounted_)
      if (::umount2(at.c_str(), MNT_DETACH) == 0) ::rmdir(at.c_str());
    mounted_.clear();
  }
  /// How layers are stored here: "HEX.erofs" or "HEX".
  bool has_files() const { return run("ls " + top_ + "/store/layers/sha256").find(".erofs") != std::string::npos; }
  /// Every name below the store that could be seen by others: no temporary files, no locks.
  std::string contents() const {
    return run("cd " + top_ + "/store && find layers images scaffolds names tmp -mindepth 1 | sort");
  }
  std::string top_;
  std::string canary_;
  std::vector<std::string> mounted_;
};

/// Whether sweeps run in full (tools/test --all).
inline bool test_everything() {
  const char* const all = ::getenv("SKINK_TEST_ALL");
  return all != nullptr && *all != '\0';
}

/// Strings that end with a NUL each.
inline std::vector<std::string> components(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < list.size(); at = list.find('\0', at) + 1) parts.emplace_back(list.c_str() + at);
  return parts;
}

template <typename T>
std::string text_of(const Result<T>& result) {
  return result ? "loaded" : result.error().text();
}

}  // namespace skink::image::test
