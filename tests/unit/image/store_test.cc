// SPDX-License-Identifier: Apache-2.0
// The store: loading whole archives, names, removal, and what is refused (attacks A06, A34, A64 to A70, A75, A78, A80).
#include "image/store.h"

#include <sys/wait.h>

#include "fixture.h"
#include "image/archive.h"
#include "image/catalog.h"

namespace skink::image::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kBase = tar({directory("etc/"), file("etc/a", "1")});
const std::string kTop = tar({file("etc/b", "2")});

class StoreTest : public Scratch {};

TEST(Reference, IsARepositoryAndATag) {
  EXPECT_EQ(parse_reference("web")->text(), "web:latest");
  EXPECT_EQ(parse_reference("docker.io/library/busybox:1.36")->text(), "busybox:1.36");
  EXPECT_EQ(parse_reference("host:5000/team/web")->text(), "host:5000/team/web:latest");
  const std::string digest(64, 'a');
  EXPECT_EQ(parse_reference("web@sha256:" + digest)->text(), "web@sha256:" + digest);
  EXPECT_EQ(parse_reference("docker.io/team/web:1@sha256:" + digest)->text(), "team/web@sha256:" + digest);
  for (const char* bad : {"", ":1", "web:", "a b", "../x", "a//b", "-x", "web:\x1b[2J", "a@sha256:00", "a:b:c", "/a"})
    EXPECT_FALSE(parse_reference(bad)) << bad;
  EXPECT_FALSE(parse_reference(std::string(300, 'a')));
  EXPECT_EQ(parse_reference("web:\x1b[2J").error().text().find('\x1b'), std::string::npos);
}

TEST(Stem, IsTheNameOfTheFile) {
  EXPECT_EQ(stem_of("/srv/web.tar"), "web");
  EXPECT_EQ(stem_of("web-1.2.tar.gz"), "web-1.2");
  EXPECT_EQ(stem_of("-"), "");
  EXPECT_EQ(stem_of("a b.tar"), "");
}

TEST_F(StoreTest, LoadsAnOciArchiveOnceWithAllPackings) {
  for (const char* packing : {"gzip", "zstd", "none"}) {
    const std::string bytes = oci_archive({.layers = {kBase, kTop}, .packing = packing, .ref_name = "demo/web:1"});

    const auto loaded = load(bytes);

    ASSERT_TRUE(loaded) << text_of(loaded);
    ASSERT_EQ(loaded->images.size(), 1u);
    EXPECT_THAT(loaded->images[0].names, ElementsAre("demo/web:1"));
    EXPECT_EQ(loaded->layers_written + loaded->layers_reused, packing == std::string("gzip") ? 2u : 0u) << packing;
  }
  EXPECT_EQ(store().list()->size(), 1u);
  EXPECT_EQ(run("ls -A " + top_ + "/store/tmp"), "");
}

// Its files, one below the other, as umoci and skopeo keep them.
TEST_F(StoreTest, ALayoutThatIsADirectoryIsReadWhereItLies) {
  write(top_ + "/web.tar", oci_archive({.layers = {kBase, kTop}, .ref_name = "latest"}));
  run("mkdir " + top_ + "/web && tar -xf " + top_ + "/web.tar -C " + top_ + "/web");

  const auto loaded = store().load(top_ + "/web/", {});

  ASSERT_TRUE(loaded) << text_of(loaded);
  EXPECT_THAT(loaded->images[0].names, ElementsAre("web:latest"));
  EXPECT_EQ(loaded->layers_written, 2u);
  const auto none = store().load(top_ + "/canary", {});
  EXPECT_THAT(text_of(none), HasSubstr("neither an OCI layout nor an archive"));
}

