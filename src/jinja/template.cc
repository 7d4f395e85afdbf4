#include "jinja/template.h"

#include <algorithm>
#include <new>

#include "base/utf8.h"
#include "jinja/interpreter.h"
#include "jinja/parser.h"

namespace spate::jinja {
namespace {

// A template may put anything into its own message: it must stay one line of valid text.
std::string one_line(std::string_view text) {
  constexpr size_t kMaxBytes = 1000;
  std::string result = sanitize_utf8(text.substr(0, kMaxBytes));
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  return result;
}

Error to_error(const Failure& failure, std::string_view name, int line) {
  return {failure.code, fmt::format("template {}, line {}: {}", quote(name), line, one_line(failure.what))};
}

Error out_of_memory(std::string_view name) {
  return Error::out_of_resources(fmt::format("template {}: the system has no memory left for it", quote(name)));
}

}  // namespace

Result<Template> Template::parse(std::string_view source, std::string name, const Limits& limits) {
  try {
    return Template(std::make_shared<const Ast>(parse_template(source, name, limits)));
  } catch (const Failure& failure) {
    return to_error(failure, name, std::max(failure.line, 1));
  } catch (const std::bad_alloc&) {
    return out_of_memory(name);
  }
}

Result<Rendered> Template::render(const Value& context, const RenderOptions& options) const {
  const Dict* dict = context.dict();
  SPATE_CHECK(dict != nullptr, "the context of a template must be a dict, not '{}'", context.type_name());
  Interpreter interpreter(*ast_, *dict, options.limits, options.now);
  try {
    auto [text, runs] = interpreter.render();
    return Rendered{std::move(text), std::move(runs)};
  } catch (const Failure& failure) {
    return to_error(failure, ast_->name, failure.line > 0 ? failure.line : interpreter.line());
  } catch (const std::bad_alloc&) {
    return out_of_memory(ast_->name);
  }
}

Result<Rendered> Template::render(const nlohmann::ordered_json& context, const RenderOptions& options) const {
  if (!context.is_object()) return Error::usage("the values for a template must be a JSON object");
  SPATE_TRY(Value values, value_from_json(context));
  return render(values, options);
}

}  // namespace spate::jinja
