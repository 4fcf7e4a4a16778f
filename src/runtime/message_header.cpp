#include "message_header.h"

#include <ATen/core/Tensor.h>

#include <cstring>
#include <type_traits>

#include "counterflow/runtime/error.h"

namespace counterflow::runtime {
namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 46;  // more than any machine has

template <class Number>
void write(std::string& out, Number number) {
  static_assert(std::is_arithmetic_v<Number>);
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <class Number>
  Number read() {
    Number number{};
    if (rest_.size() < sizeof number) fail();
    std::memcpy(&number, rest_.data(), sizeof number);
    rest_.remove_prefix(sizeof number);
    return number;
  }

  /// A number of things that take at least a byte each.
  std::size_t read_count() {
    const auto count = read<std::uint32_t>();
    if (count > rest_.size()) fail();
    return count;
  }

  void expect_end() const {
    if (!rest_.empty()) fail();
  }

  [[noreturn]] static void fail() { throw TransportError("the header of a message is not one"); }

 private:
  std::string_view rest_;
};

bool is_carried(int type) {
  if (type < 0 || type >= static_cast<int>(at::ScalarType::NumOptions)) return false;
  const auto scalar = static_cast<at::ScalarType>(type);
  return scalar != at::ScalarType::Undefined && !c10::isQIntType(scalar);
}

TensorShape read_tensor(Reader& reader) {
  TensorShape tensor;
  tensor.defined = reader.read<char>() != 0;
  if (!tensor.defined) return tensor;
  const int type = reader.read<std::int8_t>();
  if (!is_carried(type)) Reader::fail();
  tensor.type = static_cast<at::ScalarType>(type);
  const std::size_t dimensions = reader.read_count();
  auto elements = static_cast<std::int64_t>(c10::elementSize(tensor.type));
  for (std::size_t i = 0; i < dimensions; ++i) {
    const auto size = reader.read<std::int64_t>();
    if (size < 0 || (size > 0 && elements > kMaxBytes / size)) Reader::fail();
    elements *= size;
    tensor.sizes.push_back(size);
  }
  return tensor;
}

}  // namespace

void check_carried(const Tensors& tensors) {
  for (const at::Tensor& tensor : tensors)
    if (tensor.defined() && (!tensor.device().is_cpu() || tensor.layout() != at::kStrided ||
                             !is_carried(static_cast<int>(tensor.scalar_type()))))
      throw TransportError("this transport carries dense tensors on the CPU, not " +
                           std::string(tensor.toString()));
}

std::string encode(const MessageHeader& header) {
  std::string bytes;
  write(bytes, header.producer.stage);
  write(bytes, header.producer.micro_batch);
  write(bytes, static_cast<std::uint8_t>(header.producer.kind));
  write(bytes, static_cast<std::uint32_t>(header.message.tensors.size()));
  for (const TensorShape& tensor : header.message.tensors) {
    write(bytes, static_cast<char>(tensor.defined));
    if (!tensor.defined) continue;
    write(bytes, static_cast<std::int8_t>(tensor.type));
    write(bytes, static_cast<std::uint32_t>(tensor.sizes.size()));
    for (const std::int64_t size : tensor.sizes) write(bytes, size);
  }
  write(bytes, static_cast<std::uint32_t>(header.message.differentiable.size()));
  bytes.append(header.message.differentiable.begin(), header.message.differentiable.end());
  return bytes;
}

MessageHeader decode(std::string_view bytes) {
  Reader reader(bytes);
  MessageHeader header;
  header.producer.stage = reader.read<std::int32_t>();
  header.producer.micro_batch = reader.read<std::int32_t>();
  const auto kind = reader.read<std::uint8_t>();
  if (kind > static_cast<std::uint8_t>(PassKind::kWeightGradient)) Reader::fail();
  header.producer.kind = static_cast<PassKind>(kind);
  const std::size_t num_tensors = reader.read_count();
  for (std::size_t i = 0; i < num_tensors; ++i) header.message.tensors.push_back(read_tensor(reader));
  const std::size_t num_differentiable = reader.read_count();
  for (std::size_t i = 0; i < num_differentiable; ++i)
    header.message.differentiable.push_back(reader.read<char>());
  reader.expect_end();
  return header;
}

}  // namespace counterflow::runtime
