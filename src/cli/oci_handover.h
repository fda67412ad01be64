// SPDX-License-Identifier: Apache-2.0
// What skink-oci takes from its caller and hands to it: descriptors to be passed on, sockets for the terminal and the
// pidfd, and the file with the process id.
#pragma once

#include <sys/types.h>

#include <string>

#include "oci/spec.h"

namespace skink::cli {

/// Where to hand over what belongs to a process that was started; an empty path: nowhere.
struct Handover {
  std::string pid_file, console_socket, pidfd_socket;
};

/// Sends the terminal (unless console_fd is -1) and the pidfd, then writes the pid.
Result<void> hand_over(const Handover& to, pid_t pid, int pidfd, int console_fd);

/// Whether the options about the terminal fit the process: one that nobody would read is refused.
Result<void> check_terminal(const Handover& to, bool terminal, bool detached);

/// How many descriptors from 3 on are passed on: those of LISTEN_FDS, when LISTEN_PID says that they are for us, and
/// `asked` more. `env` gets LISTEN_FDS and LISTEN_PID as the program has to see them; nullptr: they are not for this
/// program. One that is closed, a directory, or O_PATH is refused: the last two are ways out (attack A54).
Result<unsigned> preserved_descriptors(unsigned asked, oci::Strings* env);

/// Adds HOME for a program that is given none, from the passwd file below `root`.
void add_home(oci::Process& process, const std::string& root);

}  // namespace skink::cli
