#include "device_sums.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <deque>
#include <functional>

#include "counterflow/runtime/error.h"

namespace counterflow::runtime {
namespace {

/// A tensor that is being exchanged, while others that have come are added up.
struct Sum {
  at::Tensor total;
  Tensors parts;
  std::function<void()> wait{};
};
constexpr std::size_t kSumsUnderWay = 3;

/// Every rank adds up the same parts in the same order, so that all get the same bits.
void finish_first(std::deque<Sum>& under_way) {
  Sum& sum = under_way.front();
  sum.wait();
  const bool is_summand_later = !sum.parts[0].is_same(sum.total) && !sum.parts[1].is_same(sum.total);
  at::Tensor total = is_summand_later ? at::empty_like(sum.total) : sum.total;
  at::add_out(total, sum.parts[0], sum.parts[1]);
  for (std::size_t peer = 2; peer < sum.parts.size(); ++peer) total.add_(sum.parts[peer]);
  if (is_summand_later) sum.total.copy_(total);
  under_way.pop_front();
}

}  // namespace

void DeviceSums::add_up(DeviceGroup& group, int number, const std::vector<std::int32_t>& ranks,
                        Tensors& tensors) {
  const c10::AutoGradMode no_grad(false);
  agree_on_defined({number, turns_[number]++}, ranks, tensors);
  const std::size_t own = std::find(ranks.begin(), ranks.end(), rank_) - ranks.begin();
  std::deque<Sum> under_way;
  for (at::Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.numel() == 0) continue;
    tensor = tensor.contiguous();
    Sum& sum = under_way.emplace_back(Sum{tensor, Tensors(ranks.size())});
    sum.parts[own] = tensor;
    sum.wait = group.exchange(own, sum.parts);
    if (under_way.size() == kSumsUnderWay) finish_first(under_way);
  }
  while (!under_way.empty()) finish_first(under_way);
}

/// A tensor that is defined on one rank is defined on all: said in the first step, then assumed.
void DeviceSums::agree_on_defined(const Turn& turn, const std::vector<std::int32_t>& ranks,
                                  Tensors& tensors) {
  const auto [known, is_new] = known_.try_emplace(turn);
  if (is_new) known->second = share_shapes(turn, ranks, tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const TensorShape& shape = known->second.tensors.at(i);
    if (shape.defined == tensors[i].defined()) continue;
    if (!shape.defined)
      throw TransportError("over " + fabric_ + " a gradient that was absent in the first step stays absent");
    tensors[i] = make_tensor(shape, {at::kCUDA, static_cast<c10::DeviceIndex>(device_)}).zero_();
  }
}

MessageShape DeviceSums::share_shapes(const Turn& turn, const std::vector<std::int32_t>& ranks,
                                      const Tensors& tensors) {
  const std::string prefix =
      "counterflow/sum/" + std::to_string(turn.first) + "/" + std::to_string(turn.second) + "/";
  meeting_.set(prefix + std::to_string(rank_), to_text(MessageShape(tensors)));
  MessageShape all{tensors};
  for (const std::int32_t rank : ranks) {
    const MessageShape theirs = parse_message_shape(meeting_.fetch(prefix + std::to_string(rank)));
    for (std::size_t i = 0; i < all.tensors.size() && i < theirs.tensors.size(); ++i) {
      TensorShape& shape = all.tensors[i];
      if (!shape.defined) shape = theirs.tensors[i];
      if (theirs.tensors[i].defined && !(shape == theirs.tensors[i]))
        throw TransportError("a sum over " + shape.to_string() + " on one rank and " +
                             theirs.tensors[i].to_string() + " on another");
    }
  }
  return all;
}

}  // namespace counterflow::runtime
