// SPDX-License-Identifier: Apache-2.0
#include "image/stored_layer.h"

#include <fcntl.h>

#include <cerrno>

#include "base/text.h"
#include "image/layout.h"
#include "sys/file.h"

namespace skink::image {
namespace {

constexpr std::string_view kEnding = ".erofs";

}  // namespace

std::string stored_name(const std::string& hex, Form form) { return form == Form::file ? str(hex, kEnding) : hex; }

std::string hex_of(const std::string& name) {
  return name.ends_with(kEnding) ? name.substr(0, name.size() - kEnding.size()) : name;
}

Result<std::optional<Form>> find_form(int store_fd, const char* part, const std::string& hex) {
  for (const Form form : {Form::file, Form::directory})
    if (TRY(exists(store_fd, str(std::string_view(part), '/', stored_name(hex, form))))) return std::optional(form);
  return std::optional<Form>();
}

Result<std::unique_ptr<LayerReader>> open_stored(int store_fd, const char* part, const std::string& hex) {
  const UniqueFd all = TRY(open_part(store_fd, part));
  auto file = sys::open_beneath(all.get(), stored_name(hex, Form::file).c_str(), O_RDONLY | O_NOFOLLOW);
  if (file) return open_erofs_layer(std::move(*file));
  if (file.error().errnum() != ENOENT) return std::move(file).error();
  return open_layer(TRY(open_part(all.get(), hex)));
}

Result<UniqueFd> open_marks(int store_fd, const std::string& hex) {
  auto directory = open_part(store_fd, str(kLayers, '/', hex));
  if (directory || directory.error().errnum() != ENOENT) return directory;
  auto marks = open_part(store_fd, str(kMarks, '/', hex));
  if (marks || marks.error().errnum() != ENOENT) return marks;
  return Error::make(Code::not_found, "no marks of the layer sha256:", hex);
}

LayerUuid uuid_of(const std::string& hex) {
  LayerUuid uuid{};
  for (std::size_t i = 0; i < uuid.size() && 2 * i + 1 < hex.size(); ++i)
    uuid[i] = parse_int<std::uint8_t>(std::string_view(hex).substr(2 * i, 2), 16).value_or(0);
  return uuid;
}

Result<UniqueFd> make_layer_file(int dir_fd, const std::string& name) {
  return sys::open_beneath(dir_fd, name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0400);
}

Result<std::unique_ptr<LayerWriter>> make_stored(int dir_fd, const std::string& name, Form form,
                                                 const LayerUuid& uuid) {
  if (form == Form::file) {
    return make_erofs_writer(TRY(make_layer_file(dir_fd, name)), uuid);
  }
  TRY(sys::mkdir_at(dir_fd, name.c_str(), 0700));
  return make_layer_writer(TRY(open_part(dir_fd, name)));
}

}  // namespace skink::image
