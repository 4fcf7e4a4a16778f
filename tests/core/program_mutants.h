// Lowered programs that are not what lower() made of them.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "counterflow/program.h"
#include "counterflow/schedule.h"

namespace counterflow {

struct ProgramMutant {
  std::string what;  ///< the edit, in words
  Program program;
};

/// Every program that one edit makes: an instruction dropped, doubled, swapped with or moved to any other
/// place of its rank; one of its numbers another, one beyond the ends too; a transfer grouped with the next
/// one, or with none.
std::vector<ProgramMutant> all_mutants(const Program& program, const Schedule& schedule);

/// Groups two or three messages of a channel that follow one another, mostly on both of its ends, and
/// sometimes two neighbours of a rank, whatever they are. Done a few times.
ProgramMutant with_random_groups(const Program& program, std::mt19937& random);

/// The program with one receive buffer a channel.
Program with_one_receive_buffer(Program program);

}  // namespace counterflow
