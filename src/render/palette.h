// The colours of all views: four hues for F, B, I and W, each in a light and a dark shade. Chosen so that all
// eight stay apart for people with normal sight and under full protanopia, deuteranopia and tritanopia
// (tests/render/palette_test.cpp measures it).
#pragma once

#include <array>
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

}  // namespace counterflow
