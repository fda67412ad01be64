// SPDX-License-Identifier: Apache-2.0
// Recipes: the tar that comes out is the one that went in, to the byte, or there is an error.
#include "image/recipe.h"

#include <sys/mman.h>

#include "fixture.h"
#include "image/layer_check.h"
#include "image/unpack.h"
#include "maker.h"

namespace skink::image::test {
namespace {

using ::testing::HasSubstr;

UniqueFd memory_file(const std::string& bytes = "") {
  UniqueFd file(::memfd_create("recipe-test", MFD_CLOEXEC));
  EXPECT_EQ(::write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  return file;
}

std::uint64_t size_of(const UniqueFd& file) {
  struct stat facts {};
  EXPECT_EQ(::fstat(file.get(), &facts), 0);
  return static_cast<std::uint64_t>(facts.st_size);
}

struct Made {
  UniqueFd layer, recipe;
};

Made make(const std::string& bytes) {
  Made made{memory_file(), memory_file()};
  const UniqueFd in = memory_file(bytes);
  FileSource source(in.get(), 0, bytes.size());
  const auto writer = make_erofs_writer(UniqueFd(::dup(made.layer.get())), {});
  const auto recipe = RecipeWriter::create(made.recipe.get());
  RecordingSource recording(source, **recipe);
  EXPECT_TRUE(unpack_layer(recording, **writer, UnpackLimits{}, &recording));
  char rest[1000];
  while (*recording.read(rest, sizeof rest) > 0) continue;
  EXPECT_TRUE((*writer)->finish());
  EXPECT_TRUE((*recipe)->finish());
  return made;
}

Result<std::string> replay(const Made& made) {
  std::string out;
  TRY(replay_recipe(made.recipe.get(), size_of(made.recipe), made.layer.get(), [&](std::string_view bytes) {
    out.append(bytes);
    return Result<void>();
  }));
  return out;
}

// Sizes around blocks, holes, what is replaced later, whiteouts with data, links, extended headers, what trails.
std::string varied_tar() {
  std::vector<TarSpec> entries{directory("d/")};
  for (const int length : {0, 1, 511, 512, 513, 4000, 4033, 4095, 4096, 4097, 8192, 300'000, 524'288})
    entries.push_back(file("d/f" + std::to_string(length),
                           std::string(static_cast<std::size_t>(length), static_cast<char>('a' + length % 26))));
  entries.push_back(file("d/zero", std::string(100'000, '\0')));
  entries.push_back(file("d/f4097", "another one in its place"));
  entries.push_back(file("d/.wh.gone", "a whiteout that says something"));
  entries.push_back(hardlink("d/hard", "d/f513"));
  entries.push_back(symlink("d/soft", "f1"));
  entries.push_back(file("d/" + std::string(80, 'n'), "long"));
  entries.back().pax = {{"path", "d/" + std::string(240, 'n')}, {"SCHILY.xattr.user.note", "kept"}};
  return tar(entries) + std::string(10'240, '\0') + "what follows the end";
}

TEST(Recipe, MakesTheTarAgainToTheByte) {
  const std::string bytes = varied_tar();

  const Made made = make(bytes);
  const auto again = replay(made);

  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(again->size(), bytes.size());
  EXPECT_TRUE(*again == bytes);
  EXPECT_EQ(read_recipe_header(made.recipe.get())->tar_size, bytes.size());
  EXPECT_LT(size_of(made.recipe), 4096u) << "contents are not in it";
}

TEST(Recipe, ADamagedOneMakesNothingElse) {
  const std::string bytes = varied_tar();
  const Made good = make(bytes);
  std::string recipe(size_of(good.recipe), '\0');
  ASSERT_EQ(::pread(good.recipe.get(), recipe.data(), recipe.size(), 0), static_cast<ssize_t>(recipe.size()));
  for (std::size_t at = 0; at < recipe.size(); at += 7) {
    std::string damaged = recipe;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    const auto made = replay({UniqueFd(::dup(good.layer.get())), memory_file(damaged)});
    // It may be other bytes, which their digest shows, but never more of them.
    EXPECT_LE(made ? made->size() : 0, bytes.size()) << at;
  }
  for (const std::size_t length : {0UL, 8UL, 16UL, 20UL, recipe.size() / 2, recipe.size() - 1})
    EXPECT_FALSE(replay({UniqueFd(::dup(good.layer.get())), memory_file(recipe.substr(0, length))})) << length;
  EXPECT_THAT(replay({memory_file("short"), memory_file(recipe)}).error().text(), HasSubstr("beyond the end"));
}

// ---- layer_check ----

TEST(LayerCheck, TakesWhatSkinkWrites) {
  const Made made = make(varied_tar());
  std::vector<TarSpec> many{directory("./", 0700)};
  for (int i = 0; i < 3000; ++i) many.push_back(file("many/file-with-a-long-name-" + std::to_string(i), "x"));
  for (int i = 0; i < 40; ++i) {
    many.push_back(directory("./"));
    many.back().pax = {{"SCHILY.xattr.user.n" + std::to_string(i), std::string(200, 'v')}};
  }
  many.push_back(file("many/.wh..wh..opq"));

  const Made large = make(tar(many));
  const Made empty = make(tar({}));

  for (const Made* each : {&made, &large, &empty}) {
    const auto checked = walk_layer_file(each->layer.get(), size_of(each->layer));
    EXPECT_TRUE(checked) << checked.error().text();
  }
}

TEST(LayerCheck, OtherBytesAreRefusedOrHarmless) {
  const Made good = make(tar({directory("d/"), file("d/a", "a"), file("d/b", std::string(5000, 'b')),
                              symlink("d/l", "a"), hardlink("d/h", "d/a")}));
  const std::uint64_t size = size_of(good.layer);
  std::string layer(size, '\0');
  ASSERT_EQ(::pread(good.layer.get(), layer.data(), size, 0), static_cast<ssize_t>(size));
  std::size_t refused = 0, tried = 0;
  for (std::size_t at = 0; at < layer.size(); at += 3) {
    if (layer[at] == '\0' && at % 33 != 0) continue;
    std::string damaged = layer;
    damaged[at] = static_cast<char>(damaged[at] + 1);
    const UniqueFd file = memory_file(damaged);
    ++tried;
    if (!walk_layer_file(file.get(), size)) ++refused;
  }
  EXPECT_GT(refused, 20u) << "of " << tried;
  for (const std::uint64_t length : {std::uint64_t{0}, std::uint64_t{4096}, size - 4096, size - 1})
    EXPECT_FALSE(walk_layer_file(memory_file(layer.substr(0, length)).get(), length)) << length;
}

}  // namespace
}  // namespace skink::image::test
