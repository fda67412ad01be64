// SPDX-License-Identifier: Apache-2.0
// Template: the small part of Go's text templates that scripts use with --format: {{.Field}}, {{.A.B}}, {{json
// .Field}},
// {{index .Labels "key"}}, and \t and \n in the text between.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/json.h"

namespace skink::cli {

class Template {
 public:
  /// Errors show the part that is not understood.
  static Result<Template> parse(std::string_view text);

  /// Fills it in. A field is looked up in each document in turn (our own names, then docker's); one that none has is an
  /// error that names it. Strings come out printable.
  Result<std::string> render(std::span<const oci::Json* const> documents) const;

  /// The fields' names as headings, in capitals: "ID\tNAMES" for `table {{.ID}}\t{{.Names}}`.
  [[nodiscard]] std::string heading() const;

 private:
  struct Piece {
    enum class Kind { text, field, json } kind = Kind::text;
    std::string text;               // of a text piece
    std::vector<std::string> path;  // of a field; empty: the whole document
    bool is_index = false;          // its last name is a key, which may be missing
  };
  static Result<Piece> parse_action(std::string_view action);
  static const oci::Json* find_in(std::span<const oci::Json* const> documents, const Piece& piece);
  std::vector<Piece> pieces_;
};

/// One line of JSON, plain ASCII: nothing in it steers a terminal (attack A78).
std::string json_line(const oci::Json& json);
/// The same over several lines, for people.
std::string json_pretty(const oci::Json& json);

}  // namespace skink::cli
