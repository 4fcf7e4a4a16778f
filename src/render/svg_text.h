// What pictures are written with: numbers, text and colours as SVG.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace counterflow::svg {

/// At most two decimals, none where they are zero.
inline std::string number(double value) {
  std::array<char, 32> text{};
  const int size = std::snprintf(text.data(), text.size(), "%.2f", value);
  std::string_view view(text.data(), size);
  while (view.back() == '0') view.remove_suffix(1);
  if (view.back() == '.') view.remove_suffix(1);
  return std::string(view == "-0" ? "0" : view);
}

inline std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '&') {
      safe += "&amp;";
    } else if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else if (c == '"') {
      safe += "&quot;";
    } else {
      safe += c;
    }
  }
  return safe;
}

inline std::string hex(std::uint32_t rgb) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "#%06x", static_cast<unsigned>(rgb));
  return text.data();
}

/// `attributes`: "" or " class=...".
inline std::string text_at(double x, double y, std::string_view text, std::string_view attributes = "") {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\"" + std::string(attributes) + ">" +
         escaped(text) + "</text>\n";
}

}  // namespace counterflow::svg
