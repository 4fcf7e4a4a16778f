// A recorder of steps that records nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "counterflow/runtime/recorder.h"

namespace counterflow::runtime {

/// Runs a step where it should record it; says which scopes drew, and notes which seeds come.
class FakeRecorder : public StepRecorder {
 public:
  using Seeds = std::vector<std::uint64_t>;

  void run(const std::function<void()>& body) override { body(); }
  void record(const std::function<void()>& body) override {
    ++recorded;
    body();
  }
  const Seeds& seeds() const override { return drew; }
  void replay(const Seeds& seeds) override { replayed.push_back(seeds); }
  void forget() override { ++forgotten; }

  int recorded = 0;
  int forgotten = 0;
  Seeds drew;
  std::vector<Seeds> replayed;
};

}  // namespace counterflow::runtime
