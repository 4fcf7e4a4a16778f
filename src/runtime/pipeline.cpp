#include "counterflow/runtime/pipeline.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>
#include <sstream>
#include <utility>

#include "check_batch.h"
#include "counterflow/error.h"
#include "counterflow/program.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/log.h"
#include "counterflow/runtime/profile.h"
#include "counterflow/runtime/random.h"
#include "device_order.h"
#include "digest.h"
#include "executor.h"
#include "gradients.h"
#include "guard.h"
#include "process_token.h"
#include "recorded_step.h"
#include "shared_parameters.h"
#include "stream_trial.h"
#include "timeline_recorder.h"
#include "wide_gradients.h"

namespace counterflow::runtime {
namespace {

using Clock = std::chrono::steady_clock;

/// Between its construction and its end all stages are in evaluation mode.
class Evaluation {
 public:
  explicit Evaluation(const std::vector<std::shared_ptr<Stage>>& stages) : stages_(stages) {
    for (const auto& stage : stages_) stage->begin_evaluation();
  }
  ~Evaluation() {
    for (const auto& stage : stages_) stage->end_evaluation();
  }
  Evaluation(const Evaluation&) = delete;
  Evaluation& operator=(const Evaluation&) = delete;

 private:
  const std::vector<std::shared_ptr<Stage>>& stages_;
};

/// With a time limit that clocks can add to what they show.
PipelineOptions in_bounds(PipelineOptions options) {
  options.timeout = std::min<std::chrono::milliseconds>(options.timeout, std::chrono::hours(24 * 365));
  return options;
}

}  // namespace

class Pipeline::Impl {
 public:
  Impl(Schedule schedule, Transport& transport, const StageFactory& make_stage, PipelineOptions options)
      : schedule_(std::move(schedule)),
        forward_schedule_(forward_only(schedule_)),
        transport_(transport),
        options_(in_bounds(std::move(options))),
        guard_(transport),
        first_rank_(transport.rank() / std::max(1, schedule_.num_ranks()) * schedule_.num_ranks()) {
    guard_.run("setting up", [&] { set_up(make_stage); });
  }
  ~Impl() {
    if (options_.recorder) options_.recorder->forget();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  StepResult step(const Batch& batch) {
    return guard_.run("before the first action", [&] {
      check_batch(batch, schedule_, transport_.rank() - first_rank_, options_, true);
      const auto body = [this](const Batch& all) {
        gradients_->begin_step();
        StepResult result = run(*training_, all, num_steps_);
        guard_.note("summing gradients");
        gradients_->end_step();
        return result;
      };
      if (wide_gradients_) wide_gradients_->widen();  // those that there are
      transport_.begin_step(true);                    // a replay asks it for nothing else
      if (trial_) begin_trial();
      const Clock::time_point begin = Clock::now();
      StepResult result = recorded_ ? recorded_->run(batch, seeds(), body) : body(batch);
      if (trial_) end_trial(begin);
      if (log_enabled(LogLevel::kDebug))
        log(LogLevel::kDebug, transport_.rank(),
            "step " + std::to_string(num_steps_) + ": " + seconds(Clock::now() - begin));
      ++num_steps_;
      return result;
    });
  }

  StepResult evaluate(const Batch& batch) {
    return guard_.run("before the first action", [&] {
      check_batch(batch, schedule_, transport_.rank() - first_rank_, options_, false);
      const Evaluation evaluation(stages_);
      return run(*evaluation_, batch, num_steps_);
    });
  }

  double total_loss(const StepResult& result) {
    if (result.weights.size() < result.losses.size())
      throw InvalidConfig(std::to_string(result.weights.size()) + " weights for " +
                          std::to_string(result.losses.size()) + " losses");
    double mine = 0;
    for (std::size_t m = 0; m < result.losses.size(); ++m)
      if (result.losses[m].defined()) mine += result.weights[m] * result.losses[m].item().toDouble();
    return sum_over_ranks("adding up losses", mine);
  }

  double clip_gradient_norm(double max_norm) {
    if (!(max_norm >= 0))
      throw InvalidConfig("gradients are to be clipped to a norm of " + std::to_string(max_norm));
    const double norm = std::sqrt(sum_over_ranks("adding up gradient norms", gradients_->squared_norm()));
    const double scale = max_norm / (norm + 1e-6);  // as torch's clip_grad_norm_
    if (scale < 1)
      for (const at::Tensor& parameter : parameters())
        if (parameter.grad().defined()) parameter.mutable_grad().mul_(scale);
    return norm;
  }

  void record_timeline(bool on, bool split_backward) {
    if (on && recorded_)
      throw InvalidConfig("a recorded step is replayed without the host, which cannot time its actions");
    training_->split_backward(on && split_backward);
    records_timeline_ = on;
  }

  Timeline timeline() {
    const std::vector<std::string> all =
        guard_.run("gathering timelines", [&] { return transport_.all_gather(timeline_recorder_.bytes()); });
    return TimelineRecorder::timeline(
        schedule_, {all.begin() + first_rank_, all.begin() + first_rank_ + schedule_.num_ranks()});
  }

  CostModel profile(const Batch& batch, int num_steps) {
    Tensors gradients;
    for (const at::Tensor& parameter : parameters())
      gradients.push_back(std::exchange(parameter.mutable_grad(), {}));
    const bool recorded_before = records_timeline_;
    record_timeline(true, true);
    step(batch);
    Profile steps;
    for (int i = 0; i < std::max(1, num_steps); ++i) {
      step(batch);
      steps.add(timeline());
    }
    record_timeline(recorded_before, false);
    std::size_t next = 0;
    for (const at::Tensor& parameter : parameters()) parameter.mutable_grad() = std::move(gradients[next++]);
    CostModel costs = steps.costs();
    add_bytes(costs);
    return costs;
  }

  std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all;
    for (const auto& stage : stages_) {
      for (NamedTensor& parameter : stage->parameters()) {
        const auto same = [&](const at::Tensor& tensor) { return tensor.is_same(parameter.tensor); };
        if (std::none_of(all.begin(), all.end(), same)) all.push_back(std::move(parameter.tensor));
      }
    }
    return all;
  }

