// SPDX-License-Identifier: Apache-2.0
// Seals: what digest_tree() looks at, and seals as they are stored.
#include "image/seal.h"

#include <sys/xattr.h>

#include "fixture.h"

namespace skink::image::test {
namespace {

class SealTest : public Scratch {
 protected:
  void SetUp() override {
    Scratch::SetUp();
    if (IsSkipped()) return;
    make("layer");
  }
  // A layer's directory with a small tree.
  void make(const std::string& name) {
    run("cd " + top_ + " && mkdir -p " + name + "/fs/d && cd " + name +
        " && : >implied && : >covering && echo {} >layer.json " +
        "&& echo a >fs/a && ln fs/a fs/hard && echo a >fs/b && ln -s a fs/link && chmod 640 fs/b && " +
        "find . -exec touch -h -d @1000.5 {} +");
  }
  Result<oci::Digest> digest(const std::string& name = "layer") const {
    const UniqueFd dir(::open((top_ + "/" + name).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return digest_tree(dir.get());
  }
};

TEST_F(SealTest, TheSameTreeHasTheSameDigestWhereverItIs) {
  make("other");

  EXPECT_EQ(*digest(), *digest("other"));
}

TEST_F(SealTest, EveryChangeOfATreeChangesIt) {
  const auto before = *digest();
  const char* const kChanges[] = {"echo b >fs/a; touch -d @1000.5 fs/a",
                                  "chmod 600 fs/b",
                                  "chown 7 fs/b",
                                  "touch -d @1000.6 fs/b",
                                  "mv fs/b fs/c",
                                  "ln -sf b fs/link; touch -h -d @1000.5 fs/link",
                                  "rm fs/hard; cp -p fs/a fs/hard",
                                  "touch -d @1000.7 fs/d",
                                  "mv fs/b fs/d/b; touch -d @1000.5 fs fs/d",
                                  "echo x >implied",
                                  "echo x >covering",
                                  "echo '{} ' >layer.json"};
  for (const char* change : kChanges) {
    run("cp -a " + top_ + "/layer " + top_ + "/kept && cd " + top_ + "/layer && { " + change + "; }");
    EXPECT_NE(*digest(), before) << change;
    run("cd " + top_ + " && rm -rf layer && mv kept layer");
    ASSERT_EQ(*digest(), before) << change;
  }
  ASSERT_EQ(::setxattr((top_ + "/layer/fs/a").c_str(), "user.x", "1", 1, 0), 0);
  EXPECT_NE(*digest(), before);
}

TEST_F(SealTest, IsReadBackAndADamagedOneIsNone) {
  const UniqueFd marks(::open(top_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_FALSE(read_seal(marks.get())->has_value()) << "stored before there were seals";
  const Seal seal{.layer = *digest(), .recipe = *digest()};
  ASSERT_TRUE(write_seal(marks.get(), seal));

  const auto read = read_seal(marks.get());

  ASSERT_TRUE(read && *read);
  EXPECT_EQ((*read)->layer, seal.layer);
  EXPECT_EQ((*read)->recipe, seal.recipe);
  for (const char* bad : {"", "{", "{}", "{\"layer\":\"sha256:00\"}"}) {
    write(top_ + "/seal", bad);
    EXPECT_FALSE(read_seal(marks.get())) << bad;
  }
}

TEST_F(SealTest, AFileWithoutFsVerityIsRefusedWhereOneWasWrittenDown) {
  write(top_ + "/file", "x");
  const UniqueFd file(::open((top_ + "/file").c_str(), O_RDONLY | O_CLOEXEC));

  EXPECT_FALSE(measure_verity(file.get())->has_value());
  EXPECT_THAT(check_verity(file.get(), "sha256:aa").error().text(), ::testing::HasSubstr("has lost its fs-verity"));
}

}  // namespace
}  // namespace skink::image::test
