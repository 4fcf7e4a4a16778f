// Between a V schedule and its bidirectional twin.
//
// A V on p ranks with m micro-batches and a bidirectional schedule on 2p ranks with 2m are the same picture:
// cut the bidirectional one in the middle and each half, with its mirror image folded onto it, is a V.
#pragma once

#include "counterflow/schedule.h"

namespace counterflow {

/// Each rank of the V becomes a rank and its mirror image, two copies of every stage. Named `name`, or the
/// V's name with "-unfolded" where that is empty; unfold(dualpipe-v(p, m), "dualpipe") equals dualpipe(2p,
/// 2m). Throws InvalidConfig where the placement is no V.
Schedule unfold(const Schedule& v, const std::string& name = {});

/// The inverse of unfold(). Throws InvalidConfig where the placement is not Placement::bidirectional or the
/// two halves are no mirror images.
Schedule fold(const Schedule& bidirectional, const std::string& name = {});

}  // namespace counterflow
