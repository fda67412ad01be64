// SPDX-License-Identifier: Apache-2.0
// Faults during a load: killed at any system call, no space, no inodes, many loads at once (F06, F14, F44).
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fixture.h"

namespace skink::image::test {
namespace {

using ::testing::HasSubstr;

const std::string kLower = tar({directory("etc/"), file("etc/a", std::string(5000, '1')), file("gone")});
const std::string kUpper = tar({file("etc/b", "2"), file(".wh.gone"), symlink("l", "etc/b")});

class Fault : public Scratch {
 protected:
  std::string image() { return archive(oci_archive({.layers = {kLower, kUpper}, .ref_name = "web:1"})); }

  /// A child that loads `file`; traced, and killed before its `at`th system call. True when it ended before that.
  static bool load_killed(const std::string& store_path, const std::string& file, int at) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      ::raise(SIGSTOP);
      auto store = Store::open(store_path);
      ::_exit(store && store->load(file, {}) ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    for (int stops = 0; stops < 2 * at; ++stops) {
      ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
      ::waitpid(child, &status, 0);
      if (WIFEXITED(status)) return true;
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    return false;
  }
};

/// How often the loading process makes this system call, in any of its threads.
int count_calls(const std::string& store_path, const std::string& file, long call) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    ::raise(SIGSTOP);
    auto store = Store::open(store_path);
    ::_exit(store && store->load(file, {}) ? 0 : 1);
  }
  int status = 0;
  int count = 0;
  ::waitpid(child, &status, 0);
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE);
  for (pid_t thread = child;;) {
    ::ptrace(PTRACE_SYSCALL, thread, nullptr, nullptr);
    do thread = ::waitpid(-1, &status, __WALL);
    while (thread != child && !WIFSTOPPED(status));
    if (WIFEXITED(status)) return WEXITSTATUS(status) == 0 ? count : -1;
    __ptrace_syscall_info info{};
    ::ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info);
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY && static_cast<long>(info.entry.nr) == call) ++count;
  }
}

TEST_F(Fault, AnImageWithoutLayersIsOnTheDiskToo) {
  ASSERT_TRUE(store().load(image(), {}));
  const bool files = has_files();
  const long call = files ? SYS_fsync : SYS_syncfs;
  const int image = count_calls(top_ + "/store", archive(oci_archive({.layers = {}, .ref_name = "bare:1"})), call);
  const int name = count_calls(top_ + "/store", archive(oci_archive({.layers = {}, .ref_name = "bare:2"})), call);

  // Of files: the scaffold, three documents, and the directories that lead to them.
  EXPECT_GE(image - name, files ? 8 : 1);
  EXPECT_TRUE(files || name == 0) << "nothing new but a name";
}

// syncfs(2) waits for what everybody has written: 46 s were seen behind another program's 400 MB.
TEST_F(Fault, ALoadOfFilesWaitsForNoOthersBytes) {
  ASSERT_TRUE(store().load(archive(oci_archive({.layers = {}, .ref_name = "bare:1"})), {}));
  const int calls = count_calls(top_ + "/store", image(), SYS_syncfs);

  EXPECT_TRUE(!has_files() || calls == 0) << calls;
}

TEST_F(Fault, AKillAtAnySystemCallLeavesTheWholeImageOrNothing) {
  const std::string file = image();
  bool ended = false;
  int whole = 0, nothing = 0;
  for (int at = 1; !ended; at += test_everything() ? 1 : 11) {
    const std::string path = top_ + "/store";
    ended = load_killed(path, file, at);
    Store again = open_store(path);
    const auto found = again.find("web:1");
    if (found) {
      ++whole;
      const auto lowers = again.open_lowers(*found);
      ASSERT_TRUE(lowers) << at << ": " << lowers.error().text();
      EXPECT_EQ(read(tree(kUpper) + "/etc/b"), "2");
      EXPECT_EQ(read(tree(kLower) + "/etc/a").size(), 5000u);
    } else {
      ++nothing;
      EXPECT_EQ(again.list()->size(), 0u) << at << ": an image without its name";
    }
    const auto loaded = again.load(file, {});
    ASSERT_TRUE(loaded) << at << ": " << text_of(loaded);
    EXPECT_EQ(run("ls -A " + path + "/tmp"), "") << at;
    ASSERT_TRUE(again.remove("web:1"));
    EXPECT_EQ(run("cd " + path + " && find layers marks images scaffolds names tmp -mindepth 1 -not -name sha256"), "")
        << at;
  }
  EXPECT_GT(whole, 0);
  EXPECT_GT(nothing, 10);
}

TEST_F(Fault, LayersOfADeadLoadAreSweptByTheNext) {
  const std::string file = image();
  ASSERT_TRUE(load_killed(top_ + "/store", file, 1 << 20)) << "an undisturbed load ends";
  ASSERT_TRUE(store().remove("web:1"));
  // An orphan layer and a dead command's directory: what a kill between two renames leaves.
  ASSERT_EQ(::mkdir((top_ + "/store/layers/sha256/" + std::string(64, 'a')).c_str(), 0700), 0);
  ASSERT_EQ(::mkdir((top_ + "/store/tmp/dead").c_str(), 0700), 0);

  ASSERT_TRUE(store().load(file, {}));

  EXPECT_EQ(run("ls -A " + top_ + "/store/tmp"), "");
  EXPECT_EQ(run("ls " + top_ + "/store/layers/sha256 | wc -l"), "2\n");
}