  bool holds(int stage, int micro_batch) const {
    return first_rank_ + schedule_.placement.rank_of(stage, micro_batch) == transport_.rank();
  }

  const Schedule schedule_;
  const Schedule forward_schedule_;
  Transport& transport_;
  const PipelineOptions options_;
  Guard guard_;
  const int first_rank_;  ///< of this replica
  std::vector<std::int32_t> stage_numbers_;
  std::vector<std::shared_ptr<Stage>> stages_;
  std::int64_t num_steps_ = 0;

 private:
  void set_up(const StageFactory& make_stage) {
    check_ranks();
    program_ = lower(schedule_);
    forward_program_ = lower(forward_schedule_);
    connect();
    stage_numbers_ = schedule_.placement.stages_on(transport_.rank() - first_rank_);
    for (const int number : stage_numbers_) {
      const RandomScope random(random_seed(options_.seed, -1, number, 0));
      stages_.push_back(make_stage(number));
      if (!stages_.back()) throw InvalidConfig("nothing was made for stage " + std::to_string(number));
    }
    refuse_shared_parameters(transport_, stage_numbers_, stages_);
    gradients_ =
        std::make_unique<Gradients>(schedule_.placement, options_, transport_, stage_numbers_, stages_);
    gradients_->equalise();
    if (options_.gradient_type)
      wide_gradients_ = std::make_unique<WideGradients>(*options_.gradient_type, stages_);
    const Executor::Setup setup{transport_,     options_, first_rank_,
                                stage_numbers_, stages_,  wide_gradients_.get()};
    training_ = std::make_unique<Executor>(schedule_, program_, setup);
    evaluation_ = std::make_unique<Executor>(forward_schedule_, forward_program_, setup);
    // Of its own: the transport may ask where the device is when the pipeline has gone.
    const auto names = std::make_shared<const std::vector<std::string>>(training_->names());
    if (options_.recorder)
      recorded_ = std::make_unique<RecordedStep>(
          *options_.recorder, parameters(), [this] { transport_.all_gather({}); },
          [this, names] {
            transport_.replayed([recorder = options_.recorder, names] {
              const int action = recorder->progress();
              return action < 0 ? std::string("its beginning") : names->at(action);
            });
          });
    const int streams = options_.streams.value_or(recorded_ && !ranks_share_processes() ? 0 : 1);
    if (streams > 0)
      training_->set_streams(streams);
    else if (recorded_)
      trial_.emplace();
    log_set_up();
  }

