// SPDX-License-Identifier: Apache-2.0
#include "launch/fault.h"

#include <array>
#include <cerrno>

#include "base/table_text.h"
#include "base/text.h"
#include "launch/hooks.h"

namespace skink::launch {

using plan::LaunchPlan;
using plan::Message;
using plan::Step;

namespace {

Error describe_mount(const Message& fault, const LaunchPlan& plan) {
  if (fault.index >= plan.mounts.size()) return Error::make(Code::internal, "skink-init named mount ", fault.index);
  const auto& mount = plan.mounts[fault.index];
  std::string step;
  switch (static_cast<Step>(fault.step)) {
    case Step::mount_source: step = "open the source"; break;
    case Step::mount_target: step = "make or open the target"; break;
    case Step::mount_fsopen: step = str("file system ", printable(mount.type)); break;
    case Step::mount_option:
      step = fault.detail < mount.options.params.size()
                 ? str("option ", quoted(mount.options.params[fault.detail].first))
                 : "source";
      break;
    case Step::mount_create: step = str("mount ", printable(mount.type)); break;
    case Step::mount_attributes: step = "set attributes"; break;
    case Step::mount_copy_up: step = "copy up the image's files"; break;
    case Step::mount_propagation: step = "set propagation"; break;
    default: step = "attach"; break;
  }
  Error error = Error::from_errno(fault.err, step);
  const std::string source = mount.source.empty() ? mount.type : mount.source;
  const std::string_view inside = (mount.flags & plan::kMountOfRoot) != 0 ? " inside the root" : "";
  error.context("mounts[", mount.config_index, "]: ", printable(source), inside, " on ", printable(mount.destination));
  const bool replaces = (mount.flags & plan::kMountReplacesFlags) != 0;
  if (replaces && fault.err == EPERM && static_cast<Step>(fault.step) == Step::mount_attributes)
    error = Error::make(Code::denied, error.text(),
                        "; in a user namespace no flag of the source's mount can be taken off, and its access times "
                        "stay: leave that option out");
  // runc's words, which engines and test suites know.
  const bool real =
      (mount.flags & plan::kMountTargetIsRealDir) != 0 && static_cast<Step>(fault.step) == Step::mount_target;
  if (real && (fault.err == ELOOP || fault.err == ENOTDIR))
    error = Error::make(Code::denied, error.text(), "; ", mount.type,
                        " must be mounted on ordinary directory, not on a link");
  if (fault.err == EROFS && static_cast<Step>(fault.step) == Step::mount_target)
    error = Error::make(Code::os, error.text(), "; it has to exist in the root file system");
  return error;
}

// The texts that engines match (docker: "executable file not found", "permission denied", "no such file or directory").
Error describe_program(const Message& fault, const LaunchPlan& plan) {
  const std::string name = plan.process.args.empty() ? "" : plan.process.args.front();
  if (fault.err == EACCES) return Error::make(Code::not_executable, "exec: ", quoted(name), ": permission denied");
  if (fault.err == ENOENT && fault.detail == 1)
    return Error::make(Code::no_program, "exec: ", quoted(name), ": executable file not found in $PATH");
  if (fault.err == ENOENT)
    return Error::make(Code::no_program, "exec: ", quoted(name), ": stat ", printable(name),
                       ": no such file or directory");
  if (fault.err == ENOTDIR)
    return Error::make(Code::no_program, "exec: ", quoted(name), ": stat ", printable(name), ": not a directory");
  return Error::from_errno(fault.err, "exec: ", quoted(name)).as(Code::not_executable);
}

Error describe_execve(const Message& fault, const LaunchPlan& plan) {
  const std::string name = plan.process.args.empty() ? "" : plan.process.args.front();
  const auto say = [&](Code code, std::string_view why) {
    return Error::make(code, "exec: ", quoted(name), ": ", why);
  };
  switch (fault.err) {
    case ENOEXEC:
      return say(Code::not_executable, "exec format error; it is no program for this machine, or a script without #!");
    case ENOENT:
      // runc's words: the program is there, so they are others than when it is not.
      return Error::make(Code::no_program, "exec ", printable(name),
                         ": no such file or directory; its interpreter or loader is missing in the image");
    case EACCES: return say(Code::not_executable, "permission denied");
    case E2BIG: return say(Code::not_executable, "argument list too long; shorten the arguments or the environment");
    default: return Error::from_errno(fault.err, "exec: ", quoted(name)).as(Code::not_executable);
  }
}

Error describe_hook(const Message& fault, const LaunchPlan& plan, int output_fd) {
  const bool inside = static_cast<Step>(fault.step) == Step::start_container_hook;
  const auto& hooks = inside ? plan.start_container : plan.create_container;
  const std::string kind = inside ? "startContainer" : "createContainer";
  if (fault.index >= hooks.size()) return Error::make(Code::internal, "skink-init named hook ", fault.index);
  const auto& hook = hooks[fault.index];
  const std::string text = output_fd >= 0 ? hook_output(output_fd) : std::string();
  Error error = Error::from_errno(fault.err, "execute");
  if (fault.detail != 0) error = hook_failure(fault.detail, text);
  else if (fault.err == ETIMEDOUT)
    error = Error::make(Code::os, "ran past its timeout of ", hook.timeout_seconds.value_or(0), " s and was killed");
  error.context(hook_name(kind, fault.index), ": ", printable(hook.path));
  return error;
}

template <typename List>
std::string at(const List& list, unsigned index) {
  return index < list.size() ? printable(list[index]) : str("number ", index);
}

Error describe_indexed(const Message& fault, const LaunchPlan& plan) {
  const unsigned i = fault.index;
  const auto say = [&](const auto&... pieces) { return Error::from_errno(fault.err, pieces...); };
  switch (static_cast<Step>(fault.step)) {
    case Step::join_namespace:
      if (i >= plan.joins.size()) return say("join the container's namespaces");
      return say("linux.namespaces: join the ", plan::namespace_name(plan.joins[i].type), " namespace ",
                 printable(plan.joins[i].path));
    case Step::make_device:
      return say("linux.devices: make ", i < plan.devices.size() ? printable(plan.devices[i].path) : "a device");
    case Step::make_device_link: return say("link ", i < plan.links.size() ? printable(plan.links[i].path) : "in /dev");
    case Step::write_sysctl:
      return say("linux.sysctl: write ", i < plan.sysctls.size() ? printable(plan.sysctls[i].key) : "a value");
    case Step::mask_path: return say("linux.maskedPaths: ", at(plan.masked, i));
    case Step::readonly_path: return say("linux.readonlyPaths: ", at(plan.readonly, i));
    case Step::set_rlimit: {
      const auto& limits = plan.process.rlimits;
      if (i >= limits.size()) return say("process.rlimits");
      Error error = say("process.rlimits[", i, "]: set ", oci::rlimit_name(limits[i].resource), " to ", limits[i].soft,
                        ':', limits[i].hard);
      if (fault.err != EPERM) return error;
      return Error::make(Code::denied, error.text(), "; raising a hard limit needs CAP_SYS_RESOURCE");
    }
    case Step::drop_bounding: return say("drop ", oci::capability_name(static_cast<int>(i)), " from the bounding set");
    case Step::raise_ambient: return say("raise ", oci::capability_name(static_cast<int>(i)), " as ambient capability");
    default: return Error::make(Code::internal, "skink-init named step ", fault.step);
  }
}

Error describe_label(const Message& fault, const oci::Process& process) {
  if (!process.selinux_label.empty())
    return Error::from_errno(fault.err, "process.selinuxLabel: put ", quoted(process.selinux_label), " on");
  const std::string words = str("process.apparmorProfile: put ", quoted(process.apparmor_profile), " on");
  if (fault.err != ENOENT) return Error::from_errno(fault.err, words);
  return Error::from_errno(fault.err, words, ": no such profile is loaded (apparmor_parser --add loads one)");
}

struct Words {
  Step step;
  TableText<104> text;
};

constexpr std::array<Words, 37> kWords{{
    {Step::read_plan, "read the plan"},
    {Step::protect_self, "make the process undumpable"},
    {Step::set_death_signal, "set the parent death signal"},
    {Step::join_group, "join the control groups"},
    {Step::set_cpus, "process.execCPUAffinity.final: is one of the CPUs online and in the container's cpuset?"},
    {Step::own_copies, "copy the host's mounts for the user namespace"},
    {Step::time_offsets, "linux.timeOffsets: make the time namespace"},
    {Step::clone_inner, "clone into the joined namespaces"},
    {Step::become_root, "become root of the user namespace (is 0 mapped in linux.uidMappings and linux.gidMappings?)"},
    {Step::new_session, "make a session"},
    {Step::propagation, "make the mounts private"},
    {Step::attach_root, "attach the root file system"},
    {Step::cgroup_namespace, "make the cgroup namespace"},
    {Step::make_workdir, "process.cwd: make the directory"},
    {Step::open_terminal, "open a terminal in the container's /dev/pts (does the configuration mount a devpts there?)"},
    {Step::attach_console, "put the terminal on /dev/console"},
    {Step::loopback_up, "bring the loopback interface up"},
    {Step::open_procfs, "open a procfs of our own"},
    {Step::pivot_root, "enter the root file system"},
    {Step::root_propagation, "linux.rootfsPropagation"},
    {Step::root_readonly, "root.readonly: make the root read-only"},
    {Step::set_hostname, "hostname"},
    {Step::set_domainname, "domainname"},
    {Step::join_keyring, "make a session keyring"},
    {Step::set_io_priority, "process.ioPriority"},
    {Step::set_memory_policy, "linux.memoryPolicy: set_mempolicy"},
    {Step::set_personality, "linux.personality"},
    {Step::set_groups, "process.user.additionalGids: setgroups"},
    {Step::set_gid, "process.user.gid: setresgid"},
    {Step::set_uid, "process.user.uid: setresuid"},
    {Step::set_capabilities, "process.capabilities: capset"},
    {Step::no_new_privileges, "process.noNewPrivileges"},
    {Step::seccomp, "linux.seccomp: load the filter"},
    {Step::listen_start, "wait for start"},
    {Step::close_descriptors, "close descriptors"},
    {Step::fork_program, "start the program below init"},
    {Step::protocol, "talk to the launcher"},
}};

}  // namespace

Error describe_fault(const Message& fault, const LaunchPlan& plan, int output_fd) {
  const Step step = static_cast<Step>(fault.step);
  if (step >= Step::mount_source && step <= Step::mount_propagation) return describe_mount(fault, plan);
  switch (step) {
    case Step::create_container_hook:
    case Step::start_container_hook: return describe_hook(fault, plan, output_fd);
    case Step::find_program: return describe_program(fault, plan);
    case Step::execute: return describe_execve(fault, plan);
    case Step::change_directory: {
      Error error = Error::from_errno(fault.err, "process.cwd: enter ", quoted(plan.process.cwd));
      return error;
    }
    case Step::directory_outside:
      return Error::make(Code::denied, "process.cwd: ", quoted(plan.process.cwd),
                         " is outside of the container's root");
    case Step::set_scheduler: {
      Error error = Error::from_errno(fault.err, "process.scheduler: sched_setattr");
      if (fault.err != EPERM) return error;
      return Error::make(Code::denied, error.text(),
                         "; it needs CAP_SYS_NICE, and SCHED_FIFO and SCHED_RR on cgroup v1 also "
                         "linux.resources.cpu.realtimeRuntime");
    }
    case Step::network_namespace: {
      Error error = Error::from_errno(fault.err, "linux.namespaces: make the network namespace");
      if (fault.err != ENOSPC) return error;
      return Error::make(Code::os, error.text(), "; as many as /proc/sys/user/max_net_namespaces allows are there");
    }
    case Step::security_label: return describe_label(fault, plan.process);
    case Step::verify_ids: return Error::make(Code::denied, "process.user: the kernel did not take the user over");
    default: break;
  }
  for (const auto& words : kWords)
    if (words.step == step) return Error::from_errno(fault.err, std::string_view(words.text));
  return describe_indexed(fault, plan);
}

}  // namespace skink::launch