// A link of a layout would be followed by whoever loads it (A06).
TEST_F(StoreTest, LinksInALayoutThatIsADirectoryAreNotFollowed) {
  write(top_ + "/web.tar", oci_archive({.layers = {kBase}}));
  run("cd " + top_ +
      " && mkdir web && tar -xf web.tar -C web && for f in web/blobs/sha256/*; do mv $f $f.x; ln -s "
      "$(basename $f).x $f; done");

  EXPECT_THAT(text_of(store().load(top_ + "/web", {})), HasSubstr("symbolic link"));

  run("cd " + top_ + "/web && rm index.json && mkfifo index.json");
  EXPECT_THAT(text_of(store().load(top_ + "/web", {})), HasSubstr("not a regular file"));
}

TEST_F(StoreTest, ABareTagTakesItsRepositoryFromTheFile) {
  EXPECT_THAT(load(oci_archive({.layers = {kBase}, .ref_name = "latest"}))->images[0].names, ElementsAre("web:latest"));
  EXPECT_THAT(load(oci_archive({.layers = {kTop}, .ref_name = "api"}))->images[0].names, ElementsAre("api:latest"));
  EXPECT_THAT(load(oci_archive({.layers = {kBase, kTop}}), {.platform = {}, .name = "given"})->images[0].names,
              ElementsAre("given:latest"));
}

TEST_F(StoreTest, LoadsADockerArchiveWithAllItsTags) {
  const auto loaded =
      load(docker_archive({.layers = {kBase, kTop}, .packing = "none"}, {"web:1", "docker.io/library/web:2"}));

  ASSERT_TRUE(loaded) << text_of(loaded);
  EXPECT_THAT(loaded->images[0].names, ElementsAre("web:1", "web:2"));
  const auto manifest = store().read_manifest(loaded->images[0]);
  ASSERT_TRUE(manifest);
  EXPECT_EQ(digest(*manifest), loaded->images[0].manifest.text());
  EXPECT_EQ(digest(*store().read_config(loaded->images[0].id)), loaded->images[0].id.text());
}

TEST_F(StoreTest, APackedLayerOfADockerArchiveIsInTheManifestAsItLies) {
  const auto loaded = load(docker_archive({.layers = {kBase}, .packing = "gzip"}, {"web"}));

  ASSERT_TRUE(loaded) << text_of(loaded);
  const auto manifest = store().read_manifest(loaded->images[0]);
  ASSERT_TRUE(manifest);
  EXPECT_THAT(*manifest, HasSubstr("tar+gzip"));
  EXPECT_THAT(*manifest, HasSubstr(digest(gzip(kBase))));
}

TEST_F(StoreTest, PackedLayersWhoseNamesAreShownAlikeAreTwo) {
  auto members = docker_members({.layers = {kBase, kTop},
                                 .change_manifest =
                                     [](oci::Json& entry) {
                                       entry["Layers"] = {"a\x01", R"(a\x01)"};
                                     }},
                                {"web"});
  members[1].name = "a\x01";
  members[2].name = R"(a\x01)";

  const auto loaded = load(tar(members));

  ASSERT_TRUE(loaded) << text_of(loaded);
  const auto manifest = store().read_manifest(loaded->images[0]);
  ASSERT_TRUE(manifest);
  EXPECT_THAT(*manifest, HasSubstr(digest(gzip(kBase))));
  EXPECT_THAT(*manifest, HasSubstr(digest(gzip(kTop))));
}

TEST_F(StoreTest, ADamagedByteAnywhereIsAnErrorOrHarmless) {
  const std::string whole = oci_archive({.layers = {kBase, kTop}, .ref_name = "web:1"});
  for (std::size_t at = 0; at < whole.size(); at += 61) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x11);
    const auto loaded = load(bytes);
    if (!loaded) continue;
    EXPECT_EQ(read(tree(kBase) + "/etc/a"), "1") << at;
    EXPECT_EQ(read(tree(kTop) + "/etc/b"), "2") << at;
    for (const auto& image : loaded->images) (void)store().remove(image.id.text(), {.force = true});
  }
}

