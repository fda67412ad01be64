// SPDX-License-Identifier: Apache-2.0
// Engine::heal: every container is brought to the state that its records want, whatever ended it: a reboot, a power
// cut, a kill of everything of ours.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "fs/dir.h"
#include "image/check.h"
#include "image/layout.h"
#include "supervise/engine_impl.h"
#include "supervise/event_log.h"
#include "supervise/exits.h"
#include "supervise/removal.h"
#include "sys/file.h"
#include "sys/process.h"

namespace skink {
namespace supervise {
namespace {

using Deed = Healed::Deed;

// Longer than a command holds a container's lock that is at work on it, and gets on; the others shall not have to wait.
constexpr std::int64_t kLockPatienceNs = 5'000'000'000;
// Launched side by side: one whose volume hangs does not keep the rest waiting until it has its turn.
constexpr std::size_t kHealedAtOnce = 32;

struct Patient {
  std::string id, name;
  std::int64_t created_ns = 0;
};

enum class Verdict { fine, adopted, removed, recorded, cleaned, start };

// What docker's users expect of a policy after a boot. A stop holds for the boot it was given in; under always, not for
// longer.
bool should_run(const RestartPolicy& policy, const Wish& wish) {
  using Kind = RestartPolicy::Kind;
  if (wish.order == 0) return false;
  if (policy.kind == Kind::always) return !was_stopped_in_this_boot(wish);
  return policy.kind == Kind::unless_stopped && wish.running;
}

// What a start that was interrupted before its program ran has left. Nobody was told that it runs.
bool is_stillborn(const Result<Status>& status) {
  return status && (status->step == Step::starting || status->step == Step::launching) && status->incarnation <= 1;
}

Result<Verdict> remove_whole(const Roots& roots, const std::string& id, const Result<Container>& container) {
  TRY(clean_leftovers(roots, id));
  TRY(remove_store_dir(roots.store_containers.get(), roots.names.get(), id, container ? container->name : "",
                       [&] { tell_destroyed(roots, id, container); }));
  return Verdict::removed;
}

// Under its lock, with no guard and no supervisor alive.
Result<Verdict> judge(const Roots& roots, const std::string& id, int store_dir) {
  const auto container = read_container(store_dir, id);
  const bool passing = is_passing(store_dir);
  // Not meant to outlive the machine's run, or nobody was told of it; and the power cut came before its files were
  // written.
  if (const auto whole = passing ? check_files(store_dir, id) : Result<void>{};
      !whole && (whole.error().code() == Code::corrupt || whole.error().errnum() == ENOENT))
    return remove_whole(roots, id, container);
  if (!container) return container.error();
  if (passing && container->durable) TRY(settle(roots, store_dir));
  const auto run_dir = open_run_dir(roots, id);
  const auto status = run_dir ? read_status(run_dir->get()) : Result<Status>(Error(Code::not_found, ""));
  const Wish wish = read_wish(store_dir);
  if (is_stillborn(status)) {
    TRY(clean_leftovers(roots, id));
    TRY(restore_wish(store_dir, status->wish_before, container->durable));
    return should_run(container->restart, read_wish(store_dir)) ? Verdict::start : Verdict::cleaned;
  }
  const bool cut_off = was_cut_off(store_dir);
  if (cut_off && container->remove_at_end) return remove_whole(roots, id, container);
  TRY(record_unseen_end(roots, id));
  // What has spent its budget, or ended by a status that is final, is not given another one by every heal.
  const bool stays = has_given_up(store_dir);
  if (!stays && should_run(container->restart, wish)) return Verdict::start;
  if (!run_dir && !cut_off) return Verdict::fine;
  TRY(clean_leftovers(roots, id));
  return cut_off ? Verdict::recorded : Verdict::cleaned;
}

Result<Verdict> examine(const Roots& roots, const std::string& id) {
  {
    const auto lock = TRY(lock_container(roots, id, kLockPatienceNs));
    if (is_alive(lock.fd())) return Verdict::fine;
    const auto run_dir = open_run_dir(roots, id);
    const auto status = run_dir ? read_status(run_dir->get()) : Result<Status>(Error(Code::not_found, ""));
    if (!status || !is_abandoned(*status)) return judge(roots, id, lock.fd());
  }
  // Adoption takes the lock by itself. The answer to the ping means that it is done.
  Patience patience(roots, id, Patience::Limits::of_start());
  const UniqueFd socket = TRY(connect_supervisor(roots, id, patience));
  TRY(send_message(socket.get(), {{"op", "ping"}}));
  TRY(await_answer(socket.get(), patience));
  return Verdict::adopted;
}

// A directory of RUN whose container is gone goes too, when it is of another boot. One of this boot may belong to
// another store that shares RUN.
void sweep_run_dirs(const Roots& roots) {
  const auto entries = fs::list(roots.run_containers.get());
  const auto boot = sys::boot_id();
  if (!entries || !boot) return;
  for (const auto& entry : *entries) {
    if (!is_id(entry.name) || open_container(roots, entry.name)) continue;
    const auto dir = open_run_dir(roots, entry.name);
    const auto text = dir ? fs::read_file(dir->get(), kStatusFile, kRecordLimit) : Result<std::string>(std::string());
    const auto status = text ? parse_status(*text) : Result<Status>(Error(Code::corrupt, ""));
    if (status && status->boot_id != *boot) (void)remove_run_dir(roots.run_containers.get(), entry.name);
  }
}

// A name whose container was never finished, or is gone. Order: the draft is looked for before the container, as it
// becomes that by a rename.
void sweep_names(const Roots& roots) {
  const auto entries = fs::list(roots.names.get());
  if (!entries) return;
  for (const auto& entry : *entries) {
    const auto id = find_name(roots, entry.name);
    if (!id) continue;
    const auto there = [&](const std::string& name) {
      return sys::is_there(roots.store_containers.get(), name.c_str());
    };
    if (!there(str(kNewPrefix, *id)) && !there(*id)) (void)remove_name(roots.names.get(), entry.name, *id);
  }
}

// What a load or a removal that was killed has left takes room until somebody clears it away. With a damaged image
// every layer may be needed.
void sweep_images(int store_fd) {
  (void)image::sweep_sessions(store_fd);
  const auto orphans = image::find_orphans(store_fd);
  if (!orphans) return;
  for (const auto& orphan : *orphans) (void)image::clear_flaw(store_fd, orphan);
}

Result<std::vector<Patient>> patients(const Roots& roots) {
  const int containers = roots.store_containers.get();
  std::vector<Patient> all;
  for (const auto& entry : TRY(fs::list(containers))) {
    if (!is_id(entry.name)) {
      sweep(containers, roots.names.get(), entry.name);
      continue;
    }
    Patient patient{.id = entry.name, .name = {}};
    const auto dir = open_container(roots, entry.name);
    const auto container = dir ? read_container(dir->get(), entry.name) : Result<Container>(Error(Code::corrupt, ""));
    if (container) {
      patient.name = container->name;
      patient.created_ns = container->created_ns;
    }
    all.push_back(std::move(patient));
  }
  std::sort(all.begin(), all.end(), [](const Patient& a, const Patient& b) {
    return a.created_ns != b.created_ns ? a.created_ns < b.created_ns : a.id < b.id;
  });
  return all;
}

// One that is on its way: its supervisor was asked, and has not answered yet.
struct Starting {
  std::size_t index = 0;  // into the report
  Result<Supervised> supervised;
};

Starting begin_start(const Roots& roots, const std::string& id, std::size_t index) {
  return {index, ensure_supervisor(
                     roots, id, [](int) -> Result<void> { return {}; },
                     [](int socket) {
                       return send_message(socket, {{"op", "start"}, {"heal", true}});
                     },
                     Starter::heal)};
}

Result<void> end_start(const Roots& roots, const std::string& id, Starting starting) {
  constexpr int kMostAttempts = 8;
  Patience patience(roots, id, Patience::Limits::of_start());
  for (int attempt = 0;; ++attempt) {
    if (!starting.supervised) return starting.supervised.error();
    const Supervised& supervised = *starting.supervised;
    const auto answer = await_answer(supervised.socket.get(), patience);
    if (!answer && is_hang_up(answer.error()) && attempt < kMostAttempts) {
      // It was killed, or had come to its end, or cannot read the container's files.
      TRY(check_files(supervised.store_dir.get(), id));
      pause_ms(2);
      starting = begin_start(roots, id, starting.index);
      continue;
    }
    if (!answer) return answer.error();
    if (!answer->json.contains("error")) return {};
    if (!oci::get_bool(answer->json, "again")) (void)await_no_supervisor(supervised.alive.get(), patience);
    return error_of(answer->json);
  }
}

void start_all(const Roots& roots, std::vector<Healed>& report) {
  std::vector<std::size_t> waiting;
  for (std::size_t i = 0; i < report.size(); ++i)
    if (report[i].deed == Deed::started) waiting.push_back(i);
  for (std::size_t from = 0; from < waiting.size(); from += kHealedAtOnce) {
    std::vector<Starting> batch;
    for (std::size_t i = from; i < std::min(waiting.size(), from + kHealedAtOnce); ++i)
      batch.push_back(begin_start(roots, report[waiting[i]].id, waiting[i]));
    for (Starting& starting : batch) {
      Healed& healed = report[starting.index];
      auto started = end_start(roots, healed.id, std::move(starting));
      if (started) continue;
      healed.deed = Deed::failed;
      healed.error = std::move(started).error();
    }
  }
}

Deed deed_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::adopted: return Deed::adopted;
    case Verdict::removed: return Deed::removed;
    case Verdict::recorded: return Deed::recorded;
    case Verdict::cleaned: return Deed::cleaned;
    default: return Deed::started;
  }
}

}  // namespace
}  // namespace supervise

Result<std::vector<Healed>> Engine::heal() {
  using namespace supervise;
  const Roots& roots = impl_->roots;
  std::vector<Healed> report;
  for (auto& patient : TRY(patients(roots))) {
    auto verdict = examine(roots, patient.id);
    // Removed by somebody else meanwhile, or nothing to do.
    if (verdict ? *verdict == Verdict::fine : verdict.error().code() == Code::not_found) continue;
    Healed healed{.deed = verdict ? deed_of(*verdict) : Deed::failed,
                  .id = std::move(patient.id),
                  .name = std::move(patient.name),
                  .error = {}};
    if (!verdict) healed.error = std::move(verdict).error();
    report.push_back(std::move(healed));
  }
  sweep_run_dirs(roots);
  sweep_names(roots);
  start_all(roots, report);
  // Order: last. It can take long, and nothing that should run has to wait for it.
  sweep_images(impl_->images.dir_fd());
  return report;
}

}  // namespace skink
