#include "mpi_transport.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "counterflow/runtime/error.h"

namespace counterflow::runtime {
namespace {

using Tag = MpiLink::Tag;

constexpr std::size_t kHeaderLimit = 1 << 20;
constexpr std::size_t kExchangeLimit = std::size_t{1} << 31;

/// The tensor's values one after the other: itself where they are already, or a copy.
at::Tensor dense(const at::Tensor& tensor) {
  if (!tensor.defined()) return tensor;
  return tensor.detach().resolve_conj().resolve_neg().contiguous();
}

MpiLink::Owner owner_of(const at::Tensor& tensor) {
  return std::make_shared<const at::Tensor>(tensor);
}

std::string text_of(const Wiring& wiring) {
  std::string text = "channels";
  for (const Wiring::Channel& channel : wiring.channels)
    text += " " + std::to_string(channel.from) + ">" + std::to_string(channel.to) + "x" +
            std::to_string(channel.buffers);
  for (const auto& group : wiring.groups) {
    text += ", group";
    for (const std::int32_t rank : group) text += " " + std::to_string(rank);
  }
  return text;
}

/// Where the elements begin whose sum is made by the group's member number `member`.
std::int64_t begin_of(std::int64_t elements, std::size_t member, std::size_t num_members) {
  return elements * static_cast<std::int64_t>(member) / static_cast<std::int64_t>(num_members);
}

at::Tensor slice_of(const at::Tensor& flat, std::size_t member, std::size_t num_members) {
  const std::int64_t begin = begin_of(flat.numel(), member, num_members);
  return flat.narrow(0, begin, begin_of(flat.numel(), member + 1, num_members) - begin);
}

std::string list(const std::vector<TensorShape>& tensors) {
  std::string text;
  for (const TensorShape& tensor : tensors) text += (text.empty() ? "" : ", ") + tensor.to_string();
  return text.empty() ? "nothing" : text;
}

}  // namespace

void MpiTransport::connect(const Wiring& wiring) {
  wiring_ = wiring;
  const std::string mine = text_of(wiring);
  const std::vector<std::string> all = all_gather(mine);
  for (std::size_t other = 0; other < all.size(); ++other)
    if (all[other] != mine)
      throw TransportError("rank " + std::to_string(other) + " connects " + all[other] + "; rank " +
                           std::to_string(rank()) + " " + mine);
  for (const Wiring::Channel& channel : wiring.channels) {
    if (channel.to == rank()) incoming_[channel.from].buffers = channel.buffers;
    if (channel.from == rank()) outgoing_.push_back(channel.to);
  }
}

void MpiTransport::send(int to, Message message) {
  if (std::find(outgoing_.begin(), outgoing_.end(), to) == outgoing_.end())
    throw TransportError("there is no channel from rank " + std::to_string(rank()) + " to rank " +
                         std::to_string(to));
  check_carried(message.tensors);
  link_.send(to, Tag::kHeader, encode({message.producer, MessageShape(message)}));
  for (const at::Tensor& given : message.tensors) {
    const at::Tensor tensor = dense(given);
    if (tensor.defined() && tensor.numel() > 0)
      link_.send(to, Tag::kData, tensor.const_data_ptr(), tensor.nbytes(), owner_of(tensor));
  }
  link_.progress();
  advance();
}

MpiTransport::Incoming& MpiTransport::incoming_from(int from) {
  const auto found = incoming_.find(from);
  if (found == incoming_.end())
    throw TransportError("there is no channel from rank " + std::to_string(from) + " to rank " +
                         std::to_string(rank()));
  return found->second;
}

void MpiTransport::post_receive(int from, int buffer, const Pass& producer) {
  Incoming& incoming = incoming_from(from);
  if (buffer < 0 || buffer >= incoming.buffers)
    throw TransportError("there are " + std::to_string(incoming.buffers) + " buffers from rank " +
                         std::to_string(from) + "; a receive was posted into buffer " +
                         std::to_string(buffer));
  for (const Receive& receive : incoming.posted)
    if (receive.buffer == buffer)
      throw TransportError("a second receive was posted into buffer " + std::to_string(buffer) +
                           " from rank " + std::to_string(from));
  incoming.posted.emplace_back(buffer, producer);
  advance(from, incoming);
}

Message MpiTransport::wait(int from, int buffer) {
  Incoming& incoming = incoming_from(from);
  const auto wanted = std::find_if(incoming.posted.begin(), incoming.posted.end(),
                                   [buffer](const Receive& receive) { return receive.buffer == buffer; });
  if (wanted == incoming.posted.end())
    throw TransportError("no receive was posted into buffer " + std::to_string(buffer) + " from rank " +
                         std::to_string(from));
  link_.wait([&] {
    advance();
    const bool done = wanted->parsed && std::all_of(wanted->data.begin(), wanted->data.end(),
                                                    [](const auto& transfer) { return transfer->done(); });
    return done ? MpiLink::kNobody : from;
  });
  Message message = std::move(wanted->message);
  incoming.posted.erase(wanted);
  return message;
}

void MpiTransport::advance() {
  for (auto& [from, incoming] : incoming_) advance(from, incoming);
}

void MpiTransport::advance(int from, Incoming& incoming) {
  for (Receive& receive : incoming.posted) {
    if (receive.parsed) continue;
    if (!receive.header) receive.header = link_.take(from, Tag::kHeader, kHeaderLimit);
    if (receive.header && !receive.header->done()) link_.progress();
    // The bytes of the tensors come in the order of the headers.
    if (!receive.header || !receive.header->done()) return;
    parse(from, receive);
  }
}

void MpiTransport::parse(int from, Receive& receive) {
  MessageHeader header = decode(receive.header->bytes);
  if (header.producer != receive.producer)
    throw TransportError("rank " + std::to_string(from) + " sent " + to_string(header.producer) + " where " +
                         to_string(receive.producer) + " was expected");
  receive.message.producer = header.producer;
  receive.message.differentiable = std::move(header.message.differentiable);
  for (const TensorShape& expected : header.message.tensors) {
    at::Tensor tensor = make_tensor(expected, at::kCPU);
    if (tensor.defined() && tensor.numel() > 0)
      receive.data.push_back(
          link_.receive(from, Tag::kData, tensor.mutable_data_ptr(), tensor.nbytes(), owner_of(tensor)));
    receive.message.tensors.push_back(std::move(tensor));
  }
  receive.parsed = true;
}

std::vector<std::string> MpiTransport::exchange(const Ranks& members, std::string mine) {
  Transfers sent;
  for (const std::int32_t member : members)
    if (member != rank()) sent.push_back(link_.send(member, Tag::kExchange, mine));
  Transfers arriving(members.size());
  link_.wait([&] {
    int missing = MpiLink::kNobody;
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (members[i] == rank()) continue;
      if (!arriving[i]) arriving[i] = link_.take(members[i], Tag::kExchange, kExchangeLimit);
      if (!arriving[i] || !arriving[i]->done()) missing = members[i];
    }
    return missing;
  });
  link_.wait(sent);
  std::vector<std::string> all;
  for (const auto& transfer : arriving) all.push_back(transfer ? std::move(transfer->bytes) : mine);
  return all;
}

