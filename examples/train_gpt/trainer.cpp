#include "trainer.h"

#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "batches.h"
#include "counterflow/error.h"
#include "counterflow/runtime/pieces.h"
#include "sample.h"

namespace train_gpt {
namespace {

namespace cf = counterflow::runtime;

cf::PipelineOptions pipeline_options(const Options& options, int num_stages,
                                     const std::shared_ptr<cf::StepRecorder>& recorder) {
  cf::PipelineOptions with;
  with.loss = loss;
  with.seed = options.model.seed;
  with.recorder = recorder;
  with.check_losses = !recorder;
  if (options.model.tied) with.ties = {{{{0, kEmbedding}, {num_stages - 1, kHead}}}};
  return with;
}

cf::StageFactory stages_of(const ModelOptions& model, int num_stages) {
  return [model, slices = cut(model, num_stages)](int stage) {
    const auto module = std::make_shared<GptStage>(model, slices[stage]);
    std::vector<cf::Piece> pieces;
    for (Layer& layer : module->layers())
      pieces.push_back({std::move(layer.name), cf::Lane::kCompute,
                        [forward = std::move(layer.forward)](const cf::Tensors& inputs) {
                          return cf::Tensors{forward(inputs.at(0))};
                        }});
    return cf::make_stage(std::move(pieces), module);
  };
}

/// The losses of all micro-batches, whichever ranks hold them.
std::vector<float> gather_losses(const cf::StepResult& result, cf::Transport& transport) {
  constexpr float kElsewhere = -1;  // a cross entropy is never negative
  std::vector<float> mine;
  for (const at::Tensor& loss : result.losses)
    mine.push_back(loss.defined() ? loss.item().toFloat() : kElsewhere);
  const std::string_view bytes(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(float));
  std::vector<float> all(mine.size());
  for (const std::string& part : transport.all_gather(bytes)) {
    std::memcpy(mine.data(), part.data(), part.size());
    for (std::size_t m = 0; m < all.size(); ++m)
      if (mine[m] != kElsewhere) all[m] = mine[m];
  }
  return all;
}

std::int64_t position_in(const cf::Checkpoint& checkpoint) {
  const auto found = checkpoint.state().find("position");
  std::int64_t position = -1;
  if (found != checkpoint.state().end())
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), position);
  if (position < 0)
    throw counterflow::Error(checkpoint.path() + " does not say at which place of the text the run was");
  return position;
}

}  // namespace

Trainer::Trainer(const Options& options, const Text& text, const counterflow::Schedule& schedule,
                 cf::Transport& transport, std::shared_ptr<cf::StepRecorder> recorder)
    : options_(options),
      text_(text),
      transport_(transport),
      pipeline_(schedule, transport, stages_of(options.model, schedule.num_stages()),
                pipeline_options(options, schedule.num_stages(), recorder)),
      has_timeline_(!recorder) {
  for (const int stage : pipeline_.stages()) optimizers_.emplace_back(pipeline_.stage(stage).parameters());
  pipeline_.record_timeline(has_timeline_);
  if (!options.resume.empty()) resume();
}

void Trainer::resume() {
  const cf::Checkpoint checkpoint(options_.resume);
  for (const cf::StageTensors& stage : tensors()) checkpoint.load(stage.tensors);
  num_steps_ = first_step_ = checkpoint.step();
  position_ = first_position_ = position_in(checkpoint);
  pipeline_.set_num_steps(num_steps_);
}

void Trainer::step() {
  const cf::Batch batch =
      training_batch(options_, text_, position_, pipeline_.schedule().num_micro_batches());
  last_ = pipeline_.step(batch);
  pipeline_.clip_gradient_norm(kMostGradientNorm);
  for (AdamW& optimizer : optimizers_)
    optimizer.step(learning_rate(options_.learning_rate, num_steps_, options_.steps));
  if (num_steps_ < first_step_ + options_.check_steps)
    first_losses_.push_back(gather_losses(last_, transport_));
  ++num_steps_;
  position_ += options_.batch;
}

counterflow::CostModel Trainer::profile() {
  constexpr int kSteps = 3;
  return pipeline_.profile(
      training_batch(options_, text_, position_, pipeline_.schedule().num_micro_batches()), kSteps);
}

double Trainer::held_out_loss() {
  const cf::Batch batch = held_out_batch(options_, text_, pipeline_.schedule().num_micro_batches());
  return pipeline_.total_loss(pipeline_.evaluate(batch));
}

std::vector<std::string> Trainer::sample() {
  constexpr std::size_t kPromptBytes = 32;
  const std::size_t num_texts = pipeline_.schedule().num_micro_batches();
  std::vector<std::string> prompts;
  for (std::size_t i = 0; i < num_texts; ++i)
    prompts.push_back(text_.held_out.substr(i * (text_.held_out.size() / num_texts), kPromptBytes));
  return write_on(std::move(prompts), options_.sample_bytes, options_.model, pipeline_, transport_);
}

std::vector<cf::StageTensors> Trainer::tensors() const {
  std::vector<cf::StageTensors> all;
  for (std::size_t i = 0; i < optimizers_.size(); ++i) {
    const int stage = pipeline_.stages()[i];
    all.push_back({stage, pipeline_.stage(stage).parameters()});
    for (cf::NamedTensor& tensor : optimizers_[i].state()) all.back().tensors.push_back(std::move(tensor));
  }
  return all;
}

std::string Trainer::save() {
  auto state = options_.saved();
  state["position"] = std::to_string(position_);
  state["text"] = std::to_string(text_.digest);
  cf::save_checkpoint(transport_, options_.checkpoint, num_steps_, tensors(), state);
  return cf::Checkpoint(options_.checkpoint).path();
}

}  // namespace train_gpt
