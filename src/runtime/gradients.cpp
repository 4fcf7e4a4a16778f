#include "gradients.h"

#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

#include "counterflow/error.h"

namespace counterflow::runtime {
namespace {

using Ranks = std::vector<std::int32_t>;

/// The ranks that hold a stage, in all replicas.
Ranks ranks_of(const Placement& placement, const PipelineOptions& options, int stage) {
  Ranks all;
  for (int replica = 0; replica < options.replicas; ++replica)
    for (const std::int32_t rank : placement.ranks_of(stage))
      all.push_back(replica * placement.num_ranks() + rank);
  return all;
}

/// The ranks of the first replica that hold members of a tie, or none where each of them holds all members.
Ranks ranks_of(const Placement& placement, const Tie& tie) {
  Ranks all;
  bool differ = false;
  for (const Tie::Member& member : tie.members) {
    if (member.stage < 0 || member.stage >= placement.num_stages())
      throw InvalidConfig("a tie names stage " + std::to_string(member.stage) + "; there are " +
                          std::to_string(placement.num_stages()));
    const Ranks ranks = placement.ranks_of(member.stage);
    differ |= ranks != placement.ranks_of(tie.members.front().stage);
    all.insert(all.end(), ranks.begin(), ranks.end());
  }
  if (!differ) return {};
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

Ranks shifted(Ranks ranks, int by) {
  for (std::int32_t& rank : ranks) rank += by;
  return ranks;
}

bool contains(const Tensors& tensors, const at::Tensor& tensor) {
  return std::any_of(tensors.begin(), tensors.end(), [&](const at::Tensor& t) { return t.is_same(tensor); });
}

void add_once(Tensors& tensors, const at::Tensor& tensor) {
  if (!contains(tensors, tensor)) tensors.push_back(tensor);
}

Tensors detached(const Tensors& tensors) {
  Tensors all;
  for (const at::Tensor& tensor : tensors) all.push_back(tensor.detach());
  return all;
}

}  // namespace

std::vector<Ranks> Gradients::groups(const Placement& placement, const PipelineOptions& options) {
  std::vector<Ranks> all;
  for (int stage = 0; stage < placement.num_stages(); ++stage) {
    Ranks ranks = ranks_of(placement, options, stage);
    if (ranks.size() > 1) all.push_back(std::move(ranks));
  }
  for (const Tie& tie : options.ties) {
    const Ranks ranks = ranks_of(placement, tie);
    for (int replica = 0; replica < options.replicas && !ranks.empty(); ++replica)
      all.push_back(shifted(ranks, replica * placement.num_ranks()));
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

/// What the constructor works with.
struct Gradients::Model {
  const Placement& placement;
  const PipelineOptions& options;
  int rank;
  const std::vector<std::int32_t>& stage_numbers;
  const std::vector<std::shared_ptr<Stage>>& stages;
  std::vector<Ranks> groups;

  int group(const Ranks& ranks) const {
    const auto found = std::find(groups.begin(), groups.end(), ranks);
    return found == groups.end() ? -1 : static_cast<int>(found - groups.begin());
  }

  /// The parameter of a tie's member, or undefined where its stage is not here.
  at::Tensor find(const Tie::Member& member) const {
    for (std::size_t i = 0; i < stages.size(); ++i) {
      if (stage_numbers[i] != member.stage) continue;
      for (NamedTensor& parameter : stages[i]->parameters())
        if (parameter.name == member.name) return std::move(parameter.tensor);
      throw InvalidConfig("a tie names the parameter " + member.name + ", which stage " +
                          std::to_string(member.stage) + " does not have");
    }
    return {};
  }
};

Gradients::Gradients(const Placement& placement, const PipelineOptions& options, Transport& transport,
                     const std::vector<std::int32_t>& stage_numbers,
                     const std::vector<std::shared_ptr<Stage>>& stages)
    : transport_(transport) {
  const Model model{placement, options, transport.rank(), stage_numbers, stages, groups(placement, options)};
  add_copies(model);
  for (const Tie& tie : options.ties) add_tie(model, tie);
  count(model);
}

void Gradients::add_copies(const Model& model) {
  std::map<int, Copies> by_group;
  std::vector<std::pair<at::Tensor, int>> seen;
  for (std::size_t i = 0; i < model.stages.size(); ++i) {
    const int group = model.group(ranks_of(model.placement, model.options, model.stage_numbers[i]));
    Copies& copies = by_group[group];
    copies.group = group;
    copies.root = model.placement.ranks_of(model.stage_numbers[i]).front();
    for (const NamedTensor& parameter : model.stages[i]->parameters()) {
      for (const auto& [tensor, other] : seen)
        if (tensor.is_same(parameter.tensor) && other != group)
          throw InvalidConfig("stage " + std::to_string(model.stage_numbers[i]) + " shares its parameter " +
                              parameter.name +
                              " with a stage that has its copies on other ranks: give each " +
                              "a tensor of its own and tie them (PipelineOptions::ties)");
      seen.emplace_back(parameter.tensor, group);
      add_once(copies.parameters, parameter.tensor);
      if (group >= 0) add_once(summed_, parameter.tensor);
    }
    for (const NamedTensor& buffer : model.stages[i]->buffers()) add_once(copies.buffers, buffer.tensor);
  }
  by_group.erase(-1);
  for (auto& [group, copies] : by_group) copies_.push_back(std::move(copies));
}

void Gradients::add_tie(const Model& model, const Tie& tie) {
  if (tie.members.empty()) return;
  const int replica_begin = model.rank / model.placement.num_ranks() * model.placement.num_ranks();
  const Ranks ranks = shifted(ranks_of(model.placement, tie), replica_begin);
  Tied tied;
  tied.group = model.group(ranks);
  tied.root = replica_begin + model.placement.ranks_of(tie.members.front().stage).front();
  for (const Tie::Member& member : tie.members) {
    const at::Tensor tensor = model.find(member);
    if (!tensor.defined()) continue;
    add_once(tied.members, tensor);
    add_once(summed_, tensor);
    const bool first_holder = model.rank == replica_begin + model.placement.ranks_of(member.stage).front();
    if (ranks.empty() || first_holder) add_once(tied.contributed, tensor);
  }
  if (!tied.members.empty()) ties_.push_back(std::move(tied));
}

void Gradients::count(const Model& model) {
  Tensors elsewhere;  // members of ties but the first
  for (const Tie& tie : model.options.ties) {
    for (std::size_t i = 1; i < tie.members.size(); ++i) {
      const at::Tensor tensor = model.find(tie.members[i]);
      const at::Tensor first = model.find(tie.members[0]);
      if (tensor.defined() && !(first.defined() && first.is_same(tensor))) elsewhere.push_back(tensor);
    }
  }
  for (std::size_t i = 0; i < model.stages.size(); ++i) {
    if (model.placement.ranks_of(model.stage_numbers[i]).front() != model.rank) continue;
    for (const NamedTensor& parameter : model.stages[i]->parameters())
      if (!contains(elsewhere, parameter.tensor)) add_once(counted_, parameter.tensor);
  }
}

void Gradients::equalise() {
  for (Copies& copies : copies_) {
    Tensors all = detached(copies.parameters);
    all.insert(all.end(), copies.buffers.begin(), copies.buffers.end());
    transport_.broadcast(copies.group, copies.root, all);
  }
  for (const Tied& tied : ties_) {
    Tensors first{tied.members.front().detach()};
    if (tied.group >= 0) transport_.broadcast(tied.group, tied.root, first);
    for (const at::Tensor& member : tied.members)
      if (!member.is_same(tied.members.front())) member.detach().copy_(first.front());
  }
}

void Gradients::begin_step() {
  put_aside_.assign(summed_.size(), {});
  for (std::size_t i = 0; i < summed_.size(); ++i)
    put_aside_[i] = std::exchange(summed_[i].mutable_grad(), {});
}

void Gradients::end_step() {
  const c10::AutoGradMode no_grad(false);
  for (const Copies& copies : copies_) sum(copies);
  for (const Tied& tied : ties_) sum(tied);
  for (std::size_t i = 0; i < summed_.size(); ++i) {
    at::Tensor& before = put_aside_[i];
    at::Tensor& gradient = summed_[i].mutable_grad();
    if (!before.defined()) continue;
    if (gradient.defined()) before.add_(gradient);
    gradient = std::move(before);
  }
  put_aside_.clear();
  for (Copies& copies : copies_)
    if (!copies.buffers.empty()) transport_.broadcast(copies.group, copies.root, copies.buffers);
}

void Gradients::sum(const Copies& copies) {
  Tensors gradients;
  gradients.reserve(copies.parameters.size());
  for (const at::Tensor& parameter : copies.parameters) gradients.push_back(parameter.grad());
  transport_.all_reduce(copies.group, gradients);
  for (std::size_t i = 0; i < gradients.size(); ++i) copies.parameters[i].mutable_grad() = gradients[i];
}

void Gradients::sum(const Tied& tied) {
  at::Tensor total;
  for (const at::Tensor& member : tied.contributed) {
    if (!member.grad().defined()) continue;
    total = total.defined() ? total.add_(member.grad()) : member.grad().clone();
  }
  if (tied.group >= 0) {
    Tensors one{total};
    transport_.all_reduce(tied.group, one);
    total = one.front();
  }
  if (!total.defined()) return;
  for (const at::Tensor& member : tied.members) {
    at::Tensor& gradient = member.mutable_grad();
    if (gradient.defined())
      gradient.copy_(total);
    else
      gradient = total.clone();
  }
}

double Gradients::squared_norm() const {
  std::unordered_map<c10::Device, Tensors> norms;  // each device is waited for once
  for (const at::Tensor& parameter : counted_)
    if (parameter.grad().defined())
      norms[parameter.device()].push_back(parameter.grad().norm().to(at::kDouble));
  double sum = 0;
  for (const auto& [device, of_device] : norms) {
    const at::Tensor here = at::stack(of_device).cpu();
    const auto* norm = here.const_data_ptr<double>();
    for (std::int64_t i = 0; i < here.numel(); ++i) sum += norm[i] * norm[i];
  }
  return sum;
}

}  // namespace counterflow::runtime
