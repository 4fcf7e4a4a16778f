#include "run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/prediction.h"
#include "counterflow/recording.h"
#include "reference.h"
#include "sample.h"
#include "trainer.h"

namespace train_gpt {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Prints on rank 0 only.
class Console {
 public:
  explicit Console(bool shows) : shows_(shows) {}

  template <class... Arguments>
  void line(const char* format, Arguments... arguments) const {
    if (!shows_) return;
    std::printf(format, arguments...);
    std::printf("\n");
    std::fflush(stdout);
  }

 private:
  bool shows_;
};

/// The one that took neither longest nor shortest.
counterflow::Timeline median(std::vector<counterflow::Timeline> steps) {
  const auto middle = steps.begin() + static_cast<std::ptrdiff_t>(steps.size() / 2);
  std::nth_element(steps.begin(), middle, steps.end(),
                   [](const auto& a, const auto& b) { return a.end() < b.end(); });
  return std::move(*middle);
}

/// Collective. A recorded step does not look at its losses.
double finite_loss(Trainer& trainer) {
  const double loss = trainer.loss();
  if (!std::isfinite(loss)) throw counterflow::Error("the loss is " + std::to_string(loss));
  return loss;
}

/// Collective: "  bubble 12.3 %" of the last step, where it is known.
std::string bubble(Trainer& trainer) {
  if (!trainer.has_timeline()) return "";
  char text[40];
  std::snprintf(text, sizeof text, "  bubble %4.1f %%", 100 * counterflow::bubble_ratio(trainer.timeline()));
  return text;
}

/// Returns what the ranks did in one of the last steps; nothing where there are no steps to take, or where
/// they are replayed.
std::optional<counterflow::Timeline> train(const Options& options, Trainer& trainer, const Console& console) {
  constexpr std::int64_t kLastSteps = 5;
  std::vector<counterflow::Timeline> last_steps;
  const std::int64_t every = std::max<std::int64_t>(1, options.steps / 20);
  const double bytes_a_step = static_cast<double>(options.batch * options.model.context);
  Clock::time_point since = Clock::now();
  std::int64_t shown = trainer.num_steps();
  while (trainer.num_steps() < options.steps) {
    trainer.step();
    const std::int64_t step = trainer.num_steps();
    if (step % every == 0 || step == options.steps) {
      console.line("step %4ld/%ld  loss %.3f  %6.0f tokens/s%s", step, options.steps, finite_loss(trainer),
                   bytes_a_step * static_cast<double>(step - shown) / seconds_since(since),
                   bubble(trainer).c_str());
      since = Clock::now();
      shown = step;
    }
    if (options.checkpoint_every > 0 && step % options.checkpoint_every == 0 && step < options.steps)
      console.line("saved %s", trainer.save().c_str());
    if (trainer.has_timeline() && step > options.steps - kLastSteps) last_steps.push_back(trainer.timeline());
  }
  if (last_steps.empty()) return std::nullopt;
  return median(std::move(last_steps));
}

/// Compares losses of the first steps with those of a run without a pipeline.
void check(const Options& options, const Text& text, const counterflow::Schedule& schedule,
           const Trainer& trainer, const Console& console) {
  constexpr double kTolerance = 1e-5;  // of a loss; sums in the same order leave no difference at all
  const auto& found = trainer.first_losses();
  if (found.empty()) return;
  const auto expected =
      losses_without_pipeline(options, text, schedule, trainer.first_step(), trainer.first_position(),
                              static_cast<std::int64_t>(found.size()));
  double largest = 0;
  for (std::size_t step = 0; step < found.size(); ++step)
    for (std::size_t m = 0; m < found[step].size(); ++m)
      largest = std::max(largest, std::abs(double{found[step][m]} - double{expected[step][m]}));
  if (!(largest <= kTolerance))
    throw counterflow::Error("losses differ from those of an unpipelined run by " + std::to_string(largest));
  if (largest > 0)
    console.line("check: the losses of the first %zu steps equal an unpipelined run's within %.1e",
                 found.size(), largest);
  else
    console.line("check: the losses of the first %zu steps equal an unpipelined run's bit for bit",
                 found.size());
}

void show_samples(const Options& options, Trainer& trainer, const Console& console) {
  constexpr std::size_t kMostShown = 2;
  if (options.sample_bytes == 0) return;
  const auto texts = trainer.sample();
  for (std::size_t i = 0; i < std::min(kMostShown, texts.size()); ++i)
    console.line("text: %s", printable(texts[i * (texts.size() - 1)]).c_str());
}

void tell_prediction(const counterflow::Schedule& schedule, const counterflow::CostModel& costs,
                     const counterflow::Timeline& step, const Console& console) {
  const unsigned cores = std::thread::hardware_concurrency();
  if (cores > 0 && cores < static_cast<unsigned>(schedule.num_ranks()))
    console.line("%d ranks share %u cores: what a pass takes depends on what other ranks do meanwhile",
                 schedule.num_ranks(), cores);
  console.line("%s", format_prediction(compare_with_prediction(schedule, costs, step)).c_str());
}

}  // namespace

void run(const Options& options, const Text& text, const counterflow::Schedule& schedule,
         const std::optional<counterflow::CostModel>& costs, counterflow::runtime::Transport& transport,
         const std::shared_ptr<counterflow::runtime::StepRecorder>& recorder) {
  const Console console(transport.rank() == 0);
  Trainer trainer(options, text, schedule, transport, recorder);
  const auto last_step = train(options, trainer, console);
  const double entropy = bigram_entropy(text.training + text.held_out);
  const double loss = trainer.held_out_loss();
  console.line("held-out loss %.3f nats a byte, %s the text's bigram entropy %.3f", loss,
               loss < entropy ? "below" : "not below", entropy);
  show_samples(options, trainer, console);
  if (transport.rank() == 0) check(options, text, schedule, trainer, console);
  if (transport.rank() == 0 && last_step) {
    if (costs) tell_prediction(schedule, *costs, *last_step, console);
    if (!options.save_timeline.empty())
      counterflow::write_file(options.save_timeline, format_recording(*last_step));
  }
  if (!options.checkpoint.empty()) console.line("saved %s", trainer.save().c_str());
}

}  // namespace train_gpt
