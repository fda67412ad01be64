// SPDX-License-Identifier: Apache-2.0
#include "cli/load_progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "base/durations.h"
#include "base/text.h"
#include "cli/human.h"
#include "fs/dir.h"
#include "sys/file.h"

namespace skink::cli {

namespace {

using State = image::LayerProgress::State;

constexpr std::size_t kBar = 24;
constexpr char kUp[] = "\x1b[A", kClearBelow[] = "\r\x1b[J";

std::size_t terminal_width() {
  winsize size{};
  constexpr std::size_t kUsual = 80;
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

// "sha256:0123456789ab", or the beginning of a member's name.
std::string name_of(const std::string& label) { return shortened(label, 19); }

std::string bytes_of(std::uint64_t bytes) { return human_size(static_cast<std::int64_t>(bytes)); }

}  // namespace

std::string progress_line(const image::LayerProgress& layer, std::int64_t elapsed_ns, std::size_t width) {
  std::string line = name_of(layer.label);
  const bool known = layer.size > 0;
  if (known) {
    const auto full = static_cast<std::size_t>(std::min<std::uint64_t>(layer.bytes, layer.size) * kBar / layer.size);
    line += str(" [", std::string(full, '#'), std::string(kBar - full, '.'), ']');
  }
  line += str("  ", bytes_of(layer.bytes));
  if (known) line += str(" of ", bytes_of(layer.size));
  if (layer.state == State::syncing) return (line + "  writing to disk").substr(0, width);
  // Of the first moments a rate says nothing.
  if (elapsed_ns >= kSecond / 2 && layer.bytes > 0) {
    const std::uint64_t rate = layer.bytes * 1000 / static_cast<std::uint64_t>(elapsed_ns / 1'000'000);
    line += str("  ", bytes_of(rate), "/s");
    if (known && rate > 0 && layer.bytes < layer.size)
      line += str("  ", (layer.size - layer.bytes) / rate + 1, " s left");
  }
  return line.substr(0, width);
}

image::ProgressFunction LoadProgress::function() {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [this](const std::vector<image::LayerProgress>& layers) { show(layers); };
}

image::WaitFunction LoadProgress::waits(Context& context) {
  return [this, &context](const std::string& words) {
    clear();
    context.note(words);
  };
}

void LoadProgress::show(const std::vector<image::LayerProgress>& layers) {
  begun_ns_.resize(layers.size());
  is_told_.resize(layers.size());
  const std::int64_t now = fs::now_ns();
  const std::size_t width = terminal_width();
  std::string text;
  for (; lines_ > 0; --lines_) text += kUp;
  text += kClearBelow;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const bool done = layers[i].state == State::written || layers[i].state == State::reused;
    if (!done || is_told_[i]) continue;
    is_told_[i] = true;
    const char* what = layers[i].state == State::written ? "stored" : "is there already";
    text += str(name_of(layers[i].label), "  ", std::string_view(what), '\n');
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].state != State::running && layers[i].state != State::syncing) continue;
    if (begun_ns_[i] == 0) begun_ns_[i] = now;
    text += str(progress_line(layers[i], now - begun_ns_[i], width > 1 ? width - 1 : 1), '\n');
    ++lines_;
  }
  (void)sys::write_all(STDERR_FILENO, text, "terminal");
}

void LoadProgress::clear() {
  std::string text;
  for (; lines_ > 0; --lines_) text += kUp;
  if (!text.empty()) (void)sys::write_all(STDERR_FILENO, text + kClearBelow, "terminal");
  begun_ns_.clear();
  is_told_.clear();
}

}  // namespace skink::cli
