// SPDX-License-Identifier: Apache-2.0
#include "image/layer_job.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <new>

#include "base/text.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::size_t kAnswerMost = 256U << 10;
constexpr std::size_t kPage = 4096;
// Each takes up to some 64 MiB in its processes (zstd with a long window more), so many processors are no reason for
// many of them.
constexpr std::size_t kJobsMost = 4;

oci::Json to_json(const Error& error) {
  return oci::Json{
      {"error", printable(error.text())}, {"code", static_cast<int>(error.code())}, {"errno", error.errnum()}};
}

oci::Json to_json(const Result<oci::Digest>& digest) {
  return digest ? oci::Json(digest->text()) : to_json(digest.error());
}

Error error_of(const oci::Json& json) {
  return Error::make(static_cast<Code>(oci::get_int(json, "code", static_cast<int>(Code::internal))),
                     oci::get_string(json, "error", "no word"))
      .numbered(static_cast<int>(oci::get_int(json, "errno")));
}

Result<oci::Digest> digest_of(const oci::Json& json, const char* key) {
  const oci::Json* found = oci::find(json, key);
  if (found == nullptr) return Error::make(Code::internal, "answer of a layer's import: no ", std::string_view(key));
  if (const auto* text = found->get_ptr<const std::string*>()) return oci::Digest::parse(*text);
  return error_of(*found);
}

std::string describe(const Result<Imported>& imported) {
  if (!imported) return oci::dump_json(to_json(imported.error()));
  oci::Json json{{"digest", to_json(imported->digest)},
                 {"diffId", to_json(imported->diff_id)},
                 {"tarSize", imported->tar_size},
                 {"devices", imported->notes.devices},
                 {"xattrs", imported->notes.xattrs}};
  if (imported->seal) json["seal"] = imported->seal->layer.text();
  if (imported->seal && imported->seal->recipe) json["recipeSeal"] = imported->seal->recipe->text();
  return oci::dump_json(json);
}

Result<Imported> parse(const std::string& answer) {
  const auto json = TRY_CTX(oci::parse_json(answer), "answer of a layer's import");
  if (oci::find(json, "error") != nullptr) return error_of(json);
  const auto number = [&](const char* key) { return static_cast<std::uint64_t>(oci::get_int(json, key)); };
  Imported imported{digest_of(json, "digest"), digest_of(json, "diffId"), number("tarSize"),
                    UnpackNotes{.devices = number("devices"), .xattrs = number("xattrs")}};
  if (oci::find(json, "seal") != nullptr) imported.seal = Seal{.layer = TRY(digest_of(json, "seal")), .recipe = {}};
  if (imported.seal && oci::find(json, "recipeSeal") != nullptr)
    imported.seal->recipe = TRY(digest_of(json, "recipeSeal"));
  return imported;
}

// Here, so that one layer goes to disk while the next ones are read. What others have written to the file system is not
// waited for, as syncfs(2) would.
Result<Imported> import_to_disk(const ImportRequest& request, std::uint32_t& syncs) {
  auto imported = import_layer(request);
  if (!imported || !imported->diff_id) return imported;
  std::atomic_ref(syncs).store(1);
  for (const int fd : {request.layer_fd, request.recipe_fd})
    if (fd >= 0 && ::fdatasync(fd) != 0) return Error::from_errno(errno, "write the layer to disk");
  return imported;
}

[[noreturn]] void work(const ImportRequest& request, std::uint32_t& syncs, int answer_fd, pid_t parent) {
  // It dies with the command, and what it starts dies with it.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != parent) ::_exit(1);
  (void)::signal(SIGPIPE, SIG_IGN);
  (void)sys::write_all(answer_fd, describe(import_to_disk(request, syncs)), "answer");
  ::_exit(0);
}

}  // namespace

Result<LayerJob> LayerJob::start(ImportRequest request) {
  LayerJob job;
  void* page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return Error::from_errno(errno, "mmap");
  job.shared_ = new (page) Shared;
  request.progress = &job.shared_->bytes;
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  job.answer_ = UniqueFd(ends[0]);
  const UniqueFd write_end(ends[1]);
  const pid_t parent = ::getpid();
  job.pid_ = ::fork();
  if (job.pid_ < 0) return Error::from_errno(errno, "fork");
  if (job.pid_ == 0) work(request, job.shared_->syncs, write_end.get(), parent);
  return job;
}

LayerJob::LayerJob(LayerJob&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      answer_(std::move(other.answer_)),
      shared_(std::exchange(other.shared_, nullptr)) {}

LayerJob::~LayerJob() {
  stop();
  if (shared_ != nullptr) ::munmap(shared_, kPage);
}

std::uint64_t LayerJob::progress() const { return std::atomic_ref(shared_->bytes).load(); }

bool LayerJob::is_syncing() const { return std::atomic_ref(shared_->syncs).load() != 0; }

Result<Imported> LayerJob::end() {
  const auto answer = sys::read_all(answer_.get(), kAnswerMost, "answer of a layer's import");
  answer_.reset();
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
  if (WIFSIGNALED(status))
    return Error::make(Code::internal, "the process that imports it was killed by signal ", WTERMSIG(status));
  return parse(TRY(answer));
}

void LayerJob::stop() {
  if (pid_ < 0) return;
  (void)::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
}

std::size_t jobs_most() {
  cpu_set_t cpus;
  const int count = ::sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
  return std::clamp<std::size_t>(static_cast<std::size_t>(count + 1) / 2, 2, kJobsMost);
}

}  // namespace skink::image
