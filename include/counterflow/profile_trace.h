// What a GPU did in a trace of PyTorch Profiler's (Chrome's JSON): how much of its communication was hidden
// behind compute, and what forward and backward took.
//
// All times are nanoseconds. All functions may be called from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "counterflow/cost_model.h"

namespace counterflow {

/// A stream of a device, with the kernels, copies and fills that ran on it.
struct ProfileStream {
  std::string device;
  std::string stream;
  bool communicates = false;  ///< most of its time is that of kernels with names as NCCL's or DeepEP's
  std::int64_t kernels = 0;
  Time busy = 0;  ///< the time in which any ran
};

/// One chunk of work: its kernels' time, the mean of all chunks of its kind.
struct ChunkProfile {
  std::int64_t count = 0;  ///< 0: there was none
  Time compute = 0;        ///< in which any kernel of a compute stream ran
  Time communication = 0;  ///< of a communication stream
  Time busy = 0;           ///< of either: what the chunk would take alone
};

/// Times in which several ran count once, except those of different devices.
struct ProfileTrace {
  Time span = 0;  ///< from the first kernel's begin to the last one's end
  Time compute_busy = 0;
  Time communication_busy = 0;
  Time communication_hidden = 0;  ///< communication while there was compute on the same device
  std::vector<ProfileStream> streams;

  /// Kernels by what launched them: a range whose name says so (2F5, PP:2F5, attn(F), mlp(W), Backward 3),
  /// or else whether autograd's thread did. Ranges that name actions are chunks each; otherwise all of a
  /// profiler's step is one of each kind.
  ChunkProfile forward;
  ChunkProfile backward;         ///< B and I: where there are weight gradients, without those
  ChunkProfile weight_gradient;  ///< W
  std::optional<Time> pair;      ///< a forward and a backward that ran at the same time

  /// 0 where there was no communication.
  double communication_hidden_ratio() const;
};

/// Reads a trace. `file` is the name that errors show. Throws ParseError for what is no such trace: no JSON,
/// no events, none of a GPU, times that cannot be.
ProfileTrace parse_profile_trace(std::string_view json, const std::string& file = "<text>");

/// Reads a file, or standard input where `path` is "-". Throws ParseError, or Error where it cannot be read.
ProfileTrace read_profile_trace(const std::string& path);

/// The chunks' times in microseconds, each stage's the same: a chunk takes what it would alone, and a pair
/// what it took. Where there are no weight gradients, input and weight gradient take half of a backward each.
/// Throws InvalidConfig where there is no forward or no backward.
CostModel costs_of(const ProfileTrace& trace);

}  // namespace counterflow
