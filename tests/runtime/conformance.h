// Holds a pipeline to the plain loop.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "counterflow/generate.h"
#include "counterflow/runtime/pipeline.h"
#include "models.h"
#include "world.h"

namespace counterflow::runtime {

/// The model's loss and ties, and the seed that expect_conforms() gives the plain loop too.
PipelineOptions options_for(const models::Model& model);

using MakeStage = std::function<std::shared_ptr<Stage>(const std::shared_ptr<models::StageModule>&)>;
std::shared_ptr<Stage> make_plain_stage(const std::shared_ptr<models::StageModule>& module);

/// Every other piece on the communication lane.
std::shared_ptr<Stage> make_stage_of_pieces(const std::shared_ptr<models::StageModule>& module);

/// Trains the model for a few steps along the schedule, in the world's ranks, and expects the first losses
/// and gradients of the plain loop, and every bit of the loop that adds in the schedule's order.
void expect_conforms(const Schedule& schedule, const models::Model& model, const PipelineOptions& options,
                     const World& world, const MakeStage& make = make_plain_stage);

/// The sizes that a generator is tried at: those of a few that fit it.
std::vector<Size> sizes_to_try(const Generator& generator);

/// Tests of a generator.
class GeneratorTest : public testing::TestWithParam<const Generator*> {
 protected:
  /// Calls `check` with a schedule of each of the sizes to try that have so many ranks.
  static void for_sizes(int min_ranks, int max_ranks, const std::function<void(const Schedule&)>& check);
};

std::string name_of_tested(const testing::TestParamInfo<const Generator*>& tested);

}  // namespace counterflow::runtime