  bool ranks_share_processes() {
    std::vector<std::string> all = transport_.all_gather(std::to_string(process_token()));
    std::sort(all.begin(), all.end());
    return std::adjacent_find(all.begin(), all.end()) != all.end();
  }

  /// Before a step of the trial.
  void begin_trial() {
    if (trial_->records()) {
      training_->set_streams(trial_->streams());
      recorded_->record_again();
    }
    if (trial_->counts()) finish_work(parameters());
  }

  void end_trial(Clock::time_point begin) {
    if (trial_->counts()) {
      finish_work(parameters());
      trial_->note(std::chrono::duration<double>(Clock::now() - begin).count());
    }
    if (trial_->decides())
      for (double& time : trial_->best()) time = add_over_ranks("comparing numbers of streams", time);
    trial_->next();
    if (!trial_->is_over()) return;
    log(LogLevel::kInfo, transport_.rank(),
        "recorded steps run on " + std::to_string(trial_->streams()) + " streams");
    trial_.reset();
  }

  void log_set_up() const {
    if (!log_enabled(LogLevel::kInfo)) return;
    std::string held;
    for (const std::int32_t number : stage_numbers_) held += " " + std::to_string(number);
    log(LogLevel::kInfo, transport_.rank(),
        schedule_.name + ", " + std::to_string(schedule_.num_ranks()) + " ranks, " +
            std::to_string(schedule_.num_micro_batches()) + " micro-batches: holds stages" + held);
  }

  void check_ranks() const {
    const int expected = schedule_.num_ranks() * options_.replicas;
    if (transport_.num_ranks() != expected || expected == 0)
      throw InvalidConfig(
          "the schedule " + schedule_.name + " is for " + std::to_string(schedule_.num_ranks()) + " ranks" +
          (options_.replicas == 1 ? "" : ", " + std::to_string(options_.replicas) + " times") +
          "; there are " + std::to_string(transport_.num_ranks()));
    if (schedule_.passes != Passes::kTraining)
      throw InvalidConfig("the schedule " + schedule_.name + " has forwards only: a pipeline trains");
    for (const int stage : options_.recompute)
      if (stage < 0 || stage >= schedule_.num_stages())
        throw InvalidConfig("stage " + std::to_string(stage) + " is to be recomputed; there are " +
                            std::to_string(schedule_.num_stages()));
    if (options_.timeout <= std::chrono::milliseconds(0))
      throw InvalidConfig("a rank is to wait for " + std::to_string(options_.timeout.count()) +
                          " ms (PipelineOptions::timeout)");
    if (options_.streams.value_or(1) < 0)
      throw InvalidConfig("a rank is to compute on " + std::to_string(*options_.streams) +
                          " streams (PipelineOptions::streams)");
    if (options_.recorder && !transport_.can_be_recorded())
      throw InvalidConfig("this transport's messages cannot be recorded (PipelineOptions::recorder)");
    if (options_.recorder && (options_.varying_shapes || options_.check_losses))
      throw InvalidConfig(
          "a recorded step has fixed shapes and does not show its losses to the host: it goes with neither "
          "varying_shapes nor check_losses");
    transport_.set_timeout(options_.timeout);
    const std::vector<std::string> digests = transport_.all_gather(digest(schedule_, options_));
    for (std::size_t rank = 0; rank < digests.size(); ++rank)
      if (digests[rank] != digests[transport_.rank()])
        throw InvalidConfig("rank " + std::to_string(rank) +
                            " has another schedule, or other replicas, ties or gradient type, than rank " +
                            std::to_string(transport_.rank()) +
                            ", or records its steps or tries out streams where the other does not");
  }

