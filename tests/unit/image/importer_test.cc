// SPDX-License-Identifier: Apache-2.0
// The importer's confinement: what somebody who has taken it over could do is nothing.
#include "image/importer.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fixture.h"
#include "image/confine.h"
#include "sys/file.h"

namespace skink::image::test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

constexpr std::uint64_t kMemory = 256U << 20;
constexpr ConfineLimits kLimits{.memory = kMemory / 2, .mapped = kMemory, .seconds = 77, .file_size = 8192};

class Confined : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "the sanitizer makes calls and takes memory of its own";
#endif
  }
  /// How a child ends that is confined with one pipe and then does this: "exit N" or "signal N".
  static std::string after(const std::function<int(int pipe_fd)>& attempt, bool keep_pipe = true) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const auto confined = confine(keep_pipe ? std::vector<int>{ends[1]} : std::vector<int>{}, kLimits);
      ::_exit(confined ? attempt(ends[1]) : 99);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ::close(ends[0]);
    ::close(ends[1]);
    return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                               : "exit " + std::to_string(WEXITSTATUS(status));
  }
};

TEST_F(Confined, ReadingWritingAndMemoryAreLeft) {
  EXPECT_EQ(after([](int fd) { return static_cast<int>(::write(fd, "xyz", 3)); }), "exit 3");
  EXPECT_EQ(after([](int) { return static_cast<int>(std::vector<char>(1 << 20, 7)[5]); }), "exit 7");
}

TEST_F(Confined, EveryOtherCallKills) {
  const std::string killed = "signal " + std::to_string(SIGSYS);
  const std::vector<std::pair<const char*, std::function<int(int)>>> attempts = {
      {"open", [](int) { return ::open("/etc/passwd", O_RDONLY | O_CLOEXEC); }},
      {"openat2", [](int) { return static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, "/", nullptr, 0)); }},
      {"socket", [](int) { return ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }},
      {"fork", [](int) { return static_cast<int>(::fork()); }},
      {"execve", [](int) { return ::execl("/bin/true", "true", nullptr); }},
      {"ptrace", [](int) { return static_cast<int>(::ptrace(PTRACE_ATTACH, ::getppid(), nullptr, nullptr)); }},
      {"kill", [](int) { return ::kill(1, 0); }},
      {"mount", [](int) { return ::mount("none", "/mnt", "tmpfs", 0, nullptr); }},
      {"unshare", [](int) { return static_cast<int>(::syscall(SYS_unshare, CLONE_NEWUSER)); }},
      {"process_vm_readv", [](int) { return static_cast<int>(::syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0)); }},
      {"io_uring", [](int) { return static_cast<int>(::syscall(SYS_io_uring_setup, 1, nullptr)); }},
      {"bpf", [](int) { return static_cast<int>(::syscall(SYS_bpf, 0, nullptr, 0)); }},
      {"ioctl", [](int fd) { return static_cast<int>(::syscall(SYS_ioctl, fd, 0, 0)); }},
      {"dup", [](int fd) { return static_cast<int>(::syscall(SYS_dup, fd)); }},
      {"prctl", [](int) { return ::prctl(PR_SET_DUMPABLE, 1); }},
      {"setuid", [](int) { return static_cast<int>(::syscall(SYS_setuid, 0)); }},
      {"memory that runs",
       [](int) {
         return ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 1 : 0;
       }},
      {"making memory run",
       [](int) {
         void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return ::mprotect(page, 4096, PROT_READ | PROT_EXEC);
       }},
      // What the limit of memory does not count.
      {"shared memory",
       [](int) { return ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 1 : 0; }},
      {"a stack that grows",
       [](int) {
         constexpr int kGrows = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN;
         return ::mmap(nullptr, 4096, PROT_READ, kGrows, -1, 0) == MAP_FAILED ? 1 : 0;
       }},
#ifdef __x86_64__
      {"x32", [](int) { return static_cast<int>(::syscall(0x40000000 + SYS_read, 0, nullptr, 0)); }},
#endif
  };
  for (const auto& [what, attempt] : attempts) EXPECT_EQ(after(attempt), killed) << what;
}

