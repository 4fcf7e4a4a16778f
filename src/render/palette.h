// The colours of all views: four hues for F, B, I and W, each in a light and a dark shade. Chosen so that all
// eight stay apart for people with normal sight and under full protanopia, deuteranopia and tritanopia
// (tests/render/palette_test.cpp measures it).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "counterflow/action.h"

namespace counterflow {

struct Colour {
  std::uint32_t rgb = 0;    ///< 0xRRGGBB
  int ansi = 0;             ///< the nearest of the 256 terminal colours that keeps them apart
  bool light_text = false;  ///< whether text on it is white rather than black
};

/// [kind][shade]: shade 0 is light, 1 dark.
inline constexpr std::array<std::array<Colour, 2>, 4> kPalette = {{
    {{{0x8fb0ea, 111, false}, {0x2a3aa8, 19, true}}},    // F
    {{{0xe5835f, 209, false}, {0xa63c10, 124, true}}},   // B
    {{{0xf8f2b4, 228, false}, {0xe3bd00, 184, false}}},  // I
    {{{0x5fe3d3, 123, false}, {0x2f7a6e, 30, true}}},    // W
}};

inline const Colour& colour_of(PassKind kind, int shade) {
  return kPalette[static_cast<std::size_t>(kind)][shade];
}

/// Shade `index` of `count`, evenly from light to dark.
inline Colour blend(PassKind kind, int index, int count) {
  const Colour& light = colour_of(kind, 0);
  const Colour& dark = colour_of(kind, 1);
  const int steps = count > 1 ? count - 1 : 1;
  std::uint32_t rgb = 0;
  for (const int shift : {16, 8, 0}) {
    const auto from = static_cast<std::int64_t>(light.rgb >> shift & 255);
    const auto to = static_cast<std::int64_t>(dark.rgb >> shift & 255);
    rgb |= static_cast<std::uint32_t>(from + (to - from) * index / steps) << shift;
  }
  const bool nearer_dark = 2 * index >= count && index > 0;
  return {rgb, (nearer_dark ? dark : light).ansi, nearer_dark && dark.light_text};
}

}  // namespace counterflow
