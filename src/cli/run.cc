// SPDX-License-Identifier: Apache-2.0
// skink run and create: from the command line to a container.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/archive_name.h"
#include "cli/attach.h"
#include "cli/load.h"
#include "cli/run_command.h"
#include "cli/verbs.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

// --cidfile: made first, as a file that exists is refused before anything is done; removed again unless it was filled.
class IdFile {
 public:
  static Result<IdFile> make(const std::string& path) {
    IdFile file(path);
    if (!path.empty())
      file.fd_ = TRY_CTX(sys::open_at(AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644), "--cidfile");
    return file;
  }
  IdFile(IdFile&&) = default;
  IdFile& operator=(IdFile&&) = delete;
  ~IdFile() {
    if (fd_) ::unlink(path_.c_str());
  }
  Result<void> fill(const std::string& id) {
    if (fd_) TRY_CTX(sys::write_all(fd_.get(), id, path_), "--cidfile");
    return {};
  }
  void keep() { fd_.reset(); }

 private:
  explicit IdFile(std::string path) : path_(std::move(path)) {}
  std::string path_;
  UniqueFd fd_;
};

// While it lives, ^C and the like wait: a container is made whole or not at all (fault F23). They strike when it dies.
class HeldSignals {
 public:
  HeldSignals() {
    ::sigemptyset(&held_);
    for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM}) {
      struct sigaction action {};
      const bool ignored = ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;  // nohup
      if (!ignored) ::sigaddset(&held_, signal);
    }
    ::sigprocmask(SIG_BLOCK, &held_, &before_);
  }
  HeldSignals(const HeldSignals&) = delete;
  HeldSignals& operator=(const HeldSignals&) = delete;
  ~HeldSignals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  [[nodiscard]] bool any() const {
    sigset_t waiting;
    if (::sigpending(&waiting) != 0) return false;
    for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM})
      if (::sigismember(&held_, signal) == 1 && ::sigismember(&waiting, signal) == 1) return true;
    return false;
  }

 private:
  sigset_t held_{}, before_{};
};

struct Found {
  image::Image image;
  std::string handle;  // the name or id by which the engine finds it, as ps shows it
};

Result<Found> find_image(Context& context, Engine& engine, const RunCommand& command) {
  if (TRY(names_archive(command.image))) {
    image::Image image = TRY(load_for_run(context, engine, command.image, command.platform));
    std::string handle = handle_of(image);
    return Found{std::move(image), std::move(handle)};
  }
  image::Image image = TRY(engine.images().find(command.image));
  if (command.platform && image.config.platform != *command.platform)
    return Error::make(Code::not_found, quoted(command.image), " is stored for ",
                       printable(oci::to_text(image.config.platform)), ", not for ", oci::to_text(*command.platform),
                       "; load the other from its archive with --platform");
  return Found{std::move(image), command.image};
}

// Of another operating system no program runs. Of another processor it may, by an interpreter.
Result<void> check_platform(Context& context, const Found& found) {
  const oci::Platform host = oci::host_platform();
  const oci::Platform& made_for = found.image.config.platform;
  if (!made_for.os.empty() && made_for.os != host.os)
    return Error::make(Code::unsupported, "image ", quoted(found.handle), " is for ", printable(oci::to_text(made_for)),
                       ", and this host is ", oci::to_text(host), ": load the image of this platform, or another one");
  if (!made_for.architecture.empty() && !oci::matches(made_for, host))
    context.note(str("image ", quoted(found.handle), " is for ", oci::to_text(made_for), ", and this host is ",
                     oci::to_text(host), ": its programs run only where binfmt_misc has an interpreter for them"));
  return {};
}

Result<std::string> create_container(Context& context, Engine& engine, RunCommand& command) {
  if (command.request.bundle.empty()) {
    const Found found = TRY(find_image(context, engine, command));
    TRY(check_platform(context, found));
    command.request.image = found.handle;
    // An image's labels are the container's too; one of the command line wins.
    const auto& labels = found.image.config.run.labels;
    command.request.run.labels.insert(labels.begin(), labels.end());
  }
  std::vector<std::string> notes;
  const HeldSignals held;
  std::string id = TRY(engine.create(command.request, notes));
  if (held.any()) {
    TRY(engine.remove(id, true));
    return Error::make(Code::busy, "interrupted");
  }
  for (const auto& note : notes) context.note(note);
  return id;
}

