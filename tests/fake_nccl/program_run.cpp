#include "program_run.h"

#include <deque>
#include <map>
#include <set>
#include <stdexcept>

#include "world.h"

namespace counterflow::fake_nccl {
namespace {

// A message says what it is: the output of a forward, or the gradient that a stage hands back.
enum Content : std::uint8_t { kNothing, kOutput, kGradient };

Buffer message(Content content, int stage, int micro_batch) {
  return {content, stage, micro_batch};
}

std::string text_of(const Buffer& data) {
  if (data[0] == kNothing) return "nothing";
  return std::string(data[0] == kOutput ? "the output of " : "the gradient from ") + std::to_string(data[1]) +
         (data[0] == kOutput ? "F" : "B") + std::to_string(data[2]);
}

// What the weight gradient of one micro-batch adds: tells stages apart, and one contribution from two.
std::int64_t contribution(int stage) {
  return 1 + 1000 * static_cast<std::int64_t>(stage);
}

// An event, created when it is first recorded or waited for.
struct Milestone {
  std::optional<Event> event;
  bool recorded = false;
};

// The messages that one receive buffer holds one after another.
struct Inbox {
  Buffer data = message(kNothing, -1, -1);
  std::optional<Buffer> last;  // the message whose receive was issued last
};

// A rank: its streams, what the host knows of them, and what is in its device's memory.
struct Rank {
  Stream compute{};
  std::map<int, Stream> channel_streams;         // [channel]
  std::map<int, Stream> reduction_streams;       // [reduction]
  std::map<Buffer, Milestone> received;          // [message]
  std::map<Buffer, Milestone> consumed;          // [message]
  std::map<Buffer, Milestone> produced;          // [message]
  std::map<int, Milestone> gradient_written;     // [stage] by the last compute issued
  std::map<std::pair<int, int>, Inbox> inboxes;  // [channel, buffer]
  std::map<Buffer, Inbox*> arrivals;             // [message] where it was received
  std::map<Buffer, Buffer> made;                 // [message] by passes of this rank
  std::map<int, Buffer> gradients;               // [stage][micro-batch]: the sum of its contributions
  std::set<int> summed;                          // stages whose sum has been issued
  std::vector<int> steps;                        // computed, in order
};

class Run {
 public:
  Run(const Program& program, const Schedule& schedule, const RunOptions& options)
      : program_(program),
        schedule_(schedule),
        options_(options),
        world_(schedule.num_ranks(), options.seed),
        ranks_(schedule.num_ranks()) {
    for (int rank = 0; rank < schedule.num_ranks(); ++rank) set_up(rank);
  }

  RunResult run() {
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) issue_all(rank);
    Outcome outcome = world_.run();
    if (outcome.finished) check_all_is_done();
    errors_.insert(errors_.end(), outcome.errors.begin(), outcome.errors.end());
    return {outcome.finished, std::move(errors_), std::move(outcome.stuck)};
  }

 private:
  void set_up(int rank) {
    Rank& me = ranks_[rank];
    me.compute = world_.create_stream(rank);
    for (const std::int32_t stage : schedule_.placement.stages_on(rank))
      me.gradients[stage] = Buffer(schedule_.num_micro_batches(), 0);
    for (std::size_t c = 0; c < program_.channels.size(); ++c) {
      const Channel& channel = program_.channels[c];
      if (rank == 0) channels_.push_back(world_.create_communicator({channel.from, channel.to}));
      if (channel.from == rank || channel.to == rank)
        me.channel_streams[static_cast<int>(c)] = world_.create_stream(rank);
    }
    for (std::size_t r = 0; r < program_.reductions.size(); ++r) {
      const auto& members = program_.reductions[r].ranks;
      if (rank == 0) reductions_.push_back(world_.create_communicator({members.begin(), members.end()}));
      for (const int member : members) {
        if (member == rank) me.reduction_streams[static_cast<int>(r)] = world_.create_stream(rank);
      }
    }
    const std::size_t ends = me.channel_streams.size() + me.reduction_streams.size();
    world_.limit_residency(rank, options_.max_resident.value_or(static_cast<int>(ends)));
  }

  void error(int rank, const std::string& what) {
    errors_.push_back("rank " + std::to_string(rank) + ": " + what);
  }

  std::string text(int rank, const Instruction& instruction) const {
    return to_string(instruction, schedule_.actions[rank]);
  }

  // --- Issuing ---

  void issue_all(int rank) {
    int open = -1;  // the group that is being issued
    for (const Instruction& instruction : program_.ranks[rank]) {
      const int group = instruction.op == Op::kCompute ? -1 : instruction.group;
      if (open >= 0 && group != open) end_group(rank);
      if (group >= 0 && group != open) world_.group_start(rank);
      open = group;
      try {
        issue(rank, instruction);
      } catch (const std::logic_error& refused) {
        const bool known =
            instruction.op != Op::kCompute ||
            (instruction.step >= 0 && instruction.step < static_cast<int>(schedule_.actions[rank].size()));
        error(rank, (known ? text(rank, instruction) : "compute") + ": " + refused.what());
      }
      if (open < 0) record_receives(rank);
    }
    if (open >= 0) end_group(rank);
  }