std::vector<std::string> MpiTransport::all_gather(std::string_view bytes) {
  Ranks everybody(num_ranks());
  std::iota(everybody.begin(), everybody.end(), 0);
  return exchange(everybody, std::string(bytes));
}

MpiTransport::Brought MpiTransport::compare(const std::string& call, const Ranks& members,
                                            const Tensors& tensors) {
  check_carried(tensors);
  Brought brought;
  const std::vector<std::string> all = exchange(members, call + "\n" + encode({{}, MessageShape(tensors)}));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::size_t end = all[i].find('\n');
    if (all[i].compare(0, end, call) != 0)
      throw TransportError("rank " + std::to_string(members[i]) + " is at " + all[i].substr(0, end) +
                           ", rank " + std::to_string(rank()) + " at " + call);
    brought.push_back(decode(std::string_view(all[i]).substr(end + 1)).message.tensors);
  }
  for (const auto& theirs : brought)
    if (theirs.size() != brought.front().size())
      throw TransportError(call + " is of " + std::to_string(brought.front().size()) +
                           " tensors on one rank and of " + std::to_string(theirs.size()) + " on another");
  return brought;
}

void MpiTransport::all_reduce(int group, Tensors& tensors) {
  const c10::AutoGradMode no_grad(false);
  const Ranks& members = wiring_.groups.at(group);
  const Brought brought = compare("the sum over group " + std::to_string(group), members, tensors);
  std::vector<TensorShape> sums(tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (const auto& theirs : brought) {
      if (!theirs[i].defined) continue;
      if (sums[i].defined && sums[i] != theirs[i])
        throw TransportError("a sum over " + sums[i].to_string() + " on one rank and " +
                             theirs[i].to_string() + " on another");
      sums[i] = theirs[i];
    }
  }
  Tensors flat;
  for (const at::Tensor& tensor : tensors)
    flat.push_back(tensor.defined() ? dense(tensor).view({-1}) : tensor);
  sum(members, brought, sums, flat);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!sums[i].defined) continue;
    if (!tensors[i].defined())
      tensors[i] = flat[i].view(sums[i].sizes);
    else if (tensors[i].const_data_ptr() != flat[i].const_data_ptr())
      tensors[i].copy_(flat[i].view(sums[i].sizes));
  }
}