  void connect() {
    Wiring wiring;
    for (int replica = 0; replica < options_.replicas; ++replica) {
      const int first = replica * schedule_.num_ranks();
      for (const Channel& channel : program_.channels) {
        int buffers = channel.receive_buffers;
        for (const Channel& other : forward_program_.channels)
          if (other.from == channel.from && other.to == channel.to)
            buffers = std::max(buffers, other.receive_buffers);
        wiring.channels.push_back({first + channel.from, first + channel.to, buffers});
      }
    }
    wiring.groups = Gradients::groups(schedule_.placement, options_);
    transport_.connect(wiring);
  }

  /// Of the random scopes of this step, by stage and micro-batch: those that settings_of() gives its visits.
  std::vector<std::uint64_t> seeds() const {
    const int replica = first_rank_ / schedule_.num_ranks();
    std::vector<std::uint64_t> all;
    for (const std::int32_t stage : stage_numbers_)
      for (int m = 0; m < schedule_.num_micro_batches(); ++m)
        all.push_back(
            random_seed(options_.seed, num_steps_, stage, replica * schedule_.num_micro_batches() + m));
    return all;
  }

  StepResult run(Executor& executor, const Batch& batch, std::int64_t step_number) {
    StepResult result;
    result.weights = batch.weights;
    if (result.weights.empty())
      result.weights.assign(schedule_.num_micro_batches(),
                            1.0 / (static_cast<double>(schedule_.num_micro_batches()) * options_.replicas));
    guard_.follow(&executor);
    const bool is_recorded = records_timeline_ && &executor == training_.get();
    TimelineRecorder* const recorder = is_recorded ? &timeline_recorder_ : nullptr;
    if (recorder) recorder->clear(device());
    executor.run(batch, step_number, result, recorder);
    guard_.follow(nullptr);
    return result;
  }

  /// Where this rank computes: where its parameters are.
  c10::Device device() const {
    for (const auto& stage : stages_)
      for (const NamedTensor& parameter : stage->parameters()) return parameter.tensor.device();
    return c10::kCPU;
  }

  /// Gathers what each rank knows of its stages.
  void add_bytes(CostModel& costs) {
    std::string mine;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      std::int64_t bytes = 0;
      std::int64_t of_gradients = 0;
      for (const NamedTensor& parameter : stages_[i]->parameters()) {
        const at::ScalarType type = gradient_type(parameter.tensor, options_.gradient_type);
        bytes += static_cast<std::int64_t>(parameter.tensor.nbytes());
        of_gradients += parameter.tensor.numel() * static_cast<std::int64_t>(c10::elementSize(type));
      }
      mine += std::to_string(stage_numbers_[i]) + ' ' + std::to_string(training_->output_bytes()[i]) + ' ' +
              std::to_string(bytes) + ' ' + std::to_string(of_gradients) + ' ';
    }
    for (const std::string& of_rank :
         guard_.run("gathering bytes", [&] { return transport_.all_gather(mine); })) {
      std::istringstream numbers(of_rank);
      std::size_t stage = 0;
      StageCost read;
      while (numbers >> stage >> read.output_bytes >> read.parameter_bytes >> read.gradient_bytes) {
        if (stage >= costs.stages.size()) break;
        costs.stages[stage].output_bytes = read.output_bytes;
        costs.stages[stage].parameter_bytes = read.parameter_bytes;
        costs.stages[stage].gradient_bytes = read.gradient_bytes;
      }
    }
  }

  double sum_over_ranks(const char* doing, double mine) {
    return guard_.run(doing, [&] { return add_over_ranks(doing, mine); });
  }

