// SPDX-License-Identifier: Apache-2.0
// Engine::diagnose: the order of its parts, and how findings are made sure of and repaired.
#include "supervise/doctor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <memory>

#include "base/text.h"
#include "fs/dir.h"
#include "supervise/engine_impl.h"
#include "supervise/strays.h"
#include "sys/file.h"

namespace skink {
namespace supervise {

void Ward::problem(std::string kind, std::string where, std::string what, std::string advice, Repair repair) {
  Finding finding;
  finding.kind = std::move(kind);
  finding.where = std::move(where);
  finding.what = std::move(what);
  finding.advice = std::move(advice);
  finding.fixable = static_cast<bool>(repair);
  found_.push_back({std::move(finding), std::move(repair)});
}

void Ward::note(std::string kind, std::string where, std::string what, std::string advice) {
  problem(std::move(kind), std::move(where), std::move(what), std::move(advice));
  found_.back().finding.level = Finding::Level::note;
}

bool is_temporary(std::string_view name) {
  constexpr std::string_view kEnd = ".tmp";
  constexpr std::size_t kDigits = 16;
  if (!name.starts_with('.') || !name.ends_with(kEnd)) return false;
  name.remove_suffix(kEnd.size());
  const auto dot = name.rfind('.');
  const auto digits = name.substr(dot + 1);
  return dot > 0 && digits.size() == kDigits && digits.find_first_not_of("0123456789abcdef") == digits.npos;
}

namespace {

using Found = Ward::Found;

enum class Place { store, run, within };

// Whether this is a directory of ours, and not one that somebody gave by mistake: others keep "containers" too.
bool has_layout(int dir_fd, Place place) {
  if (!sys::is_there(dir_fd, kContainers)) return false;
  if (place == Place::store) return sys::is_there(dir_fd, kNames);
  const auto entries = fs::list(dir_fd);
  return entries && std::ranges::all_of(*entries, [](const fs::Entry& entry) {
           return entry.name == kContainers || entry.name.starts_with("events") || entry.name.starts_with('.') ||
                  entry.name == "layers";
         });
}

bool is_ours(const std::string& path, Place place) {
  const auto dir = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY);
  return dir && has_layout(dir->get(), place);
}

void check_directory(Ward& ward, const std::string& path, Place place) {
  const bool is_top = place != Place::within;
  auto dir = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | (is_top ? 0 : O_NOFOLLOW));
  if (!dir && dir.error().errnum() == ENOENT) return;
  if (!dir) {
    ward.problem("directory", path, str("it cannot be opened as a directory of skink: ", dir.error().text()),
                 "see what stands there and move it away");
    return;
  }
  const auto status = sys::stat_fd(dir->get(), path);
  if (!status) return;
  if (status->st_uid != ::geteuid()) {
    ward.problem("directory", path, str("it belongs to uid ", status->st_uid, ", who could change what skink trusts"),
                 str("if nobody has: chown ", ::geteuid(), ' ', quoted(path)));
    return;
  }
  if ((status->st_mode & 077U) == 0) return;
  const std::string what = "it is open to other users, and images may hold set-user-id programs";
  if (is_top && !has_layout(dir->get(), place)) {
    ward.problem("directory", path, what, str("chmod 0700 ", quoted(path), ", or choose another directory"));
    return;
  }
  const auto held = std::make_shared<UniqueFd>(std::move(*dir));
  ward.problem("directory", path, what, "--fix closes it (chmod 0700)", [held, path]() -> Result<void> {
    if (::fchmod(held->get(), 0700) != 0) return Error::from_errno(errno, "chmod ", quoted(path));
    return {};
  });
}

void pause_for_others() {
  constexpr long kWhile = 250'000'000;  // nanoseconds; what is between two steps of a command takes microseconds
  const timespec time{.tv_sec = 0, .tv_nsec = kWhile};
  ::nanosleep(&time, nullptr);
}

std::vector<Found> look(const Roots& roots, const EngineOptions& options) {
  Ward ward(roots, options);
  // Order: what is mounted comes first, as nothing below it can be removed before.
  for (const auto check :
       {check_mounts, check_containers, check_names, check_run_dirs, check_images, check_layer_mounts, check_cache,
        check_groups, check_events, check_disks, check_clock, check_kernel, check_limits})
    check(ward);
  return std::move(ward.found());
}

// What a command is making or removing just now is gone, or done, at a second look.
std::vector<Found> look_twice(const Roots& roots, const EngineOptions& options) {
  const auto first = look(roots, options);
  if (first.empty()) return {};
  pause_for_others();
  auto second = look(roots, options);
  std::erase_if(second, [&](const Found& found) {
    return std::ranges::none_of(first, [&](const Found& before) {
      return before.finding.kind == found.finding.kind && before.finding.where == found.finding.where;
    });
  });
  return second;
}

void settle(std::vector<Found> found, bool fix, std::vector<Finding>& findings) {
  for (auto& [finding, repair] : found) {
    if (fix && repair) {
      auto repaired = repair();
      finding.fixed = repaired.has_value();
      if (!repaired) finding.error = std::move(repaired).error();
    }
    findings.push_back(std::move(finding));
  }
}

}  // namespace

std::vector<Found> check_directories(const EngineOptions& options) {
  const Roots none;
  Ward ward(none, options);
  check_directory(ward, options.store, Place::store);
  check_directory(ward, options.run, Place::run);
  // What is in a directory that is not ours is not ours either, whatever its names are.
  if (is_ours(options.store, Place::store))
    for (const char* name :
         {kContainers, kNames, "seccomp-cache", "images", "layers", "scaffolds", "names", "locks", "tmp"})
      check_directory(ward, str(options.store, '/', name), Place::within);
  if (is_ours(options.run, Place::run))
    check_directory(ward, str(options.run, '/', std::string_view(kContainers)), Place::within);
  return std::move(ward.found());
}

}  // namespace supervise

Result<std::vector<Finding>> Engine::diagnose(const EngineOptions& options, bool fix) {
  using namespace supervise;
  if (::geteuid() != 0) return Error::make(Code::denied, "skink must be run as root");
  std::vector<Finding> findings;
  settle(check_directories(options), fix, findings);
  // Order: not opened before that is settled, as an engine makes directories in what it is given.
  const bool refused = std::ranges::any_of(findings, [&](const Finding& finding) {
    return !finding.fixed && (finding.where == options.store || finding.where == options.run);
  });
  if (refused) {
    findings.back().advice += "; nothing else was looked at before this is repaired";
    return findings;
  }
  if (!is_ours(options.store, Place::store) && !is_ours(options.run, Place::run)) {
    // An engine would make one.
    const Roots none;
    Ward ward(none, options);
    ward.note("directory", options.store, "no store of skink is there, so only the host was looked at",
              "--root says where it is; skink run and skink load make it");
    check_kernel(ward);
    check_limits(ward);
    settle(std::move(ward.found()), fix, findings);
    return findings;
  }
  const auto running = sys::open_at(AT_FDCWD, str(options.run, '/', std::string_view(kContainers)).c_str(),
                                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (const auto strays = running ? without_store(options.store, running->get()) : std::vector<Stray>();
      !strays.empty()) {
    Ward ward(Roots{}, options);
    ward.problem("vanished-store", options.store, str("no store is there, but ", describe(strays)), kStrayAdvice);
    settle(std::move(ward.found()), fix, findings);
    return findings;
  }
  auto engine = Engine::open(options);
  if (!engine) return std::move(engine).error();
  const Impl& impl = *engine->impl_;
  settle(look_twice(impl.roots, impl.options), fix, findings);
  return findings;
}

}  // namespace skink
