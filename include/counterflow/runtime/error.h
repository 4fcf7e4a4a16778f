// The exceptions that a running pipeline throws. All are counterflow::Error.
#pragma once

#include <string>

#include "counterflow/error.h"

namespace counterflow::runtime {

/// A transfer that failed, or that the other side did differently.
class TransportError : public Error {
 public:
  using Error::Error;
};

/// Thrown out of every call that waits once any rank has called Transport::abort() or has ended.
class PeerFailed : public TransportError {
 public:
  PeerFailed(int rank, const std::string& reason)
      : TransportError("rank " + std::to_string(rank) + " ended: " + reason), rank_(rank), reason_(reason) {}

  int rank() const { return rank_; }  ///< the rank that failed first
  const std::string& reason() const { return reason_; }

 private:
  int rank_;
  std::string reason_;
};

/// Nothing came within the time limit.
class TimeoutError : public TransportError {
 public:
  using TransportError::TransportError;
};

/// A step that could not be finished, on the rank where it failed first or on one that waited for it. what()
/// names this rank, the action it was at and what it waited for.
class StepFailed : public Error {
 public:
  using Error::Error;
};

}  // namespace counterflow::runtime
