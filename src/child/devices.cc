// SPDX-License-Identifier: Apache-2.0
// /dev: nodes and links below a directory opened inside the root (attack A09), and the terminal (attack A12).
#include "child/context.h"

namespace skink::child {
namespace {

// The directory that a node or link lies in, opened (and made) inside the root; kept for the next one in the same
// place.
class ParentDirectory {
 public:
  explicit ParentDirectory(int root_fd) : root_fd_(root_fd) {}
  ~ParentDirectory() {
    if (fd_ >= 0) close_fd(static_cast<int>(fd_));
  }
  ParentDirectory(const ParentDirectory&) = delete;
  ParentDirectory& operator=(const ParentDirectory&) = delete;

  // The descriptor for the directory of `path`, or -errno; `name` becomes its last component.
  long open(const char* path, const char*& name) {
    Size slash = 0;
    const Size length = length_of(path);
    if (length >= sizeof directory_) return -ENAMETOOLONG;
    for (Size i = 0; i < length; ++i)
      if (path[i] == '/') slash = i;
    name = path + slash + 1;
    if (fd_ >= 0 && length_of(directory_) == slash && starts_with(path, directory_)) return fd_;
    if (fd_ >= 0) close_fd(static_cast<int>(fd_));
    for (Size i = 0; i < slash; ++i) directory_[i] = path[i];
    directory_[slash] = 0;
    fd_ = make_target(root_fd_, slash == 0 ? "/" : directory_, false, 0, false);
    return fd_;
  }

