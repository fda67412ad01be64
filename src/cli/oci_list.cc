// SPDX-License-Identifier: Apache-2.0
// list and ps of skink-oci.
#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/text.h"
#include "cli/oci_verbs.h"

namespace skink::cli {
namespace {

struct ListOptions {
  bool json = false, quiet = false;
};

template <typename T>
Result<void> set_format(T& options, std::string_view value) {
  if (value != "json" && value != "table")
    return Error::make(Code::invalid_config, quoted(value), " is neither table nor json");
  options.json = value == "json";
  return {};
}

constexpr Option<ListOptions> kListOptions[] = {
    {{"format", 'f', "table|json", "form of the list (default table)"}, set_format<ListOptions>},
    {{"quiet", 'q', nullptr, "only the ids"}, set_switch<&ListOptions::quiet>},
};

using Row = std::array<std::string, 6>;

// Columns of at least 12, with at least three spaces between them: the layout of runc.
std::string table(const std::vector<Row>& rows) {
  constexpr std::size_t kLeast = 12, kBetween = 3;
  std::array<std::size_t, 6> width{};
  width.fill(kLeast);
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size() + kBetween);
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i + 1 < row.size(); ++i) text += row[i] + std::string(width[i] - row[i].size(), ' ');
    text += row.back() + "\n";
  }
  return text;
}

Row row_of(state::Listed listed) {
  auto& record = listed.record;
  return {std::move(record.id),
          str(listed.status == state::Status::stopped ? 0 : record.init.pid),
          std::string(state::to_text(listed.status)),
          printable(record.bundle),
          printable(record.created),
          std::move(listed.owner)};
}

// One container that cannot be read, or goes away meanwhile, does not hide the others.
std::optional<state::Listed> look(const state::Root& root, const std::string& name, const OciLog& log) {
  const auto id = state::ContainerId::parse(name);
  if (!id) return std::nullopt;
  auto listed = root.glance(*id);
  if (listed) return *std::move(listed);
  if (listed.error().code() != Code::not_found) log.warning(listed.error().text());
  return std::nullopt;
}

std::string list_text(const state::Root* root, const std::vector<std::string>& names, const ListOptions& options,
                      const OciLog& log) {
  std::vector<Row> rows;
  rows.reserve(names.size() + 1);
  rows.push_back({"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"});
  std::string json;
  for (const std::string& name : names) {
    auto listed = look(*root, name, log);
    if (!listed) continue;
    if (!options.json) rows.push_back(row_of(*std::move(listed)));
    else json += str(json.empty() ? "[" : ",", state::dump_state(listed->record, listed->status, listed->owner, false));
  }
  if (!options.json) return table(rows);
  return json.empty() ? "null" : json + "]";
}

// As with runc no directory is made for a list: a default one that is not there has no container yet, one that was
// named is mistyped.
Result<std::string> whole_list(const OciGlobals& globals, const ListOptions& options) {
  const auto found = sys::stat_at(AT_FDCWD, globals.root.c_str(), 0);
  if (!found && globals.root_given)
    return Error::from_errno(found.error().errnum(), "--root ", printable(globals.root));
  std::optional<state::Root> root;
  std::vector<std::string> names;
  if (found) root = TRY(state::Root::open(globals.root));
  if (root) names = TRY(root->list());
  std::string text;
  if (!options.quiet) return list_text(root ? &*root : nullptr, names, options, globals.log);
  for (const std::string& name : names) text += name + "\n";
  return text;
}

}  // namespace

Result<int> oci_list(const OciGlobals& globals, Arguments args) {
  ListOptions options;
  const auto line = TRY(read_verb(std::span<const Option<ListOptions>>(kListOptions), args, options,
                                  "list [--format table|json] [--quiet]", {0, 0}));
  if (line.help) return 0;
  TRY(sys::write_all(1, TRY(whole_list(globals, options)), "standard output"));
  return 0;
}

namespace {

struct PsOptions {
  bool json = false;
};

constexpr Option<PsOptions> kPsOptions[] = {
    {{"format", 'f', "table|json", "a table by ps (default), or a list of process ids"}, set_format<PsOptions>},
};

Result<std::vector<pid_t>> processes_of(const state::Record& record) {
  if (!record.cgroup)
    return Error::make(Code::unsupported, "container ", quoted(record.id),
                       " was made without control groups, by which its processes are known");
  const auto group = TRY(cgroup::Group::open(*record.cgroup));
  return group.processes();
}

std::string json_of(const std::vector<pid_t>& pids) {
  std::string text;
  for (const pid_t pid : pids) text += str(text.empty() ? "[" : ",", pid);
  return text.empty() ? "null" : text + "]";
}

Result<pid_t> spawn(const std::vector<std::string>& words, int out_fd) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&files, out_fd, 1);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &set);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int err = ::posix_spawnp(&pid, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (err != 0) return Error::from_errno(err, "execute ", printable(words.front()));
  return pid;
}

// What a program prints, whole; it shares our standard error.
Result<std::string> output_of(const std::vector<std::string>& words) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe2");
  const UniqueFd out(ends[0]);
  UniqueFd in(ends[1]);
  const pid_t pid = TRY(spawn(words, in.get()));
  in.reset();
  constexpr std::size_t kMost = 16U << 20;
  auto text = sys::read_all(out.get(), kMost, words.front());
  const UniqueFd pidfd = TRY(sys::open_pidfd(pid));
  sys::ExitStatus status;
  TRY(sys::wait_pidfd(pidfd.get(), status, true));
  if (status.shell_status() != 0)
    return Error::make(Code::os, printable(words.front()), ": exit status ", status.shell_status());
  return text;
}

std::vector<std::string_view> words_in(std::string_view line) {
  std::vector<std::string_view> words;
  for (const std::string_view word : split(line, ' '))
    if (!word.empty()) words.push_back(word);
  return words;
}

// The lines of ps that are about these processes, with its heading.
Result<std::string> rows_of(const std::string& text, const std::vector<pid_t>& pids) {
  std::string rows;
  std::optional<std::size_t> column;
  for (const std::string_view line : split(text, '\n')) {
    const auto words = words_in(line);
    if (!column) {
      for (std::size_t i = 0; i < words.size(); ++i)
        if (words[i] == "PID") column = i;
      if (!column)
        return Error::make(Code::invalid_config, "ps prints no column PID; choose options with which it does");
      rows = str(line, "\n");
    } else if (*column < words.size()) {
      const auto pid = parse_int<pid_t>(words[*column]);
      for (const pid_t ours : pids)
        if (pid == ours) rows += str(line, "\n");
    }
  }
  return rows;
}

}  // namespace

Result<int> oci_ps(const OciGlobals& globals, Arguments args) {
  PsOptions options;
  constexpr std::size_t kMany = 1000;
  const auto line =
      TRY(read_verb(std::span<const Option<PsOptions>>(kPsOptions), args, options,
                    "ps [--format table|json] ID [PS OPTION...]", {1, kMany, Operands::first_ends_options}));
  if (line.help) return 0;
  const auto [root, container] = TRY(look_at_container(globals, line.operands[0]));
  const auto pids = TRY(processes_of(container.record()));
  std::string text;
  if (options.json) {
    text = json_of(pids) + "\n";
  } else {
    std::vector<std::string> words{"ps"};
    words.insert(words.end(), line.operands.begin() + 1, line.operands.end());
    if (words.size() == 1) words.emplace_back("-ef");
    text = TRY(rows_of(TRY(output_of(words)), pids));
  }
  TRY(sys::write_all(1, text, "standard output"));
  return 0;
}

}  // namespace skink::cli
