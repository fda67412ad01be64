// SPDX-License-Identifier: Apache-2.0
// bench-turns: times commands in turn, so that a slow moment of the machine hits them all alike. One line a sample:
// round, contestant, nanoseconds, peak RSS in KiB, exit status.
//
//   bench-turns ROUNDS STDERR_FILE ::: CMD ARG... [:+: CMD ARG...] [:~: CMD ARG...] ::: CMD ARG... ...
//
// `:::` begins a contestant, `:+:` one more command of the same whose time is added, `:~:` one whose time is not
// counted. `{i}` in an argument is the number of the round.
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Step {
  bool counted = true;
  std::vector<std::string> args;
};
using Contestant = std::vector<Step>;

struct Sample {
  std::int64_t ns = 0;
  long peak_kib = 0;
  int status = 0;
};

[[noreturn]] void die(const char* what, int error) {
  std::fprintf(stderr, "bench-turns: %s: %s\n", what, std::strerror(error));
  std::exit(2);
}

std::vector<Contestant> parse(int argc, char** argv) {
  std::vector<Contestant> contestants;
  for (int i = 3; i < argc; ++i) {
    const std::string_view word{argv[i]};
    if (word == ":::") contestants.emplace_back();
    if (contestants.empty()) die("the first command is not behind :::", EINVAL);
    if (word == ":::" || word == ":+:" || word == ":~:")
      contestants.back().push_back({.counted = word != ":~:", .args = {}});
    else contestants.back().back().args.emplace_back(word);
  }
  return contestants;
}

std::vector<std::string> numbered(const std::vector<std::string>& args, int round) {
  std::vector<std::string> out = args;
  for (std::string& arg : out)
    for (auto at = arg.find("{i}"); at != std::string::npos; at = arg.find("{i}"))
      arg.replace(at, 3, std::to_string(round));
  return out;
}

std::int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

/// posix_spawn shares our memory until execve, so a spawn costs the same however large we are.
Sample run_step(const Step& step, int round, posix_spawn_file_actions_t* streams) {
  std::vector<std::string> args = numbered(step.args, round);
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);

  Sample sample;
  pid_t pid = 0;
  int status = 0;
  rusage used{};
  const std::int64_t start = now_ns();
  const int error = posix_spawn(&pid, argv[0], streams, nullptr, argv.data(), environ);
  if (error != 0) die(argv[0], error);
  while (wait4(pid, &status, 0, &used) < 0)
    if (errno != EINTR) die("wait4", errno);
  sample.ns = now_ns() - start;
  sample.peak_kib = used.ru_maxrss;
  sample.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return sample;
}

Sample run_contestant(const Contestant& contestant, int round, posix_spawn_file_actions_t* streams) {
  Sample sum;
  for (const Step& step : contestant) {
    const Sample one = run_step(step, round, streams);
    if (step.counted) sum.ns += one.ns;
    if (step.counted && one.peak_kib > sum.peak_kib) sum.peak_kib = one.peak_kib;
    if (one.status != 0 && sum.status == 0) sum.status = one.status;
  }
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fputs("usage: bench-turns ROUNDS STDERR_FILE ::: CMD ARG... [:+: CMD...] [:~: CMD...] ::: ...\n", stderr);
    return 2;
  }
  const int rounds = std::atoi(argv[1]);
  const std::vector<Contestant> contestants = parse(argc, argv);
  posix_spawn_file_actions_t streams;
  posix_spawn_file_actions_init(&streams);
  posix_spawn_file_actions_addopen(&streams, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&streams, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&streams, 2, argv[2], O_WRONLY | O_CREAT | O_APPEND, 0600);

  const std::size_t count = contestants.size();
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t k = 0; k < count; ++k) {
      // Every other round backwards: what the one leaves to the kernel to clean up then slows each as often.
      const std::size_t who = round % 2 == 0 ? k : count - 1 - k;
      const Sample s = run_contestant(contestants[who], round, &streams);
      std::printf("%d %zu %" PRId64 " %ld %d\n", round, who, s.ns, s.peak_kib, s.status);
    }
  }
  return 0;
}
