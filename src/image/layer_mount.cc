// SPDX-License-Identifier: Apache-2.0
#include "image/layer_mount.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "fs/dir.h"
#include "image/layer.h"
#include "image/layout.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace skink::image {
namespace {

constexpr std::uint64_t kAttributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

Result<UniqueFd> mount_source(const std::string& source) {
  auto erofs = TRY(sys::FsContext::open("erofs"));
  TRY(erofs.set("source", source));
  // Else a block device is opened for writing, which one that is read-only refuses.
  TRY(erofs.set_flag("ro"));
  TRY(erofs.create());
  return erofs.mount(kAttributes);
}

// A loop device that goes away with its last user. Another may take the free one that the kernel names.
Result<UniqueFd> configure_loop(int file_fd, std::string& device) {
  constexpr int kTries = 64;
  const UniqueFd control = TRY(sys::open_at(AT_FDCWD, "/dev/loop-control", O_RDWR));
  for (int i = 0; i < kTries; ++i) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return Error::from_errno(errno, "get a free loop device");
    device = str("/dev/loop", number);
    UniqueFd loop = TRY(sys::open_at(AT_FDCWD, device.c_str(), O_RDONLY));
    loop_config config{};
    config.fd = static_cast<__u32>(file_fd);
    config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    if (::ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) return loop;
    if (errno != EBUSY) return Error::from_errno(errno, "configure ", device);
  }
  return Error::from_errno(EBUSY, "no free loop device");
}

Result<UniqueFd> mount_by_loop(int file_fd) {
  std::string device;
  const UniqueFd loop = TRY(configure_loop(file_fd, device));
  return mount_source(device);
}

}  // namespace

Result<UniqueFd> mount_layer_file(int file_fd) {
  auto mounted = mount_source(str("/proc/self/fd/", file_fd));
  // Before 6.12, and for files of tmpfs or overlay: a block device is wanted.
  if (mounted || mounted.error().errnum() != ENOTBLK) return mounted;
  auto by_loop = mount_by_loop(file_fd);
  if (by_loop) return by_loop;
  return Error::make(Code::unsupported, by_loop.error().text());
}

namespace {

// A layer without anything in it.
Result<UniqueFd> make_unnamed_layer(int dir_fd) {
  UniqueFd file = TRY(make_unnamed_file(dir_fd));
  TRY(TRY(make_erofs_writer(TRY(sys::dup_fd(file.get())), LayerUuid{}))->finish());
  return file;
}

}  // namespace

LayerSource find_layer_source(int dir_fd) {
  const auto file = make_unnamed_layer(dir_fd);
  if (!file) return LayerSource::none;
  if (mount_source(str("/proc/self/fd/", file->get()))) return LayerSource::file;
  return mount_layer_file(file->get()) ? LayerSource::loop : LayerSource::none;
}

Result<bool> can_mount_layers(int dir_fd) {
  const char* wanted = ::getenv("SKINK_LAYERS");
  if (wanted != nullptr && std::string_view(wanted) == "directories") return false;
  constexpr const char* kProbe = "probe.erofs";
  UniqueFd file = TRY(sys::open_beneath(dir_fd, kProbe, O_RDWR | O_CREAT | O_TRUNC, 0600));
  const auto writer = TRY(make_erofs_writer(TRY(sys::dup_fd(file.get())), LayerUuid{}));
  TRY(writer->finish());
  const bool can = mount_layer_file(file.get()).has_value();
  TRY(sys::unlink_at(dir_fd, kProbe));
  return can;
}

}  // namespace skink::image
