#include "jinja/from_json.h"

namespace spate::jinja {
namespace {

using Json = nlohmann::ordered_json;

Result<Value> convert(const Json& json, Origin origin, int depth) {
  if (depth > kMaxInputDepth)
    return Error::usage(fmt::format("JSON for a template is nested deeper than {} levels", kMaxInputDepth));
  switch (json.type()) {
    case Json::value_t::null:
      return Value(None{});
    case Json::value_t::boolean:
      return Value(json.get<bool>());
    case Json::value_t::number_integer:
      return Value(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value(json.get<double>());
    case Json::value_t::string:
      return Value(Text(json.get_ref<const std::string&>(), origin));
    case Json::value_t::number_unsigned: {
      const uint64_t number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(INT64_MAX)) return Value(static_cast<double>(number));
      return Value(static_cast<int64_t>(number));
    }
    case Json::value_t::array: {
      auto list = std::make_shared<List>(nullptr);
      for (const Json& item : json) {
        SPATE_TRY(Value value, convert(item, origin, depth + 1));
        list->push(std::move(value));
      }
      return Value(std::move(list));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>(nullptr);
      for (const auto& [key, item] : json.items()) {
        SPATE_TRY(Value value, convert(item, origin, depth + 1));
        dict->set(Text(key, origin), std::move(value));
      }
      return Value(std::move(dict));
    }
    case Json::value_t::binary:
    case Json::value_t::discarded:
      break;
  }
  return Error::usage("a template takes JSON values only");
}

}  // namespace

Result<Value> value_from_json(const Json& json, Origin origin) {
  return convert(json, origin, 0);
}

}  // namespace spate::jinja
