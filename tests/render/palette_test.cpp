#include "../../src/render/palette.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace counterflow {
namespace {

using Vector = std::array<double, 3>;
using Matrix = std::array<Vector, 3>;

struct Sight {
  const char* name;
  Matrix matrix;
};

// Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency"
// (2009), severity 1, on linear RGB.
constexpr std::array<Sight, 4> kSights = {{
    {"normal", {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}},
    {"protanopia",
     {{{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}}},
    {"deuteranopia",
     {{{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}}},
    {"tritanopia",
     {{{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}}}},
}};

double to_linear(std::uint32_t channel) {
  const double value = channel / 255.0;
  return value <= 0.04045 ? value / 12.92 : std::pow((value + 0.055) / 1.055, 2.4);
}

Vector linear_rgb(std::uint32_t rgb) {
  return {to_linear(rgb >> 16 & 255), to_linear(rgb >> 8 & 255), to_linear(rgb & 255)};
}

Vector times(const Matrix& matrix, const Vector& vector) {
  Vector result{};
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 3; ++column) result[row] += matrix[row][column] * vector[column];
    result[row] = std::clamp(result[row], 0.0, 1.0);
  }
  return result;
}

/// Ottosson's Oklab, in which distance is what eyes see of it.
Vector oklab(const Vector& rgb) {
  const double l = std::cbrt(0.4122214708 * rgb[0] + 0.5363325363 * rgb[1] + 0.0514459929 * rgb[2]);
  const double m = std::cbrt(0.2119034982 * rgb[0] + 0.6806995451 * rgb[1] + 0.1073969566 * rgb[2]);
  const double s = std::cbrt(0.0883024619 * rgb[0] + 0.2817188376 * rgb[1] + 0.6299787005 * rgb[2]);
  return {0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
          1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
          0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s};
}

double distance(std::uint32_t a, std::uint32_t b, const Sight& sight) {
  const Vector one = oklab(times(sight.matrix, linear_rgb(a)));
  const Vector other = oklab(times(sight.matrix, linear_rgb(b)));
  return std::hypot(one[0] - other[0], one[1] - other[1], one[2] - other[2]);
}

std::vector<Colour> all_colours() {
  std::vector<Colour> colours;
  for (const auto& shades : kPalette) colours.insert(colours.end(), shades.begin(), shades.end());
  return colours;
}

std::uint32_t rgb_of_ansi(int index) {
  constexpr std::array<std::uint32_t, 6> kLevels = {0, 95, 135, 175, 215, 255};
  const int cube = index - 16;
  return kLevels[cube / 36] << 16 | kLevels[cube / 6 % 6] << 8 | kLevels[cube % 6];
}

double contrast(std::uint32_t rgb, bool light_text) {
  const Vector linear = linear_rgb(rgb);
  const double luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return light_text ? 1.05 / (luminance + 0.05) : (luminance + 0.05) / 0.05;
}

// 0.1 in Oklab is about five just noticeable differences.
TEST(PaletteTest, ColoursStayApartForEverySight) {
  const std::vector<Colour> colours = all_colours();
  for (const Sight& sight : kSights) {
    for (std::size_t a = 0; a < colours.size(); ++a) {
      for (std::size_t b = 0; b < a; ++b) {
        EXPECT_GT(distance(colours[a].rgb, colours[b].rgb, sight), 0.09)
            << sight.name << " " << a << " " << b;
        EXPECT_GT(distance(rgb_of_ansi(colours[a].ansi), rgb_of_ansi(colours[b].ansi), sight), 0.09)
            << "terminal, " << sight.name << " " << a << " " << b;
      }
    }
  }
}

// 4.5 is what WCAG 2 asks for. Terminals have no shade of teal that reaches it and stays apart from F.
TEST(PaletteTest, TextCanBeReadOnEveryColour) {
  for (const Colour& colour : all_colours()) {
    EXPECT_GT(contrast(colour.rgb, colour.light_text), 4.5) << std::hex << colour.rgb;
    EXPECT_GT(contrast(rgb_of_ansi(colour.ansi), colour.light_text), 4.3) << colour.ansi;
  }
}

}  // namespace
}  // namespace counterflow
