// What the tests of the template interpreter share.
#pragma once

#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "jinja/template.h"

namespace spate::testing {

using Json = nlohmann::ordered_json;

// The time that all expectations were rendered at: 2026-03-14 15:09:26.
inline std::tm expected_now() {
  std::tm now{};
  now.tm_year = 126;
  now.tm_mon = 2;
  now.tm_mday = 14;
  now.tm_hour = 15;
  now.tm_min = 9;
  now.tm_sec = 26;
  now.tm_wday = 6;
  now.tm_yday = 72;
  return now;
}

inline Json read_json(const std::string& path) {
  std::ifstream file(path);
  return Json::parse(file);
}

// A template rendered with values of a request.
inline Result<jinja::Rendered> render(std::string_view source, const Json& context = Json::object(),
                                      const jinja::Limits& limits = {}) {
  SPATE_TRY(const jinja::Template parsed, jinja::Template::parse(source, "test", limits));
  static const Json nothing = Json::object();
  return parsed.render(context.is_null() ? nothing : context, {.limits = limits, .now = expected_now()});
}

// Its text, or the error.
inline std::string render_text(std::string_view source, const Json& context = Json::object(),
                               const jinja::Limits& limits = {}) {
  const Result<jinja::Rendered> rendered = render(source, context, limits);
  return rendered.ok() ? rendered->text : "error: " + rendered.error().message;
}

// The text with what is not the template's in double angle quotes: "a«b»c".
inline std::string marked(const jinja::Rendered& rendered) {
  std::string result;
  size_t begin = 0;
  for (const jinja::Run& run : rendered.runs) {
    const std::string piece = rendered.text.substr(begin, run.end - begin);
    result += run.origin == jinja::Origin::kTemplate ? piece : "«" + piece + "»";
    begin = run.end;
  }
  return result;
}

inline std::string render_marked(std::string_view source, const Json& context = Json::object()) {
  const Result<jinja::Rendered> rendered = render(source, context);
  return rendered.ok() ? marked(*rendered) : "error: " + rendered.error().message;
}

}  // namespace spate::testing
