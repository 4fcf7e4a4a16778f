// Ranks as processes of this machine, each on a fake device of its own.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <functional>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "fake_nccl.h"

namespace counterflow::fake {

/// What became of a rank.
struct Outcome {
  bool ended = false;  ///< by itself, with or without an error
  double seconds = 0;  ///< from trouble(), on whichever rank, to the end
  std::string error;   ///< that `body` threw; empty where there was none
  Tally set_up;        ///< at note_set_up()
  Tally whole;
  std::vector<double> numbers;  ///< that it left
};

/// In a rank: that something goes wrong now.
void note_trouble();

/// In a rank: that everything is set up.
void note_set_up();

/// In a rank: leaves numbers for the test to read, a few thousand at most.
void leave(const at::Tensor& numbers);

using OpenStore = std::function<c10::intrusive_ptr<c10d::Store>()>;

/// Runs `body` in a process for each rank, which meet at a TCPStore of rank 0's, and waits for all of them
/// that have not been stopped by a signal, 60 s at most.
std::vector<Outcome> run_ranks(int num_ranks,
                               const std::function<void(int rank, const OpenStore& open_store)>& body);

/// The rank has ended, within so many seconds, with an error that says where it was and matches a regular
/// expression, and has left no communicator and nothing that waits for one.
void expect_ends(const Outcome& outcome, int rank, double seconds, const std::string& error);

}  // namespace counterflow::fake
