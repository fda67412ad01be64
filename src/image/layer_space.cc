// SPDX-License-Identifier: Apache-2.0
#include "image/layer_space.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>

#include "base/text.h"
#include "fs/dir.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/mount_namespace.h"

namespace skink::image {
namespace {

constexpr const char* kDirectory = "layers";
constexpr const char* kPin = "pin";
constexpr std::int64_t kErofsMagic = 0xE0F5E1E2;
constexpr int kRounds = 8;

// The namespace that is pinned in RUN/layers; empty when none is.
Result<UniqueFd> open_pin(int run_fd) {
  const auto directory = sys::open_at(run_fd, kDirectory, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!directory) return directory.error().errnum() == ENOENT ? Result<UniqueFd>(UniqueFd{}) : directory.error();
  auto pin = sys::open_at(directory->get(), kPin, O_RDONLY | O_NOFOLLOW);
  if (!pin) return pin.error().errnum() == ENOENT ? Result<UniqueFd>(UniqueFd{}) : pin.error();
  if (TRY(sys::fs_magic(pin->get())) != NSFS_MAGIC) return UniqueFd{};
  return pin;
}

// A namespace with a tmpfs and nothing else in it.
Result<void> become_empty() {
  if (::unshare(CLONE_NEWNS) != 0) return Error::from_errno(errno, "unshare of the mount namespace");
  TRY(sys::old_mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  auto tmpfs = TRY(sys::FsContext::open("tmpfs"));
  TRY(tmpfs.set("source", "skink-layers"));
  TRY(tmpfs.set("size", "16m"));
  TRY(tmpfs.set("mode", "0700"));
  TRY(tmpfs.create());
  const UniqueFd top = TRY(tmpfs.mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  // Opened here: descriptors of before lead to the mounts of the other namespace.
  const UniqueFd root = TRY(sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  TRY(sys::attach_mount(top.get(), root.get(), "layers"));
  if (::fchdir(top.get()) != 0) return Error::from_errno(errno, "fchdir");
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return Error::from_errno(errno, "pivot_root");
  return sys::unmount(".", MNT_DETACH);
}

// The process whose namespace is to be pinned says when it is there, and ends when it is told, or alone.
struct Settler {
  pid_t pid = -1;
  UniqueFd said, order;
  void end() {
    order.reset();
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
  }
};

// On one of the processors, as far as there are so many.
Result<Settler> start_settler(int processor) {
  std::array<int, 2> said{}, order{};
  if (::pipe2(said.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  Settler settler;
  settler.said = UniqueFd(said[0]);
  UniqueFd say(said[1]);
  if (::pipe2(order.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  UniqueFd obey(order[0]);
  settler.order = UniqueFd(order[1]);
  settler.pid = ::fork();
  if (settler.pid < 0) return Error::from_errno(errno, "fork");
  if (settler.pid > 0) return settler;
  settler.order.reset();
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<std::size_t>(processor), &one);
  (void)::sched_setaffinity(0, sizeof one, &one);
  const auto there = become_empty();
  const int why = there ? 0 : there.error().errnum() != 0 ? there.error().errnum() : EINVAL;
  char byte = 0;
  (void)!::write(say.get(), &why, sizeof why);
  (void)!::read(obey.get(), &byte, 1);
  ::_exit(0);
}

// Mounts the namespace on the file `pin`. It is unbindable before it is anywhere, so that at no moment a recursive bind
// of what is around it (-v /:/host) has to do with it: the kernel attaches no tree with a pin in a namespace that is
// younger than the pinned one.
Result<void> pin_namespace_of(const Settler& settler, int directory_fd) {
  const UniqueFd pin = TRY(sys::open_beneath(directory_fd, kPin, O_RDWR | O_CREAT, 0600));
  const UniqueFd space =
      TRY(sys::open_tree(AT_FDCWD, str("/proc/", settler.pid, "/ns/mnt").c_str(), OPEN_TREE_CLONE, "mount namespace"));
  TRY(sys::change_mount(space.get(), {.propagation = MS_UNBINDABLE}, "mount namespace"));
  return sys::attach_mount(space.get(), pin.get(), "mount namespace");
}

Result<void> await(const Settler& settler) {
  int why = EPIPE;
  if (::read(settler.said.get(), &why, sizeof why) != static_cast<ssize_t>(sizeof why)) why = EPIPE;
  if (why != 0) return Error::from_errno(why, "a mount namespace for layers");
  return {};
}

Result<UniqueFd> open_directory(int run_fd) {
  return sys::open_at(run_fd, kDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

// RUN/layers as a private mount of its own: the kernel pins no namespace on one that is shared with other namespaces,
// as /run is under systemd (man 1 unshare).
Result<UniqueFd> open_private_directory(int run_fd) {
  UniqueFd directory = TRY(open_directory(run_fd));
  if (TRY(sys::mount_id(directory.get())) == TRY(sys::mount_id(run_fd))) {
    const UniqueFd copy = TRY(sys::open_tree(directory.get(), "", OPEN_TREE_CLONE | AT_EMPTY_PATH, kDirectory));
    TRY(sys::attach_mount(copy.get(), directory.get(), kDirectory));
    directory = TRY(open_directory(run_fd));
  }
  TRY(sys::change_mount(directory.get(), {.propagation = MS_UNBINDABLE}, kDirectory));
  return directory;
}

Result<void> pin_somehow(const Settler& settler, int run_fd) {
  TRY(await(settler));
  auto pinned = pin_namespace_of(settler, TRY(open_directory(run_fd)).get());
  if (pinned || pinned.error().errnum() != EINVAL) return pinned;
  return pin_namespace_of(settler, TRY(open_private_directory(run_fd)).get());
}

// The kernel pins only a namespace whose number is larger than that of the caller's, and numbers grow on each processor
// by themselves: in a namespace that is new itself, some processor has the larger ones.
Result<void> pin_new_namespace(int run_fd) {
  const int processors = static_cast<int>(std::clamp(::sysconf(_SC_NPROCESSORS_CONF), 1L, long{CPU_SETSIZE}));
  for (int processor = 0;; ++processor) {
    Settler settler = TRY(start_settler(processor));
    auto pinned = pin_somehow(settler, run_fd);
    settler.end();
    if (pinned || pinned.error().errnum() != ELOOP || processor + 1 >= processors) return pinned;
  }
}

Result<UniqueFd> make_pin(int run_fd) {
  auto made = sys::mkdir_at(run_fd, kDirectory, 0700);
  if (!made && made.error().errnum() != EEXIST) return std::move(made).error();
  // The directory is one and the same below its own mount.
  const auto lock = TRY(fs::Lock::take(TRY(open_directory(run_fd)), fs::Lock::Mode::exclusive, kDirectory));
  UniqueFd there = TRY(open_pin(run_fd));
  if (there) return there;
  TRY(pin_new_namespace(run_fd));
  there = TRY(open_pin(run_fd));
  if (!there) return Error::make(Code::internal, "the mount namespace of layers has not stayed");
  return there;
}

// In the namespace, whose root holds for each store a directory and a link to its path.
constexpr std::string_view kLinkEnding = ".at";
std::string place_of(const std::string& store) { return '/' + store; }
std::string place_of(const std::string& store, const std::string& name) { return str('/', store, '/', name); }

Result<UniqueFd> open_layer_at(const std::string& place) {
  auto root = sys::open_at(AT_FDCWD, place.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!root) return root.error().errnum() == ENOENT ? Result<UniqueFd>(UniqueFd{}) : root.error();
  // Killed between making the directory and mounting on it, or already taken off.
  if (TRY(sys::fs_magic(root->get())) != kErofsMagic) return UniqueFd{};
  return root;
}

}  // namespace

Result<LayerSpace::Owner> owner_of(int store_fd) {
  const auto status = TRY(sys::stat_fd(store_fd, "store"));
  return LayerSpace::Owner{str(status.st_dev, '.', status.st_ino),
                           TRY(sys::readlink_at(AT_FDCWD, str("/proc/self/fd/", store_fd).c_str()))};
}

Result<std::string> file_name(int dir_fd, const char* path) {
  struct statx status {};
  if (::statx(dir_fd, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &status) != 0)
    return Error::from_errno(errno, "statx ", printable(path));
  if (!S_ISREG(status.stx_mode)) return std::string();
  const bool is_dated = (status.stx_mask & STATX_BTIME) != 0 && status.stx_btime.tv_sec != 0;
  const auto& born = is_dated ? status.stx_btime : status.stx_ctime;
  return str(::makedev(status.stx_dev_major, status.stx_dev_minor), '.', status.stx_ino, '.', born.tv_sec, '.',
             born.tv_nsec);
}

Result<std::optional<LayerSpace>> LayerSpace::find(const std::string& run) {
  const auto directory = sys::open_at(AT_FDCWD, run.c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory && directory.error().errnum() == ENOENT) return std::optional<LayerSpace>();
  if (!directory) return directory.error();
  UniqueFd pin = TRY(open_pin(directory->get()));
  if (!pin) return std::optional<LayerSpace>();
  return std::optional(LayerSpace(run, std::move(pin)));
}

Result<LayerSpace> LayerSpace::open(const std::string& run) {
  const UniqueFd directory = TRY(sys::open_at(AT_FDCWD, run.c_str(), O_RDONLY | O_DIRECTORY));
  TRY(fs::check_private(directory.get(), run));
  UniqueFd pin = TRY(open_pin(directory.get()));
  if (!pin) pin = TRY_CTX(make_pin(directory.get()), printable(run), "/layers");
  return LayerSpace(run, std::move(pin));
}

Result<std::vector<UniqueFd>> LayerSpace::look_up(const Owner& store, const std::vector<std::string>& names) const {
  return sys::in_mount_namespace(fd_.get(), [&]() -> Result<std::vector<UniqueFd>> {
    std::vector<UniqueFd> roots;
    for (const auto& name : names) roots.push_back(TRY(open_layer_at(place_of(store.name, name))));
    return roots;
  });
}

namespace {

Result<void> make_place(const LayerSpace::Owner& store, const std::string& place) {
  auto linked = sys::symlink_at(store.path.c_str(), AT_FDCWD, str(place_of(store.name), kLinkEnding).c_str());
  if (!linked && linked.error().errnum() != EEXIST) return linked;
  for (const auto& path : {place_of(store.name), place}) {
    auto made = sys::mkdir_at(AT_FDCWD, path.c_str(), 0700);
    if (!made && made.error().errnum() != EEXIST && made.error().errnum() != ENOENT) return made;
  }
  return {};
}

}  // namespace

Result<UniqueFd> LayerSpace::attach(const Owner& store, const std::string& name, int mount_fd) const {
  return sys::in_mount_namespace(fd_.get(), [&]() -> Result<UniqueFd> {
    const std::string place = place_of(store.name, name);
    // Another may take the store's directory away while it is empty.
    for (int i = 0; i < kRounds; ++i) {
      TRY(make_place(store, place));
      auto attached = sys::attach_mount_at(mount_fd, AT_FDCWD, place.c_str(), "layer");
      if (attached) return sys::open_at(AT_FDCWD, place.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW);
      if (attached.error().errnum() != ENOENT) return std::move(attached).error();
    }
    return Error::from_errno(EBUSY, "mount of a layer");
  });
}

namespace {

Result<std::vector<std::string>> names_in(const std::string& place) {
  std::vector<std::string> names;
  const auto directory = sys::open_at(AT_FDCWD, place.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!directory) return names;
  for (auto& entry : TRY(fs::list(directory->get()))) names.push_back(std::move(entry.name));
  return names;
}

Result<void> take_off_one(const std::string& place) {
  // Until nothing is there: two that raced may have mounted it twice.
  for (auto done = sys::unmount(place.c_str(), MNT_DETACH); !done; done = sys::unmount(place.c_str(), MNT_DETACH)) {
    if (done.error().errnum() == EINVAL || done.error().errnum() == ENOENT) break;
    return done;
  }
  auto removed = sys::unlink_at(AT_FDCWD, place.c_str(), AT_REMOVEDIR);
  if (!removed && removed.error().errnum() == EBUSY) return take_off_one(place);
  if (!removed && removed.error().errnum() != ENOENT) return removed;
  return {};
}

}  // namespace

namespace {

struct Stay {
  std::string store, path;
  std::vector<std::string> names;
};

// What is mounted, by store. In the namespace.
Result<std::vector<Stay>> list_stays() {
  std::set<std::string> stores;
  for (const auto& name : TRY(names_in("/")))
    stores.insert(name.ends_with(kLinkEnding) ? name.substr(0, name.size() - kLinkEnding.size()) : name);
  std::vector<Stay> stays;
  for (const auto& store : stores) {
    const auto path = sys::readlink_at(AT_FDCWD, str(place_of(store), kLinkEnding).c_str());
    stays.push_back({store, path ? *path : "", TRY(names_in(place_of(store)))});
  }
  return stays;
}

bool is_gone(const Stay& stay) {
  if (stay.path.empty()) return false;
  const auto store = sys::open_at(AT_FDCWD, stay.path.c_str(), O_RDONLY | O_DIRECTORY);
  if (!store) return store.error().errnum() == ENOENT || store.error().errnum() == ENOTDIR;
  const auto owner = owner_of(store->get());
  return owner && owner->name != stay.store;
}

}  // namespace

Result<std::vector<std::string>> LayerSpace::find_needless(
    const Owner& store, const std::function<Result<std::set<std::string>>()>& list_needed) const {
  std::vector<std::string> needless;
  // Order: what is mounted first, so that a layer that comes in between is not found needless.
  const auto stays = TRY(sys::in_mount_namespace(fd_.get(), list_stays));
  const auto needed = TRY(list_needed());
  for (const auto& stay : stays) {
    const bool all = stay.store != store.name && is_gone(stay);
    for (const auto& name : stay.names)
      if (all || (stay.store == store.name && !needed.contains(name))) needless.push_back(place_of(stay.store, name));
  }
  return needless;
}

Result<void> LayerSpace::take_off(const std::vector<std::string>& needless) const {
  const auto clear = [&]() -> Result<bool> {
    for (const auto& place : needless) TRY(take_off_one(place));
    bool any = false;
    for (const auto& stay : TRY(list_stays())) {
      // Only an empty one goes.
      const auto gone = sys::unlink_at(AT_FDCWD, place_of(stay.store).c_str(), AT_REMOVEDIR);
      if (gone || gone.error().errnum() == ENOENT)
        (void)sys::unlink_at(AT_FDCWD, str(place_of(stay.store), kLinkEnding).c_str());
      else any = true;
    }
    return any;
  };
  return TRY(sys::in_mount_namespace(fd_.get(), clear)) ? Result<void>{} : remove_if_empty();
}

// Somebody who has just opened it may mount a layer in it once more: that one lives as long as it is used.
Result<void> LayerSpace::remove_if_empty() const {
  const UniqueFd run = TRY(sys::open_at(AT_FDCWD, run_.c_str(), O_RDONLY | O_DIRECTORY));
  const auto lock = TRY(fs::Lock::take(TRY(sys::open_at(run.get(), kDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)),
                                       fs::Lock::Mode::exclusive, kDirectory));
  // Somebody may have taken ours off and pinned another by now.
  if (const UniqueFd pin = TRY(open_pin(run.get()))) {
    const auto pinned = TRY(sys::stat_fd(pin.get(), kPin)), ours = TRY(sys::stat_fd(fd_.get(), kPin));
    if (pinned.st_dev != ours.st_dev || pinned.st_ino != ours.st_ino) return {};
  }
  if (!TRY(sys::in_mount_namespace(fd_.get(), [] { return names_in("/"); })).empty()) return {};
  for (const auto& place : {str(run_, '/', kDirectory, '/', kPin), str(run_, '/', kDirectory)}) {
    auto gone = sys::unmount(place.c_str(), MNT_DETACH);
    if (!gone && gone.error().errnum() != EINVAL && gone.error().errnum() != ENOENT) return gone;
  }
  return {};
}

}  // namespace skink::image
