// Chooses how layers are split into stages.
#pragma once

#include <stop_token>

#include "family.h"
#include "random.h"

namespace counterflow::searching {

/// Makes stages of the layers of a family: of the splits tried the one with which the generators and list
/// scheduling do best. Ranks with equal work come first, within memory; then layers move from stage to stage
/// as long as that is better. The family must have a layer for every stage.
void choose_split(Family& family, const std::stop_token& stop);

/// A split in which two stages have a layer more and less, or the same where what was drawn is none.
Split changed(const Split& split, Random& random);

}  // namespace counterflow::searching
