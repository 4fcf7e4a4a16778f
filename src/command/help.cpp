#include "help.h"

#include <sstream>

namespace counterflow::command {
namespace {

constexpr std::size_t kLineWidth = 100;

}  // namespace

std::string wrap(const std::string& text, std::size_t width) {
  std::istringstream words(text);
  std::string wrapped;
  std::size_t line = 0;
  for (std::string word; words >> word; line += word.size()) {
    if (line > 0 && line + 1 + word.size() > width) {
      wrapped += '\n';
      line = 0;
    } else if (line > 0) {
      wrapped += ' ';
      ++line;
    }
    wrapped += word;
  }
  return wrapped;
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  if (option->get_type_size() == 0) return "";
  // The type's name goes on with what its checks are called.
  std::string type = option->get_type_name();
  type = type.substr(0, type.find(':'));
  return (option->get_positional() && type == "TEXT" ? "" : " " + type) +
         (option->get_required() ? " (required)" : "");
}

std::string HelpFormatter::make_option_desc(const CLI::Option* option) const {
  return wrap(option->get_description(), kLineWidth - get_column_width());
}

std::string HelpFormatter::make_subcommand(const CLI::App* verb) const {
  std::ostringstream out;
  CLI::detail::format_help(out, verb->get_display_name(),
                           wrap(verb->get_description(), kLineWidth - get_column_width()),
                           get_column_width());
  return out.str();
}

}  // namespace counterflow::command
