// SPDX-License-Identifier: Apache-2.0
// pause and resume of skink-oci, and the verbs that it does not support.
#include "base/text.h"
#include "cli/oci_verbs.h"

namespace skink::cli {
namespace {

using state::Status;

Result<cgroup::Group> group_of(const state::Record& record) {
  if (!record.cgroup)
    return Error::make(Code::unsupported, "container ", quoted(record.id),
                       " was made without control groups, which freeze processes");
  return cgroup::Group::open(*record.cgroup);
}

// Archives of a checkpoint would be one more hostile input (attack A93). Said for --help too: podman and CRI-O take
// `checkpoint --help` with status 0 for "can do it". The words must not be those of a missing argument, by which podman
// looks for `restore --lsm-mount-context`.
Error no_checkpoints() {
  return Error::make(Code::unsupported, "not supported: skink-oci neither writes nor reads checkpoints");
}

}  // namespace

Result<int> oci_pause(const OciGlobals& globals, Arguments args) {
  const auto line = TRY(read_verb(args, "pause ID"));
  if (line.help) return 0;
  const auto [root, container] = TRY(open_container(globals, line.operands[0]));
  const Status status = container.status();
  if (status == Status::stopped) return not_running(container.record().id);
  if (status != Status::running && status != Status::created)
    return Error::make(Code::busy, "container ", quoted(container.record().id), ": cannot pause a container that is ",
                       to_text(status));
  auto group = TRY(group_of(container.record()));
  TRY(group.freeze());
  return 0;
}

Result<int> oci_resume(const OciGlobals& globals, Arguments args) {
  const auto line = TRY(read_verb(args, "resume ID"));
  if (line.help) return 0;
  const auto [root, container] = TRY(open_container(globals, line.operands[0]));
  const Status status = container.status();
  if (status == Status::stopped) return not_running(container.record().id);
  if (status != Status::paused)
    return Error::make(Code::busy, "container ", quoted(container.record().id), ": container not paused; it is ",
                       to_text(status));
  auto group = TRY(group_of(container.record()));
  TRY(group.thaw());
  return 0;
}

Result<int> oci_checkpoint(const OciGlobals& /*globals*/, Arguments /*args*/) { return no_checkpoints(); }

Result<int> oci_restore(const OciGlobals& /*globals*/, Arguments /*args*/) { return no_checkpoints(); }

}  // namespace skink::cli
