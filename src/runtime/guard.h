// Around what a pipeline does that may fail on any rank.
#pragma once

#include <c10/core/AutogradState.h>

#include <chrono>
#include <exception>
#include <string>
#include <utility>

#include "counterflow/error.h"
#include "counterflow/runtime/error.h"
#include "counterflow/runtime/transport.h"
#include "executor.h"
#include "transport_claim.h"

namespace counterflow::runtime {

/// "0.25 s", to milliseconds.
std::string seconds(std::chrono::nanoseconds time);

/// Autograd runs on this thread while this lives. Otherwise ranks of one process that share a GPU would wait
/// for that GPU's one worker thread.
class BackwardOnThisThread {
 public:
  BackwardOnThisThread() : before_(c10::AutogradState::get_tls_state().get_multithreading_enabled()) {
    c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
  }
  ~BackwardOnThisThread() { c10::AutogradState::get_tls_state().set_multithreading_enabled(before_); }
  BackwardOnThisThread(const BackwardOnThisThread&) = delete;
  BackwardOnThisThread& operator=(const BackwardOnThisThread&) = delete;

 private:
  bool before_;
};

/// Whatever is thrown inside run() ends the other ranks' waits, and comes out as one line that says where
/// this rank was.
class Guard {
 public:
  explicit Guard(Transport& transport)
      : transport_(transport), claim_(transport), rank_("rank " + std::to_string(transport.rank())) {}

  /// "rank 2".
  const std::string& rank() const { return rank_; }

  /// Throws StepFailed, also where an earlier call threw; InvalidConfig for one outside a step.
  template <class Function>
  auto run(const char* doing, Function function) -> decltype(function()) {
    if (!failed_.empty()) throw StepFailed("the pipeline has failed before: " + failed_);
    if (!claim_.holds())
      throw InvalidConfig(rank_ +
                          ": another pipeline was made on this transport, which serves one at a time: give "
                          "each a transport of its own");
    const BackwardOnThisThread backward_on_this_thread;
    note(doing);
    try {
      return function();
    } catch (const PeerFailed& error) {
      fail(error);
    } catch (const std::exception& error) {
      fail(error);
    } catch (...) {
      fail();
      throw;
    }
  }

  /// What this rank does from now on, for messages.
  void note(const char* doing) {
    doing_ = doing;
    running_ = nullptr;
  }

  /// What an executor is at, until it is null or something else is noted.
  void follow(const Executor* running) { running_ = running; }

 private:
  [[noreturn]] void fail(const PeerFailed& error);
  [[noreturn]] void fail(const std::exception& error);
  void fail();
  std::string where(int failed_rank = -1) const;

  Transport& transport_;
  const TransportClaim claim_;
  const std::string rank_;
  std::string doing_;
  const Executor* running_ = nullptr;
  std::string failed_;  ///< what an earlier call threw
};

}  // namespace counterflow::runtime
