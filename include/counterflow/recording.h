// The file of a real run: a Timeline whose bars are what the ranks of a training run did in one step, and
// whose transfers are the messages that they sent.
//
// schedules/README.md describes the format. Readers are strict and safe on hostile input. All functions may
// be called from any thread.
#pragma once

#include <string>
#include <string_view>

#include "counterflow/timeline.h"

namespace counterflow {

/// Writes a recorded timeline: its bars, and when its messages were sent and arrived. What follows from those
/// (see connect()) is not written. Throws InvalidConfig for what no file can hold: no unit of time, times
/// that are negative or huge, bars of a rank that overlap, ranks that the placement does not have.
std::string format_recording(const Timeline& timeline);

/// Reads what format_recording() writes, and connects it. `file` is the name that errors show. Throws
/// ParseError. A step need not be complete, and its order may differ from the schedule's.
Timeline parse_recording(std::string_view json, const std::string& file = "<text>");

/// Reads a file, or standard input where `path` is "-". Throws ParseError, or Error where it cannot be read.
Timeline read_recording(const std::string& path);

/// Reads a file that may be a recording or something else (is_recording()), or standard input where `path` is
/// "-". Throws Error where it cannot be read or has more than a GiB.
std::string read_run_text(const std::string& path);

/// Whether a text is meant to be a recording: an object that says so.
bool is_recording(std::string_view json);

/// Gives a timeline of bars and transfers what follows from them: the bars that sent and received each
/// transfer, the activations held (their number; bytes are not known), and the critical path: from the last
/// bar back along what each bar waited for last. Passes must be within the placement.
void connect(Timeline& timeline);

}  // namespace counterflow
