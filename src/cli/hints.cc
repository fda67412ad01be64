// SPDX-License-Identifier: Apache-2.0
// Looking for the cause of a failure.
#include "cli/hints.h"

#include <fcntl.h>

#include "supervise/records.h"
#include "supervise/spool.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

constexpr std::uint64_t kLastLines = 20;
constexpr std::size_t kMostOutput = 64U << 10;

Result<UniqueFd> open_log_dir(const Engine& engine, const std::string& id) {
  const std::string path = str(engine.options().store, '/', std::string_view(supervise::kContainers), '/', id);
  return sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Result<supervise::LogReader> open_reader(const Engine& engine, const std::string& id, bool is_new) {
  const UniqueFd dir = TRY(open_log_dir(engine, id));
  if (is_new) TRY(supervise::Spool::make(dir.get()));
  return supervise::LogReader::open(dir.get());
}

}  // namespace

LastOutput LastOutput::of(const Engine& engine, const std::string& id) {
  LastOutput output;
  if (auto reader = open_reader(engine, id, false)) output.reader_ = std::move(*reader);
  return output;
}

LastOutput LastOutput::of_new(const Engine& engine, const std::string& id) {
  LastOutput output;
  if (auto reader = open_reader(engine, id, true)) output.reader_ = std::move(*reader);
  return output;
}

std::string LastOutput::read() {
  std::string text;
  if (!reader_ || !reader_->skip_to_tail(kLastLines, true, true, true)) return text;
  for (;;) {
    auto piece = reader_->next();
    if (piece && !*piece) piece = reader_->rest();
    if (!piece || !*piece || text.size() > kMostOutput) return text;
    text += (*piece)->bytes;
    if ((*piece)->missing == 0 || text.empty()) continue;
    if (!text.ends_with('\n')) text += '\n';
    text += str("(", supervise::gap_text(**piece), ")\n");
  }
}

bool tells_of_read_only_root(std::string_view output) {
  return output.find("Read-only file system") != std::string_view::npos ||
         output.find("EROFS") != std::string_view::npos;
}

void explain_failure(Context& context, const Engine& engine, const std::string& id, LastOutput& output) {
  const auto info = engine.info(id);
  const std::string name = info ? str(info->name, ": ") : std::string();
  if (info && info->last_exit && info->last_exit->oom)
    context.note(str(name, "ended by the kernel for want of memory; give it more with -m"));
  if (tells_of_read_only_root(output.read()))
    context.note(str(name, "the root is read-only: --tmpfs PATH makes one directory writable, --writable all"));
}

}  // namespace skink::cli
