// SPDX-License-Identifier: Apache-2.0
// Printing, failing and helping.
#include "cli/context.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "security/security.h"

namespace skink::cli {

namespace {

// The options in two columns: "  -e, --env K=V      text"; text too far right starts on a line of its own.
std::string describe_options(const std::vector<OptionWords>& options) {
  constexpr std::size_t kColumn = 32;
  std::string text;
  for (const OptionWords& option : options) {
    if (option.help == nullptr) continue;
    std::string line = option.letter == 0 ? "      " : str("  -", option.letter, ", ");
    line += str("--", option.name);
    if (option.value != nullptr) line += str(' ', option.value);
    if (line.size() + 2 > kColumn) line += str('\n', std::string(kColumn, ' '));
    else line.append(kColumn - line.size(), ' ');
    text += str(line, option.help, '\n');
  }
  return text;
}

// Which of our directories it is that a step could not write.
std::string read_only_place(const Error& error, const EngineOptions& directories) {
  if (error.errnum() != EROFS) return {};
  const std::pair<const char*, const std::string*> places[] = {{"--root", &directories.store},
                                                               {"--run", &directories.run}};
  for (const auto& [option, path] : places) {
    struct statvfs disk {};
    if (::statvfs(path->c_str(), &disk) == 0 && (disk.f_flag & ST_RDONLY) != 0)
      return str("; the file system of ", *path, " is mounted read-only: mount -o remount,rw it, or choose another ",
                 option);
  }
  return {};
}

}  // namespace

void Output::print(std::string_view text) {
  while (!text.empty() && !closed_ && !trouble_) {
    const ssize_t written = ::write(fd_, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EPIPE) {
      closed_ = true;
    } else if (errno != EINTR) {
      trouble_ = Error::from_errno(errno, fd_ == 1 ? "standard output" : "standard error", ": write");
    }
  }
}

void Context::note(std::string_view text) {
  err_.print(str("skink: ", verb_ != nullptr ? str(verb_->name, ": ") : std::string(), printable(text), '\n'));
}

int Context::fail(const Error& error, int status) {
  if (error.errnum() != EPIPE)
    note(str(error.text(), security::lacking_here(error), read_only_place(error, directories_)));
  return status;
}

int Context::misuse(const Error& error) {
  if (verb_ == nullptr) {
    note(str(error.text(), "; see skink --help"));
    return 1;
  }
  // What is not there yet has told its own way out.
  const std::string more = error.code() == Code::unsupported ? "" : str("; see skink ", verb_->name, " --help");
  note(str(error.text(), more));
  return verb_->misuse_status;
}

int Context::show_help(const std::vector<OptionWords>& options) {
  std::string text = str("Usage: skink ", verb_->name, ' ', verb_->usage, "\n\n", verb_->summary, ".\n");
  const std::string table = describe_options(options);
  if (!table.empty()) text += str("\nOptions:\n", table);
  if (verb_->details != nullptr) text += str('\n', verb_->details);
  out_.print(text);
  return 0;
}

Result<void> check_count(const std::vector<std::string>& operands, const Count& count) {
  if (operands.size() < count.least) return Error::make(Code::invalid_config, count.what, " is missing");
  if (operands.size() > count.most)
    return Error::make(Code::invalid_config, "unexpected argument ", quoted(operands[count.most]));
  return {};
}

int for_each_container(Context& context, const std::vector<std::string>& names,
                       const std::function<Result<void>(Engine&, const std::string& id)>& act, Echo echo) {
  auto engine = context.open_engine();
  if (!engine) return context.fail(engine.error());
  int status = 0;
  for (const auto& name : names) {
    const auto done = [&]() -> Result<void> {
      const std::string id = TRY(engine->resolve(name));
      TRY_CTX(act(*engine, id), name);
      return {};
    }();
    if (done && echo == Echo::name) context.say(name);
    else if (!done) status = context.fail(done.error());
  }
  return status;
}

}  // namespace skink::cli
