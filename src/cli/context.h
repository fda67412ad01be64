// SPDX-License-Identifier: Apache-2.0
// Context: what every verb of the command line works with: where to print, how to fail, and the table of verbs.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/options.h"
#include "skink/engine.h"

namespace skink::cli {

class Context;

/// Exit status of skink's own failures in verbs that otherwise exit with a container's status, as docker has it.
inline constexpr int kOwnFailure = 125;

/// One verb: what its help says and what does it. Each is defined in the file of its command.
struct Verb {
  const char* name;
  const char* usage;    ///< what follows the name: "[OPTIONS] CONTAINER..."
  const char* summary;  ///< one line, no full stop
  const char* details;  ///< description, exit statuses and examples, after the options
  int misuse_status;    ///< exit status after a mistake in the command line
  int (*run)(Context& context, Arguments args);
};

/// Every verb, in the order of the overview; a group's heading has no `run`.
const std::vector<const Verb*>& all_verbs();
/// Nothing when there is none of that name.
const Verb* find_verb(std::string_view name);

/// Standard output or error. A reader that went away is no failure (`skink ps | head -1`), any other is kept.
class Output {
 public:
  explicit Output(int fd) : fd_(fd) {}
  void print(std::string_view text);
  [[nodiscard]] const std::optional<Error>& trouble() const { return trouble_; }
  /// Whether there is any use in printing more.
  [[nodiscard]] bool is_done() const { return closed_ || trouble_; }

 private:
  int fd_;
  bool closed_ = false;
  std::optional<Error> trouble_;
};

class Context {
 public:
  Context(EngineOptions directories, const Verb* verb) : directories_(std::move(directories)), verb_(verb) {}

  /// Opens the engine with --root and --run.
  Result<Engine> open_engine() const { return Engine::open(directories_); }
  [[nodiscard]] const EngineOptions& directories() const { return directories_; }
  [[nodiscard]] const Verb& verb() const { return *verb_; }

  Output& out() { return out_; }
  /// One line on standard output.
  void say(std::string_view line) { out_.print(str(line, '\n')); }
  /// "skink: VERB: text" on standard error, one line, printable.
  void note(std::string_view text);
  /// The same for an error; answers `status`. One whose cause is a reader that went away is not told.
  int fail(const Error& error, int status = 1);
  /// The same with "see skink VERB --help" and the verb's own status.
  int misuse(const Error& error);
  int show_help(const std::vector<OptionWords>& options);

 private:
  EngineOptions directories_;
  const Verb* verb_;
  Output out_{1};
  Output err_{2};
};

/// How many operands a verb takes, and what an error calls them.
struct Count {
  std::size_t least = 0;
  std::size_t most = 0;
  const char* what = "CONTAINER";
};
inline constexpr std::size_t kAnyNumber = static_cast<std::size_t>(-1);

Result<void> check_count(const std::vector<std::string>& operands, const Count& count);

/// Reads a verb's arguments. What comes back is the exit status when there is nothing more to do: help or a mistake.
template <typename T>
std::optional<int> read_arguments(Context& context, std::span<const Option<T>> table, Arguments args, T& target,
                                  std::vector<std::string>& operands, const Count& count) {
  auto line = parse_options(table, args, Operands::anywhere, target);
  if (!line) return context.misuse(line.error());
  if (line->help) return context.show_help(words_of(table));
  if (auto fits = check_count(line->operands, count); !fits) return context.misuse(fits.error());
  operands = std::move(line->operands);
  return std::nullopt;
}

/// Whether for_each_container() prints the name of what it has done.
enum class Echo { name, nothing };

/// Does something to each of the containers named and prints the name as given; one that fails is reported and the
/// next is taken. The exit status: 1 if any failed.
int for_each_container(Context& context, const std::vector<std::string>& names,
                       const std::function<Result<void>(Engine&, const std::string& id)>& act, Echo echo = Echo::name);

}  // namespace skink::cli
