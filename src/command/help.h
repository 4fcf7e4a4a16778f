// How --help looks: short types, and descriptions that fit a terminal of 100 columns.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace counterflow::command {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(30); }

  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
  std::string make_subcommand(const CLI::App* verb) const override;
};

/// Breaks a text into lines of at most `width` characters, between words.
std::string wrap(const std::string& text, std::size_t width);

}  // namespace counterflow::command
