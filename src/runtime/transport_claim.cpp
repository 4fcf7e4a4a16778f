#include "transport_claim.h"

#include <map>
#include <mutex>

namespace counterflow::runtime {
namespace {

struct Claims {
  std::mutex mutex;
  std::map<const Transport*, const TransportClaim*> of;
};

Claims& claims() {
  static Claims all;
  return all;
}

}  // namespace

TransportClaim::TransportClaim(const Transport& transport) : transport_(transport) {
  const std::lock_guard lock(claims().mutex);
  claims().of[&transport_] = this;
}

TransportClaim::~TransportClaim() {
  const std::lock_guard lock(claims().mutex);
  const auto found = claims().of.find(&transport_);
  if (found != claims().of.end() && found->second == this) claims().of.erase(found);
}

bool TransportClaim::holds() const {
  const std::lock_guard lock(claims().mutex);
  const auto found = claims().of.find(&transport_);
  return found != claims().of.end() && found->second == this;
}

}  // namespace counterflow::runtime
