// SPDX-License-Identifier: Apache-2.0
// What the container's program says of itself by sd_notify(3): that it is ready, what it does, that it still lives.
#include <sys/epoll.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <utility>

#include "base/text.h"
#include "fs/dir.h"
#include "supervise/helper.h"
#include "supervise/supervisor.h"

namespace skink::supervise {
namespace {

// Whoever floods us is read 50 times a second, after a burst; the rest waits with its sender.
constexpr std::int64_t kNoticeNs = 20'000'000, kBurstNs = 64 * kNoticeNs;
constexpr int kNoticesAtOnce = 16;
constexpr std::int64_t kPauseNs = kNoticesAtOnce * kNoticeNs;
// One with a descriptor costs us a process.
constexpr std::int64_t kDropNs = 4 * kNoticeNs;

std::int64_t awake_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

// The socket is the same for all runs, and for all supervisors. What a run before has left in it is passed over, since
// its sender is gone.
Result<void> Supervisor::open_notify() {
  if (container_.ready_by != ReadyBy::container) return {};
  if (!notify_) notify_ = TRY(listen_notices(kFdRunDir));
  return notices_again_ns_ == 0 ? watch(notify_.get(), Source::notify, EPOLLIN) : Result<void>{};
}

void Supervisor::begin_said() {
  notices_paid_ns_ = 0;
  watchdog_told_.clear();
  arm_watchdog();
}

void Supervisor::notices_came() {
  const std::int64_t now = fs::monotonic_ns();
  const auto inside = [this](pid_t pid) { return cgroup::holds(location_, pid); };
  bool changed = false;
  for (int i = 0; i < kNoticesAtOnce; ++i) {
    const auto datagram = peek_notice(notify_.get());
    if (!datagram) break;
    pay_notices(now, datagram->has_descriptors ? kNoticeNs + kDropNs : kNoticeNs);
    if (status_.step == Step::running && is_sender_inside(*datagram, inside))
      changed = take_notice(parse_notice(datagram->text)) || changed;
    if (datagram->has_descriptors) {
      drop_by_helper();
      break;
    }
    drop_notice(notify_.get());
    if (notices_paid_ns_ - now > kBurstNs) {
      pause_notices(now + kPauseNs);
      break;
    }
  }
  if (changed) show_health(true);
}

// No debt is greater than what a pause pays off, and the burst.
void Supervisor::pay_notices(std::int64_t now, std::int64_t price_ns) {
  notices_paid_ns_ = std::min(std::max(notices_paid_ns_, now) + price_ns, now + kBurstNs + kPauseNs);
}

// Whether something is worth to be written down and told.
bool Supervisor::take_notice(const Notice& notice) {
  Said& said = status_.said;
  const Said before = said;
  said.ready = said.ready || notice.ready;
  said.stopping = said.stopping || notice.stopping;
  said.watched = said.watched || notice.ready || notice.alive;
  if (notice.status) said.status = *notice.status;
  if (notice.watchdog_ns) said.watchdog_ns = notice.watchdog_ns;
  if (notice.alive) said.missed = false;
  if (notice.alive || !before.watched || notice.watchdog_ns || notice.stopping) arm_watchdog();
  if (before.missed && !said.missed) {
    watchdog_told_ = "good: it says WATCHDOG=1 again";
    write_probe_texts();
  }
  if (notice.trigger) watchdog_missed("it has said WATCHDOG=trigger");
  return said != before;
}

// In a process apart, see Datagram::has_descriptors. Until it is done nobody else may read.
void Supervisor::drop_by_helper() {
  const int fd = notify_.get();
  const int keep[] = {fd};
  const auto done = [this](int) {
    const std::int64_t now = fs::monotonic_ns();
    notices_again_ns_ = notices_paid_ns_ - now > kBurstNs ? now + kPauseNs : 0;
    if (notify_ && notices_again_ns_ == 0) (void)watch(notify_.get(), Source::notify, EPOLLIN);
  };
  const auto helper = add_helper(
      "skink-notify", keep, [fd] { return drop_notice_and_exit(fd); }, done);
  if (helper) pause_notices(-1);
  else pause_notices(fs::monotonic_ns() + 1'000'000'000);  // it is looked at again then
}

void Supervisor::pause_notices(std::int64_t until_ns) {
  watches_.forget(notify_.get());
  notices_again_ns_ = until_ns;
}

void Supervisor::check_notices(std::int64_t now) {
  if (notices_again_ns_ > 0 && now >= notices_again_ns_) {
    notices_again_ns_ = 0;
    if (notify_) (void)watch(notify_.get(), Source::notify, EPOLLIN);
  }
  if (health_again_ns_ != 0 && now >= health_again_ns_) tell_health();
  if (watchdog_at_ns_ == 0 || status_.step != Step::running || status_.paused || status_.is_being_stopped()) return;
  if (awake_ns() < watchdog_at_ns_) return;
  // Order: what it has said while we were not there is heard first.
  if (notices_again_ns_ == 0) notices_came();
  if (watchdog_at_ns_ != 0 && awake_ns() >= watchdog_at_ns_)
    watchdog_missed(str("no WATCHDOG=1 within ", duration_text(watchdog_ns())));
}

std::int64_t Supervisor::watchdog_ns() const { return status_.said.watchdog_ns.value_or(container_.watchdog_ns); }

// By the clock of the loop.
std::int64_t Supervisor::watchdog_at() const {
  return watchdog_at_ns_ == 0 ? 0 : std::max<std::int64_t>(fs::monotonic_ns() + watchdog_at_ns_ - awake_ns(), 1);
}

void Supervisor::arm_watchdog() {
  const Said& said = status_.said;
  const bool armed = watchdog_ns() > 0 && said.watched && !said.missed && !said.stopping;
  watchdog_at_ns_ = armed ? awake_ns() + watchdog_ns() : 0;
}

std::string_view Supervisor::watchdog_health() const {
  if (status_.said.missed) return "unhealthy";
  if (watchdog_ns() == 0) return "";
  return status_.said.watched ? "healthy" : "starting";
}

void Supervisor::watchdog_missed(std::string why) {
  watchdog_at_ns_ = 0;
  // What says nothing because it has ended is judged by how it has ended.
  if (status_.said.missed || is_ending()) return;
  status_.said.missed = true;
  watchdog_told_ = str("bad: ", why);
  write_probe_texts();
  // Order: what is missed and that the run ends for it are saved as one.
  fail_run(str("its watchdog: ", why));
  show_health(true);
}

// Who shows the container to a service manager asks what it is now.
void Supervisor::tell_changed() {
  if (container_.ready_by == ReadyBy::conmon) return;
  for (auto& [fd, client] : clients_)
    if (client.attached) reply(client, {{"event", "changed"}});
}

Result<int> Supervisor::add_helper(const char* name, std::span<const int> keep, const std::function<int()>& work,
                                   std::function<void(int)> done) {
  UniqueFd pidfd = TRY(start_helper(name, keep, work));
  const int fd = pidfd.get();
  if (auto watched = watch(fd, Source::helper, EPOLLIN); !watched) {
    (void)sys::signal_pidfd(fd, SIGKILL);
    sys::ExitStatus status;
    (void)sys::wait_pidfd(fd, status, true);
    return std::move(watched).error();
  }
  helpers_[fd] = {std::move(pidfd), std::move(done)};
  return fd;
}

void Supervisor::helper_event(int pidfd) {
  const auto found = helpers_.find(pidfd);
  if (found == helpers_.end()) return;
  sys::ExitStatus status;
  (void)sys::wait_pidfd(pidfd, status, false);
  const auto done = std::move(found->second.done);
  watches_.forget(pidfd);
  helpers_.erase(found);
  if (done) done(status.shell_status());
}

// Its answer is not wanted any more.
void Supervisor::drop_helper(int& pidfd) {
  const auto found = helpers_.find(std::exchange(pidfd, -1));
  if (found == helpers_.end()) return;
  (void)sys::signal_pidfd(found->first, SIGKILL);
  found->second.done = nullptr;
}

}  // namespace skink::supervise
