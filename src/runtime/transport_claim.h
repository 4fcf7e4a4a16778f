// Which pipeline a transport serves.
#pragma once

#include "counterflow/runtime/transport.h"

namespace counterflow::runtime {

/// From its construction until another one of the same transport is made, which connects it anew. Safe to use
/// from several threads.
class TransportClaim {
 public:
  explicit TransportClaim(const Transport& transport);
  ~TransportClaim();
  TransportClaim(const TransportClaim&) = delete;
  TransportClaim& operator=(const TransportClaim&) = delete;

  bool holds() const;

 private:
  const Transport& transport_;
};

}  // namespace counterflow::runtime
