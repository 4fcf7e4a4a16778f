// The generators, one a file. Each fills in a Generator; registry.cpp lists them.
#pragma once

#include "counterflow/generate.h"

namespace counterflow::generators {

extern const Generator gpipe;
extern const Generator one_f_one_b;
extern const Generator interleaved_1f1b;
extern const Generator looped_bfs;
extern const Generator interleaved_zero_bubble;
extern const Generator zb_h1;
extern const Generator zb_h2;
extern const Generator zbv;
extern const Generator v_half;
extern const Generator v_min;
extern const Generator dualpipe;
extern const Generator dualpipe_v;
extern const Generator chimera;

}  // namespace counterflow::generators
