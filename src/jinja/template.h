// Templates in the language of Jinja2 3.1, set up as model files expect it: trim_blocks and lstrip_blocks on, `break`
// and `continue`, {% generation %}, `tojson` that keeps the order of keys and escapes no HTML,
// raise_exception(message), strftime_now(format). Nothing but the values handed in can be reached: no files, no clock,
// no environment. Reference: https://jinja.palletsprojects.com/en/3.1.x/templates/
//
// Differences from Jinja2, beyond what has no meaning here (include, import, extends, autoescape true, `random`):
// - integers have 64 bits; an operation that needs more fails
// - filters that are generators there do their work at once
// - `append` and its like work on lists and dicts that the template itself made, as some published templates need
#pragma once

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "jinja/from_json.h"
#include "jinja/limits.h"
#include "jinja/value.h"

namespace spate::jinja {

struct Ast;

struct Rendered {
  std::string text;
  // Who wrote which bytes of it, in order, the last run ending at text.size(); neighbours differ. A byte that is not
  // wholly the template's own counts as the request's.
  std::vector<Run> runs;
};

struct RenderOptions {
  Limits limits;
  std::optional<std::tm> now;  // local time, for strftime_now; absent: that fails
};

class Template {
 public:
  // name: for messages. Error kBadFile with the line for what is no template, kOutOfResources for a limit.
  static Result<Template> parse(std::string_view source, std::string name, const Limits& limits = {});

  // context: a dict of the names that the template may use. Errors, all with the template's name and line:
  // - kUsage: the template called raise_exception; the message ends with what it said
  // - kUnsupported: the template does something that the values do not allow, such as an attribute of an undefined name
  // - kOutOfResources: a limit
  // Does not change the template or the context; both may be used by several threads at a time.
  Result<Rendered> render(const Value& context, const RenderOptions& options = {}) const;
  // The same with every string of the context counted as the request's.
  Result<Rendered> render(const nlohmann::ordered_json& context, const RenderOptions& options = {}) const;

 private:
  explicit Template(std::shared_ptr<const Ast> ast) : ast_(std::move(ast)) {}

  std::shared_ptr<const Ast> ast_;
};

}  // namespace spate::jinja
