#include "batches.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <functional>

namespace train_gpt {
namespace {

void copy_bytes(std::string_view bytes, std::int64_t* to) {
  for (const char byte : bytes) *to++ = static_cast<unsigned char>(byte);
}

/// Sequences and the bytes that follow each byte, dealt into micro-batches.
counterflow::runtime::Batch batch_of(std::string_view text, std::int64_t num_sequences, std::int64_t length,
                                     int micro_batches, at::Device device,
                                     const std::function<std::size_t(std::int64_t)>& start) {
  const at::Tensor inputs = at::empty({num_sequences, length}, at::kLong);
  const at::Tensor targets = at::empty({num_sequences, length}, at::kLong);
  for (std::int64_t row = 0; row < num_sequences; ++row) {
    const std::size_t begin = start(row);
    copy_bytes(text.substr(begin, length), inputs.mutable_data_ptr<std::int64_t>() + row * length);
    copy_bytes(text.substr(begin + 1, length), targets.mutable_data_ptr<std::int64_t>() + row * length);
  }
  return counterflow::runtime::deal({inputs.to(device)}, {targets.to(device)}, micro_batches);
}

}  // namespace

counterflow::runtime::Batch training_batch(const Options& options, const Text& text, std::int64_t position,
                                           int micro_batches) {
  const std::int64_t length = options.model.context;
  const auto start = [&](std::int64_t row) {
    return sequence_start(options.model.seed, position + row, text.training.size(), length + 1);
  };
  return batch_of(text.training, options.batch, length, micro_batches, options.model.device, start);
}

counterflow::runtime::Batch held_out_batch(const Options& options, const Text& text, int micro_batches) {
  const std::int64_t sequences = held_out_rows(micro_batches) * micro_batches;
  const std::int64_t length = options.model.context;
  const std::size_t places = text.held_out.size() - length;
  return batch_of(text.held_out, sequences, length, micro_batches, options.model.device,
                  [&](std::int64_t row) { return row * (places - 1) / sequences; });
}

std::int64_t held_out_rows(int micro_batches) {
  constexpr std::int64_t kFewest = 64;
  return (kFewest + micro_batches - 1) / micro_batches;
}

at::Tensor sequence_to_go_on_from(std::string_view bytes, const ModelOptions& model, int micro_batches) {
  const bool fixed_shape = !model.device.is_cpu();
  const auto size = static_cast<std::int64_t>(bytes.size());
  const at::Tensor tensor = fixed_shape ? at::zeros({held_out_rows(micro_batches), model.context}, at::kLong)
                                        : at::empty({1, size}, at::kLong);
  copy_bytes(bytes, tensor.mutable_data_ptr<std::int64_t>());
  return tensor.to(model.device);
}

}  // namespace train_gpt
