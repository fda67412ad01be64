// SPDX-License-Identifier: Apache-2.0
#include "image/importer.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "base/sha256.h"
#include "image/gunzip.h"
#include "image/layer_check.h"
#include "image/recipe.h"
#include "image/window_room.h"
#include "image/worker.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

// A bomb unpacks to a thousand times its size (gzip) or 30,000 times (zstd); layers of programs to three times.
// Below the floor nobody minds.
constexpr std::uint64_t kBombFloor = 512U << 20;
constexpr std::uint64_t kBombRatio = 500;
constexpr std::size_t kPipePiece = 256U << 10;
constexpr int kPipe = 1 << 20;

std::uint64_t work_of(const ImportRequest& request) {
  return request.packed_size != 0 ? request.packed_size : request.budget;
}

// Tar headers of 512 bytes out of larger pieces.
class BufferedSource final : public ByteSource {
 public:
  explicit BufferedSource(ByteSource& inner) : inner_(inner), buffer_(kPipePiece) {}
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

// gzip goes through libdeflate where it can.
Result<void> inflate_into(const ImportRequest& request, WindowRoom* room, ByteSource& packed, const ByteSink& sink) {
  if (request.compression == oci::Compression::gzip && request.packed_size != 0) {
    auto unpacked = gunzip(packed, request.packed_size, sink);
    if (unpacked || unpacked.error().code() != Code::unsupported) return unpacked;
  }
  const auto inflater =
      TRY(request.compression ? make_inflater(*request.compression, packed, room) : detect_and_inflate(packed, room));
  std::vector<char> piece(kPipePiece);
  while (const std::size_t got = TRY(inflater->read(piece.data(), piece.size()))) TRY(sink({piece.data(), got}));
  return {};
}

// Gives up without a word when nobody reads on: then another says why.
Result<std::string> inflate(const ImportRequest& request, WindowRoom* room, int out_fd) {
  CountingSource packed(request.packed);
  const auto check = bomb_check([&packed] { return packed.count(); }, request.budget);
  std::uint64_t count = 0;
  const auto inflated = inflate_into(request, room, packed, [&](std::string_view bytes) -> Result<void> {
    TRY(check(count += bytes.size()));
    if (request.progress != nullptr) std::atomic_ref(*request.progress).store(packed.count());
    return sys::write_all(out_fd, bytes, "unpacked bytes");
  });
  if (!inflated && inflated.error().errnum() != EPIPE) return Error(inflated.error());
  return std::string();
}

// The limit of the layer's file is what is free.
Error out_of_space(Error error, std::uint64_t budget) {
  if (error.errnum() != EFBIG) return error;
  return Error::from_errno(ENOSPC, "as a layer it takes more than the ", budget, " bytes free");
}

Result<UnpackNotes> write_layer(ByteSource& tar, const ImportRequest& request) {
  const auto writer = TRY(make_erofs_writer(UniqueFd(request.layer_fd), request.uuid));
  std::unique_ptr<RecipeWriter> recipe;
  std::optional<RecordingSource> recording;
  if (request.recipe_fd >= 0) {
    recipe = TRY(RecipeWriter::create(request.recipe_fd));
    recording.emplace(tar, *recipe);
  }
  ByteSource& source = recording ? *recording : tar;
  const UnpackNotes notes = TRY(unpack_layer(source, *writer, UnpackLimits{}, recording ? &*recording : nullptr));
  // What follows the end of the archive counts for the digest.
  std::vector<char> rest(kPipePiece);
  while (TRY(source.read(rest.data(), rest.size())) > 0) continue;
  TRY(writer->finish());
  if (recipe) TRY(recipe->finish());
  return notes;
}

Result<std::string> build(const ImportRequest& request, int in_fd) {
  StreamSource stream(in_fd);
  BufferedSource tar(stream);
  auto notes = write_layer(tar, request);
  if (!notes) return out_of_space(std::move(notes).error(), request.budget);
  return oci::dump_json(oci::Json{{"devices", notes->devices}, {"xattrs", notes->xattrs}});
}

// Hashes what the inflater writes, on its way to the builder, and the packed bytes by turns.
class Relay {
 public:
  Relay(const ImportRequest& request, int from_fd, int to_fd, const Worker* builder)
      : request_(request), from_(from_fd), to_(to_fd), builder_(builder) {
    if (request.hashed != nullptr) packed_.emplace(*request.hashed);
  }
  Result<void> run();
  Result<oci::Digest> digest() {
    return packed_ ? packed_->finish() : Result<oci::Digest>(Error::make(Code::internal, "the blob was not hashed"));
  }
  oci::Digest diff_id() { return oci::Digest::of_bytes(hash_.finish()); }
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  const ImportRequest& request_;
  void grant_memory(std::uint64_t count) const;
  int from_, to_;
  const Worker* builder_;
  std::optional<HashingSource> packed_;
  Sha256 hash_;
  std::uint64_t count_ = 0;
  std::vector<char> piece_ = std::vector<char>(kPipePiece);
};

// The builder gets memory as it gets entries, of which each takes a block of the tar at least.
void Relay::grant_memory(std::uint64_t count) const {
  constexpr std::uint64_t kTarBlock = 512;
  if (builder_ != nullptr) builder_->limit_memory(kWorkerBase + count / kTarBlock * kWorkerBytesPerEntry);
}

// Until the inflater or the builder ends.
Result<void> Relay::run() {
  std::uint64_t granted = 0;  // bytes of the tar
  for (;;) {
    // Before they are passed on.
    if (count_ + kPipe > granted) grant_memory(granted = count_ + 2 * std::uint64_t{kPipe});
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
      return Error::make(
          Code::corrupt, "it unpacks to more than ", kBombRatio,
          " times its size, as a bomb does; what is none can be loaded unpacked (zcat FILE | skink load -, "
          "or for a layer skopeo copy SOURCE docker-archive:FILE)");
    return {};
  };
}

namespace {

Result<Worker> start_builder(const ImportRequest& request, int in_fd) {
  WorkerTerms terms{.keep = {in_fd, request.layer_fd}, .limits = worker_limits(kWorkerMemory, work_of(request))};
  terms.limits.file_size = request.budget;
  if (request.recipe_fd >= 0) terms.keep.push_back(request.recipe_fd);
  return Worker::start(
      terms, [&] { return request.builder ? request.builder(in_fd, request.layer_fd) : build(request, in_fd); });
}

Result<Worker> start_inflater(const ImportRequest& request, int out_fd) {
  WorkerTerms terms{.keep = {request.packed_fd, out_fd},
                    .limits = worker_limits(kWorkerBase, work_of(request), WindowRoom::kSize)};
  terms.limits.file_size = 0;  // it writes to a pipe
  std::optional<WindowRoom> room;
  if (request.window_fd >= 0) {
    room.emplace(TRY(WindowRoom::map(request.window_fd)));
    terms.keep.push_back(request.window_fd);
    terms.limits.file_size = WindowRoom::kSize;
  }
  return Worker::start(terms, [&] { return inflate(request, room ? &*room : nullptr, out_fd); });
}

Result<UnpackNotes> read_notes(const std::string& answer) {
  const auto json = TRY_CTX(oci::parse_json(answer), "answer of the importer");
  return UnpackNotes{.devices = static_cast<std::uint64_t>(oci::get_int(json, "devices", 0)),
                     .xattrs = static_cast<std::uint64_t>(oci::get_int(json, "xattrs", 0))};
}

}  // namespace

Result<Imported> import_layer(const ImportRequest& request) {
  Pipe unpacked = TRY(make_pipe());
  Pipe passed = TRY(make_pipe());
  for (const Pipe* pipe : {&unpacked, &passed}) (void)::fcntl(pipe->write.get(), F_SETPIPE_SZ, kPipe);
  const bool builds = request.layer_fd >= 0;
  std::optional<Worker> builder;
  if (builds) builder = TRY(start_builder(request, passed.read.get()));
  auto inflater = start_inflater(request, unpacked.write.get());
  unpacked.write.reset();
  passed.read.reset();
  const NoSigpipe no_sigpipe;
  Relay relay(request, unpacked.read.get(), builds ? passed.write.get() : -1, builder ? &*builder : nullptr);
  auto relayed = inflater ? relay.run() : Result<void>{};
  no_sigpipe.restore();
  unpacked.read.reset();
  passed.write.reset();
  const auto inflated = inflater ? inflater->end() : Result<std::string>(inflater.error());
  const auto built = builder ? builder->end() : Result<std::string>("{}");
  for (const auto* error : {inflated ? nullptr : &inflated.error(), built ? nullptr : &built.error()})
    if (error != nullptr && error->code() != Code::corrupt) return Error(*error);
  TRY(std::move(relayed));
  Imported imported{relay.digest(), relay.diff_id(), relay.count(), {}, {}};
  if (!inflated) imported.diff_id = inflated.error();
  else if (!built) imported.diff_id = built.error();
  else {
    imported.notes = TRY(read_notes(*built));
    // The disk has something to do while it is looked at.
    if (builds) (void)::sync_file_range(request.layer_fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    if (builds) TRY(check_layer_file(request.layer_fd));
    if (builds && request.seals) {
      imported.seal = Seal{.layer = TRY(digest_file(request.layer_fd, "the layer")), .recipe = {}};
      if (request.recipe_fd >= 0) imported.seal->recipe = TRY(digest_file(request.recipe_fd, "the recipe"));
    }
  }
  return imported;
}

}  // namespace skink::image
