// A rank's end of the transport over MPI.
//
// A message is a header, sent first, and then each tensor's bytes straight out of and into the tensors. The
// receiver makes its tensors when the header has come, which any call that waits looks for.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "counterflow/runtime/transport.h"
#include "message_header.h"
#include "mpi_link.h"

namespace counterflow::runtime {

class MpiTransport : public Transport {
 public:
  /// Collective over the ranks of `parent`.
  explicit MpiTransport(MPI_Comm parent) : link_(parent) {}

  int rank() const override { return link_.rank(); }
  int num_ranks() const override { return link_.num_ranks(); }

  void set_timeout(std::chrono::milliseconds timeout) override { link_.set_timeout(timeout); }
  void connect(const Wiring& wiring) override;
  void send(int to, Message message) override;
  void post_receive(int from, int buffer, const Pass& producer) override;
  Message wait(int from, int buffer) override;
  void flush() override { link_.flush(); }
  void all_reduce(int group, Tensors& tensors) override;
  void broadcast(int group, int root, Tensors& tensors) override;
  std::vector<std::string> all_gather(std::string_view bytes) override;
  void abort(std::string_view reason) noexcept override { link_.abort(reason); }

  /// See MpiLink::leave().
  void leave(std::chrono::milliseconds limit) { link_.leave(limit); }

 private:
  using Ranks = std::vector<std::int32_t>;
  using Transfers = std::vector<MpiLink::TransferPtr>;

  struct Receive {
    Receive(int into, const Pass& made_by) : buffer(into), producer(made_by) {}

    int buffer;
    Pass producer;
    MpiLink::TransferPtr header;
    bool parsed = false;
    Message message;
    Transfers data;
  };

  /// The receiving end of a channel.
  struct Incoming {
    int buffers = 0;
    std::deque<Receive> posted;  ///< and not yet waited for, in the order of the messages
  };

  /// What the members of a group bring to a sum or a broadcast: by member, by tensor.
  using Brought = std::vector<std::vector<TensorShape>>;

  Incoming& incoming_from(int from);
  void advance();
  void advance(int from, Incoming& incoming);
  void parse(int from, Receive& receive);
  std::vector<std::string> exchange(const Ranks& members, std::string mine);
  Brought compare(const std::string& call, const Ranks& members, const Tensors& tensors);
  void sum(const Ranks& members, const Brought& brought, const std::vector<TensorShape>& sums, Tensors& flat);

  MpiLink link_;
  Wiring wiring_;
  std::vector<std::int32_t> outgoing_;
  std::map<int, Incoming> incoming_;  ///< by sender
};

/// run_mpi() over the ranks of `parent`, with MPI started already.
void run_mpi_ranks(MPI_Comm parent, const std::function<void(Transport&)>& body);

}  // namespace counterflow::runtime