TEST_F(Fault, ALayerOfACrashedBootIsWrittenAnew) {
  const std::string file = image();
  ASSERT_TRUE(store().load(file, {}));
  const std::string hex = digest(kLower).substr(7);
  const bool files = has_files();
  const std::string layer = top_ + "/store/layers/sha256/" + hex + (files ? ".erofs" : "");
  const std::string marks = files ? top_ + "/store/marks/" + hex : layer;
  ASSERT_TRUE(store().remove("web:1"));
  ASSERT_EQ(::mkdir(marks.c_str(), 0700), 0);
  if (files) write(layer, "names without data");
  write(marks + "/unsynced", "another boot");

  const auto loaded = store().load(file, {});

  ASSERT_TRUE(loaded) << text_of(loaded);
  EXPECT_EQ(loaded->layers_written, 2u);
  EXPECT_EQ(read(tree(kLower) + "/etc/a").size(), 5000u);
  EXPECT_NE(::access((marks + "/unsynced").c_str(), F_OK), 0);
}

TEST_F(Fault, WithoutSpaceOrInodesAFailedLoadLeavesNothing) {
  const std::string small = archive(oci_archive({.layers = {kUpper}, .ref_name = "small:1"}), "small.tar");
  std::vector<TarSpec> many;
  for (int i = 0; i < 60; ++i) many.push_back(file("f" + std::to_string(i), std::string(9000, 'x')));
  const std::string big = archive(oci_archive({.layers = {tar(many)}, .ref_name = "big:1"}), "big.tar");
  const std::string path = top_ + "/disk";
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
  int failed = 0;
  for (const char* option : {"size=64k", "size=200k", "size=400k", "size=600k", "size=1m", "size=4m", "nr_inodes=40",
                             "nr_inodes=60", "nr_inodes=90", "nr_inodes=120", "nr_inodes=200"}) {
    ASSERT_EQ(::mount("tmpfs", path.c_str(), "tmpfs", 0, (std::string(option) + ",mode=0700").c_str()), 0);
    {
      auto opened = Store::open(path);
      const bool base = opened && opened->load(small, {});
      if (base) {
        const auto loaded = opened->load(big, {});
        failed += loaded ? 0 : 1;
        if (!loaded) {
          EXPECT_THAT(loaded.error().text(), HasSubstr("No space left on device")) << option;
        }
        EXPECT_EQ(run("ls -A " + path + "/tmp"), "") << option;
        const auto kept = opened->find("small:1");
        EXPECT_TRUE(kept && opened->open_lowers(*kept)) << option;
        EXPECT_EQ(static_cast<bool>(opened->find("big:1")), static_cast<bool>(loaded)) << option;
        EXPECT_EQ(run("ls " + path + "/layers/sha256 | wc -l"), loaded ? "2\n" : "1\n") << option;
        EXPECT_TRUE(opened->remove("small:1")) << option << ": removal needs no space";
      }
    }
    ASSERT_EQ(::umount(path.c_str()), 0);
  }
  EXPECT_GT(failed, 3);
}

TEST_F(Fault, SixteenLoadsAtOnceMakeOneImage) {
  const std::string one = image();
  const std::string other = archive(oci_archive({.layers = {kUpper, kLower}, .ref_name = "other:1"}), "other.tar");
  std::vector<pid_t> children;
  for (int i = 0; i < 16; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    auto opened = Store::open(top_ + "/store");
    const auto loaded = opened ? opened->load(i % 2 == 0 ? one : other, {}) : Result<Loaded>(opened.error());
    if (!loaded) ::fprintf(stderr, "load %d: %s\n", i, loaded.error().text().c_str());
    ::_exit(loaded ? 0 : 1);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(store().list()->size(), 2u);
  EXPECT_EQ(run("ls " + top_ + "/store/layers/sha256 | wc -l"), "2\n");
  EXPECT_EQ(run("ls -A " + top_ + "/store/tmp"), "");
}

TEST_F(Fault, LoadsAndRemovalsAtOnceEndWell) {
  const std::string one = image();
  std::vector<pid_t> children;
  for (int i = 0; i < 6; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    bool good = true;
    for (int round = 0; round < 8; ++round) {
      auto opened = Store::open(top_ + "/store");
      if (!opened) ::_exit(1);
      if (i % 3 == 0) {
        (void)opened->remove("web:1", {.force = true});
        continue;
      }
      const auto loaded = opened->load(one, {});
      // The image may be gone again when it is read back; nothing else may go wrong.
      if (!loaded && loaded.error().code() != Code::not_found) {
        ::fprintf(stderr, "%s\n", loaded.error().text().c_str());
        good = false;
      }
    }
    ::_exit(good ? 0 : 1);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  ASSERT_TRUE(store().load(one, {}));
  const auto found = store().find("web:1");
  EXPECT_TRUE(found && store().open_lowers(*found));
}

}  // namespace
}  // namespace skink::image::test
