// Notes when a rank does what, for Timelines of real runs. Two readings of the clock an action.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/runtime/transport.h"
#include "counterflow/timeline.h"
#include "step_clock.h"

namespace counterflow::runtime {

class TimelineRecorder {
 public:
  /// A step begins, by the clock of this device.
  void clear(c10::Device device);

  void begin();

  /// An action has ended. The next one begins, unless begin() is called.
  void end(const Action& action);

  /// A message left, one is waited for, and it is here. What an action waits for after its begin does not
  /// count to it: its begin is noted so much later.
  void sent(const Message& message) { sends_.push_back({message.producer, clock_.read(), 0}); }
  void wait() { waits_from_ = clock_.read(); }
  void arrived(const Pass& producer);

  /// What was noted, for timeline() in the same program on the same kind of machine.
  std::string bytes() const;

  /// From the bytes of all ranks. Throws InvalidConfig where there is nothing.
  static Timeline timeline(const Schedule& schedule, const std::vector<std::string>& ranks);

 private:
  struct Event {
    Pass pass;
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  struct Noted {
    std::vector<Bar> bars;
    std::vector<Event> sends;     ///< by producer; end unused
    std::vector<Event> receipts;  ///< by producer; from the begin of the wait to its end
  };

  /// Readings of the clock.
  struct Span {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  static Noted read(const std::string& bytes);
  static void check(const Noted& noted, const Placement& placement);
  static void add_transfers(Timeline& timeline, const std::vector<Noted>& ranks);

  StepClock clock_;
  std::int64_t begin_ = 0;
  std::int64_t waits_from_ = 0;
  bool in_action_ = false;
  Span waited_;              ///< in the action at hand
  std::vector<Bar> bars_;    ///< readings instead of times
  std::vector<Span> waits_;  ///< in each of them
  std::vector<Event> sends_;
  std::vector<Event> receipts_;
};

}  // namespace counterflow::runtime