 private:
  int root_fd_;
  long fd_ = -1;
  char directory_[4096] = {};
};

long bind_node(int parent_fd, const char* name, int tree_fd) {
  long fd = open_at(parent_fd, name, kOpenWrite | kOpenCreate | kOpenExclusive | kOpenNofollow, 0644);
  if (fd == -EEXIST) fd = open_at(parent_fd, name, kOpenPath | kOpenNofollow);
  if (fd < 0) return fd;
  const long rc = move_mount(tree_fd, static_cast<int>(fd));
  close_fd(static_cast<int>(fd));
  return rc;
}

}  // namespace

long make_node(int parent_fd, const char* name, const plan::DeviceNode& device) {
  long rc = call(__NR_mknodat, parent_fd, arg(name), device.mode, static_cast<long>(device.dev));
  if (rc == -EEXIST) {
    // There already: good if it is the same device (a bind of the host's /dev), else the image must not choose.
    FileStatus status;
    rc = stat_at(parent_fd, name, status);
    // What the configuration has mounted there is what it wants there.
    if (rc < 0 || status.is_mount) return rc;
    const bool same_type = (status.mode & kFileTypeMask) == (device.mode & kFileTypeMask);
    return same_type && device_number(status.rdev_major, status.rdev_minor) == device.dev ? 0 : -EEXIST;
  }
  if (rc < 0) return rc;
  // The mode again, since mknod takes the umask off; the node was made just now and cannot be a link of the image's.
  rc = call(__NR_fchmodat, parent_fd, arg(name), device.mode & 07777);
  if (rc < 0 || (device.uid == 0 && device.gid == 0)) return rc;
  return call(__NR_fchownat, parent_fd, arg(name), device.uid, device.gid, kSymlinkNofollow);
}

Fault make_devices(Context& context) {
  const auto& plan = context.plan();
  const auto* devices = context.array<plan::DeviceNode>(plan.devices);
  ParentDirectory directory(context.root_fd);
  for (unsigned i = 0; i < plan.devices.count; ++i) {
    const char* name = nullptr;
    const long parent = directory.open(context.text(devices[i].path), name);
    CHILD_TRY(check(parent, Step::make_device, i));
    const int dir = static_cast<int>(parent);
    const long rc =
        devices[i].bind_fd >= 0 ? bind_node(dir, name, devices[i].bind_fd) : make_node(dir, name, devices[i]);
    CHILD_TRY(check(rc, Step::make_device, i));
  }
  const auto* links = context.array<plan::Link>(plan.links);
  for (unsigned i = 0; i < plan.links.count; ++i) {
    const char* name = nullptr;
    const long parent = directory.open(context.text(links[i].path), name);
    CHILD_TRY(check(parent, Step::make_device_link, i));
    const long rc = call(__NR_symlinkat, arg(context.text(links[i].target)), parent, arg(name));
    if (rc != -EEXIST) CHILD_TRY(check(rc, Step::make_device_link, i));
  }
  return {};
}

Fault make_workdir(Context& context) {
  if (!context.has(plan::kMakeWorkdir)) return {};
  const long fd = make_target(context.root_fd, context.text(context.plan().cwd), false, 0, false);
  if (fd >= 0) close_fd(static_cast<int>(fd));
  // What cannot be made (a read-only root) or is no directory is said by chdir later, in better words.
  return {};
}

namespace {

constexpr unsigned long kSetLock = 0x40045431;  // TIOCSPTLCK
constexpr unsigned long kGetPeer = 0x5441;      // TIOCGPTPEER
constexpr unsigned long kSetSize = 0x5414;      // TIOCSWINSZ
constexpr unsigned long kControlling = 0x540e;  // TIOCSCTTY
constexpr unsigned long kGetModes = 0x5401;     // TCGETS
constexpr unsigned long kSetModes = 0x5402;     // TCSETS
constexpr long kDevptsMagic = 0x1cd1;

bool is_devpts_multiplexer(int fd) {
  FileStatus status;
  if (stat_fd(fd, status) < 0) return false;
  if ((status.mode & kFileTypeMask) != kCharacter || status.rdev_major != 5 || status.rdev_minor != 2) return false;
  struct {
    long type;
    char rest[248];
  } fs{};
  return call(__NR_fstatfs, fd, arg(&fs)) == 0 && fs.type == kDevptsMagic;
}

// Line ends stay as the program writes them, where the launcher passes its output on to something that is no terminal.
Fault make_output_plain(int slave) {
  struct {
    unsigned input, output, control, local;
    unsigned char rest[20];
  } modes{};
  constexpr unsigned kCrLf = 4;  // ONLCR
  CHILD_TRY(check(call(__NR_ioctl, slave, kGetModes, arg(&modes)), Step::open_terminal));
  modes.output &= ~kCrLf;
  return check(call(__NR_ioctl, slave, kSetModes, arg(&modes)), Step::open_terminal);
}

Fault take_terminal(Context& context, int master) {
  const auto& plan = context.plan();
  const int unlock = 0;
  CHILD_TRY(check(call(__NR_ioctl, master, kSetLock, arg(&unlock)), Step::open_terminal));
  // By ioctl and not by name: /dev/pts/N could be anything (CVE-2025-52565).
  const long slave = call(__NR_ioctl, master, kGetPeer, kOpenReadWrite | kOpenNoctty | kOpenCloexec);
  CHILD_TRY(check(slave, Step::open_terminal));
  context.terminal_fd = static_cast<int>(slave);
  if (plan.console_rows != 0 || plan.console_columns != 0) {
    const unsigned short size[4] = {plan.console_rows, plan.console_columns, 0, 0};
    CHILD_TRY(check(call(__NR_ioctl, master, kSetSize, arg(size)), Step::open_terminal));
  }
  if (context.has(plan::kPlainOutput)) CHILD_TRY(make_output_plain(static_cast<int>(slave)));
  CHILD_TRY(check(call(__NR_fchown, slave, plan.uid, ~0U), Step::open_terminal));
  plan::Message message{};
  message.kind = static_cast<unsigned>(plan::Kind::console);
  return check(send_message(context, message, master), Step::protocol);  // 3
}

// The terminal over /dev/console, on a file that we make ourselves: what an image or a volume has there is not used.
Fault attach_console(Context& context) {
  const long dev = open_in_root(context.root_fd, "/dev", kOpenPath | kOpenDirectory);
  CHILD_TRY(check(dev, Step::attach_console));
  const int dir = static_cast<int>(dev);
  const long made = call(__NR_mknodat, dir, arg("console"), kRegular | 0600, 0);
  if (made != -EEXIST) CHILD_TRY(check(made, Step::attach_console));
  const long target = open_at(dir, "console", kOpenPath | kOpenNofollow);
  CHILD_TRY(check(target, Step::attach_console));
  FileStatus status;
  CHILD_TRY(check(stat_fd(static_cast<int>(target), status), Step::attach_console));
  if ((status.mode & kFileTypeMask) == kSymlink) return {Step::attach_console, 0, ELOOP};
  const long tree =
      call(__NR_open_tree, context.terminal_fd, arg(""), 1 | kOpenCloexec | kEmptyPath);  // OPEN_TREE_CLONE
  CHILD_TRY(check(tree, Step::attach_console));
  const long rc =
      call(__NR_move_mount, tree, arg(""), target, arg(""), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  close_fd(static_cast<int>(tree));
  close_fd(static_cast<int>(target));
  close_fd(dir);
  return check(rc, Step::attach_console);
}

}  // namespace

Fault open_terminal(Context& context) {
  if (!context.has(plan::kTerminal)) return {};
  const long master = open_in_root(context.root_fd, "/dev/pts/ptmx", kOpenReadWrite | kOpenNoctty);
  CHILD_TRY(check(master, Step::open_terminal));
  if (!is_devpts_multiplexer(static_cast<int>(master))) return {Step::open_terminal, 0, ENOTTY};
  CHILD_TRY(take_terminal(context, static_cast<int>(master)));
  close_fd(static_cast<int>(master));
  if (!context.has(plan::kExec)) CHILD_TRY(attach_console(context));
  CHILD_TRY(check(call(__NR_ioctl, context.terminal_fd, kControlling, 0), Step::open_terminal));
  for (int fd = 0; fd < 3; ++fd) CHILD_TRY(check(call(__NR_dup3, context.terminal_fd, fd, 0), Step::open_terminal));
  return {};
}

namespace {

Fault bring_loopback_up() {
  struct {
    char name[16];
    short flags;
    char rest[22];
  } request{{'l', 'o'}, 0, {}};
  constexpr unsigned long kGetFlags = 0x8913, kSetFlags = 0x8914;  // SIOCGIFFLAGS, SIOCSIFFLAGS
  constexpr int kInet = 2, kDatagram = 2;
  const long fd = call(__NR_socket, kInet, kDatagram | kOpenCloexec, 0);
  CHILD_TRY(check(fd, Step::loopback_up));
  CHILD_TRY(check(call(__NR_ioctl, fd, kGetFlags, arg(&request)), Step::loopback_up));
  request.flags = static_cast<short>(request.flags | 1);  // IFF_UP
  const long rc = call(__NR_ioctl, fd, kSetFlags, arg(&request));
  close_fd(static_cast<int>(fd));
  return check(rc, Step::loopback_up);
}

}  // namespace

Fault prepare_network(const Context& context) {
  constexpr unsigned long kNewNet = 0x40000000;  // CLONE_NEWNET
  if (context.has(plan::kMakeNetwork)) CHILD_TRY(check(call(__NR_unshare, kNewNet), Step::network_namespace));
  return context.has(plan::kNewNetwork) ? bring_loopback_up() : Fault{};
}

}  // namespace skink::child
