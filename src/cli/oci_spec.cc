// SPDX-License-Identifier: Apache-2.0
// spec of skink-oci: a config.json to begin with.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"
#include "cli/oci_verbs.h"

namespace skink::cli {
namespace {

constexpr const char* kFile = "config.json";

struct SpecOptions {
  std::string bundle = ".";
  bool rootless = false;
};

constexpr Option<SpecOptions> kSpecOptions[] = {
    {{"bundle", 'b', "DIR", "where to write it (default: here)"}, set_text<&SpecOptions::bundle>},
    {{"rootless", 0, nullptr, "for a plain user: a user namespace, no network or limits of its own"},
     set_switch<&SpecOptions::rootless>},
};

oci::Process process() {
  oci::Process process;
  process.terminal = true;
  process.args = {"sh"};
  process.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  process.cwd = "/";
  std::uint64_t mask = 0;
  for (const char* name : {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"})
    mask |= std::uint64_t{1} << oci::capability_number(name);
  process.capabilities = oci::Capabilities{.bounding = mask, .effective = mask, .inheritable = 0, .permitted = mask};
  process.rlimits = {{RLIMIT_NOFILE, 1024, 1024}};
  process.no_new_privileges = true;
  return process;
}

std::vector<oci::Mount> mounts(bool rootless) {
  std::vector<oci::Mount> mounts{
      {"/proc", "proc", "proc", {}, {}, {}},
      {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}, {}, {}},
      {"/dev/pts", "devpts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}, {}, {}},
      {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}, {}, {}},
      {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}, {}, {}}};
  if (rootless) {
    // The host's network namespace stays, and only its owner may mount a sysfs of it.
    mounts.push_back({"/sys", "none", "/sys", {"rbind", "nosuid", "noexec", "nodev", "ro"}, {}, {}});
    return mounts;
  }
  mounts[2].options.emplace_back("gid=5");
  mounts.push_back({"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}, {}, {}});
  mounts.push_back({"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}, {}, {}});
  return mounts;
}

oci::Linux linux_part(bool rootless) {
  using Type = oci::NamespaceType;
  oci::Linux out;
  // As runc: with cgroup v1 programs count on seeing their place in the host's tree.
  const auto host = cgroup::detect();
  const bool v1 = host && host->layout != cgroup::Layout::v2;
  for (const Type type : {Type::pid, Type::network, Type::ipc, Type::uts, Type::mount, Type::cgroup})
    if (!(rootless && type == Type::network) && !(v1 && type == Type::cgroup)) out.namespaces.push_back({type, {}});
  if (rootless) {
    out.namespaces.push_back({Type::user, {}});
    out.uid_mappings = {{0, ::geteuid(), 1}};
    out.gid_mappings = {{0, ::getegid(), 1}};
  } else {
    oci::DeviceRule none;
    none.access = "rwm";
    out.resources.emplace().devices = {none};
  }
  out.masked_paths = {"/proc/acpi",          "/proc/asound",     "/proc/kcore",       "/proc/keys",
                      "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                      "/sys/firmware",       "/proc/scsi"};
  out.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return out;
}

oci::Spec example(bool rootless) {
  oci::Spec spec;
  spec.oci_version = std::string(oci::kSpecVersion);
  spec.process = process();
  spec.root = {"rootfs", true};
  spec.hostname = "skink";
  spec.mounts = mounts(rootless);
  spec.linux = linux_part(rootless);
  return spec;
}

}  // namespace

Result<int> oci_spec(const OciGlobals& /*globals*/, Arguments args) {
  SpecOptions options;
  const auto line = TRY(read_verb(std::span<const Option<SpecOptions>>(kSpecOptions), args, options,
                                  "spec [--bundle DIR] [--rootless]", {0, 0}));
  if (line.help) return 0;
  const UniqueFd dir = TRY_CTX(sys::open_at(AT_FDCWD, options.bundle.c_str(), O_RDONLY | O_DIRECTORY), "--bundle");
  auto file = sys::open_at(dir.get(), kFile, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
  if (!file && file.error().errnum() == EEXIST)
    return Error::make(Code::exists, std::string_view(kFile), " exists; remove it first");
  const UniqueFd out = TRY(std::move(file));
  TRY(sys::write_all(out.get(), oci::dump_spec(example(options.rootless), true) + "\n", kFile));
  return 0;
}

}  // namespace skink::cli
