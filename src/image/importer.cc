// SPDX-License-Identifier: Apache-2.0
#include "image/importer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <optional>

#include "base/sha256.h"
#include "base/text.h"
#include "image/confine.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

// A bomb unpacks to a thousand times its size (gzip) or 30,000 times (zstd); layers of programs to three times.
// Below the floor nobody minds.
constexpr std::uint64_t kBombFloor = 512U << 20;
constexpr std::uint64_t kBombRatio = 500;
constexpr std::size_t kPiece = 256U << 10;
constexpr int kPipe = 1 << 20;
constexpr std::size_t kAnswerMost = 64U << 10;
// The program, zstd's window of 128 MiB, or a million entries with as many directories.
constexpr std::uint64_t kMemory = 1U << 30;
// Processor time of one process: far more than a slow host takes.
constexpr std::uint64_t kSecondsFloor = 600;
constexpr std::uint64_t kBytesPerSecond = 1U << 20;  // packed ones

class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(ByteSource& inner) : inner_(inner) {}
  Result<std::size_t> read(char* into, std::size_t most) override {
    const std::size_t got = TRY(inner_.read(into, most));
    count_ += got;
    return got;
  }
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  ByteSource& inner_;
  std::uint64_t count_ = 0;
};

// Tar headers of 512 bytes out of larger pieces.
class BufferedSource final : public ByteSource {
 public:
  explicit BufferedSource(ByteSource& inner) : inner_(inner), buffer_(kPiece) {}
  Result<std::size_t> read(char* into, std::size_t most) override {
    if (next_ == filled_) {
      if (most >= buffer_.size()) return inner_.read(into, most);
      next_ = 0;
      filled_ = TRY(inner_.read(buffer_.data(), buffer_.size()));
    }
    const std::size_t count = std::min(most, filled_ - next_);
    std::memcpy(into, buffer_.data() + next_, count);
    next_ += count;
    return count;
  }