// What both verbs do: everything up to a container that was created.
struct Created {
  Engine engine;
  std::string id;
};

Result<Created> create(Context& context, RunCommand& command, IdFile& id_file) {
  Engine engine = TRY(context.open_engine());
  std::string id = TRY(create_container(context, engine, command));
  if (auto filled = id_file.fill(id); !filled) {
    Error error = std::move(filled).error();
    if (auto removed = engine.remove(id, true); !removed) error.also(removed.error());
    return error;
  }
  return Created{std::move(engine), std::move(id)};
}

// The arguments, complete; the exit status when there is nothing more to do.
std::optional<int> read(Context& context, std::span<const Option<RunCommand>> table, Arguments args,
                        RunCommand& command) {
  const auto line = parse_run(table, args, command);
  if (!line) return context.misuse(line.error());
  if (line->help) return context.show_help(words_of(table));
  if (auto complete = complete_run(command, real_surroundings()); !complete)
    return context.fail(complete.error(), kOwnFailure);
  return std::nullopt;
}

int run_run(Context& context, Arguments args) {
  RunCommand command;
  if (auto status = read(context, run_options(), args, command)) return *status;
  const plan::RunOptions& options = command.request.run;
  const AttachOptions attach{.stdin_open = options.interactive,
                             .tty = options.tty,
                             .forward_signals = command.forward_signals,
                             .on_running = {},
                             .on_change = {},
                             .detach_keys = command.detach_keys};
  if (!command.detach)
    if (auto fine = check_terminal(attach); !fine) return context.fail(fine.error(), kOwnFailure);
  auto id_file = IdFile::make(command.cidfile);
  if (!id_file) return context.fail(id_file.error(), kOwnFailure);
  command.request.start_follows = true;
  auto created = create(context, command, *id_file);
  if (!created) return context.fail(created.error(), kOwnFailure);
  const Foreground foreground{created->id, command.request.name, attach, command.request.remove_at_end};
  const int status = run_new_container(context, created->engine, foreground, command.detach);
  if (command.detach && status == 0) context.say(created->id);
  id_file->keep();
  return status;
}

int run_create(Context& context, Arguments args) {
  RunCommand command;
  if (auto status = read(context, create_options(), args, command)) return *status;
  auto id_file = IdFile::make(command.cidfile);
  if (!id_file) return context.fail(id_file.error(), kOwnFailure);
  auto created = create(context, command, *id_file);
  if (!created) return context.fail(created.error(), kOwnFailure);
  context.say(created->id);
  id_file->keep();
  return 0;
}

}  // namespace

const Verb kRunVerb{
    "run",
    "[OPTIONS] IMAGE|FILE.tar [ARG...]",
    "Create a container and run it under supervision",
    R"(IMAGE is a name, an id or the beginning of an id (skink images). An argument with a '/' or an
archive's ending that names a file is loaded first, as far as it is not stored yet. Options
after IMAGE belong to the program.

The root file system is read-only. /tmp, /run and /var/tmp are writable and in memory, and so
are the image's volumes. Give a program that wants to write elsewhere --tmpfs PATH, or all of
the root with --writable; each run starts from the image again. To keep data, bind a
directory of the host with -v.

In the foreground (without -d) output goes to the caller and to skink logs, signals go to the
program, and run ends when the restart policy gives up.

A PROBE may end with options, as in http://:8080/health,interval=5s,timeout=1s,failures=2:
interval, timeout, delay and grace are times, failures and successes numbers. Another word is
refused; a comma of the path itself is written %2C.

Exit status: the program's; 128 + N when signal N ended it; 125 when skink itself failed,
126 when the program cannot be executed, 127 when it is not there. With -d: 0.

Examples:
  skink run --rm web.tar
  skink run -it --rm debian sh
  skink run -d --name web --network host --restart always -m 256m web:1.1
  skink run --rm -v /srv/data:/data:ro --tmpfs /var/cache:size=16m debian ls /data
)",
    kOwnFailure,
    run_run,
};

const Verb kCreateVerb{
    "create",
    "[OPTIONS] IMAGE|FILE.tar [ARG...]",
    "Create a container without starting it",
    R"(Takes the options of skink run and prints the container's id; skink start starts it.

Exit status: 0; 125 on failure.

Example:
  skink create --name job -v /srv/data:/data debian du -s /data
)",
    kOwnFailure,
    run_create,
};

}  // namespace skink::cli
