// What a rank does at one step of a schedule: a pass, or a forward and a full backward run together.
//
// The letters are PyTorch's, because files travel between the two: F forward, B full backward, I backward for
// the input, W backward for the weights (papers write B where we write I). `2F5` is stage 2, forward,
// micro-batch 5; `(2F6;1B0)OVERLAP_F_B` is an overlapped pair. Files, errors, logs and traces all use this
// text. All types here are values, safe to read from any thread.
#pragma once

#include <array>
#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>

namespace counterflow {

enum class PassKind : std::uint8_t {
  kForward,         ///< F
  kBackward,        ///< B: input and weight gradients
  kInputGradient,   ///< I
  kWeightGradient,  ///< W
};

/// 'F', 'B', 'I' or 'W'.
char letter(PassKind kind);

/// One pass of one micro-batch through one stage.
struct Pass {
  std::int32_t stage = 0;
  std::int32_t micro_batch = 0;
  PassKind kind = PassKind::kForward;

  friend bool operator==(const Pass&, const Pass&) = default;
};

constexpr Pass forward(int stage, int micro_batch) {
  return {stage, micro_batch, PassKind::kForward};
}
constexpr Pass backward(int stage, int micro_batch) {
  return {stage, micro_batch, PassKind::kBackward};
}
constexpr Pass input_gradient(int stage, int micro_batch) {
  return {stage, micro_batch, PassKind::kInputGradient};
}
constexpr Pass weight_gradient(int stage, int micro_batch) {
  return {stage, micro_batch, PassKind::kWeightGradient};
}

/// True for B and I: the passes that send a gradient to the stage before.
constexpr bool sends_gradient(PassKind kind) {
  return kind == PassKind::kBackward || kind == PassKind::kInputGradient;
}

/// True for B and W: the passes after which nothing of the micro-batch is held at the stage.
constexpr bool releases_activation(PassKind kind) {
  return kind == PassKind::kBackward || kind == PassKind::kWeightGradient;
}

/// One step of a rank: a pass, or an overlapped pair (OVERLAP_F_B) that starts when the inputs of both passes
/// are there and whose outputs both leave at its end.
class Action {
 public:
  constexpr Action(Pass pass)
      : passes_{pass, kNoPass} {}  // NOLINT(google-explicit-constructor): a pass is one

  /// An overlapped pair. `forward` must be an F and `backward` a B; the reader and the generators see to it.
  static constexpr Action overlap(Pass forward, Pass backward) { return Action(forward, backward); }

  constexpr bool is_overlap() const { return passes_[1].stage >= 0; }

  /// The one pass, or the forward and then the backward of a pair.
  constexpr std::span<const Pass> passes() const { return {passes_.data(), is_overlap() ? 2U : 1U}; }

  friend bool operator==(const Action&, const Action&) = default;

 private:
  static constexpr Pass kNoPass{-1, -1, PassKind::kBackward};
  constexpr Action(Pass forward, Pass backward) : passes_{forward, backward} {}

  std::array<Pass, 2> passes_;
};

std::string to_string(const Pass& pass);
std::string to_string(const Action& action);
std::ostream& operator<<(std::ostream& out, const Pass& pass);
std::ostream& operator<<(std::ostream& out, const Action& action);

}  // namespace counterflow
