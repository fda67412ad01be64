// SPDX-License-Identifier: Apache-2.0
// update: another restart policy and other limits for a container that is there.
#include "base/durations.h"
#include "base/text.h"
#include "fs/dir.h"
#include "supervise/engine_impl.h"
#include "supervise/event_log.h"
#include "supervise/supervisor.h"

namespace skink {
namespace supervise {
namespace {

Result<void> change_policy(const UpdateRequest& request, Container& container) {
  container.stop_timeout_ns = request.stop_timeout_ns.value_or(container.stop_timeout_ns);
  if (!request.restart) return {};
  TRY(request.restart(container.restart));
  if (container.remove_at_end && container.restart.kind != RestartPolicy::Kind::no)
    return Error::make(Code::invalid_config, "restart policy ", to_text(container.restart),
                       ": the container goes with its end (--rm)");
  return {};
}

// The files of a container that an update changes, as they were and as they are to be.
class Files {
 public:
  Files(int dir_fd, bool durable) : dir_fd_(dir_fd), durable_(durable) {}
  Result<void> replace(const char* name, const std::string& text) {
    before_.emplace_back(name, TRY(fs::read_file(dir_fd_, name, oci::kConfigLimit)));
    return write(name, text);
  }
  void put_back() {
    for (const auto& [name, text] : before_) (void)write(name, text);
  }

 private:
  Result<void> write(const char* name, const std::string& text) const {
    return fs::write_file_atomic(dir_fd_, name, text, 0600,
                                 durable_ ? fs::Durability::durable : fs::Durability::volatile_state);
  }
  int dir_fd_;
  bool durable_;
  std::vector<std::pair<const char*, std::string>> before_;
};

// Whoever wants to end it, or start it, waits for our lock meanwhile.
constexpr Patience::Limits kUpdateLimits{
    .quiet_ns = 30 * kSecond, .launch_ns = 10 * kSecond, .stopped_ns = 10 * kSecond};

// As a message carries them: one LinuxResources object.
std::string text_of(const oci::Resources& resources) {
  oci::Spec spec;
  spec.linux.resources = resources;
  auto json = oci::parse_json(oci::dump_spec(spec), oci::kConfigLimit);
  const oci::Json* linux_json = json ? oci::find(*json, "linux") : nullptr;
  const oci::Json* part = linux_json == nullptr ? nullptr : oci::find(*linux_json, "resources");
  return part == nullptr ? "{}" : oci::dump_json(*part);
}

}  // namespace

// Order: the files are new already. What a successor of ours reads is what is asked for.
Result<void> Supervisor::handle_update(const oci::Json& json) {
  const oci::Resources change = TRY(oci::parse_resources(oci::get_string(json, "resources", "{}")));
  if (group_) TRY(group_->apply(change));
  const auto container = TRY(parse_container(TRY(fs::read_file(kFdStoreDir, kContainerFile, kRecordLimit))));
  container_.restart = container.restart;
  container_.stop_timeout_ns = container.stop_timeout_ns;
  spec_.linux.resources = TRY(read_spec(kFdStoreDir, container_)).linux.resources;
  if (!oci::get_bool(json, "undo")) tell_event("update");
  if (container_.restart.kind == RestartPolicy::Kind::no) drop_standby();
  if (status_.step == Step::running) plan_standby();
  save();
  if (status_.step == Step::waiting && container_.restart.kind == RestartPolicy::Kind::no)
    give_up(status_.last_exit.value_or(LastExit{}));
  return {};
}

}  // namespace supervise

using namespace supervise;

Result<void> Engine::update(const std::string& id, const UpdateRequest& request) {
  const auto lock = TRY(lock_container(impl_->roots, id));
  Container container = TRY(read_container(lock.fd(), id));
  TRY(change_policy(request, container));
  oci::Spec spec = TRY(oci::parse_spec(TRY(fs::read_file(lock.fd(), kConfigFile, oci::kConfigLimit))));
  const auto limits = TRY(plan::change_limits(request.limits, spec.linux.resources.value_or(oci::Resources{})));
  const bool limited = limits.change.memory || limits.change.cpu || limits.change.pids_limit;
  spec.linux.resources = limits.whole;
  Files files(lock.fd(), container.durable);
  const auto change = [&]() -> Result<void> {
    TRY(files.replace(kContainerFile, dump(container)));
    if (limited) TRY(files.replace(kConfigFile, oci::dump_spec(spec)));
    Patience patience(impl_->roots, id, kUpdateLimits);
    auto asked =
        ask_supervisor(impl_->roots, id, {{"op", "update"}, {"resources", text_of(limits.change)}}, patience, &lock);
    if (asked || asked.error().code() != Code::not_found) return asked;
    // Nobody supervises it: it has them when it is started.
    append_event(impl_->roots.run.get(), event_of(container, "update"));
    return {};
  };
  auto changed = change();
  if (changed) return {};
  files.put_back();
  // What it has taken of the new limits, or will take when it comes to that, it gives back.
  Patience patience(impl_->roots, id, kUpdateLimits);
  (void)ask_supervisor(impl_->roots, id, {{"op", "update"}, {"resources", text_of(limits.undo)}, {"undo", true}},
                       patience, &lock);
  return changed;
}

}  // namespace skink
