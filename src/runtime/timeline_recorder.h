// Notes when a rank does what, for Timelines of real runs. Two readings of the clock an action.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "counterflow/runtime/transport.h"
#include "counterflow/timeline.h"

namespace counterflow::runtime {

class TimelineRecorder {
 public:
  void clear();

  void begin() { begin_ = now(); }

  /// An action has ended. The next one begins, unless begin() is called.
  void end(const Action& action);

  /// A message left, one is waited for, and it is here.
  void sent(const Message& message) { sends_.push_back({message.producer, now(), 0}); }
  void wait() { waits_from_ = now(); }
  void arrived(const Pass& producer) { receipts_.push_back({producer, waits_from_, now()}); }

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

  static std::int64_t now() { return std::chrono::steady_clock::now().time_since_epoch().count(); }
  static Noted read(const std::string& bytes);
  static void check(const Noted& noted, const Placement& placement);
  static void add_transfers(Timeline& timeline, const std::vector<Noted>& ranks);

  std::int64_t begin_ = 0;
  std::int64_t waits_from_ = 0;
  std::vector<Bar> bars_;
  std::vector<Event> sends_;
  std::vector<Event> receipts_;
};

}  // namespace counterflow::runtime
