#include "counterflow/runtime/safetensors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/scalar_tensor.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "counterflow/error.h"
#include "temporary_folder.h"

namespace counterflow::runtime {
namespace {

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A file of a header and as many zeros.
std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(header.size() >> (8 * i) & 0xff);
  return bytes + header + std::string(data_bytes, '\0');
}

/// The message with which a file is refused; empty where it is taken.
std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  const std::string path = folder / "file.safetensors";
  write_bytes(path, bytes);
  try {
    const SafetensorsFile file(path);
    for (const auto& [name, entry] : file.entries()) static_cast<void>(file.read(name));
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).rfind(path, 0), 0U) << error.what();
    return error.what();
  }
}

TEST(SafetensorsTest, ReadsBackWhatItWrote) {
  const TemporaryFolder folder;
  const std::string path = folder / "all.safetensors";
  std::vector<NamedTensor> tensors;
  for (const at::ScalarType type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kUInt16, at::kInt, at::kUInt32, at::kLong,
        at::kUInt64, at::kHalf, at::kBFloat16, at::kFloat, at::kDouble, at::kFloat8_e5m2, at::kFloat8_e4m3fn})
    tensors.push_back({c10::toString(type), at::arange(6).view({2, 3}).gt(2).to(type)});
  tensors.push_back({"scalar", at::scalar_tensor(2.5, at::kDouble)});
  tensors.push_back({"empty", at::empty({3, 0, 2})});
  tensors.push_back({"transposed", at::arange(6).view({2, 3}).t()});
  tensors.push_back({"a name with \"quotes\", \\ and \xc3\xa9", at::arange(3)});
  write_safetensors(path, tensors, {{"key", "value"}});

  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"key", "value"}}));
  ASSERT_EQ(file.entries().size(), tensors.size());
  for (const NamedTensor& tensor : tensors) {
    const at::Tensor found = file.read(tensor.name);
    EXPECT_EQ(found.scalar_type(), tensor.tensor.scalar_type()) << tensor.name;
    EXPECT_EQ(found.sizes(), tensor.tensor.sizes()) << tensor.name;
    EXPECT_TRUE(at::equal(found.to(at::kDouble), tensor.tensor.to(at::kDouble))) << tensor.name;
  }
}

TEST(SafetensorsTest, WritesTheFormatToTheByte) {
  const TemporaryFolder folder;
  const std::string path = folder / "small.safetensors";
  write_safetensors(path, {{"b", at::arange(2, at::kByte)}, {"a", at::arange(1, 2, at::kShort)}});
  const std::string header =
      R"({"a":{"data_offsets":[0,2],"dtype":"I16","shape":[1]},"b":{"data_offsets":[2,4],"dtype":"U8","shape":[2]}})";
  std::string expected = file_of(header + std::string(8 - header.size() % 8, ' '), 0);
  expected += std::string("\x01\x00\x00\x01", 4);
  EXPECT_EQ(read_bytes(path), expected);
}

// Written by the reference implementation (Python's safetensors 0.8.0).
TEST(SafetensorsTest, ReadsAFileOfTheReferenceImplementation) {
  const std::string header =
      R"({"__metadata__":{"format":"np"},"z":{"dtype":"I64","shape":[0,3],"data_offsets":[0,0]},)"
      R"("s":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
      R"("a":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},)"
      R"("b":{"dtype":"BOOL","shape":[2],"data_offsets":[32,34]}}     )";
  ASSERT_EQ(header.size(), 256U);
  const std::string data(
      "\0\0\0\0\0\0\x0c\x40"
      "\0\0\0\0\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40"
      "\1\0",
      34);
  const TemporaryFolder folder;
  write_bytes(folder / "reference", file_of(header, 0) + data);
  const SafetensorsFile file(folder / "reference");
  EXPECT_EQ(file.entries().size(), 4U);
  EXPECT_EQ(file.metadata().at("format"), "np");
  EXPECT_EQ(file.read("z").sizes(), (at::IntArrayRef{0, 3}));
  EXPECT_EQ(file.read("s").item<double>(), 3.5);
  EXPECT_TRUE(at::equal(file.read("a"), at::arange(6, at::kFloat).view({2, 3})));
  EXPECT_TRUE(at::equal(file.read("b"), at::arange(2).lt(1)));
}

TEST(SafetensorsTest, TakesAFileWithoutTensors) {
  EXPECT_EQ(refusal(file_of("{}", 0)), "");
}

struct Hostile {
  std::string header;
  std::size_t data_bytes;
  std::string message;
};

