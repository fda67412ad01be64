// SPDX-License-Identifier: Apache-2.0
// Proc: what /proc tells of a container's processes and of its network (man 5 proc). A process is opened once and
// everything is read below that descriptor, so that all of it is of one process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace skink::cli {

/// The directory /proc/PID. Errors: not_found when there is no such process.
Result<UniqueFd> open_process(pid_t pid);

/// The beginning of a file of such a directory, at most `most` bytes; empty when it cannot be read, as those of a
/// process that has ended.
std::string read_beginning(int process_fd, const char* name, std::size_t most);

/// One network interface, counted since it was made, as its name space sees it.
struct Interface {
  struct Counts {
    std::uint64_t bytes = 0, packets = 0, errors = 0, drops = 0;
  };
  std::string name;  ///< whatever a program in the container called it
  Counts received, sent;
};
/// The text of /proc/PID/net/dev; lines that are none are passed over.
std::vector<Interface> parse_interfaces(std::string_view text);

/// One process. What it says of itself (comm, args) may hold any byte.
struct Process {
  pid_t pid = 0;     ///< as we see it
  pid_t ns_pid = 0;  ///< as it sees itself
  pid_t parent = 0;  ///< 0: none that we see
  std::uint32_t uid = 0;
  char state = '?';
  std::uint64_t tty = 0;  ///< device number of its terminal; 0: none
  std::int64_t nice = 0;
  std::uint64_t threads = 0;
  std::uint64_t start_ticks = 0;  ///< since boot
  std::uint64_t cpu_ticks = 0;
  std::uint64_t virtual_bytes = 0, resident_bytes = 0;
  std::string comm;
  std::vector<std::string> args;  ///< of kernel threads and zombies there are none
};
/// Fills in what /proc/PID/stat and /proc/PID/status say. False when one is not what it should be.
bool parse_stat(std::string_view text, Process& process);
/// `depth`: which of the numbers in NSpid is `ns_pid`, or the last one when there are not so many.
bool parse_status(std::string_view text, Process& process, std::size_t depth = 1);
/// How many pid namespaces there are from the top one that /proc shows to our own, both counted: the numbers that a
/// container of ours gives are at this place of NSpid.
std::size_t pid_namespace_depth();
/// Nothing when it has ended and was reaped. At most `most_arguments` bytes of its command line are read, never more
/// than 32 KiB; words beyond 1,024 stay together.
std::optional<Process> read_process(pid_t pid, std::size_t most_arguments = std::size_t{32} << 10U);

/// Clock ticks (sysconf(_SC_CLK_TCK)) as nanoseconds.
std::int64_t ticks_to_ns(std::uint64_t ticks);

/// How people name a terminal: "pts/3", "tty1", "ttyS0", "console"; "MAJOR:MINOR" for others, "?" for none.
std::string terminal_name(std::uint64_t tty);

}  // namespace skink::cli
