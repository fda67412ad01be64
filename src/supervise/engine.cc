// SPDX-License-Identifier: Apache-2.0
// The engine's roots, and what it tells of containers.
#include "skink/engine.h"

#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "base/text.h"
#include "fs/dir.h"
#include "fs/usage.h"
#include "image/layout.h"
#include "supervise/engine_impl.h"
#include "supervise/event_log.h"
#include "supervise/exits.h"
#include "supervise/removal.h"
#include "supervise/scope.h"
#include "supervise/strays.h"
#include "supervise/supervisor.h"
#include "sys/file.h"

namespace skink {
namespace {

using namespace supervise;

constexpr int kOldestMajor = 5, kOldestMinor = 14;

Result<void> check_kernel() {
  utsname name{};
  if (::uname(&name) != 0) return Error::from_errno(errno, "uname");
  const std::string_view release(name.release);
  const auto major_end = release.find('.');
  const auto minor_end = release.find_first_not_of("0123456789", major_end + 1);
  const auto major = parse_int<int>(release.substr(0, major_end));
  const auto minor = parse_int<int>(release.substr(major_end + 1, minor_end - major_end - 1));
  if (!major || !minor) return {};  // a kernel that names itself strangely; the calls will tell
  if (*major > kOldestMajor || (*major == kOldestMajor && *minor >= kOldestMinor)) return {};
  return Error::make(Code::unsupported, "Linux ", printable(release), " is too old: skink needs ", kOldestMajor, ".",
                     kOldestMinor, " or newer");
}

// Paths of descriptors and what is known of processes come from there.
Result<void> check_proc() {
  if (::access("/proc/self/fd", X_OK) == 0) return {};
  return Error::make(Code::unsupported,
                     "/proc is not mounted here, and skink cannot work without it: mount -t proc proc /proc");
}

struct Root {
  UniqueFd dir;
  std::string path;  // absolute
};

Result<Root> open_root(const std::string& path) {
  Root root;
  root.dir = TRY(fs::make_dirs(path));
  TRY(fs::check_private(root.dir.get(), path));
  root.path = TRY(sys::readlink_at(AT_FDCWD, str("/proc/self/fd/", root.dir.get()).c_str()));
  return root;
}

Result<UniqueFd> sub_dir(const Root& root, const char* name) {
  const int dir_fd = root.dir.get();
  auto opened = sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (opened || opened.error().errnum() != ENOENT) return opened;
  if (auto made = sys::mkdir_at(dir_fd, name, 0700); !made && made.error().errnum() != EEXIST)
    return std::move(made).error().context(printable(root.path));
  return sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Result<Roots> open_roots(EngineOptions& options) {
  Roots roots;
  Root run = TRY(open_root(options.run));
  roots.run_containers = TRY(sub_dir(run, kContainers));
  // Order: before a store is made where there is none.
  if (const auto strays = without_store(options.store, roots.run_containers.get()); !strays.empty())
    return Error::make(Code::corrupt, printable(options.store), ": no store is there, but ", describe(strays), "; ",
                       std::string_view(kStrayAdvice));
  Root store = TRY(open_root(options.store));
  // Order: while it is empty still, as only then it can be mended.
  if (!sys::is_there(store.dir.get(), kContainers)) TRY_CTX(image::check_case(store.dir.get()), printable(store.path));
  roots.store_containers = TRY(sub_dir(store, kContainers));
  roots.names = TRY(sub_dir(store, kNames));
  TRY(sub_dir(store, "seccomp-cache"));
  options.store = store.path;
  options.run = run.path;
  roots.store = std::move(store.dir);
  roots.run = std::move(run.dir);
  return roots;
}

Phase phase_of(const Status& status) {
  switch (status.step) {
    case Step::starting:
    case Step::launching: return status.incarnation <= 1 ? Phase::created : Phase::restarting;
    case Step::running: return status.paused ? Phase::paused : Phase::running;
    case Step::waiting: return Phase::restarting;
    case Step::stopped: return Phase::exited;
  }
  return Phase::unknown;
}

void fill_from_status(ContainerInfo& info, const Status& status) {
  info.phase = phase_of(status);
  const bool lives = status.step == Step::running;
  info.pid = lives ? status.init.pid : 0;
  info.supervisor_pid = status.supervisor.pid;
  info.guard_pid = status.guard.pid;
  info.started_ns = lives ? by_present_clock(status.started_ns, status.started_mono_ns) : status.started_ns;
  info.finished_ns = lives ? 0 : status.finished_ns;
  info.restarts = status.restarts;
  info.next_try_ns = status.step == Step::waiting ? by_present_clock(status.next_try_ns, status.next_try_mono_ns) : 0;
  info.last_exit = status.last_exit;
  info.standby_pid = sys::activity(status.standby) ? status.standby.pid : 0;
  if (lives) info.health = status.health;
  if (lives) info.ready = status.ready;
  if (lives) info.said = status.said.status;
  if (lives && status.stop_wanted) info.asked_to_end = status.sender;
  if (lives && status.said.watchdog_ns) info.watchdog_ns = *status.said.watchdog_ns;
}

void fill_from_record(ContainerInfo& info, int store_dir_fd) {
  const auto record = read_run_record(store_dir_fd);
  if (!record) return;
  info.phase = record->started_ns == 0 && record->last.known ? Phase::created : Phase::exited;
  info.started_ns = record->started_ns;
  info.finished_ns = record->finished_ns;
  info.restarts = record->restarts;
  info.last_exit = record->last;
}

// It was running when the machine went down: how it ended nobody saw.
void fill_cut_off(ContainerInfo& info) {
  info.phase = Phase::unknown;
  info.finished_ns = 0;
  info.last_exit = unknown_exit();
  info.last_exit->at_ns = 0;
}

// Guard and supervisor are gone, and yet the container did not end as far as anyone knows.
void fill_abandoned(ContainerInfo& info, const Status& status) {
  fill_from_status(info, status);
  info.phase = Phase::unknown;
  info.supervisor_pid = info.guard_pid = info.standby_pid = 0;
  if (!sys::open_identified(status.init)) {
    info.pid = 0;
    info.last_exit = unknown_exit();
    info.last_exit->at_ns = 0;
  }
}

// What a dead supervisor wrote holds only as far as it can be seen: its successor has not looked yet.
bool is_stale(const Status& status) {
  if (status.step != Step::running || sys::open_identified(status.supervisor)) return false;
  // Whoever is to reap it, the host's init perhaps, takes a moment.
  const auto init = sys::activity(status.init);
  return !init || init->state == 'Z' || init->state == 'X';
}

Result<Status> status_in(const Result<UniqueFd>& run_dir) {
  return run_dir ? read_status(run_dir->get()) : Result<Status>(Error(Code::not_found, ""));
}

// A successor knows within some milliseconds how the run has ended: who asks just then hears it too. `until_ns` is that
// of the whole question, however many containers it is about.
void await_successor(const UniqueFd& run_dir, int store_dir_fd, Result<Status>& status, std::int64_t until_ns) {
  while (status && is_stale(*status) && is_alive(store_dir_fd) && fs::monotonic_ns() < until_ns) {
    const auto guard = sys::activity(status->guard);
    if (guard && guard->state == 'T') return;  // it starts nobody
    pause_ms(2);
    status = read_status(run_dir.get());
  }
}

void fill_state(const Roots& roots, ContainerInfo& info, int store_dir_fd, std::int64_t until_ns) {
  const auto run_dir = open_run_dir(roots, info.id);
  bool alive = is_alive(store_dir_fd);
  auto status = status_in(run_dir);
  // Whoever looks at a container that lost both its keepers gives it new ones.
  if (!alive && status && is_abandoned(*status)) alive = revive(roots, info.id).has_value();
  if (alive && run_dir) await_successor(*run_dir, store_dir_fd, status, until_ns);
  // It may have ended for good meanwhile.
  alive = alive && is_alive(store_dir_fd);
  if (alive && status) {
    if (is_stale(*status)) fill_abandoned(info, *status);
    else fill_from_status(info, *status);
    return;
  }
  fill_from_record(info, store_dir_fd);
  const bool damaged = !status && status.error().code() == Code::corrupt;
  if (damaged) info.problem = status.error().text();
  if (!alive && !status && !damaged && was_cut_off(store_dir_fd)) fill_cut_off(info);
  if (alive && info.phase == Phase::created) info.phase = Phase::unknown;
  if (!alive && status && (status->step == Step::running || status->step == Step::waiting))
    fill_abandoned(info, *status);
  // There was no room to record its end (fault F13): until there is, its run directory tells how it was.
  if (!alive && status && status->step == Step::stopped && status->started_ns != 0 && info.phase == Phase::created) {
    fill_from_status(info, *status);
    info.supervisor_pid = info.guard_pid = info.standby_pid = 0;
  }
}

// Until when a question may wait for successors of supervisors that were killed just now.
std::int64_t patience_of_question() { return fs::monotonic_ns() + 2'000'000'000; }

void fill_from_container(ContainerInfo& info, Container&& container) {
  info.name = std::move(container.name);
  info.image = std::move(container.bundle.empty() ? container.image : container.bundle);
  info.image_id = std::move(container.image_id);
  info.command = std::move(container.command);
  info.created_ns = container.created_ns;
  info.restart = std::move(container.restart);
  info.probes = std::move(container.probes);
  info.ready_by = container.ready_by;
  info.log_driver = std::move(container.log_driver);
  info.log_limits = container.log_limits;
  info.cri_log = std::move(container.cri_log);
  info.watchdog_ns = container.watchdog_ns;
  info.labels = std::move(container.labels);
  info.remove_at_end = container.remove_at_end;
  info.tty = container.tty;
  info.standby = container.standby;
}

ContainerInfo info_of(const Roots& roots, const std::string& id, int store_dir_fd, std::int64_t until_ns) {
  ContainerInfo info;
  info.id = id;
  auto container = read_container(store_dir_fd, id);
  if (container) fill_from_container(info, std::move(*container));
  fill_state(roots, info, store_dir_fd, until_ns);
  // The record's damage is what counts: without it nothing else of the container can be trusted.
  if (!container) info.problem = container.error().text();
  return info;
}

// Nearly all of a long list, by as little as two records: what a supervisor that lives has said needs no second look.
// Nothing for a container of which there is more to be known, see info_of().
std::optional<ContainerInfo> info_at_a_glance(const Roots& roots, const std::string& id) {
  const auto read = [&id](const UniqueFd& containers, const char* name) {
    return fs::read_file_beneath(containers.get(), str(id, '/', name).c_str(), kRecordLimit);
  };
  const auto status_text = read(roots.run_containers, kStatusFile);
  const auto status = status_text ? parse_status(*status_text) : Result<Status>(status_text.error());
  if (!status || (status->step != Step::running && status->step != Step::waiting) || !sys::activity(status->supervisor))
    return std::nullopt;
  const auto text = read(roots.store_containers, kContainerFile);
  auto container = text ? parse_container(*text) : Result<Container>(text.error());
  if (!container || container->id != id) return std::nullopt;
  std::optional<ContainerInfo> info(std::in_place);
  info->id = id;
  fill_from_container(*info, std::move(*container));
  fill_from_status(*info, *status);
  return info;
}

}  // namespace

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;
Engine::~Engine() = default;
image::Store& Engine::images() { return impl_->images; }
const EngineOptions& Engine::options() const { return impl_->options; }

Result<Engine> Engine::open(const EngineOptions& given) {
  if (::geteuid() != 0) return Error::make(Code::denied, "skink must be run as root");
  TRY(check_kernel());
  TRY(check_proc());
  EngineOptions options = given;
  Roots roots = TRY(open_roots(options));
  image::Store images = TRY(image::Store::open(options.store, options.run));
  return Engine(std::unique_ptr<Impl>(new Impl{std::move(options), std::move(roots), std::move(images)}));
}

Result<std::string> Engine::resolve(std::string_view text) const {
  const std::string name(text);
  const Roots& roots = impl_->roots;
  const auto none = [&] {
    const std::string more = strays();
    return Error::make(Code::not_found, "no such container: ", skink::quoted(text), more.empty() ? "" : "; ", more);
  };
  const auto exists = [&](const std::string& id) { return sys::is_there(roots.store_containers.get(), id.c_str()); };
  if (is_id(name) && exists(name)) return name;
  if (const auto id = find_name(roots, name); id && exists(*id)) return *id;
  const bool hex = !name.empty() && name.size() <= 64 && name.find_first_not_of("0123456789abcdef") == name.npos;
  if (!hex) return none();
  std::string found;
  for (const auto& entry : TRY(fs::list(roots.store_containers.get()))) {
    if (!is_id(entry.name) || !entry.name.starts_with(name)) continue;
    if (!found.empty())
      return Error::make(Code::invalid_config, skink::quoted(text), " is the beginning of more than one container id");
    found = entry.name;
  }
  if (found.empty()) return none();
  return found;
}

std::string Engine::strays() const {
  const auto found = find_strays(impl_->roots.run_containers.get(), impl_->roots.store_containers.get());
  return found.empty() ? "" : str(describe(found), "; ", std::string_view(kStrayAdvice));
}

Result<ContainerInfo> Engine::info(const std::string& id) const {
  const UniqueFd dir = TRY(open_container(impl_->roots, id));
  ContainerInfo info = info_of(impl_->roots, id, dir.get(), patience_of_question());
  if (auto record = read_run_record(dir.get())) info.history = std::move(record->history);
  const auto run_dir = open_run_dir(impl_->roots, id);
  if (auto texts = run_dir ? fs::read_file(run_dir->get(), kHealthFile, kRecordLimit) : Result<std::string>(""))
    info.probe_texts = std::move(*texts);
  return info;
}

namespace {

// A container that goes at its end, and has no record of one: nobody starts it any more, or the supervisor that was
// woken by our looking at it is just removing it.
bool is_swept(const Roots& roots, const std::string& id, std::int64_t until_ns) {
  for (;;) {
    const auto dir = open_container(roots, id);
    if (!dir) return dir.error().code() == Code::not_found;
    const auto container = read_container(dir->get(), id);
    if (!container || !container->starter || sys::open_identified(*container->starter)) return false;
    if (remove_orphan(roots, id)) return true;
    if (fs::monotonic_ns() > until_ns) return !sys::is_there(roots.store_containers.get(), id.c_str());
    pause_ms(2);
  }
}

}  // namespace

Result<std::vector<ContainerInfo>> Engine::list() const {
  const int containers = impl_->roots.store_containers.get();
  const std::int64_t until_ns = patience_of_question();
  std::vector<ContainerInfo> all;
  for (const auto& entry : TRY(fs::list(containers))) {
    if (!is_id(entry.name)) {
      sweep(containers, impl_->roots.names.get(), entry.name);
      continue;
    }
    if (auto known = info_at_a_glance(impl_->roots, entry.name)) {
      all.push_back(std::move(*known));
      continue;
    }
    const auto dir = open_container(impl_->roots, entry.name);
    if (dir) {
      ContainerInfo info = info_of(impl_->roots, entry.name, dir->get(), until_ns);
      const bool goes = info.remove_at_end && info.phase == Phase::created;
      if (!goes || !is_swept(impl_->roots, entry.name, until_ns)) all.push_back(std::move(info));
    } else if (dir.error().code() != Code::not_found) {  // not a directory
      ContainerInfo info;
      info.id = entry.name;
      info.phase = Phase::unknown;
      info.problem = dir.error().text();
      all.push_back(std::move(info));
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return a.created_ns != b.created_ns ? a.created_ns > b.created_ns : a.id < b.id;
  });
  return all;
}

Result<std::string> Engine::spec_json(const std::string& id) const {
  const UniqueFd dir = TRY(open_container(impl_->roots, id));
  return oci::dump_spec(TRY(read_spec(dir.get(), TRY(read_container(dir.get(), id)))));
}

Result<cgroup::Location> Engine::groups(const std::string& id) const {
  const UniqueFd run_dir = TRY(open_run_dir(impl_->roots, id));
  return read_groups(run_dir.get(), id);
}

image::ImageUsers Engine::image_users() const {
  return [impl = impl_.get()]() -> Result<std::map<std::string, std::vector<std::string>>> {
    std::map<std::string, std::vector<std::string>> users;
    const int containers = impl->roots.store_containers.get();
    for (const auto& entry : TRY(fs::list(containers))) {
      const bool is_draft = entry.name.starts_with(kNewPrefix);
      if (!is_id(entry.name) && !is_draft) continue;
      const auto dir = sys::open_at(containers, entry.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      // Removed meanwhile, or nothing of ours (skink doctor tells of that).
      if (!dir && (dir.error().errnum() == ENOENT || dir.error().errnum() == ENOTDIR || dir.error().errnum() == ELOOP))
        continue;
      if (!dir) return Error(dir.error()).context("container ", entry.name.substr(0, 12));
      const auto text = fs::read_file(dir->get(), kContainerFile, kRecordLimit);
      if (!text && text.error().errnum() == ENOENT) continue;
      const auto container = text ? parse_container(*text) : Result<Container>(text.error());
      if (!container && is_draft) continue;  // half written, and its image is held
      // A power cut came before its files were written, and it was not to outlive that.
      if (!container && text && is_passing(dir->get())) continue;
      if (!container)
        return Error(container.error())
            .context("container ", entry.name.substr(0, 12), ": nobody knows which image it needs; remove it first (",
                     "skink rm -f)");
      if (!container->image_id.empty()) users[container->image_id].push_back(container->name);
    }
    return users;
  };
}

Result<std::int64_t> Engine::disk_usage(const std::string& id) const {
  return fs::disk_usage(impl_->roots.store_containers.get(), id.c_str());
}

void Engine::tell_image(std::string_view action, const std::string& id, std::string_view name) const {
  Event event;
  event.type = "image";
  event.action = action;
  event.id = id;
  event.name = name;
  append_event(impl_->roots.run.get(), std::move(event));
}

std::optional<int> run_internal_role(int argc, char** argv) {
  if (argc < 3 || argc > 4 || std::string_view(argv[1]) != "supervise-internal") return std::nullopt;
  const auto guard = parse_int<pid_t>(argv[2]);
  // Only a guard starts this, and then the descriptors are there; anybody else gets a plain refusal.
  if (!guard || *guard <= 1 || ::fcntl(kFdStoreRoot, F_GETFD) < 0) return 125;
  return Supervisor::run(*guard);
}

}  // namespace skink
