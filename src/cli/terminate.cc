// SPDX-License-Identifier: Apache-2.0
// What happens to an exception that nobody catches: abort(3), without libstdc++'s words. Those would bring the
// demangler and stdio into the program, 50 KB for a line that no user of ours should ever see.
#include "cli/terminate.h"

#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <new>
#include <string_view>

namespace __cxxabiv1 {
// Defined here, the symbol keeps libstdc++'s own file for it, which names the talkative handler, out of the link.
extern std::terminate_handler __terminate_handler;
std::terminate_handler __terminate_handler = std::abort;
}  // namespace __cxxabiv1

namespace skink::cli {
namespace {

int failure_status = 1;

// Nothing that allocates. What was begun is left as by a kill, which every step is made for.
[[noreturn]] void give_up() {
  constexpr std::string_view kWords =
      "skink: no memory left (a limit of the control group, or ulimit -v); raise it. What was begun is cleared away by "
      "the next command\n";
  (void)!::write(STDERR_FILENO, kWords.data(), kWords.size());
  ::_exit(failure_status);
}

}  // namespace

void give_up_without_memory(int status) {
  failure_status = status;
  std::set_new_handler(give_up);
}

}  // namespace skink::cli
