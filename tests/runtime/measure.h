// Counts what torch does on this thread while a measurement lives.
#pragma once

#include <ATen/record_function.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace counterflow::runtime {

/// Operators called, by name ("aten::mm").
class OperatorCount {
 public:
  OperatorCount();
  ~OperatorCount();
  OperatorCount(const OperatorCount&) = delete;
  OperatorCount& operator=(const OperatorCount&) = delete;

  int of(const std::string& name) const;

  /// Matrix products, convolutions and recurrent layers, forward and backward.
  int products() const;

 private:
  std::map<std::string, int> counts_;
  at::CallbackHandle handle_;
};

/// Bytes of CPU tensors allocated and freed.
class ByteCount {
 public:
  ByteCount();
  ~ByteCount();
  ByteCount(const ByteCount&) = delete;
  ByteCount& operator=(const ByteCount&) = delete;

  std::int64_t held() const;  ///< more than at the start
  std::int64_t most() const;  ///< that were held at any time

 private:
  class Reporter;
  std::shared_ptr<Reporter> reporter_;
  std::unique_ptr<c10::DebugInfoGuard> guard_;
};

}  // namespace counterflow::runtime
