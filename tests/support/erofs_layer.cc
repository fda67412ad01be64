// SPDX-License-Identifier: Apache-2.0
// The EROFS writer and reader by themselves. usage:
//   erofs-layer write TAR FILE     what `skink load` makes of a layer; prints the implied directories, one a line
//   erofs-layer list TAR           the entries that the tar reader sees: type, size, name and target as hexadecimal
//   erofs-layer read FILE          for each path on standard input (each ended by a NUL) what the reader finds there
#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>

#include "base/text.h"
#include "image/layer.h"
#include "image/source.h"
#include "image/tar_reader.h"
#include "image/unpack.h"
#include "sys/file.h"

namespace {

using namespace skink;

Result<void> write_layer(const char* tar, const char* out) {
  const UniqueFd in = TRY(sys::open_at(AT_FDCWD, tar, O_RDONLY));
  image::StreamSource source(in.get());
  UniqueFd file = TRY(sys::open_at(AT_FDCWD, out, O_RDWR | O_CREAT | O_TRUNC, 0600));
  UniqueFd again = TRY(sys::dup_fd(file.get()));
  const auto writer = TRY(image::make_erofs_writer(std::move(file), image::LayerUuid{1, 2, 3}));
  TRY(image::unpack_layer(source, *writer, image::UnpackLimits{}));
  TRY(writer->finish());
  const auto reader = TRY(image::open_erofs_layer(std::move(again)));
  for (const auto& path : reader->implied()) printf("%s\n", path.c_str());
  return {};
}

std::string hex(const std::string& text) {
  return to_hex(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
}

Result<void> list_entries(const char* tar) {
  const UniqueFd in = TRY(sys::open_at(AT_FDCWD, tar, O_RDONLY));
  image::StreamSource source(in.get());
  image::TarReader reader(source);
  image::TarEntry entry;
  while (TRY(reader.next(entry)))
    printf("%c %lu %s %s\n", "fhldpcb"[static_cast<int>(entry.type)], entry.size, hex(entry.name).c_str(),
           hex(entry.link).c_str());
  return {};
}

Result<void> read_layer(const char* name) {
  const auto reader = TRY(image::open_erofs_layer(TRY(sys::open_at(AT_FDCWD, name, O_RDONLY))));
  for (std::string path; std::getline(std::cin, path, '\0');) {
    const auto node = TRY(reader->lookup(path));
    if (!node) {
      printf("none\n");
      continue;
    }
    const auto& status = node->status;
    printf("%o %u %u %ld %ld %ld%s%s\n", status.st_mode, status.st_uid, status.st_gid, status.st_size,
           status.st_mtim.tv_sec, status.st_mtim.tv_nsec, node->whiteout ? " whiteout" : "",
           node->opaque ? " opaque" : "");
    if (S_ISLNK(status.st_mode)) printf("%s\n", TRY(reader->read_link(path)).c_str());
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 2 ? argv[1] : "";
  Result<void> done;
  if (verb == "write" && argc == 4) done = write_layer(argv[2], argv[3]);
  else if (verb == "list" && argc == 3) done = list_entries(argv[2]);
  else if (verb == "read" && argc == 3) done = read_layer(argv[2]);
  else return 2;
  if (done) return 0;
  fprintf(stderr, "erofs-layer: %s\n", done.error().text().c_str());
  return 1;
}
