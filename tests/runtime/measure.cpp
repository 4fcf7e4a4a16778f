#include "measure.h"

#include <c10/core/Allocator.h>

#include <algorithm>

namespace counterflow::runtime {
namespace {

thread_local std::map<std::string, int>* counts = nullptr;

std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
  if (!counts) return nullptr;
  const std::string name = function.name();
  int computed = 1;
  if (name == "aten::convolution_backward") {
    // Its last argument says which gradients are wanted: input, weight, bias.
    const auto wanted = function.inputs().back().toBoolList();
    computed = wanted[0] + wanted[1];
  }
  (*counts)[name] += computed;
  return nullptr;
}

}  // namespace

OperatorCount::OperatorCount()
    : handle_(at::addThreadLocalCallback(
          at::RecordFunctionCallback(count).needsInputs(true).scopes({at::RecordScope::FUNCTION}))) {
  counts = &counts_;
}

OperatorCount::~OperatorCount() {
  counts = nullptr;
  at::removeCallback(handle_);
}

int OperatorCount::of(const std::string& name) const {
  const auto found = counts_.find(name);
  return found == counts_.end() ? 0 : found->second;
}

int OperatorCount::products() const {
  int sum = 0;
  for (const char* name :
       {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm", "aten::convolution_backward",
        "aten::mkldnn_rnn_layer_backward", "aten::_scaled_dot_product_flash_attention_for_cpu_backward"})
    sum += of(name);
  return sum;
}

class ByteCount::Reporter : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, std::int64_t bytes, std::size_t, std::size_t, c10::Device) override {
    held += bytes;
    most = std::max(most, held);
  }
  bool memoryProfilingEnabled() const override { return true; }
  std::int64_t held = 0;
  std::int64_t most = 0;
};

ByteCount::ByteCount()
    : reporter_(std::make_shared<Reporter>()),
      guard_(std::make_unique<c10::DebugInfoGuard>(c10::DebugInfoKind::PROFILER_STATE, reporter_)) {}

ByteCount::~ByteCount() = default;

std::int64_t ByteCount::held() const {
  return reporter_->held;
}

std::int64_t ByteCount::most() const {
  return reporter_->most;
}

}  // namespace counterflow::runtime
