// SPDX-License-Identifier: Apache-2.0
// Engine::create: from what the user asked for to a container's record on disk.
#include <fcntl.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <tuple>

#include "base/table_text.h"
#include "base/text.h"
#include "fs/dir.h"
#include "plan/launch_plan.h"
#include "security/security.h"
#include "supervise/engine_impl.h"
#include "supervise/event_log.h"
#include "supervise/journal.h"
#include "supervise/notices.h"
#include "supervise/overlay.h"
#include "supervise/removal.h"
#include "supervise/rootfs.h"
#include "supervise/standby.h"
#include "sys/file.h"

namespace skink {
namespace supervise {

Result<void> settle(const Roots& roots, int store_dir_fd) {
  std::vector<UniqueFd> files;
  std::vector<int> all{store_dir_fd, roots.store_containers.get(), roots.names.get()};
  for (const char* name : {kConfigFile, kContainerFile, kDesiredFile}) {
    auto file = sys::open_at(store_dir_fd, name, O_RDONLY | O_NOFOLLOW);
    if (!file && file.error().errnum() == ENOENT) continue;  // never started, or removed meanwhile
    files.push_back(TRY(std::move(file)));
    all.push_back(files.back().get());
  }
  TRY_CTX(fs::sync_all(all), "write the container to disk");
  // Whether a power cut undoes this does not matter: from here on the files tell by themselves.
  if (::fchmod(store_dir_fd, 0700) != 0) return Error::from_errno(errno, "chmod");
  return {};
}

std::string make_up_name(const Roots& roots) {
  static constexpr TableText<8> kManners[] = {
      "agile", "amber",   "basking", "bold",   "brave", "bright", "brisk",  "calm",   "clever", "copper", "cosmic",
      "eager", "fleet",   "gentle",  "golden", "happy", "jolly",  "keen",   "lively", "lucid",  "merry",  "nimble",
      "noble", "patient", "quick",   "quiet",  "rapid", "sandy",  "silver", "sunny",  "swift",  "tidy"};
  static constexpr TableText<11> kLizards[] = {"agama",   "anole",   "basilisk",   "chameleon", "chuckwalla", "dragon",
                                               "frilled", "gecko",   "goanna",     "iguana",    "leopard",    "mabuya",
                                               "moloch",  "monitor", "racerunner", "skink",     "swift",      "tegu",
                                               "tokay",   "tuatara", "uromastyx",  "varanus",   "whiptail",   "worm"};
  for (unsigned attempt = 0;; ++attempt) {
    std::uint32_t chance = 0;
    while (::getrandom(&chance, sizeof chance, 0) != sizeof chance) {
    }
    std::string name = str(std::string_view(kManners[chance % std::size(kManners)]), '_',
                           std::string_view(kLizards[(chance >> 8) % std::size(kLizards)]));
    if (attempt > 4) name += str('_', chance >> 16);
    if (!find_name(roots, name)) return name;
  }
}

namespace {

// A directory STORE/containers/.new-ID, locked while it is being filled. It becomes the container by one rename.
struct Draft {
  std::string id;
  UniqueFd dir;  // holds the lock
};

// The sticky bit marks one that no fsync protects yet: after a power cut its files may be empty, and this is then all
// that is known of it (is_passing, settle).
Result<Draft> begin_draft(const Roots& roots, const std::string& store) {
  const int containers = roots.store_containers.get();
  for (;;) {
    Draft draft;
    draft.id = fs::random_hex(32);
    const std::string name = str(kNewPrefix, draft.id);
    TRY_CTX(sys::mkdir_at(containers, name.c_str(), kPassingMode), printable(store), '/',
            std::string_view(kContainers));
    // Until it is locked another command may take it for one that was abandoned, and sweep it away.
    auto dir = sys::open_at(containers, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!dir && dir.error().errnum() == ENOENT) continue;
    draft.dir = TRY(fs::Lock::take(TRY(std::move(dir)), fs::Lock::Mode::exclusive, name)).release();
    if (sys::stat_at(containers, name.c_str(), AT_SYMLINK_NOFOLLOW)) return draft;
  }
}

Result<void> write_file(int dir_fd, const char* name, std::string_view text) {
  const UniqueFd file = TRY(sys::open_at(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  return sys::write_all(file.get(), text, name);
}

// Whether anything stands behind a name: a container, or one that another process is making right now.
bool is_taken(const Roots& roots, const std::string& id) {
  const auto exists = [&] { return sys::is_there(roots.store_containers.get(), id.c_str()); };
  if (exists()) return true;
  auto draft =
      sys::open_at(roots.store_containers.get(), str(kNewPrefix, id).c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (draft && !fs::Lock::try_take(std::move(*draft), fs::Lock::Mode::exclusive, id)) return true;
  // Order: looked at again, as the draft may have become the container between the two looks.
  return exists();
}

Result<void> take_name(const Roots& roots, const std::string& name, const std::string& id) {
  const auto taken = [&](const std::string& by) {
    return Error::make(Code::exists, "the name ", skink::quoted(name), " is in use by container ", by.substr(0, 12),
                       "; remove it (skink rm) or choose another name");
  };
  const std::string target = name_target(id);
  for (int attempt = 0; attempt < 16; ++attempt) {
    if (::symlinkat(target.c_str(), roots.names.get(), name.c_str()) == 0) return {};
    if (errno != EEXIST) return Error::from_errno(errno, "name ", name);
    // Stale after a crash? Only one process at a time may come to that conclusion and act on it.
    const auto lock = TRY(fs::Lock::take(TRY(sys::open_at(roots.names.get(), ".", O_RDONLY | O_DIRECTORY)),
                                         fs::Lock::Mode::exclusive, kNames));
    const auto owner = find_name(roots, name);
    if (owner && is_taken(roots, *owner)) return taken(*owner);
    if (::unlinkat(roots.names.get(), name.c_str(), 0) != 0 && errno != ENOENT)
      return Error::from_errno(errno, "stale name ", name);
  }
  return Error::make(Code::busy, "the name ", skink::quoted(name), " changes hands all the time");
}

Result<void> fill_draft(const Draft& draft, const Container& container, const std::string& config) {
  TRY(write_file(draft.dir.get(), kConfigFile, config));
  TRY(write_file(draft.dir.get(), kAliveFile, ""));
  return write_file(draft.dir.get(), kContainerFile, dump(container));
}

// Everything is there: one rename makes it a container.
Result<void> commit_draft(const Roots& roots, const Draft& draft) {
  return sys::rename_at(roots.store_containers.get(), str(kNewPrefix, draft.id).c_str(), roots.store_containers.get(),
                        draft.id.c_str(), 1 /* RENAME_NOREPLACE */);
}

struct Resolved {
  oci::Spec spec;
  std::string image_id;
  std::vector<std::string> command;
  int stop_signal = 15;
  oci::Healthcheck healthcheck;  ///< of the image
  std::optional<fs::Lock> hold;  ///< the image stays until the container's record says that it is needed
};

oci::Healthcheck merged(oci::Healthcheck image, const oci::Healthcheck& given) {
  if (!given.test.empty()) image.test = given.test;
  if (given.interval_ns != 0) image.interval_ns = given.interval_ns;
  if (given.timeout_ns != 0) image.timeout_ns = given.timeout_ns;
  if (given.start_period_ns != 0) image.start_period_ns = given.start_period_ns;
  if (given.retries != 0) image.retries = given.retries;
  return image;
}

// Docker's defaults, and its meaning: failures in the start period do not count.
Probe probe_of(const oci::Healthcheck& check) {
  Probe probe;
  if (check.test.size() < 2 || (check.test[0] != "CMD" && check.test[0] != "CMD-SHELL")) return probe;
  probe.kind = Probe::Kind::exec;
  if (check.test[0] == "CMD") probe.command.assign(check.test.begin() + 1, check.test.end());
  else probe.command = {"/bin/sh", "-c", check.test[1]};
  constexpr std::int64_t kUsual = 30'000'000'000;
  probe.interval_ns = check.interval_ns != 0 ? check.interval_ns : kUsual;
  probe.timeout_ns = check.timeout_ns != 0 ? check.timeout_ns : kUsual;
  probe.delay_ns = check.start_period_ns != 0 ? 0 : probe.interval_ns;
  probe.grace_ns = check.start_period_ns;
  if (check.retries > 0) probe.failures = static_cast<std::uint32_t>(std::min<std::int64_t>(check.retries, 1'000'000));
  return probe;
}

// nullopt: only a mounted root can tell.
Result<std::optional<security::UserFiles>> read_user_files(const std::vector<int>& lowers) {
  security::UserFiles files;
  const std::tuple<const char*, const char*, std::string*> wanted[] = {{"passwd", "/etc/passwd", &files.passwd},
                                                                       {"group", "/etc/group", &files.group}};
  for (const auto& [name, path, text] : wanted) {
    const auto file = find_in_layers(lowers, "etc", name);
    if (!file) return std::optional<security::UserFiles>{};
    if (*file) *text = TRY(security::read_user_file(file->get(), path));
  }
  return std::optional(std::move(files));
}

Result<security::ResolvedUser> resolve_in_image(const image::Store& images, const image::Image& image,
                                                const plan::RunOptions& run) {
  const auto lowers = TRY(images.open_lowers(image));
  const RootRequest request = root_request(lowers);
  const std::string& user = run.user.empty() ? image.config.run.user : run.user;
  if (const auto files = TRY(read_user_files(request.lowers)))
    return security::resolve_user(*files, user, run.group_add);
  const UniqueFd root = TRY_CTX(make_root(request), "root file system");
  return security::resolve_user(root.get(), user, run.group_add);
}

Result<Resolved> resolve_image(const image::Store& images, const EngineOptions& options, const CreateRequest& request,
                               const std::string& id, std::vector<std::string>& notes) {
  const image::Image image = TRY(images.find(request.image));
  Resolved resolved;
  resolved.hold = TRY(images.hold(image));
  const auto user = TRY_CTX(resolve_in_image(images, image, request.run), "user");
  plan::ImageFacts facts;
  facts.config = &image.config;
  facts.user = oci::User{.uid = user.uid, .gid = user.gid, .umask = {}, .additional_gids = user.groups};
  facts.home = user.home;
  facts.container_id = id;
  facts.files_dir = str(options.run, "/", std::string_view(kContainers), "/", id);
  facts.all_capabilities = security::all_capabilities();
  facts.masked_paths = security::host_masked_paths();
  resolved.spec = TRY(plan::make_spec(request.run, facts, notes));
  resolved.image_id = image.id.text();
  resolved.healthcheck = image.config.run.healthcheck;
  if (const auto& name = image.config.run.stop_signal; !name.empty()) {
    const int signal = sys::parse_signal(name);
    if (signal < 0)
      return Error::make(Code::corrupt, "image ", request.image, ": StopSignal: ", skink::quoted(name),
                         " is no signal");
    resolved.stop_signal = signal;
  }
  return resolved;
}

Result<Resolved> resolve_bundle(const std::string& bundle, const plan::RunOptions& run) {
  const UniqueFd dir = TRY_CTX(sys::open_at(AT_FDCWD, bundle.c_str(), O_RDONLY | O_DIRECTORY), "bundle");
  auto text = fs::read_file(dir.get(), kConfigFile, oci::kConfigLimit);
  if (!text) return std::move(text.error().context("bundle ", skink::quoted(bundle)));
  Resolved resolved;
  resolved.spec = TRY_CTX(oci::parse_spec(*text), "bundle ", skink::quoted(bundle), ": config.json");
  const auto findings = oci::check_spec(resolved.spec);
  if (!findings.empty()) return Error(findings.front()).context("bundle ", skink::quoted(bundle), ": config.json");
  // What an engine left in is told by skink-oci; who writes a bundle for skink has forgotten the namespace, and would
  // get the host's root.
  const auto& linux = resolved.spec.linux;
  if ((!linux.uid_mappings.empty() || !linux.gid_mappings.empty()) &&
      resolved.spec.find_namespace(oci::NamespaceType::user) == nullptr)
    return Error::make(
        Code::invalid_config, "bundle ", skink::quoted(bundle),
        ": config.json: linux.uidMappings and gidMappings need a user namespace; add {\"type\": \"user\"} "
        "to linux.namespaces, or take them out");
  if (!linux.time_offsets.empty() && resolved.spec.find_namespace(oci::NamespaceType::time) == nullptr)
    return Error::make(Code::invalid_config, "bundle ", skink::quoted(bundle),
                       ": config.json: linux.timeOffsets needs a time namespace; add {\"type\": \"time\"} to "
                       "linux.namespaces, or take it out");
  // Relative sources and root.path are meant from the bundle's directory, wherever the supervisor runs.
  if (!resolved.spec.root.path.starts_with('/')) resolved.spec.root.path = str(bundle, "/", resolved.spec.root.path);
  auto& resources = resolved.spec.linux.resources;
  resources = TRY(plan::change_limits(run, resources.value_or(oci::Resources{}))).whole;
  resources->devices = plan::with_default_devices(std::move(resources->devices));
  return resolved;
}

Container container_of(const CreateRequest& request, const Resolved& resolved, const EngineOptions& options) {
  Container c;
  c.image = request.bundle.empty() ? request.image : "";
  c.image_id = resolved.image_id;
  c.store = options.store;
  c.run = options.run;
  if (resolved.spec.process) c.command = resolved.spec.process->args;
  c.labels = request.run.labels;
  c.created_ns = fs::now_ns();
  c.restart = request.restart;
  c.probes = request.probes;
  if (c.probes.liveness.kind == Probe::Kind::none && !request.no_healthcheck)
    c.probes.liveness = probe_of(merged(resolved.healthcheck, request.healthcheck));
  c.stop_signal = request.stop_signal.value_or(resolved.stop_signal);
  c.stop_timeout_ns = request.stop_timeout_ns;
  c.storage_size = request.run.storage_size;
  c.remove_at_end = request.remove_at_end;
  c.durable = request.keep_durable;
  c.tty = resolved.spec.process && resolved.spec.process->terminal;
  c.interactive = request.run.interactive;
  c.standby = request.standby;
  c.writable = request.bundle.empty() && request.run.writable;
  c.dns = request.run.dns;
  c.dns_search = request.run.dns_search;
  c.host_network = request.run.host_network;
  c.ready_by = request.ready_by;
  c.watchdog_ns = request.watchdog_ns;
  c.log_driver = request.log_driver;
  c.log_limits = request.log_limits;
  c.cri_log = request.cri_log;
  c.hostname = resolved.spec.hostname;
  if (utsname host{}; c.hostname.empty() && ::uname(&host) == 0) c.hostname = host.nodename;
  c.hosts = plan::make_hosts(request.run, c.hostname);
  return c;
}

Result<void> check_standby(const CreateRequest& request, const oci::Spec& spec) {
  if (!request.standby) return {};
  if (request.remove_at_end || request.restart.kind == RestartPolicy::Kind::no)
    return Error::make(Code::invalid_config,
                       "--standby: nothing is ever relaunched; give a policy too (--restart always)");
  if (const auto why = why_no_standby(spec, spec.process && spec.process->terminal); !why.empty())
    return Error::make(Code::invalid_config, "--standby: ", why, "; leave the option away");
  return {};
}

// The file itself is made by the supervisor, and its directory by nobody here: it is the administrator's, and
// only his, as root writes and renames there.
Result<void> check_cri_log(const CriLog& log) {
  if (log.path.empty()) return {};
  const std::string directory = log.path.substr(0, log.path.rfind('/') + 1);
  auto opened = fs::open_trusted(directory);
  if (opened) return {};
  if (opened.error().errnum() != ENOENT) return std::move(opened).error().context("--log-opt cri=", log.path);
  return std::move(opened).error().context(
      "--log-opt cri=", log.path, ": a directory has to be there for it (mkdir -p ", skink::quoted(directory), ")");
}

Result<std::string> absolute_bundle(const std::string& bundle) {
  const UniqueFd dir = TRY_CTX(sys::open_at(AT_FDCWD, bundle.c_str(), O_PATH | O_DIRECTORY), "bundle");
  return sys::readlink_at(AT_FDCWD, str("/proc/self/fd/", dir.get()).c_str());
}

}  // namespace
}  // namespace supervise

Result<std::string> Engine::create(const CreateRequest& request, std::vector<std::string>& notes) {
  using namespace supervise;
  const Roots& roots = impl_->roots;
  if (!request.name.empty() && !is_name(request.name))
    return Error::make(Code::invalid_config, "name ", skink::quoted(request.name),
                       ": expected letters, digits, '_', '.', '+' and '-', at most 255, neither '.' nor '-' first");
  // Early, so that a name that is in use is told before an image is looked at; decided by take_name.
  const auto owner = find_name(roots, request.name);
  if (owner && !remove_orphan(roots, *owner) && is_taken(roots, *owner))
    return Error::make(Code::exists, "the name ", skink::quoted(request.name), " is in use by container ",
                       owner->substr(0, 12), "; remove it (skink rm) or choose another name");
  if (request.log_driver == "journald" && ::access(kJournalSocket, W_OK) != 0)
    return Error::from_errno(errno, "--log-driver journald: ", std::string_view(kJournalSocket),
                             ": this host has no journal of systemd; leave the option away");
  TRY(check_cri_log(request.cri_log));
  const Draft draft = TRY(begin_draft(roots, impl_->options.store));
  std::string name = request.name;
  const auto make = [&]() -> Result<void> {
    std::string bundle;
    if (!request.bundle.empty()) bundle = TRY(absolute_bundle(request.bundle));
    Resolved resolved = TRY(bundle.empty() ? resolve_image(impl_->images, impl_->options, request, draft.id, notes)
                                           : resolve_bundle(bundle, request.run));
    resolved.spec.linux.cgroups_path = str("/skink/", draft.id);
    if (request.ready_by == ReadyBy::container)
      TRY(add_notify(resolved.spec, str(impl_->options.run, '/', std::string_view(kContainers), '/', draft.id),
                     request.watchdog_ns));
    if (name.empty()) name = make_up_name(roots);
    TRY(check_standby(request, resolved.spec));
    Container container = container_of(request, resolved, impl_->options);
    container.id = draft.id;
    container.name = name;
    container.bundle = bundle;
    if (request.remove_at_end && request.start_follows) container.starter = TRY(sys::identify(::getpid()));
    container.default_seccomp = bundle.empty() && resolved.spec.linux.seccomp && !request.run.seccomp;
    if (container.default_seccomp) resolved.spec.linux.seccomp.reset();
    TRY(fill_draft(draft, container, oci::dump_spec(resolved.spec)));
    TRY(take_name(roots, name, draft.id));
    TRY(commit_draft(roots, draft));
    // Who starts it next does that while it is launched.
    if (container.durable && !request.start_follows) TRY(settle(roots, draft.dir.get()));
    append_event(roots.run.get(), event_of(container, "create"));
    return {};
  };
  if (auto made = make(); !made) {
    Error error = std::move(made.error());
    const int containers = roots.store_containers.get();
    auto undone = fs::remove_tree(containers, str(kNewPrefix, draft.id).c_str());
    if (undone) undone = remove_store_dir(containers, roots.names.get(), draft.id, name, [] {});
    if (!undone) error.also(undone.error());
    return error;
  }
  return draft.id;
}

}  // namespace skink
