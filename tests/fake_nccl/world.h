// A fake of CUDA's streams and of NCCL: enough of both to run lowered programs and see them hang.
//
// What it holds to, as NCCL does: a send is a rendezvous with its receive; messages have no tags, the k-th
// send of a communicator to a peer meets that peer's k-th receive; a group is one kernel, which ends when
// each of its operations has met its peer, and operations of groups of different shape never meet; a device
// runs only so many transfer kernels at once, and one that waits for its peer keeps its place; one whose
// stream or events hold it back takes none. The host issues everything without ever waiting.
//
// run() is a simulation of one of the many possible interleavings, drawn from the seed and the same for the
// same seed. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace counterflow::fake_nccl {

/// What is sent, received and reduced. Both ends of a transfer need the same size.
using Buffer = std::vector<std::int64_t>;

enum class Stream : int {};
enum class Communicator : int {};

enum class Event : int {};

struct Outcome {
  bool finished = false;            ///< every kernel ran to its end
  std::vector<std::string> stuck;   ///< otherwise the transfers that wait for a peer or for a place
  std::vector<std::string> errors;  ///< messages whose two ends do not fit
};

/// Wrong use throws std::logic_error, at the call, as ncclInvalidUsage would be returned.
class World {
 public:
  World(int num_devices, std::uint32_t seed);

  /// How many transfer kernels the device runs at once; without limit until this is called.
  void limit_residency(int device, int kernels) { devices_[device].places = kernels; }

  Communicator create_communicator(std::vector<int> devices);
  Stream create_stream(int device);

  /// An event is recorded once, and then stands for all that its stream was given before. What waits for an
  /// event that is recorded later is held back until then, as by cuStreamWaitValue32 (a CUDA event would hold
  /// back nothing).
  Event create_event();
  void record(Event event, Stream stream);
  void wait(Stream stream, Event event);

  /// A compute kernel: runs the body when everything before it on the stream has ended.
  void launch(Stream stream, std::function<void()> body);

  /// Between the two, transfers of the device form one kernel.
  void group_start(int device);
  void group_end(int device);

  /// The buffers must outlive run(). A sum is made in place. `label` is what Outcome::stuck says.
  void send(Communicator communicator, int peer, const Buffer& data, Stream stream, std::string label = {});
  void receive(Communicator communicator, int peer, Buffer& data, Stream stream, std::string label = {});
  void all_reduce(Communicator communicator, Buffer& data, Stream stream, std::string label = {});

  /// Runs until nothing can move.
  Outcome run();

 private:
  enum class Type { kSend, kReceive, kAllReduce };
  using Shape = std::pair<int, int>;  // of a group, between two devices: how many go up and how many down

  struct Operation {
    Type type = Type::kSend;
    Communicator communicator{};
    int peer = -1;
    const Buffer* source = nullptr;
    Buffer* target = nullptr;
    Stream stream{};
    std::string label{};
    Shape shape{};
    bool met = false;
  };
  struct Kernel {
    int device = 0;
    std::function<void()> body;         // compute
    std::vector<Operation> operations;  // transfers
    int held_back_by = 0;               // kernels before it that have not ended
    int unmet = 0;                      // operations that have not met their peers
    std::vector<int> next;              // kernels that it holds back
    bool started = false;
    bool ended = false;
  };
  struct StreamState {
    int device = 0;
    std::vector<int> pending;  // the kernels that hold back the next one
  };
  struct DeviceState {
    int places = 1 << 30;
    int resident = 0;
    int haste = 0;                   // of two devices that can move the hastier one does, mostly
    std::vector<int> without_place;  // kernels that could run
    bool in_group = false;
    std::vector<Operation> group;
  };
  using Reference = std::pair<int, int>;  // kernel, operation
  struct Lane {                           // of a communicator, from one device to another
    std::deque<Reference> sends, receives;
  };
  struct CommunicatorState {
    std::vector<int> devices;
    std::map<std::pair<int, int>, Lane> lanes;
    std::map<int, std::deque<Reference>> sums;  // by device
  };
  struct Step {
    int kernel;
    bool ends;  // a transfer that ends; otherwise a kernel that starts
  };

  static int index(Stream stream) { return static_cast<int>(stream); }
  static int index(Event event) { return static_cast<int>(event); }
  static int index(Communicator communicator) { return static_cast<int>(communicator); }
  Operation& operation(const Reference& at) { return kernels_[at.first].operations[at.second]; }

  void add_transfer(Operation operation);
  void add_kernel(Kernel kernel, const std::vector<Stream>& streams);
  void launch_group(int device, std::vector<Operation> operations);
  Shape shape_of(int device, const Operation& operation, const std::vector<Operation>& group) const;
  Step pick();
  void start(int kernel);
  void end(int kernel);
  void release(int kernel);
  void meet(Communicator communicator);
  void meet_lane(Lane& lane);
  void meet_sums(CommunicatorState& communicator);
  void mark_met(const Reference& at);
  Outcome outcome() const;

  std::vector<DeviceState> devices_;
  std::vector<StreamState> streams_;
  std::vector<CommunicatorState> communicators_;
  std::vector<Kernel> kernels_;
  std::vector<Step> possible_;
  std::vector<std::string> errors_;
  std::mt19937 random_;
  int contenders_;  // of how many possible steps the hastiest device's is taken
};

}  // namespace counterflow::fake_nccl