TEST_F(StoreTest, AnArchiveOfBothFormsGivesTheNamesOfBoth) {
  const ImageSpec spec{.layers = {kBase}, .packing = "none"};
  auto members = oci_members(spec);
  const std::string config = members[1].name;
  auto docker = docker_members(
      {.layers = {kBase}, .change_manifest = [&](oci::Json& entry) { entry["Config"] = config; }}, {"both:1"});
  members.push_back(docker.back());

  const auto loaded = load(tar(members));

  ASSERT_TRUE(loaded) << text_of(loaded);
  EXPECT_THAT(loaded->images[0].names, ElementsAre("both:1"));
}

TEST_F(StoreTest, LinksBetweenMembersOfADockerArchiveAreFollowedByName) {
  auto members = docker_members({.layers = {kBase, kBase}, .packing = "none"}, {"web"});
  members[2] = symlink("1/layer.tar", "../0/layer.tar");

  EXPECT_EQ(text_of(load(tar(members))), "loaded");
}

TEST_F(StoreTest, PackedArchivesAndPipesAreRead) {
  EXPECT_EQ(text_of(load(gzip(oci_archive({.layers = {kBase}})))), "loaded");
  EXPECT_EQ(text_of(load(zstd(oci_archive({.layers = {kTop}})))), "loaded");
  const std::string path = archive(oci_archive({.layers = {kTop, kBase}}));
  const std::string fifo = top_ + "/fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const pid_t writer = ::fork();
  if (writer == 0) ::_exit(::system(("cat " + path + " > " + fifo).c_str()) == 0 ? 0 : 1);

  const auto loaded = store().load(fifo, {});

  ::waitpid(writer, nullptr, 0);
  EXPECT_EQ(text_of(loaded), "loaded");
}

