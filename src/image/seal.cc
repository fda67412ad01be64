// SPDX-License-Identifier: Apache-2.0
#include "image/seal.h"

#include <fcntl.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <vector>

#include "base/sha256.h"
#include "base/text.h"
#include "fs/dir.h"
#include "image/layer_files.h"
#include "image/layout.h"
#include "image/recipe.h"
#include "oci/json.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::size_t kSealPiece = 256U << 10;
constexpr std::size_t kSealMost = 4096;
constexpr std::size_t kSealXattrsMost = 64U << 10;  // XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel

Result<void> hash_file(Sha256& hash, int file_fd, std::string_view what) {
  std::vector<char> piece(kSealPiece);
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(file_fd, piece.data(), piece.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read of ", what, " at byte ", at);
    if (got == 0) return {};
    hash.update({piece.data(), static_cast<std::size_t>(got)});
    at += got;
  }
}

}  // namespace

Result<oci::Digest> digest_file(int file_fd, std::string_view what) {
  Sha256 hash;
  TRY(hash_file(hash, file_fd, what));
  return oci::Digest::of_bytes(hash.finish());
}

namespace {

// The tree as a sequence of fields, each with its length in front: no two trees give the same.
class TreeHash {
 public:
  Result<void> add_tree(int dir_fd, const std::string& name);
  Result<void> add_contents(int dir_fd, const char* name);
  oci::Digest finish() { return oci::Digest::of_bytes(hash_.finish()); }

 private:
  struct Level {
    UniqueFd dir;
    std::vector<std::string> left;  // in reverse order of names
  };
  void field(std::string_view bytes) {
    number(bytes.size());
    hash_.update(bytes);
  }
  void number(std::uint64_t value) { hash_.update({reinterpret_cast<const char*>(&value), sizeof value}); }
  Result<void> add(int dir_fd, const std::string& name);
  Result<void> enter(int dir_fd, const std::string& name);
  Result<void> add_xattrs(int file_fd);

  Sha256 hash_;
  std::vector<Level> levels_;
  std::map<ino_t, std::uint64_t> links_;  // which entry was the first of an inode with several names
  std::uint64_t count_ = 0;
};

Result<void> TreeHash::add_xattrs(int file_fd) {
  std::string list(kSealXattrsMost, '\0'), value(kSealXattrsMost, '\0');
  const ssize_t size = ::flistxattr(file_fd, list.data(), list.size());
  if (size < 0 && errno != ENOTSUP) return Error::from_errno(errno, "list of extended attributes");
  std::vector<std::string> names;
  for (std::size_t at = 0; size > 0 && at < static_cast<std::size_t>(size); at += names.back().size() + 1)
    names.emplace_back(list.c_str() + at);
  // A security module of the host may label files by itself, and differently another time.
  std::erase_if(names,
                [](const std::string& name) { return name.starts_with("security.") && name != "security.capability"; });
  std::sort(names.begin(), names.end());
  number(names.size());
  for (const auto& name : names) {
    const ssize_t got = ::fgetxattr(file_fd, name.c_str(), value.data(), value.size());
    if (got < 0) return Error::from_errno(errno, "extended attribute ", printable(name));
    field(name);
    field({value.data(), static_cast<std::size_t>(got)});
  }
  return {};
}

Result<void> TreeHash::enter(int dir_fd, const std::string& name) {
  Level level{.dir = TRY(sys::open_at(dir_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)), .left = {}};
  TRY(add_xattrs(level.dir.get()));
  for (auto& entry : TRY(fs::list(level.dir.get()))) level.left.push_back(std::move(entry.name));
  number(level.left.size());
  std::sort(level.left.begin(), level.left.end(), std::greater<>());
  levels_.push_back(std::move(level));
  return {};
}

Result<void> TreeHash::add(int dir_fd, const std::string& name) {
  const auto status = TRY(sys::stat_at(dir_fd, name.c_str(), AT_SYMLINK_NOFOLLOW));
  field(name);
  for (const std::uint64_t value :
       {std::uint64_t{status.st_mode}, std::uint64_t{status.st_uid}, std::uint64_t{status.st_gid},
        std::uint64_t{status.st_rdev}, static_cast<std::uint64_t>(status.st_mtim.tv_sec),
        static_cast<std::uint64_t>(status.st_mtim.tv_nsec)})
    number(value);
  ++count_;
  if (S_ISDIR(status.st_mode)) return enter(dir_fd, name);
  const auto first = status.st_nlink > 1 ? links_.try_emplace(status.st_ino, count_).first->second : count_;
  number(first);
  if (first != count_) return {};
  if (S_ISLNK(status.st_mode)) field(TRY(sys::readlink_at(dir_fd, name.c_str())));
  if (!S_ISREG(status.st_mode)) return {};
  number(static_cast<std::uint64_t>(status.st_size));
  return add_contents(dir_fd, name.c_str());
}

Result<void> TreeHash::add_contents(int dir_fd, const char* name) {
  const UniqueFd file = TRY(sys::open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW));
  TRY(add_xattrs(file.get()));
  return hash_file(hash_, file.get(), printable(name));
}

Result<void> TreeHash::add_tree(int dir_fd, const std::string& name) {
  TRY(add(dir_fd, name));
  while (!levels_.empty()) {
    if (levels_.back().left.empty()) {
      levels_.pop_back();
      continue;
    }
    const std::string next = std::move(levels_.back().left.back());
    levels_.back().left.pop_back();
    TRY(add(levels_.back().dir.get(), next));
  }
  return {};
}

}  // namespace

