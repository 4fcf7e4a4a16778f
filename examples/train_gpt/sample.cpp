#include "sample.h"

#include <cmath>
#include <random>

#include "batches.h"

namespace train_gpt {
namespace {

namespace cf = counterflow::runtime;

constexpr double kTemperature = 0.7;  // below 1: likelier bytes more often than the model thinks

/// A byte drawn from the prediction after so many bytes of the first sequence (rows × length × 256).
char draw(const at::Tensor& logits, std::int64_t num_bytes, std::mt19937_64& random) {
  const at::Tensor last = logits[0][num_bytes - 1].cpu().contiguous();
  const auto* logit = last.const_data_ptr<float>();
  std::vector<double> weights;
  for (std::int64_t byte = 0; byte < kVocabulary; ++byte)
    weights.push_back(std::exp((logit[byte] - logit[0]) / kTemperature));
  return static_cast<char>(std::discrete_distribution<int>(weights.begin(), weights.end())(random));
}

}  // namespace

std::vector<std::string> write_on(std::vector<std::string> texts, std::int64_t num_bytes,
                                  const ModelOptions& options, cf::Pipeline& pipeline,
                                  cf::Transport& transport) {
  std::mt19937_64 random(options.seed + transport.rank());
  for (std::int64_t count = 0; count < num_bytes; ++count) {
    cf::Batch batch;
    const std::size_t seen = std::min<std::size_t>(texts.front().size(), options.context);
    for (const std::string& text : texts)
      batch.inputs.push_back({sequence_to_go_on_from(std::string_view(text).substr(text.size() - seen),
                                                     options, static_cast<int>(texts.size()))});
    const cf::StepResult result = pipeline.evaluate(batch);
    // The ranks at the model's end draw; the ranks at its beginning, and all others, have to know what.
    std::string drawn(texts.size(), '\0'), here(texts.size(), '\0');
    for (std::size_t m = 0; m < texts.size(); ++m) {
      if (!pipeline.takes_target(static_cast<int>(m))) continue;
      drawn[m] = draw(result.outputs[m][0], static_cast<std::int64_t>(seen), random);
      here[m] = 1;
    }
    for (const std::string& part : transport.all_gather(drawn + here))
      for (std::size_t m = 0; m < texts.size(); ++m)
        if (part[texts.size() + m] != 0) texts[m] += part[m];
  }
  return texts;
}

std::string printable(const std::string& text) {
  std::string line;
  for (const char c : text) {
    const bool blank = c == ' ' || c == '\n' || c == '\t';
    if (blank && (line.empty() || line.back() == ' ')) continue;
    line += blank ? ' ' : c >= ' ' && c <= '~' ? c : '.';
  }
  return line;
}

}  // namespace train_gpt
