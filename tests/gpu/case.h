// Models and ways to run steps of them, on GPUs, against the plain loop.
#pragma once

#include <memory>

#include "counterflow/runtime/pipeline.h"
#include "on_device.h"

namespace counterflow::runtime {

struct Case {
  const char* name;
  bool transformer;
  at::ScalarType type;
  double tolerance;  ///< of ‖found − expected‖ / ‖expected‖, of a gradient
  bool in_pieces = false;
  bool wide = false;  ///< gradients added up in fp32 (PipelineOptions::gradient_type)
  double dropout = 0;
  bool recompute = false;  ///< all stages
};

constexpr Case kCases[] = {{"MLP fp64", false, at::kDouble, 1e-13},
                           {"MLP in pieces", false, at::kDouble, 1e-13, true},
                           {"MLP fp32", false, at::kFloat, 1e-5},
                           {"transformer bf16", true, at::kBFloat16, 3e-2},
                           {"pieces bf16 + fp32", false, at::kBFloat16, 4e-3, true, true},
                           {"transformer bf16 + fp32", true, at::kBFloat16, 3e-2, false, true},
                           {"dropout fp32", true, at::kFloat, 1e-5, false, false, 0.2},
                           {"dropout, recomputed", true, at::kFloat, 1e-5, false, false, 0.2, true},
                           {"dropout bf16", true, at::kBFloat16, 3e-2, false, false, 0.2}};

/// Sums in fp32 and dropout are tried along a few schedules: B alone, I and W, copies, overlapped pairs.
bool is_tried(const Case& one, const Schedule& schedule);

std::unique_ptr<models::Model> make_model(const Case& one, int num_stages);
Batch batch_of(const models::Model& model, const Pipeline& pipeline, int step);
PipelineOptions options_for(const models::Model& model);

/// How steps are run.
struct Way {
  const char* name;
  bool recorded;
  int streams;
};

constexpr Way kPlain{"", false, 1};
constexpr Way kOthers[] = {{"on three streams", false, 3},
                           {"recorded", true, 1},
                           {"recorded on two streams", true, 2},
                           {"recorded on as many streams as is faster", true, 0}};

/// Steps and an evaluation in between, against the plain loop. Returns the last step's gradients. With
/// `expected`, which the plain way left, they must be those bit for bit.
Tensors check(Transport& transport, at::Device device, const Schedule& schedule, const Case& one,
              const Way& way = kPlain, const Tensors* expected = nullptr);

}  // namespace counterflow::runtime