 private:
  ByteSource& inner_;
  std::vector<char> buffer_;
  std::size_t next_ = 0;
  std::size_t filled_ = 0;
};

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return Error::from_errno(errno, "pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// What a process says at its end.
oci::Json describe(const Error& error) {
  return oci::Json{{"error", printable(error.text()).substr(0, kAnswerMost / 2)},
                   {"code", static_cast<int>(error.code())},
                   {"errno", error.errnum()}};
}

// Gives up without a word when nobody reads on: then another says why.
Result<oci::Json> inflate(const ImportRequest& request, int out_fd) {
  CountingSource packed(request.packed);
  const auto inflater = TRY(make_inflater(request.compression, packed));
  const auto check = bomb_check([&packed] { return packed.count(); }, request.budget);
  std::vector<char> piece(kPiece);
  std::uint64_t count = 0;
  while (const std::size_t got = TRY(inflater->read(piece.data(), piece.size()))) {
    TRY(check(count += got));
    const auto written = sys::write_all(out_fd, {piece.data(), got}, "unpacked bytes");
    if (!written && written.error().errnum() == EPIPE) break;
    TRY(written);
  }
  return oci::Json::object();
}

// The limit of the layer's file is what is free.
Error out_of_space(Error error, std::uint64_t budget) {
  if (error.errnum() != EFBIG) return error;
  return Error::from_errno(ENOSPC, "as a layer it takes more than the ", budget, " bytes free");
}

Result<oci::Json> build(const ImportRequest& request, int in_fd) {
  StreamSource stream(in_fd);
  BufferedSource tar(stream);
  const auto writer = TRY(make_erofs_writer(UniqueFd(request.layer_fd), request.uuid));
  auto notes = unpack_layer(tar, *writer, UnpackLimits{});
  if (!notes) return out_of_space(std::move(notes).error(), request.budget);
  // What follows the end of the archive counts for the digest.
  std::vector<char> rest(kPiece);
  while (TRY(tar.read(rest.data(), rest.size())) > 0) continue;
  auto finished = writer->finish();
  if (!finished) return out_of_space(std::move(finished).error(), request.budget);
  return oci::Json{{"devices", notes->devices}, {"xattrs", notes->xattrs}};
}

struct Worker {
  pid_t pid = -1;
  UniqueFd answer;
};

using Work = std::function<Result<oci::Json>()>;

// What a process of ours says where operator new finds nothing: made before, since nothing can be made then. An
// exception would end in abort(), whose calls the filter forbids.
struct LastWords {
  int fd = -1;
  std::string text;
};
LastWords& last_words() {
  static LastWords words;
  return words;
}

[[noreturn]] void say_out_of_memory() {
  (void)sys::write_all(last_words().fd, last_words().text, "answer");
  ::_exit(0);
}

[[noreturn]] void work_confined(const std::vector<int>& keep, int answer_fd, const ConfineLimits& limits,
                                const Work& work) {
  for (const int signal : {SIGPIPE, SIGXFSZ}) (void)::signal(signal, SIG_IGN);
  (void)::signal(SIGXCPU, SIG_DFL);
  last_words() = {answer_fd, oci::dump_json(describe(Error::from_errno(ENOMEM, "out of memory: the importer may use ",
                                                                       limits.memory >> 20, " MiB")))};
  std::set_new_handler(say_out_of_memory);
  Result<oci::Json> done = oci::Json();
  if (auto confined = confine(keep, limits); !confined) done = std::move(confined).error().context("importer");
  else done = work();
  (void)sys::write_all(answer_fd, oci::dump_json(done ? *done : describe(done.error())), "answer");
  ::_exit(0);
}

Result<Worker> start(std::vector<int> keep, const ConfineLimits& limits, const Work& work) {
  Pipe answer = TRY(make_pipe());
  Worker worker;
  worker.answer = std::move(answer.read);
  worker.pid = ::fork();
  if (worker.pid < 0) return Error::from_errno(errno, "fork");
  if (worker.pid > 0) return worker;
  keep.push_back(answer.write.get());
  work_confined(keep, answer.write.get(), limits, work);
}

// Waits for its end: its answer, or the error that it names.
Result<oci::Json> end(Worker& worker) {
  const auto text = sys::read_all(worker.answer.get(), kAnswerMost, "answer of the importer");
  worker.answer.reset();
  int status = 0;
  while (::waitpid(worker.pid, &status, 0) < 0 && errno == EINTR) continue;
  if (WIFSIGNALED(status))
    return Error::make(Code::internal, "the importer was killed by signal ", WTERMSIG(status),
                       WTERMSIG(status) == SIGSYS    ? ": it made a system call that it has no business with"
                       : WTERMSIG(status) == SIGXCPU ? ": it took far more processor time than a layer of its size may"
                                                     : "");
  if (!text) return text.error();
  const auto answer = TRY_CTX(oci::parse_json(*text), "answer of the importer");
  if (oci::find(answer, "error") == nullptr) return answer;
  const std::int64_t code = oci::get_int(answer, "code", static_cast<int>(Code::internal));
  const bool known = code >= 0 && code <= static_cast<int>(Code::not_executable);
  return Error::make(known ? static_cast<Code>(code) : Code::internal, oci::get_string(answer, "error"))
      .numbered(static_cast<int>(oci::get_int(answer, "errno", 0)));
}

// Hashes what the inflater writes, on its way to the builder, and the packed bytes by turns.
class Relay {
 public:
  Relay(const ImportRequest& request, int from_fd, int to_fd) : request_(request), from_(from_fd), to_(to_fd) {
    if (request.hashed != nullptr) packed_.emplace(*request.hashed);
  }
  Result<void> run();
  Result<oci::Digest> digest() {
    return packed_ ? packed_->finish() : Result<oci::Digest>(Error::make(Code::internal, "the blob was not hashed"));
  }
  oci::Digest diff_id() { return oci::Digest::of_bytes(hash_.finish()); }

 private:
  const ImportRequest& request_;
  int from_, to_;
  std::optional<HashingSource> packed_;
  Sha256 hash_;
  std::uint64_t count_ = 0;
  std::vector<char> piece_ = std::vector<char>(kPiece);
};

// Until the inflater or the builder ends.
Result<void> Relay::run() {
  for (;;) {
    std::size_t wanted = piece_.size();
    if (to_ >= 0) {
      // The builder gets the pages themselves; what is read here is a copy.
      const ssize_t passed = ::tee(from_, to_, wanted, 0);
      if (passed < 0 && errno == EINTR) continue;
      if (passed < 0 && errno == EPIPE) return {};
      if (passed < 0) return Error::from_errno(errno, "tee");
      wanted = static_cast<std::size_t>(passed);
    }
    StreamSource unpacked(from_);
    const std::size_t got = wanted == 0 ? 0 : TRY(read_full(unpacked, piece_.data(), wanted));
    if (got == 0) return {};
    hash_.update({piece_.data(), got});
    count_ += got;
    // The inflater says so first, unless it is not what it was.
    if (count_ > request_.budget && count_ - got > request_.budget)
      return Error::from_errno(ENOSPC, "it unpacks to more than the ", request_.budget, " bytes free");
    if (packed_) (void)TRY(packed_->read(piece_.data(), piece_.size()));
  }
}

// A pipe whose reader is gone is an answer here, and no reason to die.
class NoSigpipe {
 public:
  NoSigpipe() {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &ignore, &before_);
  }
  void restore() const { ::sigaction(SIGPIPE, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

}  // namespace

HashingSource::Check bomb_check(std::function<std::uint64_t()> packed_count, std::uint64_t budget) {
  return [count_packed = std::move(packed_count), budget](std::uint64_t count) -> Result<void> {
    if (count > budget) return Error::from_errno(ENOSPC, "it unpacks to more than the ", budget, " bytes free");
    if (count > kBombFloor && count / kBombRatio > count_packed())
      return Error::make(Code::corrupt, "it unpacks to more than ", kBombRatio, " times its size");
    return {};
  };
}

Result<Imported> import_layer(const ImportRequest& request) {
  Pipe unpacked = TRY(make_pipe());
  Pipe passed = TRY(make_pipe());
  for (const Pipe* pipe : {&unpacked, &passed}) (void)::fcntl(pipe->write.get(), F_SETPIPE_SZ, kPipe);
  Worker builder;
  const bool builds = request.layer_fd >= 0;
  const int in_fd = passed.read.get();
  const int out_fd = unpacked.write.get();
  ConfineLimits limits{
      .memory = kMemory, .seconds = kSecondsFloor + request.packed_size / kBytesPerSecond, .file_size = request.budget};
  if (builds) builder = TRY(start({in_fd, request.layer_fd}, limits, [&] { return build(request, in_fd); }));
  limits.file_size = 0;  // it writes to a pipe
  auto inflater = start({request.packed_fd, out_fd}, limits, [&] { return inflate(request, out_fd); });
  unpacked.write.reset();
  passed.read.reset();
  const NoSigpipe no_sigpipe;
  Relay relay(request, unpacked.read.get(), builds ? passed.write.get() : -1);
  auto relayed = inflater ? relay.run() : Result<void>{};
  no_sigpipe.restore();
  unpacked.read.reset();
  passed.write.reset();
  const auto inflated = inflater ? end(*inflater) : Result<oci::Json>(inflater.error());
  const auto built = builds ? end(builder) : Result<oci::Json>(oci::Json::object());
  for (const auto* error : {inflated ? nullptr : &inflated.error(), built ? nullptr : &built.error()})
    if (error != nullptr && error->code() != Code::corrupt) return Error(*error);
  TRY(std::move(relayed));
  Imported imported{relay.digest(), relay.diff_id(), {}};
  if (!inflated) imported.diff_id = inflated.error();
  else if (!built) imported.diff_id = built.error();
  else {
    imported.notes.devices = static_cast<std::uint64_t>(oci::get_int(*built, "devices", 0));
    imported.notes.xattrs = static_cast<std::uint64_t>(oci::get_int(*built, "xattrs", 0));
  }
  return imported;
}

}  // namespace skink::image