  double add_over_ranks(const std::string& doing, double mine) {
    std::string bytes(sizeof mine, '\0');
    std::memcpy(bytes.data(), &mine, sizeof mine);
    const std::vector<std::string> all = transport_.all_gather(bytes + doing);
    double sum = 0;
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      if (all[rank].size() < sizeof mine || all[rank].compare(sizeof mine, std::string::npos, doing) != 0)
        throw TransportError("rank " + std::to_string(rank) +
                             " is at something else: all ranks make the same calls in the same order");
      double theirs = 0;
      std::memcpy(&theirs, all[rank].data(), sizeof theirs);
      sum += theirs;
    }
    return sum;
  }

  Program program_;
  Program forward_program_;
  std::unique_ptr<Gradients> gradients_;
  std::unique_ptr<WideGradients> wide_gradients_;
  std::unique_ptr<Executor> training_;
  std::unique_ptr<Executor> evaluation_;
  std::unique_ptr<RecordedStep> recorded_;
  std::optional<StreamTrial> trial_;
  TimelineRecorder timeline_recorder_;
  bool records_timeline_ = false;
};

Pipeline::Pipeline(Schedule schedule, Transport& transport, const StageFactory& make_stage,
                   PipelineOptions options)
    : impl_(std::make_unique<Impl>(std::move(schedule), transport, make_stage, std::move(options))) {}

Pipeline::~Pipeline() = default;

StepResult Pipeline::step(const Batch& batch) {
  return impl_->step(batch);
}

StepResult Pipeline::step(const Tensors& inputs, const Tensors& targets) {
  return impl_->step(deal_to_replica(inputs, targets));
}

StepResult Pipeline::evaluate(const Batch& batch) {
  return impl_->evaluate(batch);
}

StepResult Pipeline::evaluate(const Tensors& inputs, const Tensors& targets) {
  return impl_->evaluate(deal_to_replica(inputs, targets));
}

Batch Pipeline::deal_to_replica(const Tensors& inputs, const Tensors& targets) const {
  Batch batch = deal(inputs, targets, impl_->schedule_.num_micro_batches());
  for (double& weight : batch.weights) weight /= impl_->options_.replicas;
  return batch;
}

double Pipeline::total_loss(const StepResult& result) {
  return impl_->total_loss(result);
}

double Pipeline::clip_gradient_norm(double max_norm) {
  return impl_->clip_gradient_norm(max_norm);
}

void Pipeline::record_timeline(bool on, bool split_backward) {
  impl_->record_timeline(on, split_backward);
}

Timeline Pipeline::timeline() {
  return impl_->timeline();
}

CostModel Pipeline::profile(const Batch& batch, int num_steps) {
  return impl_->profile(batch, num_steps);
}

const std::vector<std::int32_t>& Pipeline::stages() const {
  return impl_->stage_numbers_;
}

Stage& Pipeline::stage(int number) const {
  const std::vector<std::int32_t>& numbers = impl_->stage_numbers_;
  const auto found = std::find(numbers.begin(), numbers.end(), number);
  if (found == numbers.end())
    throw InvalidConfig("stage " + std::to_string(number) + " is not on " + impl_->guard_.rank());
  return *impl_->stages_[found - numbers.begin()];
}

std::vector<at::Tensor> Pipeline::parameters() const {
  return impl_->parameters();
}

bool Pipeline::takes_input(int micro_batch) const {
  return impl_->holds(0, micro_batch);
}

bool Pipeline::takes_target(int micro_batch) const {
  return impl_->holds(impl_->schedule_.num_stages() - 1, micro_batch);
}

const Schedule& Pipeline::schedule() const {
  return impl_->schedule_;
}

std::int64_t Pipeline::num_steps() const {
  return impl_->num_steps_;
}

void Pipeline::set_num_steps(std::int64_t steps) {
  impl_->num_steps_ = steps;
}

}  // namespace counterflow::runtime
