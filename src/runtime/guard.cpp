#include "guard.h"

#include <c10/util/Exception.h>

#include "counterflow/runtime/log.h"

namespace counterflow::runtime {
namespace {

using Clock = std::chrono::steady_clock;

/// One readable line: a torch error without its stack.
std::string message_of(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  return torch_error ? torch_error->what_without_backtrace() : error.what();
}

}  // namespace

std::string seconds(std::chrono::nanoseconds time) {
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  std::string text = std::to_string(milliseconds % 1000 + 1000).replace(0, 1, ".");
  text.erase(text.find_last_not_of('0') + 1);
  return std::to_string(milliseconds / 1000) + (text == "." ? "" : text) + " s";
}

void Guard::fail(const PeerFailed& error) {
  const bool is_own = error.rank() == transport_.rank();  // found by a thread that watches
  const std::string text = (is_own ? where() : where(error.rank())) + error.reason();
  log(LogLevel::kInfo, transport_.rank(), text);
  failed_ = rank_ + ": " + text;
  throw StepFailed(failed_);
}

void Guard::fail(const std::exception& error) {
  const std::string text = where() + message_of(error);
  log(LogLevel::kInfo, transport_.rank(), text);
  transport_.abort(text);
  failed_ = rank_ + ": " + text;
  if (!running_ && dynamic_cast<const InvalidConfig*>(&error)) throw InvalidConfig(failed_);
  throw StepFailed(failed_);
}

void Guard::fail() {
  failed_ = rank_ + ": " + where() + "something was thrown that is no exception";
  transport_.abort(failed_);
}

/// What this rank was doing: "2F3: waited 10 s for 1F3 from rank 1, which ended: ", if rank 1 is the one
/// that failed.
std::string Guard::where(int failed_rank) const {
  std::string text = running_ ? running_->action() : doing_;
  if (!text.empty()) text += ": ";
  const std::string failed = "rank " + std::to_string(failed_rank);
  if (!running_ || !running_->waits_for()) return text + (failed_rank < 0 ? "" : failed + " ended: ");
  const Executor::Wait& wait = *running_->waits_for();
  text += "waited " + seconds(Clock::now() - wait.since) + " for " + to_string(wait.producer) +
          " from rank " + std::to_string(wait.from);
  if (failed_rank < 0) return text + ": ";
  return text + (failed_rank == wait.from ? ", which" : ", when " + failed) + " ended: ";
}

}  // namespace counterflow::runtime
