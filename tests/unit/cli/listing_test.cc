// SPDX-License-Identifier: Apache-2.0
// Tables, templates and JSON of the listings.
#include "cli/listing.h"

#include <gtest/gtest.h>

#include <array>

namespace skink::cli {
namespace {

Item item(const std::string& name, const std::string& id) {
  Item made;
  made.json["name"] = name;
  made.json["labels"]["a.b"] = "x";
  made.docker["Names"] = name;
  made.docker["ID"] = id;
  made.docker["State"]["Pid"] = 42;
  made.row = {id, name};
  return made;
}

std::string render(std::string_view format, const std::vector<Item>& items) {
  auto parsed = parse_format(format);
  if (!parsed) return "error: " + parsed.error().text();
  auto text = render_list(*parsed, {"ID", "NAME"}, items);
  return text ? *text : "error: " + text.error().text();
}

TEST(Listing, TableColumnsAreAlignedByCharacters) {
  EXPECT_EQ(render("table", {item("web", "0123"), item("x", "äö")}),
            "ID     NAME\n"
            "0123   web\n"
            "äö     x\n");
}

TEST(Listing, AnEmptyTableHasItsHeading) { EXPECT_EQ(render("", {}), "ID   NAME\n"); }

TEST(Listing, JsonIsOneArrayWithAnElementALine) {
  EXPECT_EQ(render("json", {item("a", "1"), item("b", "2")}),
            "[{\"name\":\"a\",\"labels\":{\"a.b\":\"x\"}},\n {\"name\":\"b\",\"labels\":{\"a.b\":\"x\"}}]\n");
  EXPECT_EQ(render("json", {}), "[]\n");
}

TEST(Listing, JsonIsPlainAscii) {
  EXPECT_EQ(json_line("\x1b[2J \x7f \u202e \xff"), "\"\\u001b[2J \\u007f \\u202e \\ufffd\"");
}

TEST(Listing, TemplatesKnowDockersNamesAndOurs) {
  EXPECT_EQ(render("{{.ID}}\\t{{ .Names }}|{{.name}}|{{.State.Pid}}", {item("web", "0123")}), "0123\tweb|web|42\n");
}

TEST(Listing, TemplatesCanPrintJsonAndIndexLabels) {
  EXPECT_EQ(render("{{json .Names}} {{json .labels}} {{index .labels \"a.b\"}}", {item("web", "1")}),
            "\"web\" {\"a.b\":\"x\"} x\n");
}

TEST(Listing, AKeyThatIsNotThereIsEmpty) {
  EXPECT_EQ(render("[{{index .labels \"none\"}}]", {item("web", "1")}), "[]\n");
  EXPECT_TRUE(render("{{index .nothing \"none\"}}", {item("web", "1")}).starts_with("error: there is no field"));
}

TEST(Listing, TemplatesPrintStringsWithoutControlBytes) {
  EXPECT_EQ(render("{{.Names}}", {item("a\x1b[2J", "1")}), "a\\x1b[2J\n");
}

TEST(Listing, ATableTemplateHasAHeading) {
  EXPECT_EQ(render("table {{.ID}}\\t{{.Names}}", {item("web", "0123")}), "ID     NAMES\n0123   web\n");
}

TEST(Listing, MistakesInTemplatesAreShown) {
  EXPECT_EQ(render("{{.Nope}}", {item("web", "1")}),
            "error: there is no field \".Nope\"; --format json shows them all");
  EXPECT_EQ(render("{{.ID", {}), "error: \"{{.ID\": the closing }} is missing");
  EXPECT_TRUE(render("{{range .}}", {}).starts_with("error: \"{{range .}}\" is not among"));
  EXPECT_TRUE(render("{{.A..B}}", {}).starts_with("error: "));
  EXPECT_TRUE(render("{{index .labels a}}", {}).starts_with("error: "));
}

}  // namespace
}  // namespace skink::cli
