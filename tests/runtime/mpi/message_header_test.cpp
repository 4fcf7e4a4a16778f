#include "message_header.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <random>

#include "counterflow/runtime/error.h"

namespace counterflow::runtime {
namespace {

MessageHeader example() {
  MessageHeader header{input_gradient(3, 7),
                       MessageShape(Tensors{at::empty({2, 3}), at::Tensor(), at::empty({}, at::kLong),
                                            at::empty({4, 0}, at::kHalf)})};
  header.message.differentiable = {1, 0, 0};
  return header;
}

TEST(MessageHeaderTest, ComesBackAsItWas) {
  EXPECT_EQ(decode(encode(example())), example());
  EXPECT_EQ(decode(encode({})), MessageHeader());
  EXPECT_EQ(example().message.tensors[0].num_bytes(), 24U);
  EXPECT_EQ(example().message.tensors[0].to_string(), describe(at::empty({2, 3})));
}

TEST(MessageHeaderTest, IsRefusedWhereItIsCutOrGoesOn) {
  const std::string bytes = encode(example());
  for (std::size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THROW(decode(std::string_view(bytes).substr(0, size)), TransportError) << size;
  EXPECT_THROW(decode(bytes + "x"), TransportError);
}

TEST(MessageHeaderTest, AnyBytesAreReadOrRefused) {
  std::mt19937 random(1);
  int read = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = encode(example());
    for (int changes = 0; changes < 2; ++changes)
      bytes[random() % bytes.size()] = static_cast<char>(random());
    try {
      for (const TensorShape& tensor : decode(bytes).message.tensors)
        EXPECT_LE(tensor.num_bytes(), 1ULL << 46);
      ++read;
    } catch (const TransportError&) {
    }
  }
  EXPECT_GT(read, 1000);
  EXPECT_LT(read, 19000);
}

}  // namespace
}  // namespace counterflow::runtime