// What is handed to the processes that read strangers' bytes.
TEST_F(StoreTest, AnArchiveIsOpenForReadingOnly) {
  const std::string plain = oci_archive({.layers = {kBase}});
  const UniqueFd spool(::open(top_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto mode_of = [&](const std::string& file) {
    const auto opened = Archive::open(file, spool.get());
    EXPECT_TRUE(opened) << opened.error().text();
    return opened ? ::fcntl(opened->open_member("index.json")->fd, F_GETFL) & O_ACCMODE : -1;
  };

  EXPECT_EQ(mode_of(archive(plain)), O_RDONLY);
  EXPECT_EQ(mode_of(archive(gzip(plain))), O_RDONLY) << "spooled";
  const UniqueFd before(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
  const UniqueFd writable(::open(archive(plain).c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::dup2(writable.get(), STDIN_FILENO), STDIN_FILENO);
  EXPECT_EQ(mode_of("-"), O_RDONLY);
  ::dup2(before.get(), STDIN_FILENO);
}

TEST_F(StoreTest, TheHostsPlatformIsChosenFromAnIndex) {
  const ImageSpec mine{.layers = {kBase}}, other{.layers = {kTop}, .architecture = "riscv64"};
  auto members = oci_members(mine);
  auto foreign = oci_members(other);
  oci::Json index = oci::Json::parse(members.back().data);
  oci::Json second = oci::Json::parse(foreign.back().data)["manifests"][0];
  second["platform"] = {{"os", "linux"}, {"architecture", "riscv64"}};
  index["manifests"].insert(index["manifests"].begin(), second);
  members.back().data = index.dump();
  for (std::size_t i = 1; i + 1 < foreign.size(); ++i) members.push_back(foreign[i]);
  const std::string bytes = tar(members);

  const auto loaded = load(bytes);
  const auto picked = load(bytes, {.platform = oci::Platform{"linux", "riscv64", ""}, .name = ""});

  ASSERT_TRUE(loaded) << text_of(loaded);
  EXPECT_EQ(loaded->images[0].config.diff_ids[0].text(), digest(kBase));
  ASSERT_TRUE(picked) << text_of(picked);
  EXPECT_EQ(picked->images[0].config.diff_ids[0].text(), digest(kTop));
  EXPECT_THAT(text_of(load(oci_archive(other))), HasSubstr("the archive has linux/riscv64"));
}

struct Lie {
  const char* what;
  std::string bytes;
  const char* words;
};

ImageSpec with_manifest(std::function<void(oci::Json&)> change) {
  return {.layers = {kBase, kTop}, .change_manifest = std::move(change)};
}
ImageSpec with_config(std::function<void(oci::Json&)> change) {
  return {.layers = {kBase, kTop}, .change_config = std::move(change)};
}
ImageSpec with_blob(std::function<std::string(std::string)> change) {
  return {.layers = {kBase, kTop}, .change_blob = std::move(change)};
}
ImageSpec with_index(std::function<void(oci::Json&)> change) {
  return {.layers = {kBase, kTop}, .change_index = std::move(change)};
}

TEST_F(StoreTest, EveryLieIsNamedAndLeavesTheStoreAsItWas) {
  ASSERT_EQ(text_of(load(oci_archive({.layers = {tar({file("other")})}, .ref_name = "other"}))), "loaded");
  const std::string before = contents();
  const std::string zeros = "sha256:" + std::string(64, '0');
  const std::string flipped = digest(gzip(kBase));
  auto duplicate = oci_members({.layers = {kBase}});
  duplicate.push_back(duplicate[1]);
  auto linked = oci_members({.layers = {kBase}});
  linked[2] = symlink(linked[2].name, top_ + "/canary/secret");
  auto hard = oci_members({.layers = {kBase}});
  hard[2] = hardlink(hard[2].name, top_ + "/canary/secret");
  const std::vector<Lie> lies = {
      {"flipped bit", oci_archive(with_blob([](std::string b) {
         b[b.size() / 2] ^= 1;
         return b;
       })),
       "its bytes have the digest"},
      {"truncated blob", oci_archive(with_blob([](std::string b) {
         b.pop_back();
         return b;
       })),
       "but its descriptor says"},
      {"longer blob", oci_archive(with_blob([](std::string b) { return b + "x"; })), "but its descriptor says"},
      {"layer size -1", oci_archive(with_manifest([](oci::Json& m) { m["layers"][0]["size"] = -1; })), "size"},
      {"config size", oci_archive(with_manifest([](oci::Json& m) { m["config"]["size"] = 3; })),
       "but its descriptor says 3"},
      {"no such layer", oci_archive(with_manifest([&](oci::Json& m) { m["layers"][0]["digest"] = zeros; })),
       "no member"},
      {"short digest", oci_archive(with_manifest([](oci::Json& m) { m["layers"][0]["digest"] = "sha256:../../x"; })),
       "digest"},
      {"layer type",
       oci_archive(with_manifest([](oci::Json& m) { m["layers"][0]["mediaType"] = "application/x-erofs"; })), "erofs"},
      {"manifest type",
       oci_archive(with_manifest([](oci::Json& m) { m["mediaType"] = "application/vnd.oci.image.index.v1+json"; })),
       ""},
      {"polyglot", oci_archive(with_manifest([](oci::Json& m) { m["manifests"] = oci::Json::array(); })), ""},
      {"artifact",
       oci_archive(with_manifest([](oci::Json& m) { m["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"; })),
       "no image for"},
      {"diffID of another",
       oci_archive(with_config([&](oci::Json& c) { c["rootfs"]["diff_ids"][1] = digest("other"); })),
       "but the configuration says"},
      {"diffIDs swapped", oci_archive(with_config([](oci::Json& c) {
         std::swap(c["rootfs"]["diff_ids"][0], c["rootfs"]["diff_ids"][1]);
       })),
       "but the configuration says"},
      {"diffID missing", oci_archive(with_config([](oci::Json& c) { c["rootfs"]["diff_ids"].erase(1); })),
       "lists 1 layers and the manifest 2"},
      {"index digest", oci_archive(with_index([&](oci::Json& i) { i["manifests"][0]["digest"] = zeros; })),
       "no member"},
      {"index size", oci_archive(with_index([](oci::Json& i) { i["manifests"][0]["size"] = 1ULL << 62; })), ""},
      {"duplicate member", tar(duplicate), "two members are named"},
      {"symlinked blob", tar(linked), "the archive has no member"},
      {"hardlinked blob", tar(hard), "is not a regular file"},
      {"docker config elsewhere",
       docker_archive(
           {.layers = {kBase}, .change_manifest = [](oci::Json& m) { m["Config"] = "../../../../etc/passwd"; }}, {"x"}),
       "no member"},
      {"docker layer elsewhere",
       docker_archive({.layers = {kBase}, .change_manifest = [](oci::Json& m) { m["Layers"][0] = "/etc/passwd"; }},
                      {"x"}),
       "no member"},
      {"no image at all", tar({file("hello")}), "neither an oci-archive"},
      {"empty file", "", "the file is empty"},
      {"no tar", std::string(2000, 'x'), "not a tar archive: it does not begin"},
      {"cut archive", oci_archive({.layers = {kBase}}).substr(0, 1500), "tar ends inside a block, at byte 1500"},
  };
  for (const auto& lie : lies) {
    const auto loaded = load(lie.bytes);
    ASSERT_FALSE(loaded) << lie.what;
    EXPECT_THAT(loaded.error().text(), HasSubstr("load " + top_ + "/web.tar: ")) << lie.what;
    EXPECT_THAT(loaded.error().text(), HasSubstr(lie.words)) << lie.what;
    EXPECT_EQ(contents(), before) << lie.what;
  }
}

TEST_F(StoreTest, ADamagedLayerIsNamedWithItsNumber) {
  const auto loaded = load(oci_archive({.layers = {kBase, kTop + "junk that is no end"}, .packing = "none"}));
  EXPECT_EQ(text_of(loaded), "loaded") << "bytes after the end of a tar belong to the layer";

  const std::string bad = tar({file("etc/x", "y")}).substr(0, 700);
  EXPECT_THAT(text_of(load_layers({kBase, bad})),
              HasSubstr("blob " + digest(gzip(bad)) + ": layer 2: tar ends early, behind byte 513, in etc/x"));
}

TEST_F(StoreTest, IndexesNestFourDeep) {
  for (const int depth : {3, 50}) {
    auto members = oci_members({.layers = {tar({file("depth" + std::to_string(depth))})}});
    for (int i = 0; i < depth; ++i) {
      const std::string inner = members.back().data;
      oci::Json whole = oci::Json::parse(inner);
      whole["mediaType"] = "application/vnd.oci.image.index.v1+json";
      const std::string text = whole.dump();
      members.back() = file("blobs/sha256/" + digest(text).substr(7), text);
      oci::Json outer;
      outer["schemaVersion"] = 2;
      outer["manifests"] = {
          {{"mediaType", "application/vnd.oci.image.index.v1+json"}, {"digest", digest(text)}, {"size", text.size()}}};
      members.push_back(file("index.json", outer.dump()));
    }
    EXPECT_THAT(text_of(load(tar(members))), HasSubstr(depth == 3 ? "loaded" : "nested more than 4 deep"));
  }
}

TEST_F(StoreTest, ABombIsRefusedBeforeItFillsTheDisk) {
  std::string bomb = zstd(tar_entry(TarSpec{.name = "zeros", .size_field = "10000000000"}));  // 1 GiB
  {
    // Gone before the load: its processes would inherit them, and may not have as much memory.
    const std::string zeros = zstd(std::string(64U << 20, '\0'));
    for (int i = 0; i < 16; ++i) bomb += zeros;
  }
  const std::string name = digest(bomb);
  auto members = oci_members({.layers = {kBase}, .change_manifest = [&](oci::Json& m) {
                                m["layers"][0] = {{"mediaType", "application/vnd.oci.image.layer.v1.tar+zstd"},
                                                  {"digest", name},
                                                  {"size", bomb.size()}};
                              }});
  members.push_back(file("blobs/sha256/" + name.substr(7), bomb));

  const auto loaded = load(tar(members));

  EXPECT_THAT(text_of(loaded),
              HasSubstr("it unpacks to more than 500 times its size, as a bomb does; what is none can be loaded "
                        "unpacked (zcat FILE | skink load -, "));
  EXPECT_EQ(contents().find("layers/sha256/"), contents().rfind("layers/sha256/")) << contents();
  EXPECT_EQ(run("ls -A " + top_ + "/store/tmp"), "");
}

TEST_F(StoreTest, NamesIdsAndPrefixesFindAnImage) {
  const auto loaded = load(oci_archive({.layers = {kBase}, .ref_name = "localhost/web:1"}));
  ASSERT_TRUE(loaded) << text_of(loaded);
  const std::string hex = loaded->images[0].id.hex();

  for (const std::string& name :
       {std::string("localhost/web:1"), std::string("web:1"), hex, hex.substr(0, 2), "sha256:" + hex.substr(0, 12)})
    EXPECT_TRUE(store().find(name)) << name;
  for (const std::string& name : {std::string("web"), std::string("web:2"), hex.substr(0, 1), std::string("../x"),
                                  std::string("sha256:"), std::string("\x1b[2J")}) {
    const auto found = store().find(name);
    ASSERT_FALSE(found) << name;
    EXPECT_EQ(found.error().code(), Code::not_found);
    EXPECT_EQ(found.error().text().find('\x1b'), std::string::npos);
  }
}

TEST_F(StoreTest, ATagMovesToAnotherImage) {
  const auto first = load(oci_archive({.layers = {kBase}, .ref_name = "web:1"}));
  const auto second = load(oci_archive({.layers = {kTop}, .ref_name = "web:1"}));
  ASSERT_TRUE(first && second);

  EXPECT_EQ(store().find("web:1")->id, second->images[0].id);
  EXPECT_THAT(store().find(first->images[0].id.hex())->names, IsEmpty());
  ASSERT_TRUE(store().tag(first->images[0], *parse_reference("web:1")));
  EXPECT_EQ(store().find("web:1")->id, first->images[0].id);
  EXPECT_THAT(store().find(second->images[0].id.hex())->names, IsEmpty());
}

TEST_F(StoreTest, RemovalTakesNamesThenTheImageThenLayersNobodyNeeds) {
  const auto one = load(oci_archive({.layers = {kBase, kTop}, .ref_name = "one:1"}));
  const auto two = load(oci_archive({.layers = {kBase}, .ref_name = "two:1"}));
  ASSERT_TRUE(one && two);
  ASSERT_TRUE(store().tag(one->images[0], *parse_reference("more")));
  const std::string id = one->images[0].id.text();
  using Users = std::map<std::string, std::vector<std::string>>;
  const ImageUsers users = [&]() -> Result<Users> { return Users{{id, {"c1", "c2"}}}; };

  EXPECT_EQ(store().remove(id).error().code(), Code::busy) << "several names";
  EXPECT_THAT(*store().remove("more", {}, users), ElementsAre("Untagged: more:latest"));
  EXPECT_THAT(text_of(store().remove("one:1", {.force = true}, users)), HasSubstr("in use by container c1 and 1 more"));
  EXPECT_TRUE(store().find("one:1"));
  {
    const auto held = store().hold(one->images[0]);
    EXPECT_THAT(text_of(store().remove("one:1")), HasSubstr("a container is being made of it"));
  }
  EXPECT_THAT(*store().remove("one:1"), ElementsAre("Untagged: one:1", "Deleted: " + id));
  EXPECT_FALSE(store().find(id));
  EXPECT_EQ(store().hold(one->images[0]).error().code(), Code::not_found);
  EXPECT_EQ(run("ls " + top_ + "/store/layers/sha256"), digest(kBase).substr(7) + (has_files() ? ".erofs\n" : "\n"));
  EXPECT_EQ(run("ls " + top_ + "/store/marks"), has_files() ? digest(kBase).substr(7) + "\n" : "");
  EXPECT_THAT(*store().remove("two:1"), ElementsAre("Untagged: two:1", "Deleted: " + two->images[0].id.text()));
  EXPECT_EQ(run("cd " + top_ + "/store && find layers images scaffolds names tmp locks -mindepth 1 -not -name sha256"),
            "");
  EXPECT_EQ(store().remove("two:1").error().code(), Code::not_found);
}

TEST_F(StoreTest, LowersStandTopmostFirstAndOnlyOnce) {
  const auto loaded = load_layers({kBase, kTop, kBase});
  ASSERT_TRUE(loaded) << text_of(loaded);

  const auto lowers = store().open_lowers(loaded->images[0]);

  ASSERT_TRUE(lowers) << lowers.error().text();
  ASSERT_EQ(lowers->dirs.size(), 3u);
  const auto has = [&](std::size_t i, const char* path) {
    return ::faccessat(lowers->dirs[i].get(), path, F_OK, 0) == 0;
  };
  EXPECT_TRUE(has(0, "proc"));
  EXPECT_TRUE(has(1, "etc/a"));
  EXPECT_TRUE(has(2, "etc/b"));
}

TEST_F(StoreTest, ALayerThatHidesAllEndsTheStack) {
  const auto loaded = load_layers({kBase, tar({file(".wh..wh..opq"), file("new")})});
  ASSERT_TRUE(loaded) << text_of(loaded);

  EXPECT_EQ(store().open_lowers(loaded->images[0])->dirs.size(), 2u);
}

TEST_F(StoreTest, TooManyLayersAreRefusedBeforeAnyIsUnpacked) {
  std::vector<std::string> layers;
  for (int i = 0; i < 600; ++i) layers.push_back(tar({file("f" + std::to_string(i))}));

  EXPECT_THAT(text_of(load_layers(layers)), HasSubstr("600 layers; at most 499 can be stacked"));
  layers.resize(500);
  EXPECT_THAT(text_of(load_layers(layers)), HasSubstr("500 layers; at most 499 can be stacked"));
  layers.resize(128);
  const auto loaded = load_layers(layers);
  ASSERT_TRUE(loaded) << text_of(loaded);
  EXPECT_EQ(store().open_lowers(loaded->images[0])->dirs.size(), 129u);
}

TEST_F(StoreTest, AnOpenStoreIsRefused) {
  ASSERT_EQ(text_of(load_layers({kBase})), "loaded");
  for (const mode_t mode : {0755U, 0777U, 0750U}) {
    ::chmod((top_ + "/store").c_str(), mode);
    const auto opened = Store::open(top_ + "/store");
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), Code::denied);
  }
  ::chmod((top_ + "/store").c_str(), 0700);
  ASSERT_EQ(::chown((top_ + "/store").c_str(), 12345, 0), 0);
  EXPECT_FALSE(Store::open(top_ + "/store"));
}

TEST_F(StoreTest, AnEmptyDirectoryIsClosedAndTaken) {
  ASSERT_EQ(::mkdir((top_ + "/mine").c_str(), 0755), 0);
  ASSERT_TRUE(Store::open(top_ + "/mine"));
  struct stat status {};
  ASSERT_EQ(::stat((top_ + "/mine").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700u);
}

TEST_F(StoreTest, OtherUsersReachNothing) {
  TarSpec setuid = file("bin/su", "x");
  setuid.mode = 04755;
  ASSERT_EQ(text_of(load_layers({tar({setuid})})), "loaded");
  ::chmod(top_.c_str(), 0755);
  const std::string layer = tar({setuid});
  const std::string stored = top_ + "/store/layers/sha256/" + digest(layer).substr(7) + ".erofs";
  const std::string path = has_files() ? stored : tree(layer) + "/bin/su";
  ASSERT_EQ(::access(path.c_str(), F_OK), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(9);
    struct stat status {};
    const bool seen = ::stat(path.c_str(), &status) == 0 || ::access((top_ + "/store/names").c_str(), F_OK) == 0;
    ::_exit(seen ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace skink::image::test
