// Properties that hold for every schedule, every cost model and every text.
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "counterflow/cost_model.h"
#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

constexpr std::int32_t kMostNumber = std::numeric_limits<std::int32_t>::max();

/// Mostly small numbers, sometimes the largest.
rc::Gen<std::int32_t> any_number() {
  return rc::gen::weightedOneOf<std::int32_t>(
      {{9, rc::gen::inRange(0, 12)}, {1, rc::gen::elementOf(std::vector{999, 1'000'000, kMostNumber})}});
}

rc::Gen<Pass> any_pass(rc::Gen<PassKind> kind) {
  return rc::gen::map(rc::gen::tuple(any_number(), any_number(), std::move(kind)),
                      [](const auto& parts) { return std::make_from_tuple<Pass>(parts); });
}

rc::Gen<Action> any_action() {
  const auto single = any_pass(rc::gen::element(PassKind::kForward, PassKind::kBackward,
                                                PassKind::kInputGradient, PassKind::kWeightGradient));
  const auto pair = rc::gen::pair(any_pass(rc::gen::just(PassKind::kForward)),
                                  any_pass(rc::gen::just(PassKind::kBackward)));
  return rc::gen::oneOf(
      rc::gen::map(single, [](const Pass& pass) { return Action(pass); }),
      rc::gen::map(pair, [](const auto& both) { return Action::overlap(both.first, both.second); }));
}

Placement any_placement() {
  const int ranks = *rc::gen::inRange(1, 6);
  const int stages = *rc::gen::inRange(1, 9);
  std::vector<Direction> directions(*rc::gen::inRange(1, std::min(ranks, 3) + 1));
  std::int32_t next = 0;
  for (Direction& direction : directions) {
    direction.first_micro_batch = next;
    direction.num_micro_batches = *rc::gen::inRange(1, 5);
    direction.rank_of_stage =
        *rc::gen::container<std::vector<std::int32_t>>(stages, rc::gen::inRange(0, ranks));
    next += direction.num_micro_batches;
  }
  return Placement(ranks, directions);
}

Time any_time() {
  return *rc::gen::oneOf(rc::gen::inRange<Time>(0, 10), rc::gen::inRange<Time>(0, 1'000'000'000'001));
}
std::int64_t any_bytes() {
  return *rc::gen::oneOf(rc::gen::just<std::int64_t>(0),
                         rc::gen::inRange<std::int64_t>(0, (std::int64_t{1} << 60) + 1));
}
template <typename Value>
std::optional<Value> maybe(const std::function<Value()>& make) {
  return *rc::gen::arbitrary<bool>() ? std::optional(make()) : std::nullopt;
}

/// A schedule that is wrong in every way, but for its placement.
Schedule any_schedule() {
  Schedule schedule;
  schedule.name = *rc::gen::string<std::string>();
  schedule.placement = any_placement();
  schedule.passes = *rc::gen::element(Passes::kTraining, Passes::kForward);
  schedule.claims.resize(*rc::gen::inRange(0, 3));
  for (Claim& claim : schedule.claims) {
    claim = {any_time(), {any_time(), any_time(), any_time(), maybe<Time>(any_time)}};
  }
  for (int rank = 0; rank < schedule.num_ranks(); ++rank) {
    schedule.actions.push_back(*rc::gen::container<std::vector<Action>>(any_action()));
  }
  return schedule;
}

CostModel any_cost_model() {
  CostModel costs;
  costs.stages.resize(*rc::gen::inRange(1, 5));
  const bool uniform = *rc::gen::arbitrary<bool>();
  for (StageCost& stage : costs.stages) {
    stage = {any_time(),  any_time(),  any_time(),  any_bytes(), any_bytes(),
             any_bytes(), any_bytes(), any_bytes(), any_bytes()};
    if (uniform) stage = costs.stages[0];
  }
  const auto any_link = [] { return Link{any_time(), any_bytes()}; };
  costs.overlap = maybe<Time>(any_time);
  costs.p2p = any_time();
  costs.link = maybe<Link>(any_link);
  for (int i = *rc::gen::inRange(0, 3); i > 0; --i) {
    costs.overlaps[{*rc::gen::inRange(0, 4), *rc::gen::inRange(0, Placement::kMaxStages)}] = any_time();
    costs.link_of[{*rc::gen::inRange(0, 4), *rc::gen::inRange(0, Placement::kMaxRanks)}] = any_link();
  }
  costs.memory_bytes = any_bytes();
  return costs;
}

