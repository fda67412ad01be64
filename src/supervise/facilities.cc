// SPDX-License-Identifier: Apache-2.0
#include "supervise/facilities.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "cgroup/cgroup.h"
#include "fs/dir.h"
#include "image/layer_mount.h"
#include "supervise/exits.h"
#include "supervise/overlay.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink::supervise {
namespace {

// A group shows it, but the topmost one; where there is no other, the kernel is new enough for us and has it.
bool kills_groups() {
  const auto host = cgroup::detect();
  if (!host) return false;
  const auto unified = std::ranges::find_if(host->hierarchies, &cgroup::Hierarchy::unified);
  if (unified == host->hierarchies.end()) return false;
  const auto top = sys::open_at(AT_FDCWD, unified->mount_point.c_str(), O_RDONLY | O_DIRECTORY);
  const auto entries = top ? fs::list(top->get()) : Result<std::vector<fs::Entry>>(top.error());
  if (!entries) return false;
  for (const auto& entry : *entries)
    if (sys::is_there(top->get(), str(entry.name, "/cgroup.procs").c_str()))
      return sys::is_there(top->get(), str(entry.name, "/cgroup.kill").c_str());
  return true;
}

// PIDFD_GET_MNT_NAMESPACE (6.11).
bool gives_namespaces(int pidfd) {
  const UniqueFd space(::ioctl(pidfd, _IO(0xFF, 3), 0));
  return static_cast<bool>(space);
}

bool seals_against_execution() {
  constexpr unsigned kNoExecSeal = 8;  // MFD_NOEXEC_SEAL (6.3)
  const UniqueFd file(::memfd_create("facility", MFD_CLOEXEC | kNoExecSeal));
  return static_cast<bool>(file);
}

bool checks_access_by_descriptor() {
  const UniqueFd top(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return ::syscall(SYS_faccessat2, top.get(), "", X_OK, AT_EACCESS | AT_EMPTY_PATH) == 0;
}

}  // namespace

std::vector<Facility> find_facilities(int store_fd) {
  using image::LayerSource;
  const LayerSource layers = image::find_layer_source(store_fd);
  constexpr const char* kDirectories = "layers are stored as directories";
  const auto self = sys::open_pidfd(::getpid());
  return {
      {"erofs", layers != LayerSource::none, kDirectories},
      {"erofs_file", layers == LayerSource::file,
       layers == LayerSource::none ? kDirectories : "each layer that is mounted takes a loop device"},
      {"overlay_descriptors", takes_lowers(store_fd, LowersBy::descriptor), "overlay is given its layers by path"},
      {"overlay_layers", takes_lowers(store_fd, LowersBy::path), "images of very many layers cannot be run"},
      {"cgroup_kill", kills_groups(), "processes of a group are killed one by one"},
      {"pidfd_info", self && shows_group_status(self->get()), "how a process ended is read from /proc"},
      {"pidfd_namespaces", self && gives_namespaces(self->get()), "namespaces are opened by way of /proc"},
      {"memfd_noexec", seals_against_execution(), "files in memory are sealed against writing alone"},
      {"access_by_descriptor", checks_access_by_descriptor(), "whether a program can be executed is told by its mode"}};
}

}  // namespace skink::supervise
