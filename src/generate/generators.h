// The generators, one a file. Each fills in a Generator; registry.cpp lists them.
#pragma once

#include "counterflow/generate.h"

namespace counterflow::generators {

extern const Generator dualpipe;
extern const Generator dualpipe_v;

}  // namespace counterflow::generators
