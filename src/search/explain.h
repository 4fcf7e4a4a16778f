// Why a search's winner won, in words.
#pragma once

#include <string>
#include <vector>

#include "counterflow/search.h"
#include "family.h"

namespace counterflow::searching {

/// How the result compares with the other placements and with the generators, and what overlapped pairs would
/// have to gain for the generators that use them: "zbv, unfolded, beats dualpipe here: overlapping gains 4 %,
/// it needs 7 %". `families` are those that were searched.
std::string explain(const std::vector<Family>& families, const SearchResult& result);

}  // namespace counterflow::searching
