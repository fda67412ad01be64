// SPDX-License-Identifier: Apache-2.0
// What happens to an exception that nobody catches: abort(3), without libstdc++'s words. Those would bring the
// demangler and stdio into the program, 50 KB for a line that no user of ours should ever see.
#include <cstdlib>
#include <exception>

namespace __cxxabiv1 {
// Defined here, the symbol keeps libstdc++'s own file for it, which names the talkative handler, out of the link.
extern std::terminate_handler __terminate_handler;
std::terminate_handler __terminate_handler = std::abort;
}  // namespace __cxxabiv1
