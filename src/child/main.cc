// SPDX-License-Identifier: Apache-2.0
// skink-init: what runs between clone and the container's program. The order of isolation is the order of the calls
// below; each constraint is said where it holds ("Order:").
#include <linux/prctl.h>

#include "child/context.h"

namespace skink::child {
namespace {

constexpr int kNoPlan = 125;

[[noreturn]] void leave(int status) { end_process(status); }

int number_of(const char* text) {
  int value = 0;
  for (; *text >= '0' && *text <= '9' && value < 1'000'000; ++text) value = value * 10 + (*text - '0');
  return *text == 0 ? value : -1;
}

// The sealed memfd of the plan, mapped privately so that argv and envp can be made into pointers in place.
plan::Plan* map_plan(int fd) {
  // By lseek, since a filter may refuse statx: whoever has the plan can say so.
  constexpr int kEnd = 2;
  const long end = call(__NR_lseek, fd, 0, kEnd);
  const auto size = static_cast<Size>(end);
  if (end < 0 || size < sizeof(plan::Plan) || size > plan::kLargestPlan) return nullptr;
  constexpr int kReadWrite = 3, kPrivate = 2;
  const long at = call(__NR_mmap, 0, end, kReadWrite, kPrivate, fd, 0);
  if (at < 0 && at > -4096) return nullptr;
  auto* plan = reinterpret_cast<plan::Plan*>(at);
  const bool ours = plan->magic == plan::kMagic && plan->version == plan::kVersion && plan->size == size;
  return ours ? plan : nullptr;
}

// Order: the maps exist once the launcher has placed us; everything after this needs root of the user namespace.
Fault become_root(Context& context) {
  if (!context.has(plan::kHasUserNamespace)) return {};
  CHILD_TRY(ensure_placed(context));
  CHILD_TRY(check(call(__NR_setresgid, 0, 0, 0), Step::become_root));
  CHILD_TRY(check(call(__NR_setresuid, 0, 0, 0), Step::become_root));
  return protect_self(context);
}

// Order: the way to the root file system may be open to the caller's ids only, so before they change.
void open_attach_point(Context& context) {
  if (context.plan().attach_path == 0) return;
  const long fd = open_at(kHere, context.text(context.plan().attach_path), kOpenPath | kOpenDirectory);
  // Where it cannot be reached (a user namespace and another user's directory) the root lies over "/" as without hooks.
  if (fd >= 0) context.attach_fd = static_cast<int>(fd);
}

// Those of the host's namespaces are the launcher's to run, then come those of the container's.
Fault run_create_hooks(Context& context) {
  if (context.has(plan::kHooks)) {
    plan::Message message{};
    message.kind = static_cast<unsigned>(plan::Kind::hooks);
    CHILD_TRY(check(send_message(context, message), Step::protocol));               // 4
    CHILD_TRY(check(await_message(context, plan::Kind::proceed), Step::protocol));  // 5
  }
  return run_hooks(context, HookPlace::create_container);
}

Fault build_root(Context& context) {
  if (context.has(plan::kExec)) {
    if (context.plan().root_fd >= 0) {
      CHILD_TRY(check(call(__NR_fchdir, context.plan().root_fd), Step::attach_root));
      CHILD_TRY(check(call(__NR_chroot, arg(".")), Step::attach_root));
    }
    const long root = open_at(kHere, "/", kOpenPath | kOpenDirectory);
    CHILD_TRY(check(root, Step::attach_root));
    context.root_fd = static_cast<int>(root);
    return open_terminal(context);
  }
  // Order: what outlives us, mounts among those of others, comes when we are on record.
  if (context.has(plan::kHostMounts) || context.has(plan::kJoinedMounts)) CHILD_TRY(ensure_placed(context));
  CHILD_TRY(make_private_and_attach_root(context));
  CHILD_TRY(make_mounts(context, false));
  CHILD_TRY(make_devices(context));
  CHILD_TRY(make_workdir(context));
  CHILD_TRY(open_terminal(context));
  CHILD_TRY(make_mounts(context, true));
  // Order: sysctls before /proc/sys is made read-only; hooks see all mounts; the root is entered last.
  CHILD_TRY(make_cgroup_namespace(context));
  CHILD_TRY(write_sysctls(context));
  CHILD_TRY(hide_paths(context));
  CHILD_TRY(run_create_hooks(context));
  return enter_root(context);
}

Fault become_container(Context& context, const char*& path, char* buffer, Size size) {
  // Order: a session of its own before a terminal is made its controlling one.
  const long session = call(__NR_setsid);
  if (session != -EPERM) CHILD_TRY(check(session, Step::new_session));
  open_attach_point(context);
  CHILD_TRY(become_root(context));
  CHILD_TRY(take_own_copies(context));
  // Order: before sysfs, which shows the network of who mounts it, sysctls and hooks.
  CHILD_TRY(prepare_network(context));
  CHILD_TRY(build_root(context));
  CHILD_TRY(make_cgroup_namespace(context));
  CHILD_TRY(set_names_and_limits(context));
  CHILD_TRY(write_label(context));
  // Order: before the ids change. Engines count on runc's way: a directory that only root may enter is entered as root,
  // and one that only the user may (NFS, FUSE) as the user afterwards.
  try_directory(context);
  CHILD_TRY(change_identity(context));
  CHILD_TRY(change_directory(context));
  CHILD_TRY(find_program(context, path, buffer, size));
  // Order: from `ready` on nobody waits for us, so dying with the launcher ends here.
  CHILD_TRY(check(call(__NR_prctl, PR_SET_PDEATHSIG, 0, 0, 0, 0), Step::set_death_signal));
  plan::Message message{};
  message.kind = static_cast<unsigned>(plan::Kind::ready);
  CHILD_TRY(check(send_message(context, message), Step::protocol));  // 6
  // Order: when whoever made us need not wait any more. It takes as long as all that is left after `start`.
  const Fault unfit = load_seccomp_early(context);
  CHILD_TRY(await_start(context));
  CHILD_TRY(unfit);
  // Order: as the container's user and with its capabilities, after `start` and before the program.
  CHILD_TRY(run_hooks(context, HookPlace::start_container));
  return run_program(context, path);
}

Fault start(Context& context) {
  char path_buffer[4096];
  const char* path = nullptr;
  const unsigned long all = ~0UL;
  call(__NR_rt_sigprocmask, 0 /* SIG_BLOCK */, arg(&all), 0, 8);
  // Order: while the launcher is at work too, and before await_start() has handlers of its own.
  reset_signals();
  call(__NR_prctl, PR_SET_NAME, arg("skink-init"), 0, 0, 0);
  CHILD_TRY(protect_self(context));
  make_pointers(context, context.plan().argv);
  make_pointers(context, context.plan().envp);
  CHILD_TRY(prepare_hooks(context));
  if (context.has(plan::kTwoStages)) {
    long pid = 0;
    // Order: with all privilege, before a user namespace is joined or made.
    CHILD_TRY(stage_own_copies(context));
    // Order: where others see the second stage (exec, a shared pid namespace), the files of the groups are closed
    // before there is one (attack A25).
    constexpr unsigned long kNewPid = 0x20000000;  // CLONE_NEWPID
    if ((context.plan().clone_flags & kNewPid) == 0) CHILD_TRY(join_groups(context));
    CHILD_TRY(first_stage(context, pid));
    if (pid != 0) leave(0);
    CHILD_TRY(protect_self(context));
  } else {
    CHILD_TRY(join_namespaces(context));
  }
  CHILD_TRY(join_groups(context));
  if (!context.has(plan::kGroupsFollow)) CHILD_TRY(set_cpus(context));
  return become_container(context, path, path_buffer, sizeof path_buffer);
}

}  // namespace

void make_pointers(Context& context, plan::Offset at) {
  auto* slot = reinterpret_cast<plan::U64*>(context.bytes(at));
  for (; *slot != 0; ++slot) *slot = reinterpret_cast<plan::U64>(context.bytes(static_cast<plan::Offset>(*slot)));
}

}  // namespace skink::child

extern "C" [[noreturn]] void freestanding_main(long argc, char** argv) {
  using namespace skink::child;
  if (argc != 2) leave(kNoPlan);
  const int plan_fd = number_of(argv[1]);
  skink::plan::Plan* plan = map_plan(plan_fd);
  close_fd(plan_fd);
  if (plan == nullptr) leave(kNoPlan);
  Context context(plan);
  const Fault fault = start(context);
  send_fault(plan->sync_fd, fault);
  leave(kNoPlan);
}
