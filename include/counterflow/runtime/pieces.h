// A stage that describes itself as pieces, so that a forward and a backward can be interleaved (OVERLAP_F_B).
//
// DeepSeek-V3 (arXiv 2412.19437, section 3.2.1) cuts a layer into attention, dispatch, MLP and combine, and
// runs one micro-batch's pieces of communication beside another's pieces of computation.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "counterflow/runtime/stage.h"

namespace torch::nn {
class Module;
}

namespace counterflow::runtime {

/// What a piece keeps busy. On a GPU the compute lane is the current stream and the communication lane a
/// stream beside it: a piece starts when what it takes is there, whatever the other lane does meanwhile.
enum class Lane : std::uint8_t { kCompute, kCommunication };

/// Takes what the piece before gives; the first takes the stage's inputs, the last gives its outputs.
/// Autograd differentiates each piece by itself. A parameter belongs to one piece: where several use it, its
/// gradients are right but are added up in another order than in a backward over the whole stage.
struct Piece {
  std::string name;
  Lane lane = Lane::kCompute;
  std::function<Tensors(const Tensors&)> forward;
};

/// A stage made of pieces; parameters, buffers and mode are those of `module`, which may be null.
std::shared_ptr<Stage> make_stage(std::vector<Piece> pieces, std::shared_ptr<torch::nn::Module> module);

/// A part of a piece: its forward, its input gradient or its weight gradient.
enum class Part : std::uint8_t { kForward, kInputGradient, kWeightGradient };

struct PieceStep {
  Part part = Part::kForward;
  std::int32_t piece = 0;

  friend bool operator==(const PieceStep&, const PieceStep&) = default;
};

/// An order for the forward of one micro-batch, through pieces on these lanes, with the backward of another,
/// through pieces on those: each step is the one that can start first if all took equally long, lanes run
/// side by side and a lane takes one at a time. For DeepSeek's layer each lane's order is that of their
/// published trace: attention(F) MLP(I) MLP(W) MLP(F) attention(I) attention(W) beside combine(I) dispatch(F)
/// dispatch(I) combine(F).
std::vector<PieceStep> interleave(const std::vector<Lane>& forward, const std::vector<Lane>& backward);

}  // namespace counterflow::runtime
