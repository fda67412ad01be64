// SPDX-License-Identifier: Apache-2.0
// Command lines of skink-oci's verbs: their help, wrong usage, and opening the container that one names.
#include "base/text.h"
#include "cli/oci_verbs.h"

namespace skink::cli {

VerbLine print_help(const char* usage, const std::vector<OptionWords>& words) {
  constexpr std::size_t kColumn = 32;
  std::string text = str("Usage: skink-oci [GLOBAL OPTION...] ", std::string_view(usage), "\n");
  if (!words.empty()) text += "\nOptions:\n";
  for (const OptionWords& option : words) {
    if (option.help == nullptr) continue;
    std::string line = str("  ", option_name(option));
    if (option.value != nullptr) line += str(' ', option.value);
    line.append(line.size() + 2 <= kColumn ? kColumn - line.size() : 2, ' ');
    text += str(line, option.help, "\n");
  }
  (void)sys::write_all(1, text, "standard output");
  return VerbLine{true, {}};
}

Error wrong_usage(const char* usage) {
  return Error::make(Code::invalid_config, "usage: skink-oci ", std::string_view(usage));
}

Result<VerbLine> read_verb(Arguments args, const char* usage, OperandCount count) {
  NoOptions none;
  return read_verb(std::span<const Option<NoOptions>>{}, args, none, usage, count);
}

Result<Opened> open_container(const OciGlobals& globals, const std::string& text) {
  const auto id = TRY(state::ContainerId::parse(text));
  state::Root root = TRY(state::Root::open(globals.root));
  auto container = TRY(root.find(id));
  return Opened{std::move(root), std::move(container)};
}

Result<Opened> look_at_container(const OciGlobals& globals, const std::string& text) {
  const auto id = TRY(state::ContainerId::parse(text));
  state::Root root = TRY(state::Root::open(globals.root));
  auto container = TRY(root.look(id));
  return Opened{std::move(root), std::move(container)};
}

Error not_running(const std::string& id) {
  return Error::make(Code::not_found, "container ", quoted(id), ": container not running");
}

}  // namespace skink::cli