// Each member sums a slice of every tensor, which it gets from the others, and gives the result to them:
// every element is the sum of the ranks' in ascending order, and no rank moves more than twice what it has.
void MpiTransport::sum(const Ranks& members, const Brought& brought, const std::vector<TensorShape>& sums,
                       Tensors& flat) {
  const std::size_t count = members.size();
  const std::size_t me = std::find(members.begin(), members.end(), rank()) - members.begin();
  const auto send = [&](std::size_t member, const at::Tensor& part) {
    return link_.send(members[member], Tag::kGroup, part.const_data_ptr(), part.nbytes(), owner_of(part));
  };
  const auto receive = [&](std::size_t member, const at::Tensor& part) {
    return link_.receive(members[member], Tag::kGroup, part.mutable_data_ptr(), part.nbytes(),
                         owner_of(part));
  };

  Transfers transfers;
  std::vector<Tensors> parts(flat.size(), Tensors(count));  // of my slice: [tensor][member]
  for (std::size_t i = 0; i < flat.size(); ++i) {
    if (!sums[i].defined) continue;
    const bool mine = flat[i].defined();
    if (!mine)
      flat[i] = at::empty({static_cast<std::int64_t>(sums[i].num_bytes() / c10::elementSize(sums[i].type))},
                          sums[i].type);
    for (std::size_t member = 0; member < count; ++member) {
      if (member != me && mine) transfers.push_back(send(member, slice_of(flat[i], member, count)));
      const at::Tensor slice = slice_of(flat[i], me, count);
      if (!brought[member][i].defined) continue;
      parts[i][member] = member == me ? slice.clone() : at::empty(slice.sizes(), slice.options());
      if (member != me) transfers.push_back(receive(member, parts[i][member]));
    }
  }
  link_.wait(transfers);

  transfers.clear();
  for (std::size_t i = 0; i < flat.size(); ++i) {
    if (!sums[i].defined) continue;
    at::Tensor total;
    for (const at::Tensor& part : parts[i])
      if (part.defined()) total = total.defined() ? total.add_(part) : part;
    slice_of(flat[i], me, count).copy_(total);
    for (std::size_t member = 0; member < count; ++member) {
      if (member == me) continue;
      transfers.push_back(send(member, total));
      transfers.push_back(receive(member, slice_of(flat[i], member, count)));
    }
  }
  link_.wait(transfers);
}

void MpiTransport::broadcast(int group, int root, Tensors& tensors) {
  const c10::AutoGradMode no_grad(false);
  const Ranks& members = wiring_.groups.at(group);
  const std::string call =
      "the broadcast from rank " + std::to_string(root) + " in group " + std::to_string(group);
  const Brought brought = compare(call, members, tensors);
  const std::size_t source = std::find(members.begin(), members.end(), root) - members.begin();
  for (std::size_t member = 0; member < members.size(); ++member)
    if (brought[member] != brought.at(source))
      throw TransportError("rank " + std::to_string(root) + " starts with " + list(brought[source]) +
                           ", rank " + std::to_string(members[member]) + " with " + list(brought[member]));
  Transfers transfers;
  Tensors received;
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined()) continue;
    if (rank() == root) {
      const at::Tensor from = dense(tensor);
      for (const std::int32_t member : members)
        if (member != root)
          transfers.push_back(
              link_.send(member, Tag::kGroup, from.const_data_ptr(), from.nbytes(), owner_of(from)));
    } else {
      received.push_back(at::empty(tensor.sizes(), tensor.scalar_type()));
      const at::Tensor& to = received.back();
      transfers.push_back(link_.receive(root, Tag::kGroup, to.mutable_data_ptr(), to.nbytes(), owner_of(to)));
    }
  }
  link_.wait(transfers);
  if (rank() == root) return;
  auto next = received.begin();
  for (at::Tensor& tensor : tensors)
    if (tensor.defined()) tensor.copy_(*next++);
}

}  // namespace counterflow::runtime