  void end_group(int rank) {
    world_.group_end(rank);
    record_receives(rank);
  }

  // A receive inside a group is on its stream only when the group has ended.
  void record_receives(int rank) {
    for (const auto& [what, stream] : unrecorded_) record(ranks_[rank].received[what], stream);
    unrecorded_.clear();
  }

  void issue(int rank, const Instruction& instruction) {
    const auto transfer = [&](Content content, int from) {
      return message(content, instruction.stage + from, instruction.micro_batch);
    };
    switch (instruction.op) {
      case Op::kCompute:
        return issue_compute(rank, instruction.step);
      case Op::kSendForward:
        return issue_send(rank, instruction, transfer(kOutput, 0));
      case Op::kSendBackward:
        return issue_send(rank, instruction, transfer(kGradient, 0));
      case Op::kReceiveForward:
        return issue_receive(rank, instruction, transfer(kOutput, -1));
      case Op::kReceiveBackward:
        return issue_receive(rank, instruction, transfer(kGradient, 1));
      case Op::kReduceGradients:
        return issue_reduction(rank, instruction);
    }
  }

  Milestone& created(Milestone& milestone) {
    if (!milestone.event) milestone.event = world_.create_event();
    return milestone;
  }

  void record(Milestone& milestone, Stream stream) {
    if (milestone.recorded) milestone = {};
    world_.record(*created(milestone).event, stream);
    milestone.recorded = true;
  }

  void wait(Stream stream, Milestone& milestone, const std::string& what) {
    if (!milestone.recorded && !options_.waits_for_later)
      throw std::logic_error("waits for what is issued later or never, " + what);
    world_.wait(stream, *created(milestone).event);
  }

  // --- Compute ---

  // What a pass needs that another stage made, if it needs any.
  std::optional<Buffer> input_of(const Pass& pass) const {
    if (pass.kind == PassKind::kForward && pass.stage > 0)
      return message(kOutput, pass.stage - 1, pass.micro_batch);
    if (sends_gradient(pass.kind) && pass.stage + 1 < schedule_.num_stages())
      return message(kGradient, pass.stage + 1, pass.micro_batch);
    return std::nullopt;
  }

  bool is_made_on(int rank, const Buffer& what) const {
    return schedule_.placement.rank_of(static_cast<int>(what[1]), static_cast<int>(what[2])) == rank;
  }

  void issue_compute(int rank, int step) {
    if (step < 0 || step >= static_cast<int>(schedule_.actions[rank].size()))
      throw std::logic_error("the schedule has no such step");
    Rank& me = ranks_[rank];
    const Action action = schedule_.actions[rank][step];
    std::vector<Buffer> consumes;
    for (const Pass& pass : action.passes()) {
      // Nothing makes one wait for the other.
      if (releases_activation(pass.kind) && me.summed.contains(pass.stage))
        throw std::logic_error("writes a gradient whose sum has been issued");
      const auto input = input_of(pass);
      if (!input || is_made_on(rank, *input)) continue;
      wait(me.compute, me.received[*input], "the receive of " + text_of(*input));
      consumes.push_back(*input);
    }
    world_.launch(me.compute, [this, rank, step, action] { compute(rank, step, action); });
    for (const Buffer& input : consumes) record(me.consumed[input], me.compute);
    for (const Pass& pass : action.passes()) {
      if (pass.kind == PassKind::kForward)
        record(me.produced[message(kOutput, pass.stage, pass.micro_batch)], me.compute);
      if (sends_gradient(pass.kind))
        record(me.produced[message(kGradient, pass.stage, pass.micro_batch)], me.compute);
      if (releases_activation(pass.kind)) record(me.gradient_written[pass.stage], me.compute);
    }
  }

  // What the device does at a step.
  void compute(int rank, int step, const Action& action) {
    Rank& me = ranks_[rank];
    me.steps.push_back(step);
    for (const Pass& pass : action.passes()) {
      if (const auto input = input_of(pass)) check_input(rank, action, *input);
      if (pass.kind == PassKind::kForward) continue;
      // A backward needs its forward, a weight gradient its input gradient.
      const bool is_w = pass.kind == PassKind::kWeightGradient;
      check_made(rank, action, message(is_w ? kGradient : kOutput, pass.stage, pass.micro_batch));
    }
    for (const Pass& pass : action.passes()) {
      const auto make = [&](Content content) {
        const Buffer output = message(content, pass.stage, pass.micro_batch);
        me.made[output] = output;
      };
      if (pass.kind == PassKind::kForward) make(kOutput);
      if (sends_gradient(pass.kind)) make(kGradient);
      if (releases_activation(pass.kind))
        me.gradients[pass.stage][pass.micro_batch] += contribution(pass.stage);
    }
  }

