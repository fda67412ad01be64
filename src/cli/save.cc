// SPDX-License-Identifier: Apache-2.0
// skink save: images out of the store into an archive that others load.
#include "image/save.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "base/text.h"
#include "cli/verbs.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

struct SaveCommand {
  std::string output;
};

constexpr Option<SaveCommand> kSaveOptions[] = {
    {{"output", 'o', "FILE", "write here, not to standard output"}, set_text<&SaveCommand::output>},
};

// By a name it is that name, by an id there is none: as docker has it. An image that is said twice has both names.
Result<std::vector<image::SavedImage>> find_images(Engine& engine, const std::vector<std::string>& words) {
  std::vector<image::SavedImage> images;
  for (const auto& word : words) {
    image::Image found = TRY(engine.images().find(word));
    auto same = images.begin();
    while (same != images.end() && same->image.id != found.id) ++same;
    const auto said = image::parse_reference(word);
    std::optional<image::Reference> name;
    for (const auto& each : found.names)
      if (said && (each == said->text() || each == "localhost/" + said->text()))
        name = TRY(image::parse_reference(each));
    if (same == images.end()) same = images.insert(same, {std::move(found), {}});
    if (name) same->names.push_back(*name);
  }
  return images;
}

// The file that a signal takes away, where one has a name before it is whole: what a handler may do is unlinkat().
struct Unfinished {
  volatile sig_atomic_t is_there = 0;
  int directory = -1;
  std::array<char, 256> name{};
};
Unfinished unfinished;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): a handler has nothing else

void remove_unfinished(int signal) {
  if (unfinished.is_there != 0) (void)::unlinkat(unfinished.directory, unfinished.name.data(), 0);
  (void)::signal(signal, SIG_DFL);
  (void)::raise(signal);
}

void watch_signals(int directory, const std::string& name) {
  unfinished.directory = directory;
  const std::size_t end = name.copy(unfinished.name.data(), unfinished.name.size() - 1);
  unfinished.name[end] = '\0';
  unfinished.is_there = 1;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT})
    // What the caller ignores (nohup(1)) stays ignored.
    if (::signal(signal, remove_unfinished) == SIG_IGN) (void)::signal(signal, SIG_IGN);
}

// A file that appears whole or not at all. Until then it has no name, so that nothing is left of it whatever happens;
// where a file system cannot do that, it has another name.
class NewFile {
 public:
  static Result<NewFile> create(const std::string& path);
  [[nodiscard]] int fd() const { return file_.get(); }
  Result<void> reveal();
  void drop();

 private:
  NewFile(UniqueFd directory, std::string name) : directory_(std::move(directory)), name_(std::move(name)) {}
  UniqueFd directory_, file_;
  std::string name_, temporary_;
  bool is_linked_ = false;
};

Result<NewFile> NewFile::create(const std::string& path) {
  const auto slash = path.rfind('/');
  const std::string parent = slash == path.npos ? "." : path.substr(0, slash + 1);
  NewFile made(TRY(sys::open_at(AT_FDCWD, parent.c_str(), O_RDONLY | O_DIRECTORY)), path.substr(slash + 1));
  if (made.name_.empty()) return Error::from_errno(EISDIR, printable(path));
  made.temporary_ = str('.', made.name_.substr(0, 200), '.', fs::random_hex(8));
  constexpr mode_t kMode = 0600;  // an image may hold what is not for everybody
  auto unnamed = sys::open_at(made.directory_.get(), ".", O_RDWR | O_TMPFILE, kMode);
  if (unnamed) {
    made.file_ = std::move(*unnamed);
    return made;
  }
  // Order: before there is anything to take away.
  watch_signals(made.directory_.get(), made.temporary_);
  made.file_ = TRY(sys::open_at(made.directory_.get(), made.temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL, kMode));
  made.is_linked_ = true;
  return made;
}

Result<void> NewFile::reveal() {
  if (::fsync(file_.get()) != 0) return Error::from_errno(errno, "fsync ", printable(name_));
  if (!is_linked_) {
    const std::string self = str("/proc/self/fd/", file_.get());
    if (::linkat(AT_FDCWD, self.c_str(), directory_.get(), temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return Error::from_errno(errno, "link ", printable(name_));
    is_linked_ = true;
  }
  TRY(sys::rename_at(directory_.get(), temporary_.c_str(), directory_.get(), name_.c_str()));
  is_linked_ = false;
  unfinished.is_there = 0;
  return {};
}

void NewFile::drop() {
  if (is_linked_) (void)sys::unlink_at(directory_.get(), temporary_.c_str());
}

// What is there and is no file (a pipe, a terminal, /dev/stdout) is written into.
bool is_special(const std::string& path) {
  struct stat facts {};
  return ::stat(path.c_str(), &facts) == 0 && !S_ISREG(facts.st_mode);
}

Result<void> save_to_file(const image::Store& store, const std::vector<image::SavedImage>& images,
                          const std::string& path) {
  if (is_special(path)) {
    const UniqueFd out = TRY(sys::open_at(AT_FDCWD, path.c_str(), O_WRONLY | O_NOCTTY));
    return image::save_images(store, images, out.get());
  }
  NewFile file = TRY_CTX(NewFile::create(path), "--output ", quoted(path));
  auto saved = image::save_images(store, images, file.fd());
  if (saved) saved = file.reveal();
  if (!saved) file.drop();
  return saved;
}

int run_save(Context& context, Arguments args) {
  SaveCommand command;
  std::vector<std::string> names;
  if (auto status = read_arguments<SaveCommand>(context, kSaveOptions, args, command, names, {1, kAnyNumber, "IMAGE"}))
    return *status;
  const bool to_output = command.output.empty() || command.output == "-";
  if (to_output && ::isatty(STDOUT_FILENO) != 0)
    return context.misuse(
        Error::make(Code::invalid_config, "standard output is a terminal; name a file with --output FILE or pipe it"));
  const auto saved = [&]() -> Result<void> {
    Engine engine = TRY(context.open_engine());
    const auto images = TRY(find_images(engine, names));
    if (to_output) return image::save_images(engine.images(), images, STDOUT_FILENO);
    return save_to_file(engine.images(), images, command.output);
  }();
  return saved ? 0 : context.fail(saved.error());
}

}  // namespace

const Verb kSaveVerb{
    "save",
    "[OPTIONS] IMAGE...",
    "Write images into an archive",
    R"(The archive is an OCI layout in a tar with docker's manifest.json beside it: skopeo, podman,
containerd, docker and skink load it. Layers are the tars that they were when the image was
loaded, to the byte, and are not packed; those that several images share are in it once.
An image that is named keeps that name, one that is given by id has none in the archive.

FILE appears when it is whole; an interrupted save leaves the one of before.

Exit status: 0; 1 on failure.

Examples:
  skink save -o web.tar web:1.1 web:1.2
  skink save web | zstd >web.tar.zst
)",
    1,
    run_save,
};

}  // namespace skink::cli
