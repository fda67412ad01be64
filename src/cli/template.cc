// SPDX-License-Identifier: Apache-2.0
// Go's templates, the part of them that --format needs.
#include "cli/template.h"

#include "base/text.h"

namespace skink::cli {

namespace {

// Docker takes the two characters \t for a tab, as few shells make one.
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == 't' || text[i + 1] == 'n'))
      out += text[++i] == 't' ? '\t' : '\n';
    else out += text[i];
  }
  return out;
}

std::string_view without_blanks(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_name(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (!good) return false;
  }
  return true;
}

// ".A.B" to its names; "." to none.
bool parse_path(std::string_view text, std::vector<std::string>& path) {
  if (!text.starts_with('.')) return false;
  if (text == ".") return true;
  for (const auto name : split(text.substr(1), '.')) {
    if (!is_name(name)) return false;
    path.emplace_back(name);
  }
  return true;
}

// `.Labels "key"` to the path of that key, which may hold dots.
bool parse_index(std::string_view text, std::vector<std::string>& path) {
  const auto blank = text.find(' ');
  if (blank == std::string_view::npos || !parse_path(text.substr(0, blank), path)) return false;
  const std::string_view key = without_blanks(text.substr(blank));
  if (key.size() < 2 || key.front() != '"' || key.back() != '"') return false;
  path.emplace_back(key.substr(1, key.size() - 2));
  return true;
}

const oci::Json* look_up(const oci::Json& document, const std::vector<std::string>& path) {
  const oci::Json* at = &document;
  for (const auto& name : path) {
    at = oci::find(*at, name);
    if (at == nullptr) return nullptr;
  }
  return at;
}

std::string plain(const oci::Json& value) {
  if (value.is_string()) return printable(value.get_ref<const std::string&>());
  if (value.is_null()) return "<no value>";
  return json_line(value);
}

}  // namespace

Result<Template::Piece> Template::parse_action(std::string_view action) {
  Piece piece;
  std::string_view text = without_blanks(action);
  piece.kind = Piece::Kind::field;
  if (text.starts_with("json ")) {
    piece.kind = Piece::Kind::json;
    text = without_blanks(text.substr(5));
  }
  piece.is_index = text.starts_with("index ");
  const bool good =
      piece.is_index ? parse_index(without_blanks(text.substr(6)), piece.path) : parse_path(text, piece.path);
  if (!good)
    return Error::make(
        Code::invalid_config, skink::quoted(str("{{", action, "}}")),
        " is not among what templates know here ({{.Field}}, {{json .Field}}, {{index .Field \"key\"}}); "
        "use --format json and a program such as jq");
  return piece;
}

Result<Template> Template::parse(std::string_view text) {
  Template parsed;
  while (!text.empty()) {
    const auto open = text.find("{{");
    if (open != 0) parsed.pieces_.push_back({Piece::Kind::text, unescaped(text.substr(0, open)), {}});
    if (open == std::string_view::npos) break;
    const auto close = text.find("}}", open);
    if (close == std::string_view::npos)
      return Error::make(Code::invalid_config, skink::quoted(text.substr(open)), ": the closing }} is missing");
    parsed.pieces_.push_back(TRY(parse_action(text.substr(open + 2, close - open - 2))));
    text.remove_prefix(close + 2);
  }
  return parsed;
}

// Those whose keys are whatever somebody chose, or whatever there was to tell.
bool is_map(std::string_view name) {
  constexpr std::string_view kMaps[] = {"attributes", "Attributes", "labels", "Labels"};
  return std::ranges::find(kMaps, name) != std::end(kMaps);
}

// In Go a key that a map has not gives the empty value by index and "<no value>" by a point; a field that nothing has
// is a mistake.
const oci::Json* Template::find_in(std::span<const oci::Json* const> documents, const Piece& piece) {
  static const oci::Json kEmpty = "", kNoValue = "<no value>";
  for (const oci::Json* document : documents)
    if (const oci::Json* value = look_up(*document, piece.path)) return value;
  if (piece.path.size() < 2 && !piece.is_index) return nullptr;
  const std::vector<std::string> map(piece.path.begin(), piece.path.end() - 1);
  if (!piece.is_index && is_map(map.back())) return &kNoValue;
  if (!piece.is_index) return nullptr;
  for (const oci::Json* document : documents)
    if (look_up(*document, map) != nullptr) return &kEmpty;
  return nullptr;
}

Result<std::string> Template::render(std::span<const oci::Json* const> documents) const {
  std::string out;
  for (const Piece& piece : pieces_) {
    if (piece.kind == Piece::Kind::text) {
      out += piece.text;
      continue;
    }
    const oci::Json* value = find_in(documents, piece);
    if (value == nullptr) {
      std::string name;
      for (const auto& part : piece.path) name += str('.', part);
      return Error::make(Code::invalid_config, "there is no field ", skink::quoted(name),
                         "; --format json shows them all");
    }
    out += piece.kind == Piece::Kind::json ? json_line(*value) : plain(*value);
  }
  return out;
}

std::string Template::heading() const {
  std::string out;
  for (const Piece& piece : pieces_) {
    if (piece.kind == Piece::Kind::text) {
      out += piece.text;
      continue;
    }
    const std::string name = piece.path.empty() ? "JSON" : piece.path.back();
    for (const char c : name) out += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return out;
}

std::string json_line(const oci::Json& json) { return json.dump(-1, ' ', true, oci::Json::error_handler_t::replace); }

std::string json_pretty(const oci::Json& json) { return json.dump(2, ' ', true, oci::Json::error_handler_t::replace); }

}  // namespace skink::cli
