// SPDX-License-Identifier: Apache-2.0
// Options: reading a verb's command line by its table, with the rules of docker's command line (GNU long options,
// combined letters, "--" ends them). A table of our own: CLI11 would add 0.9 MB to the program and 0.9 MB to its
// memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace skink::cli {

using Arguments = std::span<const char* const>;

/// What people see of an option.
struct OptionWords {
  const char* name;   ///< without the dashes
  char letter;        ///< 0: it has none
  const char* value;  ///< what stands for its value in the help; nullptr: a switch, which takes none
  const char* help;   ///< nullptr: another name of the entry before it, or one that the help leaves out
};

/// One entry of a verb's table. A switch is set with "true" or "false".
template <typename T>
struct Option {
  OptionWords words;
  Result<void> (*set)(T& target, std::string_view value);
};

/// Whether options may follow the first operand. In `run IMAGE ARG...` what follows belongs to the command.
enum class Operands { anywhere, first_ends_options };

/// Whether a long name may stand behind one dash, as Go's programs take it ("-no-subreaper"). Where one may, a word
/// that is such a name is never read as letters.
enum class Dashes { two, one_or_two };

struct Match {
  std::size_t option = 0;  ///< index into the table
  std::string_view value;
};

/// What a verb reads that takes no option.
struct NoOptions {};

struct CommandLine {
  std::vector<Match> matches;  ///< in the order given
  std::vector<std::string> operands;
  bool help = false;  ///< --help, or -h where the table gives that letter no other meaning
};

/// Sorts the arguments into options and operands. Pure; the views point into `args`. Errors name the option.
Result<CommandLine> read_command_line(std::span<const OptionWords> table, Arguments args, Operands operands,
                                      Dashes dashes = Dashes::two);

/// "-m, --memory" as an error names it.
std::string option_name(const OptionWords& words);

/// The words of a table, for read_command_line and the help.
template <typename T>
std::vector<OptionWords> words_of(std::span<const Option<T>> table) {
  std::vector<OptionWords> words;
  words.reserve(table.size());
  for (const auto& option : table) words.push_back(option.words);
  return words;
}

/// Reads `args` into `target` by its table. What is returned has the operands and whether help was asked for; then
/// nothing was set.
template <typename T>
Result<CommandLine> parse_options(std::span<const Option<T>> table, Arguments args, Operands operands, T& target,
                                  Dashes dashes = Dashes::two) {
  CommandLine line = TRY(read_command_line(words_of(table), args, operands, dashes));
  if (line.help) return line;
  for (const Match& match : line.matches) {
    const Option<T>& option = table[match.option];
    TRY_CTX(option.set(target, match.value), "--", option.words.name);
  }
  return line;
}

// Setters for the common kinds of member.

template <auto Member, typename T>
Result<void> set_switch(T& target, std::string_view value) {
  target.*Member = value == "true";
  return {};
}

template <auto Member, typename T>
Result<void> set_text(T& target, std::string_view value) {
  target.*Member = std::string(value);
  return {};
}

template <auto Member, typename T>
Result<void> add_text(T& target, std::string_view value) {
  (target.*Member).emplace_back(value);
  return {};
}

/// For options that are accepted for docker's sake and change nothing.
template <typename T>
Result<void> set_nothing(T& /*target*/, std::string_view /*value*/) {
  return {};
}

}  // namespace skink::cli