TEST(SafetensorsTest, RefusesHeadersThatDoNotDescribeTheFile) {
  const std::string x = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const Hostile cases[] = {
      {x, 7, "describes 8 bytes of tensors; the file has 7"},
      {x, 9, "describes 8 bytes of tensors; the file has 9"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, "not at the end of"},
      {R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
       6, "inside the tensor before it"},
      {R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
       4, "inside the tensor before it"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "a shape of 8 bytes"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "a shape of 8 bytes"},
      {R"({"x":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", 8, "unknown dtype"},
      {R"({"x":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,0]}})", 0,
       "beyond all memory"},
      {R"({"x":{"dtype":"F32","shape":[0,9223372036854775807,9223372036854775807],"data_offsets":[0,0]}})", 0,
       "beyond all memory"},
      {R"({"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "a negative number"},
      {R"({"x":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "not whole"},
      {R"({"x":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]}})", 8, "not whole"},
      {R"({"x":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", 8, "a number where the shape"},
      {R"({"x":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", 8, "a list where a number"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}})", 8, "two data_offsets"},
      {R"({"x":{"dtype":"F32","shape":[2]}})", 0, "lacks its dtype, shape or data_offsets"},
      {R"({"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8, "dtype twice"},
      {R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})", 8, "unknown field \"more\""},
      {R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8, "\"x\" comes twice"},
      {R"({"__metadata__":{"a":1}})", 0, "a number where a text"},
      {R"({"__metadata__":{"a":{}}})", 0, "an object where a text"},
      {R"({"__metadata__":{"a":"b","a":"c"}})", 0, "comes twice"},
      {R"({"x":null})", 0, "null where an object"},
      {R"([])", 0, "begin with"},
      {R"( {})", 0, "begin with"},
      {R"({}x)", 0, "no JSON"},
      {R"({"x":)", 0, "no JSON"},
      {"", 0, "begin with"},
      {std::string("{\"") + '\xff' + "\":{}}", 0, "no JSON"},
      {R"({"x":{"dtype":"U8","shape":[)" + std::string(200, '[') + "]}}", 0, "a list where"},
  };
  for (const Hostile& hostile : cases) {
    const std::string message = refusal(file_of(hostile.header, hostile.data_bytes));
    EXPECT_NE(message.find(hostile.message), std::string::npos) << hostile.header << "\n" << message;
  }
}

TEST(SafetensorsTest, RefusesManyDimensions) {
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  const std::string message =
      refusal(file_of(R"({"x":{"dtype":"U8","shape":[)" + ones + R"(],"data_offsets":[0,1]}})", 1));
  EXPECT_NE(message.find("more than 64 dimensions"), std::string::npos) << message;
}

TEST(SafetensorsTest, RefusesLengthsThatTheFileDoesNotHave) {
  const std::string huge("\xff\xff\xff\xff\xff\xff\xff\x7f", 8);
  EXPECT_NE(refusal(huge + "{}").find("9223372036854775807 bytes, the file has 10"), std::string::npos);
  EXPECT_NE(refusal(std::string(8, '\xff') + "{}").find("no safetensors file"), std::string::npos);
  EXPECT_NE(refusal("1234567").find("too few"), std::string::npos);
  EXPECT_NE(refusal("").find("too few"), std::string::npos);
}

TEST(SafetensorsTest, RefusesBytesThatAreNoBool) {
  std::string bytes = file_of(R"({"x":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]}})", 2);
  bytes.back() = 2;
  EXPECT_NE(refusal(bytes).find("neither 0 nor 1"), std::string::npos);
}

TEST(SafetensorsTest, NoDamageToAHeaderDoesHarm) {
  const TemporaryFolder folder;
  write_safetensors(folder / "good", {{"x", at::arange(4)}, {"y", at::arange(3).to(at::kBool)}},
                    {{"a", "b"}});
  const std::string good = read_bytes(folder / "good");
  for (std::size_t length = 0; length < good.size(); ++length)
    EXPECT_NE(refusal(good.substr(0, length)), "") << "cut to " << length;
  const std::size_t data = good.find('}', good.rfind(']')) + 2;
  for (std::size_t at = 0; at < data; ++at) {
    for (const char other : {'\0', '\1', ' ', '"', ',', '9', '[', '}', '\xff'}) {
      std::string damaged = good;
      damaged[at] = other;
      refusal(damaged);  // read or refused: neither crashes nor takes memory
    }
  }
}

TEST(SafetensorsTest, ReadsIntoATensorOfTheSameKindOnly) {
  const TemporaryFolder folder;
  write_safetensors(folder / "file", {{"x", at::arange(6, at::kFloat).view({2, 3})}});
  const SafetensorsFile file(folder / "file");
  const at::Tensor right = at::empty({2, 3});
  file.read_into("x", right);
  EXPECT_TRUE(at::equal(right, at::arange(6, at::kFloat).view({2, 3})));
  EXPECT_THROW(file.read_into("x", at::empty({3, 2})), Error);
  EXPECT_THROW(file.read_into("x", at::empty({2, 3}, at::kDouble)), Error);
  EXPECT_THROW(file.read_into("y", right), Error);
}

TEST(SafetensorsTest, RefusesToWriteWhatTheFormatLacks) {
  const TemporaryFolder folder;
  const std::string path = folder / "file";
  const at::Tensor x = at::arange(2);
  EXPECT_THROW(write_safetensors(path, {{"x", x}, {"x", x}}), InvalidConfig);
  EXPECT_THROW(write_safetensors(path, {{"__metadata__", x}}), InvalidConfig);
  EXPECT_THROW(write_safetensors(path, {{"x", at::Tensor()}}), InvalidConfig);
  EXPECT_THROW(write_safetensors(path, {{"x", at::empty({2}, at::kComplexDouble)}}), InvalidConfig);
  EXPECT_THROW(write_safetensors(path, {{"\xff", x}}), InvalidConfig);
  EXPECT_THROW(write_safetensors(folder / "no/such/folder", {{"x", x}}), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "a failed write left something behind";
}

}  // namespace
}  // namespace counterflow::runtime
