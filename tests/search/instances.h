// What the tests search: random requests, and families with their problems.
#pragma once

#include <vector>

#include "counterflow/search.h"
#include "search/family.h"
#include "search/random.h"

namespace counterflow::testing {

/// Ranks, micro-batches, uneven stage costs with W apart from I, pairs, transfer times or links and limits,
/// drawn at random and always feasible. For a number of `ranks` up to `most_ranks`.
SearchRequest random_request(searching::Random& random, int most_ranks);

/// The families of a request.
std::vector<searching::Family> families(const SearchRequest& request);

/// The problem of a family without anything kept free.
searching::Problem problem_of(const searching::Family& family);

/// Whether a schedule holds no more than the family may.
bool within_limits(const searching::Family& family, const Schedule& schedule);

}  // namespace counterflow::testing