/// A text with a few edits: bytes changed, left out, put in; parts copied or dropped.
std::string mutated(std::string text, const std::string& alphabet) {
  for (int edits = *rc::gen::inRange(1, 4); edits > 0 && !text.empty(); --edits) {
    const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
    const auto length = *rc::gen::inRange<std::size_t>(0, 20);
    switch (*rc::gen::inRange(0, 5)) {
      case 0:
        text[at] = *rc::gen::arbitrary<char>();
        break;
      case 1:
        text[at] = *rc::gen::elementOf(alphabet);
        break;
      case 2:
        text.insert(at, 1, *rc::gen::elementOf(alphabet));
        break;
      case 3:
        text.erase(at, length);
        break;
      default:
        text.insert(*rc::gen::inRange<std::size_t>(0, text.size()), text.substr(at, length));
    }
  }
  return text;
}

/// That an error points into the text, or right behind it.
void check_place(const ParseError& error, const std::string& text) {
  std::size_t line_begin = 0;
  for (std::size_t line = 1; line < error.line(); ++line) {
    line_begin = text.find('\n', line_begin) + 1;
    RC_ASSERT(line_begin != 0U);
  }
  RC_ASSERT(error.column() >= 1U);
  RC_ASSERT(error.column() <= std::min(text.find('\n', line_begin), text.size()) - line_begin + 1);
}

RC_GTEST_PROP(FormatPropertyTest, EveryScheduleSurvivesItsFile, ()) {
  const Schedule schedule = any_schedule();
  RC_ASSERT(parse(format(schedule)) == schedule);
}

RC_GTEST_PROP(FormatPropertyTest, EveryTextIsReadOrRefused, ()) {
  const std::string text = mutated(format(any_schedule()), "0129FBIW(;),-:# \n\r\"\\");
  try {
    const Schedule schedule = parse(text);
    RC_ASSERT(parse(format(schedule)) == schedule);
  } catch (const ParseError& error) {
    check_place(error, text);
  }
}

RC_GTEST_PROP(FormatPropertyTest, EveryCsvIsReadOrRefused, ()) {
  static const std::string original = format_torch(generate("dualpipe-v", {3, 6}));
  const std::string rows = mutated(original, "0129FBIW(;),- \n\r\"");
  try {
    const Schedule schedule = parse(rows);
    RC_ASSERT(parse(format(schedule)) == schedule);
    RC_ASSERT(parse(format_torch(schedule)) == schedule);
  } catch (const ParseError& error) {
    check_place(error, rows);
  }
}

RC_GTEST_PROP(FormatPropertyTest, JsonHasEveryAction, ()) {
  const Schedule schedule = any_schedule();
  const auto json = nlohmann::json::parse(format_json(schedule));
  auto actions = nlohmann::json::array();
  for (const auto& list : schedule.actions) {
    auto texts = nlohmann::json::array();
    for (const Action& action : list) texts.push_back(to_string(action));
    actions.push_back(texts);
  }
  RC_ASSERT(json["actions"] == actions);
  RC_ASSERT(json["directions"].size() == schedule.placement.directions().size());
}

RC_GTEST_PROP(CostFilePropertyTest, EveryModelSurvivesItsFile, ()) {
  const CostModel costs = any_cost_model();
  RC_ASSERT(parse_cost_model(format_cost_model(costs)) == costs);
}

RC_GTEST_PROP(CostFilePropertyTest, EveryTextIsReadOrRefused, ()) {
  const std::string text = mutated(format_cost_model(any_cost_model()), "0129{}[],:\"\\ .-\n");
  try {
    const CostModel costs = parse_cost_model(text);
    RC_ASSERT(parse_cost_model(format_cost_model(costs)) == costs);
  } catch (const ParseError& error) {
    check_place(error, text);
  }
}

// With one copy of each stage the lines of the ranks are all that PyTorch needs, and all that we need.
TEST(FormatPropertyTest, GeneratedSchedulesSurviveEveryFormat) {
  for (const Generator* generator : all_generators()) {
    for (int ranks = 1; ranks <= 6; ++ranks) {
      for (int micro_batches = 1; micro_batches <= 14; ++micro_batches) {
        const Size size{ranks, micro_batches, generator->stages_per_rank};
        if (!generator->fits(size)) continue;
        Schedule schedule = generate(*generator, size);
        ASSERT_EQ(parse(format(schedule)), schedule) << format(schedule);
        ASSERT_EQ(parse(format(forward_only(schedule))), forward_only(schedule));
        if (generator->copies > 1 && ranks > 1) continue;
        Schedule read = parse(format_torch(schedule));
        read.name = schedule.name;
        ASSERT_EQ(read, schedule) << format(schedule);
      }
    }
  }
}

}  // namespace
}  // namespace counterflow
