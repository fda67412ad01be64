// SPDX-License-Identifier: Apache-2.0
// Doctor: containers, their records, and what an interrupted create, start or rm has left of one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "fs/dir.h"
#include "supervise/doctor.h"
#include "supervise/engine_impl.h"
#include "supervise/removal.h"
#include "sys/file.h"

namespace skink::supervise {
namespace {

// What is known of one container while it is looked at.
struct Chart {
  std::string id, name;
  std::string title;  // how findings call it
  std::string path;   // STORE/containers/ID
  int dir = -1;
  bool alive = false;
};

// A repair of files of a container that nobody keeps, while no other command is at work on it.
Repair with_lock(const Roots& roots, const std::string& id, const std::function<Result<void>(int store_dir_fd)>& act) {
  return [&roots, id, act]() -> Result<void> {
    auto lock = fs::Lock::try_take(TRY(open_container(roots, id)), fs::Lock::Mode::exclusive, id);
    if (!lock) return std::move(lock).error();
    if (is_alive(lock->fd())) return Error::make(Code::busy, "it is being started just now");
    return act(lock->fd());
  };
}

Result<Status> raw_status(int run_dir_fd) {
  return parse_status(TRY(fs::read_file(run_dir_fd, kStatusFile, kRecordLimit)));
}

bool is_of_other_boot(const Result<Status>& status) {
  const auto boot = sys::boot_id();
  return status && boot && status->boot_id != *boot;
}

void check_record(Ward& ward, const Chart& chart, const Result<Container>& container) {
  const std::string out = is_passing(chart.dir) ? "a power cut came before it was on disk: skink heal removes it"
                                                : str("skink rm -f ", chart.id.substr(0, 12), " removes the container");
  if (!container) {
    ward.problem("damaged-record", chart.path, str("the container's record cannot be read: ", container.error().text()),
                 out);
    return;
  }
  const auto spec = oci::parse_spec(fs::read_file(chart.dir, kConfigFile, oci::kConfigLimit).value_or(std::string()));
  if (!spec)
    ward.problem("damaged-record", str(chart.path, '/', std::string_view(kConfigFile)),
                 str("the configuration of ", chart.title, " cannot be read: ", spec.error().text()), out);
}

Result<void> remove_if_damaged(int store_dir) {
  const auto text = fs::read_file(store_dir, kExitFile, kRecordLimit);
  if (!text || parse_run_record(*text)) return {};
  return sys::unlink_at(store_dir, kExitFile);
}

void check_small_records(Ward& ward, const Chart& chart) {
  const auto exit = fs::read_file(chart.dir, kExitFile, kRecordLimit);
  if (exit && !parse_run_record(*exit))
    ward.problem("damaged-record", str(chart.path, '/', std::string_view(kExitFile)),
                 str("how ", chart.title, " last ended cannot be read, and is taken as not known"),
                 chart.alive ? "its next end replaces it" : "--fix removes it",
                 chart.alive ? Repair{} : with_lock(ward.roots(), chart.id, remove_if_damaged));
  const auto wish = fs::read_file(chart.dir, kDesiredFile, kRecordLimit);
  if (wish && !wish->starts_with("running") && !wish->starts_with("stopped"))
    ward.problem("damaged-record", str(chart.path, '/', std::string_view(kDesiredFile)),
                 str("whether ", chart.title, " shall run cannot be read, and is taken as no"),
                 "skink start or skink stop writes it anew");
}

void check_run_files(Ward& ward, const Chart& chart, int run_dir) {
  const std::string path = str(ward.options().run, '/', std::string_view(kContainers), '/', chart.id, '/');
  const std::string out = str("skink rm -f ", chart.id.substr(0, 12), " ends and removes the container");
  const auto status = raw_status(run_dir);
  if (!status && status.error().errnum() == 0 && !raw_status(run_dir))  // it may have been written just then
    ward.problem("damaged-record", str(path, std::string_view(kStatusFile)),
                 str("what ", chart.title, " is doing cannot be read: ", status.error().text()), out);
  const auto groups = fs::read_file(run_dir, kCgroupFile, kRecordLimit);
  if (groups && !cgroup::parse_location(*groups))
    ward.problem("damaged-record", str(path, std::string_view(kCgroupFile)),
                 str("where the control groups of ", chart.title, " are cannot be read"), out);
}

bool is_stillborn(const Status& status) {
  return (status.step == Step::starting || status.step == Step::launching) && status.incarnation <= 1;
}

Result<void> clear_stillborn(const Roots& roots, const std::string& id, int store_dir) {
  const auto run_dir = open_run_dir(roots, id);
  if (!run_dir) return {};
  const auto status = read_status(run_dir->get());
  if (!status || !is_stillborn(*status)) return {};
  TRY(clean_leftovers(roots, id));
  return restore_wish(store_dir, status->wish_before, true);
}

// A start that is at work holds the lock until there is a guard. Only asked where it matters: whoever tries to revive
// the container meanwhile would be refused.
bool is_being_started(const Roots& roots, const std::string& id) {
  auto dir = open_container(roots, id);
  const auto lock =
      dir ? fs::Lock::try_take(std::move(*dir), fs::Lock::Mode::exclusive, id) : Result<fs::Lock>(dir.error());
  return !lock || is_alive(lock->fd());
}

// With no guard and no supervisor alive.
void check_unkept(Ward& ward, const Chart& chart) {
  const auto run_dir = open_run_dir(ward.roots(), chart.id);
  if (!run_dir) {
    if (was_cut_off(chart.dir))
      ward.problem("former-boot", chart.title, "it ran when the machine went down, or its state below RUN was removed",
                   "skink heal starts it if its policy says so, and records the end otherwise");
    return;
  }
  const auto status = raw_status(run_dir->get());
  if (is_of_other_boot(status)) {
    ward.problem("former-boot", chart.title, "its state is that of a former boot, whose processes are gone",
                 "skink heal clears it, and starts the container if its policy says so");
  } else if (status && status->step == Step::stopped) {
    // Its supervisor has left that to whoever looks next, see give_up().
    ward.problem("unwritten-end", chart.title,
                 "it has ended, but its record or its control groups could not be seen to: the disk may be full",
                 "make room where STORE is (df); skink heal then does the rest");
  } else if (status && is_abandoned(*status)) {
    const bool runs = status->step == Step::running && sys::open_identified(status->init);
    ward.problem("unsupervised", chart.title,
                 str("its guard and its supervisor were both killed", runs ? "; its program runs on without them" : ""),
                 "skink heal gives it new ones");
  } else if (status && is_stillborn(*status) && !is_being_started(ward.roots(), chart.id)) {
    const Roots& roots = ward.roots();
    ward.problem(
        "half-started", chart.title, "a start was interrupted before its program ran", "--fix clears it",
        with_lock(roots, chart.id, [&roots, id = chart.id](int dir) { return clear_stillborn(roots, id, dir); }));
  }
}

void check_never_started(Ward& ward, const Chart& chart, const Container& container) {
  if (!container.remove_at_end || !container.starter || sys::open_identified(*container.starter)) return;
  if (open_run_dir(ward.roots(), chart.id)) return;
  const Roots& roots = ward.roots();
  ward.problem("half-made-container", chart.title, "skink run --rm was killed before it had started it",
               "--fix removes it", [&roots, id = chart.id]() -> Result<void> {
                 if (remove_orphan(roots, id) || !open_container(roots, id)) return {};
                 return Error::make(Code::busy, "another command is at work on it");
               });
}

Result<void> remove_temporaries(int store_dir) {
  for (const auto& entry : TRY(fs::list(store_dir)))
    if (is_temporary(entry.name)) TRY(fs::remove_tree(store_dir, entry.name.c_str()));
  return {};
}

void check_leftover_files(Ward& ward, const Chart& chart) {
  const auto entries = fs::list(chart.dir);
  if (!entries) return;
  const bool stopped = !open_run_dir(ward.roots(), chart.id);
  for (const auto& entry : *entries) {
    const std::string path = str(chart.path, '/', entry.name);
    if (is_temporary(entry.name))
      ward.problem("temporary-file", path, "a command was killed while it wrote this file", "--fix removes it",
                   with_lock(ward.roots(), chart.id, remove_temporaries));
    else if (entry.name.starts_with("upper.") && stopped)
      ward.problem("writable-layer", path, str("what ", chart.title, " wrote in a run that is over (--writable)"),
                   "--fix removes it",
                   with_lock(ward.roots(), chart.id, [&roots = ward.roots(), id = chart.id](int dir) -> Result<void> {
                     // It may have been started since, and have lost both its keepers.
                     if (open_run_dir(roots, id)) return Error::make(Code::busy, "it has been started meanwhile");
                     remove_writable_layers(dir);
                     for (const auto& left : TRY(fs::list(dir)))
                       if (left.name.starts_with("upper.")) TRY(fs::remove_tree(dir, left.name.c_str()));
                     return {};
                   }));
  }
}

Result<void> give_name(const Roots& roots, const std::string& id, const std::string& name) {
  if (find_name(roots, name) == id) return {};
  TRY(sys::symlink_at(name_target(id).c_str(), roots.names.get(), name.c_str()));
  // One of --rm can have gone by itself.
  if (!open_container(roots, id)) return remove_name(roots.names.get(), name, id);
  return {};
}

void check_own_name(Ward& ward, const Chart& chart) {
  const Roots& roots = ward.roots();
  const auto owner = find_name(roots, chart.name);
  if (chart.name.empty() || owner == chart.id) return;
  if (sys::is_there(roots.names.get(), chart.name.c_str())) {
    ward.problem("name", chart.title, str("its name leads to ", owner ? owner->substr(0, 12) : "no container"),
                 str("it is still found as ", chart.id.substr(0, 12), "; remove one of them"));
    return;
  }
  const auto repair = [&roots, id = chart.id, name = chart.name](int) { return give_name(roots, id, name); };
  ward.problem(
      "name", chart.title, "its name leads nowhere: the link below container-names is gone",
      chart.alive ? "it is still found by its id; --fix gives it back once it is stopped" : "--fix gives it back",
      chart.alive ? Repair{} : with_lock(roots, chart.id, repair));
}

void check_container(Ward& ward, const std::string& id) {
  Chart chart{.id = id, .name = {}, .title = id.substr(0, 12), .path = {}};
  chart.path = str(ward.options().store, '/', std::string_view(kContainers), '/', id);
  const auto dir = open_container(ward.roots(), id);
  if (!dir && dir.error().code() == Code::not_found) return;
  if (!dir) {
    ward.problem("damaged-record", chart.path, "it should be a container's directory and is none",
                 "see what it is and move it away");
    return;
  }
  chart.dir = dir->get();
  chart.alive = is_alive(chart.dir);
  const auto container = read_container(chart.dir, id);
  if (container) {
    chart.name = container->name;
    chart.title = str("container ", container->name);
  }
  check_record(ward, chart, container);
  check_small_records(ward, chart);
  if (const auto run_dir = open_run_dir(ward.roots(), id)) check_run_files(ward, chart, run_dir->get());
  if (!container) return;
  check_own_name(ward, chart);
  if (chart.alive) return;
  check_unkept(ward, chart);
  check_never_started(ward, chart, *container);
  check_leftover_files(ward, chart);
}

// Whether somebody is at work in a draft, or on a container that is being removed.
bool is_in_hand(int containers, const std::string& name) {
  auto dir = sys::open_at(containers, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!dir) return dir.error().errnum() == ENOENT;
  if (is_alive(dir->get())) return true;
  return !fs::Lock::try_take(std::move(*dir), fs::Lock::Mode::exclusive, name);
}

void check_other_entry(Ward& ward, const std::string& name) {
  const Roots& roots = ward.roots();
  const int containers = roots.store_containers.get();
  const std::string path = str(ward.options().store, '/', std::string_view(kContainers), '/', name);
  const bool is_draft = name.starts_with(kNewPrefix) && is_id(name.substr(kNewPrefix.size()));
  const bool is_gone = name.starts_with(kGonePrefix) && is_id(name.substr(kGonePrefix.size()));
  if (name == "lost+found") return;  // of a file system that is mounted there
  if (!is_draft && !is_gone) {
    ward.problem("foreign", path, "it is nothing that skink makes", "move it away; skink never touches it");
    return;
  }
  if (is_in_hand(containers, name)) return;
  const auto remove = [&roots, containers, name]() -> Result<void> {
    sweep(containers, roots.names.get(), name);
    if (sys::is_there(containers, name.c_str())) TRY(fs::remove_tree(containers, name.c_str()));
    return {};
  };
  if (is_draft)
    ward.problem("half-made-container", path, "a create or run was killed before the container was whole",
                 "--fix removes it", [&roots, containers, name]() -> Result<void> {
                   sweep(containers, roots.names.get(), name);
                   if (!sys::is_there(containers, name.c_str())) return {};
                   return Error::make(Code::busy, "another command is at work on it");
                 });
  else
    ward.problem("half-removed-container", path, "an rm was killed before everything of the container was gone",
                 "--fix removes the rest", remove);
}

}  // namespace

void check_containers(Ward& ward) {
  const auto entries = fs::list(ward.roots().store_containers.get());
  if (!entries) {
    ward.problem("directory", str(ward.options().store, '/', std::string_view(kContainers)),
                 str("it cannot be read: ", entries.error().text()), "");
    return;
  }
  for (const auto& entry : *entries) {
    if (is_id(entry.name)) check_container(ward, entry.name);
    else check_other_entry(ward, entry.name);
  }
}

}  // namespace skink::supervise
