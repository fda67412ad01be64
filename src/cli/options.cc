// SPDX-License-Identifier: Apache-2.0
// Reading a command line into matches and operands.
#include "cli/options.h"

#include <array>
#include <optional>

#include "base/text.h"

namespace skink::cli {

namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

class Reader {
 public:
  Reader(std::span<const OptionWords> table, Arguments args, Operands operands, Dashes dashes)
      : table_(table), args_(args), operands_(operands), dashes_(dashes) {}

  Result<CommandLine> read() {
    while (next_ < args_.size()) {
      const std::string_view arg = args_[next_++];
      if (arg == "--") return rest();
      if (arg.starts_with("--")) TRY(read_long(arg.substr(2)));
      else if (is_long_behind_one_dash(arg)) TRY(read_long(arg.substr(1)));
      else if (arg.size() > 1 && arg[0] == '-') TRY(read_letters(arg.substr(1)));
      else {
        line_.operands.emplace_back(arg);
        if (operands_ == Operands::first_ends_options) return rest();
      }
    }
    return std::move(line_);
  }

 private:
  CommandLine rest() {
    while (next_ < args_.size()) line_.operands.emplace_back(args_[next_++]);
    return std::move(line_);
  }

  [[nodiscard]] std::size_t find_name(std::string_view name) const {
    for (std::size_t i = 0; i < table_.size(); ++i)
      if (name == table_[i].name) return i;
    return kNone;
  }

  [[nodiscard]] std::size_t find_letter(char letter) const {
    for (std::size_t i = 0; i < table_.size(); ++i)
      if (table_[i].letter == letter) return i;
    return kNone;
  }

  [[nodiscard]] bool is_long_behind_one_dash(std::string_view arg) const {
    if (dashes_ == Dashes::two || arg.size() < 3 || arg[0] != '-') return false;
    const std::string_view name = arg.substr(1, arg.find('=') - 1);
    return find_name(name) != kNone || name == "help";
  }

  Result<void> read_long(std::string_view text) {
    const auto at = text.find('=');
    const std::string_view name = text.substr(0, at);
    const std::size_t option = find_name(name);
    if (option == kNone && name == "help" && at == std::string_view::npos) {
      line_.help = true;
      return {};
    }
    if (option == kNone) return Error::make(Code::invalid_config, "unknown option ", printable(str("--", name)));
    if (at != std::string_view::npos) return put(option, text.substr(at + 1));
    if (table_[option].value == nullptr) return put(option, "true");
    return take_next(option);
  }

  // "-it", "-eK=V", "-e K=V", "-e=K=V" (one '=' after the letter is not part of the value).
  Result<void> read_letters(std::string_view letters) {
    while (!letters.empty()) {
      const char letter = letters[0];
      letters.remove_prefix(1);
      const std::size_t option = find_letter(letter);
      if (option == kNone && letter == 'h') {
        line_.help = true;
        continue;
      }
      if (option == kNone)
        return Error::make(Code::invalid_config, "unknown option ", printable(std::string{'-', letter}));
      if (table_[option].value == nullptr && !letters.starts_with('=')) {
        TRY(put(option, "true"));
        continue;
      }
      if (letters.empty()) return take_next(option);
      return put(option, letters.substr(letters[0] == '=' ? 1 : 0));
    }
    return {};
  }

  // The next argument is the value whatever it begins with: "--memory-swap -1".
  Result<void> take_next(std::size_t option) {
    if (next_ == args_.size())
      return Error::make(Code::invalid_config, option_name(table_[option]),
                         ": a value is missing: ", table_[option].value);
    return put(option, args_[next_++]);
  }

  Result<void> put(std::size_t option, std::string_view value) {
    if (table_[option].value == nullptr) {
      constexpr std::array<std::string_view, 6> kTrue{"1", "t", "T", "TRUE", "true", "True"};
      constexpr std::array<std::string_view, 6> kFalse{"0", "f", "F", "FALSE", "false", "False"};
      std::optional<bool> on;
      for (const auto word : kTrue)
        if (value == word) on = true;
      for (const auto word : kFalse)
        if (value == word) on = false;
      if (!on)
        return Error::make(Code::invalid_config, option_name(table_[option]), ": ", quoted(value),
                           " is neither true nor false");
      value = *on ? "true" : "false";
    }
    line_.matches.push_back({option, value});
    return {};
  }

  std::span<const OptionWords> table_;
  Arguments args_;
  Operands operands_;
  Dashes dashes_;
  std::size_t next_ = 0;
  CommandLine line_;
};

}  // namespace

std::string option_name(const OptionWords& words) {
  return words.letter == 0 ? str("--", words.name) : str('-', words.letter, ", --", words.name);
}

Result<CommandLine> read_command_line(std::span<const OptionWords> table, Arguments args, Operands operands,
                                      Dashes dashes) {
  return Reader(table, args, operands, dashes).read();
}

}  // namespace skink::cli
