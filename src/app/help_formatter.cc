#include "app/help_formatter.h"

#include <sstream>

namespace spate::app {

namespace {

constexpr size_t kNameColumn = 28;
constexpr size_t kDescriptionWidth = 100 - kNameColumn;

}  // namespace

HelpFormatter::HelpFormatter() {
  column_width(kNameColumn);
  label("SUBCOMMAND", "COMMAND");
}

std::string HelpFormatter::make_help(const CLI::App* parser, std::string name, CLI::AppFormatMode mode) const {
  return CLI::detail::find_and_replace(Formatter::make_help(parser, std::move(name), mode), "\n\n\n", "\n\n");
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  std::istringstream words(option->get_description());
  std::string wrapped, word;
  for (size_t column = 0; words >> word;) {
    const bool fits = column + 1 + word.size() <= kDescriptionWidth;
    if (column > 0) wrapped += fits ? ' ' : '\n';
    column = column > 0 && fits ? column + 1 + word.size() : word.size();
    wrapped += word;
  }
  return wrapped;
}

}  // namespace spate::app