  void check_input(int rank, const Action& action, const Buffer& input) {
    if (is_made_on(rank, input)) return check_made(rank, action, input);
    const auto arrival = ranks_[rank].arrivals.find(input);
    const Buffer found =
        arrival == ranks_[rank].arrivals.end() ? message(kNothing, -1, -1) : arrival->second->data;
    if (found != input)
      error(rank, to_string(action) + " expected " + text_of(input) + ", found " + text_of(found));
  }

  void check_made(int rank, const Action& action, const Buffer& what) {
    const auto made = ranks_[rank].made.find(what);
    if (made == ranks_[rank].made.end() || made->second != what)
      error(rank, to_string(action) + " runs before " + text_of(what));
  }

  // --- Transfers and sums ---

  Stream channel_stream(int rank, int channel) const {
    const auto found = ranks_[rank].channel_streams.find(channel);
    if (found == ranks_[rank].channel_streams.end())
      throw std::logic_error("the rank is at neither end of channel " + std::to_string(channel));
    return found->second;
  }

  void issue_send(int rank, const Instruction& instruction, const Buffer& what) {
    Rank& me = ranks_[rank];
    const Stream stream = channel_stream(rank, instruction.channel);
    wait(stream, me.produced[what], "the compute of " + text_of(what));
    // The memory that the pass will write.
    const Buffer& data = me.made.try_emplace(what, message(kNothing, -1, -1)).first->second;
    world_.send(channels_[instruction.channel], program_.channels[instruction.channel].to, data, stream,
                text(rank, instruction));
  }

  void issue_receive(int rank, const Instruction& instruction, const Buffer& what) {
    Rank& me = ranks_[rank];
    const Stream stream = channel_stream(rank, instruction.channel);
    const Channel& channel = program_.channels[instruction.channel];
    if (instruction.buffer < 0 || instruction.buffer >= channel.receive_buffers)
      throw std::logic_error("the channel has no buffer " + std::to_string(instruction.buffer));
    Inbox& inbox = me.inboxes[{instruction.channel, instruction.buffer}];
    if (inbox.last)
      wait(stream, me.consumed[*inbox.last], "the end of what consumes " + text_of(*inbox.last));
    inbox.last = what;
    me.arrivals[what] = &inbox;
    world_.receive(channels_[instruction.channel], channel.from, inbox.data, stream, text(rank, instruction));
    unrecorded_.emplace_back(what, stream);
  }

  void issue_reduction(int rank, const Instruction& instruction) {
    Rank& me = ranks_[rank];
    const auto stream = me.reduction_streams.find(instruction.channel);
    if (stream == me.reduction_streams.end())
      throw std::logic_error("the rank is not in reduction " + std::to_string(instruction.channel));
    const auto gradient = me.gradients.find(instruction.stage);
    if (gradient == me.gradients.end()) throw std::logic_error("the rank does not hold the stage");
    if (me.gradient_written.contains(instruction.stage))
      wait(stream->second, me.gradient_written[instruction.stage], "the stage's gradient");
    me.summed.insert(instruction.stage);
    world_.all_reduce(reductions_[instruction.channel], gradient->second, stream->second,
                      text(rank, instruction));
  }

  // --- In the end ---

  void check_all_is_done() {
    for (int rank = 0; rank < schedule_.num_ranks(); ++rank) {
      std::vector<int> all(schedule_.actions[rank].size());
      for (std::size_t step = 0; step < all.size(); ++step) all[step] = static_cast<int>(step);
      if (ranks_[rank].steps != all) error(rank, "did not compute its actions once each, in their order");
      if (schedule_.passes == Passes::kForward) continue;
      for (const auto& [stage, gradient] : ranks_[rank].gradients) check_gradient(rank, stage, gradient);
    }
  }

  // Every copy of a stage ends with the gradients of all micro-batches, each once. A sum that was left out,
  // made twice, with another stage's or before the last gradient comes to something else.
  void check_gradient(int rank, int stage, const Buffer& gradient) {
    for (std::size_t m = 0; m < gradient.size(); ++m) {
      if (gradient[m] == contribution(stage)) continue;
      error(rank, "the gradient of stage " + std::to_string(stage) + ", micro-batch " + std::to_string(m) +
                      ": expected " + std::to_string(contribution(stage)) + ", found " +
                      std::to_string(gradient[m]));
    }
  }

  const Program& program_;
  const Schedule& schedule_;
  const RunOptions& options_;
  World world_;
  std::vector<Rank> ranks_;
  std::vector<Communicator> channels_;
  std::vector<Communicator> reductions_;
  std::vector<std::pair<Buffer, Stream>> unrecorded_;
  std::vector<std::string> errors_;
};

}  // namespace

std::string RunResult::text() const {
  std::string text = finished ? "finished\n" : "hangs\n";
  for (const auto* list : {&errors, &stuck}) {
    for (std::size_t i = 0; i < list->size() && i < 10; ++i) text += "  " + (*list)[i] + "\n";
  }
  return text;
}

RunResult run(const Program& program, const Schedule& schedule, const RunOptions& options) {
  return Run(program, schedule, options).run();
}

}  // namespace counterflow::fake_nccl
