// How --help looks.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace spate::app {

// CLI11's layout, with descriptions wrapped to a terminal of 100 columns and one empty line between groups.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_help(const CLI::App* parser, std::string name, CLI::AppFormatMode mode) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
};

}  // namespace spate::app