Result<oci::Digest> digest_tree(int layer_fd) {
  TreeHash hash;
  TRY(hash.add_tree(layer_fd, kTreeName));
  for (const char* name : {kImpliedName, kCoveringName, kDescriptionName}) TRY(hash.add_contents(layer_fd, name));
  return hash.finish();
}

Result<Seal> seal_of(int dir_fd, const std::string& name, bool is_file, int marks_fd) {
  const UniqueFd opened =
      TRY(sys::open_beneath(dir_fd, name.c_str(), is_file ? O_RDONLY | O_NOFOLLOW : O_RDONLY | O_DIRECTORY));
  Seal seal{.layer = TRY(is_file ? digest_file(opened.get(), "the layer") : digest_tree(opened.get())), .recipe = {}};
  const auto recipe = sys::open_beneath(marks_fd, kRecipeFile, O_RDONLY | O_NOFOLLOW);
  if (recipe) seal.recipe = TRY(digest_file(recipe->get(), "the recipe"));
  else if (recipe.error().errnum() != ENOENT) return recipe.error();
  return seal;
}

Result<void> write_seal(int marks_fd, const Seal& seal) {
  oci::Json json{{"layer", seal.layer.text()}};
  if (seal.recipe) json["recipe"] = seal.recipe->text();
  return fs::write_file_atomic(marks_fd, kSealFile, oci::dump_json(json), 0600);
}

Result<std::optional<Seal>> read_seal(int marks_fd) {
  const auto text = fs::read_file(marks_fd, kSealFile, kSealMost);
  if (!text && text.error().errnum() == ENOENT) return std::optional<Seal>();
  const auto json = TRY_CTX(oci::parse_json(TRY(text)), "seal");
  Seal seal{.layer = TRY_CTX(oci::Digest::parse(oci::get_string(json, "layer")), "seal"), .recipe = {}};
  if (oci::find(json, "recipe") != nullptr)
    seal.recipe = TRY_CTX(oci::Digest::parse(oci::get_string(json, "recipe")), "seal");
  return std::optional(std::move(seal));
}

namespace {

// What a kernel or file system without fs-verity answers (Documentation/filesystems/fsverity.rst), and one that has it
// for a file without.
bool has_none(int error) { return error == ENOTTY || error == EOPNOTSUPP || error == ENODATA; }

}  // namespace

Result<std::optional<std::string>> enable_verity(int dir_fd, const std::string& name) {
  constexpr std::uint32_t kVerityBlock = 4096;
  constexpr int kTries = 200;
  constexpr useconds_t kPause = 5000;
  const UniqueFd file = TRY(sys::open_beneath(dir_fd, name.c_str(), O_RDONLY | O_NOFOLLOW));
  fsverity_enable_arg how{};
  how.version = 1;
  how.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
  how.block_size = kVerityBlock;
  for (int i = 0; ::ioctl(file.get(), FS_IOC_ENABLE_VERITY, &how) != 0; ++i) {
    // Or not with such blocks or this hash: the file system's are smaller, the machine's pages larger.
    if (has_none(errno) || errno == EINVAL || errno == ENOPKG) return std::optional<std::string>();
    if (errno == EEXIST) break;
    // A process that was forked just now may have the writer's descriptor still, until it has closed what it does not
    // need.
    if (errno != ETXTBSY && errno != EINTR) return Error::from_errno(errno, "switch fs-verity on");
    if (i == kTries) return Error::from_errno(errno, "switch fs-verity on");
    ::usleep(kPause);
  }
  return measure_verity(file.get());
}

Result<std::optional<std::string>> measure_verity(int file_fd) {
  constexpr std::size_t kDigestMost = 64;
  alignas(fsverity_digest) std::array<std::uint8_t, sizeof(fsverity_digest) + kDigestMost> room{};
  auto* digest = reinterpret_cast<fsverity_digest*>(room.data());
  digest->digest_size = kDigestMost;
  if (::ioctl(file_fd, FS_IOC_MEASURE_VERITY, digest) != 0) {
    if (has_none(errno)) return std::optional<std::string>();
    return Error::from_errno(errno, "measure fs-verity");
  }
  std::string text = digest->digest_algorithm == FS_VERITY_HASH_ALG_SHA256 ? "sha256:" : "other:";
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (std::size_t i = 0; i < digest->digest_size; ++i) {
    const std::uint8_t byte = room[sizeof(fsverity_digest) + i];
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return std::optional(std::move(text));
}

Result<std::optional<std::string>> recorded_verity(int store_fd, const std::string& hex) {
  const std::string path = str(std::string_view(kMarks), '/', hex, '/', std::string_view(kVerityFile));
  const auto file = sys::open_beneath(store_fd, path.c_str(), O_RDONLY | O_NOFOLLOW);
  if (!file && file.error().errnum() == ENOENT) return std::optional<std::string>();
  if (!file) return file.error();
  return std::optional(TRY(sys::read_all(file->get(), kSealMost, path)));
}

Result<void> check_verity(int file_fd, const std::string& recorded) {
  const auto measured = TRY(measure_verity(file_fd));
  if (measured && *measured == recorded) return {};
  return Error::make(Code::corrupt, "its file ",
                     measured ? str("has the fs-verity digest ", *measured) : "has lost its fs-verity", ", but ",
                     printable(recorded), " was written down when it was stored; it is not what was loaded: ",
                     "skink image verify --repair FILE.tar, or remove the image and load it again");
}

}  // namespace skink::image
