// SPDX-License-Identifier: Apache-2.0
#include "cli/proc.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/text.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

// Command lines can have megabytes; nobody reads more of one.
constexpr std::size_t kMostArguments = 32U << 10;
constexpr std::size_t kMostWords = 1024;
constexpr std::size_t kMostFacts = 16U << 10;

// The words of a line, however many blanks are between them.
std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> words;
  for (const std::string_view word : split(line, ' '))
    if (!word.empty()) words.push_back(word);
  return words;
}

// The value of "Key:\tvalue".
std::string_view status_value(std::string_view text, std::string_view key) {
  for (const std::string_view line : split(text, '\n'))
    if (line.starts_with(key)) return line.substr(key.size());
  return {};
}

bool parse_counts(const std::vector<std::string_view>& words, std::size_t first, Interface::Counts& counts) {
  std::array<std::uint64_t, 4> numbers{};
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const auto number = parse_int<std::uint64_t>(words[first + i]);
    if (!number) return false;
    numbers[i] = *number;
  }
  counts = {numbers[0], numbers[1], numbers[2], numbers[3]};
  return true;
}

}  // namespace

Result<UniqueFd> open_process(pid_t pid) {
  return sys::open_at(AT_FDCWD, str("/proc/", pid).c_str(), O_PATH | O_DIRECTORY);
}

std::string read_beginning(int process_fd, const char* name, std::size_t most) {
  std::string text;
  const auto file = sys::open_at(process_fd, name, O_RDONLY);
  if (!file) return text;
  std::array<char, 4096> piece{};
  while (text.size() < most) {
    const ssize_t got = ::read(file->get(), piece.data(), std::min(piece.size(), most - text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
  return text;
}

std::vector<Interface> parse_interfaces(std::string_view text) {
  constexpr std::size_t kFirstSent = 8, kColumns = 16;
  std::vector<Interface> found;
  for (const std::string_view line : split(text, '\n')) {
    const auto pair = split_once(line, ':');
    if (!pair) continue;  // the heading
    const auto words = fields_of(pair->second);
    Interface one;
    if (words.size() < kColumns || !parse_counts(words, 0, one.received) || !parse_counts(words, kFirstSent, one.sent))
      continue;
    const auto begin = std::min(pair->first.find_first_not_of(' '), pair->first.size());
    one.name = std::string(pair->first.substr(begin));
    found.push_back(std::move(one));
  }
  return found;
}

bool parse_stat(std::string_view text, Process& process) {
  // The name may hold spaces and parentheses, so it ends at the last one (man proc_pid_stat).
  const auto name = text.find('('), end = text.rfind(')');
  if (name == std::string_view::npos || end == std::string_view::npos || end < name) return false;
  process.comm = std::string(text.substr(name + 1, end - name - 1));
  const auto fields = fields_of(text.substr(end + 1));
  constexpr std::size_t kFirst = 3, kLast = 24;  // as the manual numbers them
  if (fields.size() <= kLast - kFirst) return false;
  const auto number = [&](std::size_t field) { return parse_int<std::int64_t>(fields[field - kFirst]).value_or(0); };
  const auto count = [&](std::size_t field) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(number(field), 0));
  };
  process.state = fields[0][0];
  process.parent = static_cast<pid_t>(number(4));
  process.tty = count(7);
  process.cpu_ticks = count(14) + count(15);
  process.nice = number(19);
  process.threads = count(20);
  process.start_ticks = count(22);
  process.virtual_bytes = count(23);
  process.resident_bytes = count(24) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return true;
}

std::size_t pid_namespace_depth() {
  static const std::size_t depth = [] {
    const auto self = open_process(::getpid());
    const std::string text = self ? read_beginning(self->get(), "status", kMostFacts) : std::string();
    return split(status_value(text, "NSpid:\t"), '\t').size();
  }();
  return depth;
}

bool parse_status(std::string_view text, Process& process, std::size_t depth) {
  // Real, effective, saved, of the file system; ps shows the second.
  const auto uids = split(status_value(text, "Uid:\t"), '\t');
  const auto uid = uids.size() > 1 ? parse_int<std::uint32_t>(uids[1]) : std::nullopt;
  // A number for each pid namespace from the top one that we see to its own: the container's is one below ours, and
  // those of containers inside are further down.
  const auto pids = split(status_value(text, "NSpid:\t"), '\t');
  const auto inner = parse_int<pid_t>(pids[std::min(depth, pids.size() - 1)]);
  if (!uid || !inner) return false;
  process.uid = *uid;
  process.ns_pid = *inner;
  return true;
}

std::optional<Process> read_process(pid_t pid, std::size_t most_arguments) {
  const auto directory = open_process(pid);
  if (!directory) return std::nullopt;
  Process process;
  process.pid = pid;
  if (!parse_stat(read_beginning(directory->get(), "stat", kMostFacts), process) ||
      !parse_status(read_beginning(directory->get(), "status", kMostFacts), process, pid_namespace_depth()))
    return std::nullopt;
  std::string line = read_beginning(directory->get(), "cmdline", std::min(most_arguments, kMostArguments));
  if (line.ends_with('\0')) line.pop_back();
  for (std::string_view rest = line; !line.empty();) {
    const auto end = process.args.size() + 1 < kMostWords ? rest.find('\0') : rest.npos;
    process.args.emplace_back(rest.substr(0, end));
    if (end == rest.npos) break;
    rest.remove_prefix(end + 1);
  }
  return process;
}

std::int64_t ticks_to_ns(std::uint64_t ticks) {
  static const long hertz = std::max(::sysconf(_SC_CLK_TCK), 1L);
  return static_cast<std::int64_t>(ticks) * (1'000'000'000 / hertz);
}

// Documentation/admin-guide/devices.txt; the number's parts as new_encode_dev() has them.
std::string terminal_name(std::uint64_t tty) {
  const std::uint64_t major = (tty >> 8U) & 0xfffU, minor = (tty & 0xffU) | ((tty >> 12U) & 0xfff00U);
  constexpr std::uint64_t kTty = 4, kConsole = 5, kFirstPts = 136, kLastPts = 143, kFirstSerial = 64;
  if (tty == 0) return "?";
  if (major >= kFirstPts && major <= kLastPts) return str("pts/", (major - kFirstPts) * 256 + minor);
  if (major == kTty) return minor < kFirstSerial ? str("tty", minor) : str("ttyS", minor - kFirstSerial);
  if (major == kConsole && minor == 1) return "console";
  return str(major, ':', minor);
}

}  // namespace skink::cli