TEST_F(Confined, MemoryBeyondTheLimitIsNotThere) {
  const auto map = [](std::size_t bytes, int protection) {
    return after([=](int) {
      return ::mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 5 : 0;
    });
  };
  EXPECT_EQ(map(kMemory / 4, PROT_READ | PROT_WRITE), "exit 0");
  EXPECT_EQ(map(kMemory / 2, PROT_READ | PROT_WRITE), "exit 5");
  EXPECT_EQ(map(kMemory / 2, PROT_READ), "exit 0");
  EXPECT_EQ(map(2 * kMemory, PROT_READ), "exit 5");
  EXPECT_EQ(after([](int) {
              void* there = ::mmap(nullptr, kMemory / 2, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              return ::mprotect(there, kMemory / 2, PROT_READ | PROT_WRITE) != 0 ? 5 : 0;
            }),
            "exit 5")
      << "what is made writable later counts too";
}

TEST_F(Confined, LowerLimitsOfBeforeStay) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit low{kMemory / 2, kMemory / 2};
    if (::setrlimit(RLIMIT_AS, &low) != 0) ::_exit(1);
    const std::string end = after([](int) {
      return ::mmap(nullptr, kMemory / 2, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 5 : 0;
    });
    ::_exit(end == "exit 5" ? 0 : 2);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

/// The error of an import of `tar` by a process whose address space is what it has now and `more`.
std::string import_with(const std::string& tar, std::uint64_t budget, rlim_t more) {
  const UniqueFd packed(::memfd_create("packed", MFD_CLOEXEC)), layer(::memfd_create("layer", MFD_CLOEXEC));
  int answer[2] = {-1, -1};
  EXPECT_EQ(::write(packed.get(), tar.data(), tar.size()), static_cast<ssize_t>(tar.size()));
  EXPECT_EQ(::pipe2(answer, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    FileSource source(packed.get(), 0, tar.size());
    // What is free in the heap is filled, so that the limit is one.
    std::vector<std::unique_ptr<char[]>> filler(more == 0 ? 0 : 1200);
    for (auto& piece : filler) piece.reset(new char[59'000]);
    const auto pages = fs::read_file(AT_FDCWD, "/proc/self/statm", 256);
    const rlim_t most = std::stoull(*pages) * 4096 + more;
    const rlimit limit{most, most};
    if (more != 0) ::setrlimit(RLIMIT_AS, &limit);
    const auto done = import_layer({.packed = source,
                                    .packed_fd = packed.get(),
                                    .packed_size = tar.size(),
                                    .budget = budget,
                                    .layer_fd = layer.get()});
    const std::string text = !done ? done.error().text() : !done->diff_id ? done->diff_id.error().text() : "imported";
    (void)!::write(answer[1], text.data(), text.size());
    ::_exit(0);
  }
  ::close(answer[1]);
  auto text = sys::read_all(answer[0], 1 << 16, "answer");
  ::close(answer[0]);
  ::waitpid(child, nullptr, 0);
  return text ? *text : text.error().text();
}

TEST_F(Confined, RunningOutOfMemoryOrSpaceIsSaid) {
  std::vector<TarSpec> entries;
  for (int i = 0; i < 400; ++i) {
    entries.push_back(directory("d" + std::to_string(i)));
    entries.back().pax = {{"SCHILY.xattr.user.a", std::string(60'000, 'v')}};
  }
  const std::string many = tar(entries);

  EXPECT_EQ(import_with(many, 1U << 30, 0), "imported");
  EXPECT_THAT(import_with(many, 1U << 30, 8U << 20),
              ContainsRegex("out of memory: the importer may use at most (64|186) MiB"));
  EXPECT_THAT(import_with(tar({file("a", std::string(600'000, 'x'))}), 650'000, 0), HasSubstr("imported"));
  EXPECT_THAT(import_with(tar({directory(std::string(200, 'd') + "/e/f/g/h/i/j/k/l/m/n/o/p/q/r")}), 8192, 0),
              HasSubstr("as a layer it takes more than the 8192 bytes free"));
}

/// How an import ends whose builder was taken over and does this.
std::string import_by(const std::function<Result<std::string>(int in_fd, int layer_fd)>& builder) {
  const std::string bytes = tar({file("a", "a")});
  const UniqueFd packed(::memfd_create("packed", MFD_CLOEXEC)), layer(::memfd_create("layer", MFD_CLOEXEC));
  EXPECT_EQ(::write(packed.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  FileSource source(packed.get(), 0, bytes.size());
  const auto done = import_layer({.packed = source,
                                  .packed_fd = packed.get(),
                                  .packed_size = bytes.size(),
                                  .budget = 1U << 20,
                                  .layer_fd = layer.get(),
                                  .builder = builder});
  return !done ? done.error().text() : !done->diff_id ? done->diff_id.error().text() : "imported";
}

// zlib would name the byte and the reason; what is packed as something else still goes to it.
TEST(Importer, GzipGoesThroughLibdeflate) {
  std::string packed = gzip(tar({file("a", std::string(5000, 'a'))}));
  packed[10] = static_cast<char>(packed[10] | 7);  // a block of a kind that there is not
  const UniqueFd blob(::memfd_create("packed", MFD_CLOEXEC)), layer(::memfd_create("layer", MFD_CLOEXEC));
  ASSERT_EQ(::write(blob.get(), packed.data(), packed.size()), static_cast<ssize_t>(packed.size()));
  // Of a layer that is only hashed, whatever its size may be, as well.
  for (const bool writes : {true, false}) {
    FileSource source(blob.get(), 0, packed.size());
    const auto done = import_layer({.packed = source,
                                    .packed_fd = blob.get(),
                                    .packed_size = packed.size(),
                                    .compression = oci::Compression::gzip,
                                    .budget = writes ? std::uint64_t{1} << 20 : ~std::uint64_t{0},
                                    .layer_fd = writes ? layer.get() : -1});
    ASSERT_TRUE(done) << done.error().text();
    ASSERT_FALSE(done->diff_id);
    EXPECT_THAT(done->diff_id.error().text(), HasSubstr("gzip data is corrupt or ends early, behind byte 10"));
  }
}

TEST_F(Confined, ABuilderThatWasTakenOverGetsNowhere) {
  const auto works = [](const std::string& xattr, const std::string& value) {
    return import_by([&](int, int layer_fd) -> Result<std::string> {
      const auto writer = TRY(make_erofs_writer(UniqueFd(layer_fd), {}));
      Attributes attributes;
      if (!xattr.empty()) attributes.xattrs = {{xattr, value}};
      TRY(writer->directory("d", attributes));
      TRY(writer->finish());
      return std::string("{}");
    });
  };

  EXPECT_EQ(works("user.fine", "1"), "imported");
  EXPECT_THAT(works("trusted.overlay.redirect", "/etc"), HasSubstr("none that skink writes"));
  EXPECT_THAT(works("trusted.overlay.opaque", "x"), HasSubstr("none that skink writes"));
  EXPECT_THAT(works("system.posix_acl_access", "x"), HasSubstr("none that skink writes"));
  EXPECT_THAT(import_by([](int, int) { return Result<std::string>("{}"); }), HasSubstr("none that skink writes"))
      << "it wrote nothing";
  EXPECT_THAT(import_by([](int, int layer_fd) -> Result<std::string> {
                TRY(sys::write_all(layer_fd, std::string(8192, 'x'), "garbage"));
                return std::string("{}");
              }),
              HasSubstr("none that skink writes"));
  EXPECT_THAT(import_by([](int, int layer_fd) -> Result<std::string> {
                TRY(sys::write_all(layer_fd, std::string(2U << 20, 'x'), "too much"));
                return std::string("{}");
              }),
              HasSubstr("too much: File too large"));
  EXPECT_THAT(import_by([](int, int) { return Result<std::string>(std::string(1U << 20, '{')); }),
              HasSubstr("answer of the importer"));
  EXPECT_THAT(import_by([](int, int) { return Result<std::string>("{\"devices\": ["); }), HasSubstr("answer"));
  for (const auto& attempt : std::vector<std::function<void()>>{
           [] { (void)::open("/etc/passwd", O_RDONLY | O_CLOEXEC); },
           [] { (void)::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }, [] { (void)::fork(); },
           [] { (void)::ptrace(PTRACE_ATTACH, ::getppid(), nullptr, nullptr); }, [] { (void)::kill(::getppid(), 0); },
           [] { (void)::mount("none", "/mnt", "tmpfs", 0, nullptr); }})
    EXPECT_THAT(import_by([&](int, int) {
                  attempt();
                  return Result<std::string>("{}");
                }),
                HasSubstr("it made a system call that it has no business with"));
}

// A few bytes of a tar give the builder no more than the base, whatever it was made to do; where nobody may change the
// limits of another user's process (a container's root), no more than any worker.
TEST_F(Confined, ABuilderThatWasTakenOverGetsLittleMemory) {
  const auto take = [](std::size_t bytes) {
    return import_by([bytes](int in_fd, int) -> Result<std::string> {
      char byte = 0;
      while (::read(in_fd, &byte, 1) > 0) continue;
      const void* got = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      return got == MAP_FAILED ? Error::from_errno(errno, "mmap") : Error(Code::internal, "it has its memory");
    });
  };
  const std::size_t most = ::prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE) == 1 ? 65U << 20 : 187U << 20;
  EXPECT_THAT(take(40U << 20), HasSubstr("it has its memory"));
  EXPECT_THAT(take(most), HasSubstr("Cannot allocate memory"));
}

TEST_F(Confined, DescriptorsThatWereNotKeptAreGone) {
  EXPECT_EQ(after([](int fd) { return ::write(fd, "x", 1) == -1 && errno == EBADF ? 6 : 0; }, false), "exit 6");
  EXPECT_EQ(after([](int) { return ::write(2, "x", 1) == -1 && errno == EBADF ? 6 : 0; }), "exit 6");
}

TEST_F(Confined, ItIsNobodyAndDiesWithItsParent) {
  int ready[2] = {-1, -1}, born[2] = {-1, -1};
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(born, O_CLOEXEC), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    const pid_t child = ::fork();
    if (child == 0) {
      int never[2] = {-1, -1};
      if (::pipe2(never, O_CLOEXEC) != 0 || !confine({ready[1], never[0], never[1]}, kLimits)) ::_exit(1);
      char byte = 0;
      (void)!::write(ready[1], "x", 1);
      (void)!::read(never[0], &byte, 1);
      ::_exit(0);
    }
    ::close(ready[1]);
    (void)!::write(born[1], &child, sizeof child);
    ::pause();
  }
  ::close(ready[1]);
  pid_t child = 0;
  char byte = 0;
  ASSERT_EQ(::read(born[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
  ASSERT_EQ(::read(ready[0], &byte, 1), 1) << "it is confined now";
  auto status = fs::read_file(AT_FDCWD, ("/proc/" + std::to_string(child) + "/status").c_str(), 1 << 16);
  ASSERT_TRUE(status) << status.error().text();
  EXPECT_THAT(*status, HasSubstr("Uid:\t65534\t65534\t65534\t65534"));
  EXPECT_THAT(*status, HasSubstr("CapPrm:\t0000000000000000"));
  EXPECT_THAT(*status, HasSubstr("CapEff:\t0000000000000000"));
  EXPECT_THAT(*status, HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(*status, HasSubstr("Seccomp:\t2"));
  auto limits = fs::read_file(AT_FDCWD, ("/proc/" + std::to_string(child) + "/limits").c_str(), 1 << 16);
  ASSERT_TRUE(limits) << limits.error().text();
  EXPECT_THAT(*limits, ContainsRegex("Max cpu time +77 +82 "));
  EXPECT_THAT(*limits, ContainsRegex("Max file size +8192 +8192 "));

  ::kill(parent, SIGKILL);
  ::waitpid(parent, nullptr, 0);

  EXPECT_EQ(::read(ready[0], &byte, 1), 0) << "its end of the pipe went with it";
  for (const int fd : {ready[0], born[0], born[1]}) ::close(fd);
}

}  // namespace
}  // namespace skink::image::test
