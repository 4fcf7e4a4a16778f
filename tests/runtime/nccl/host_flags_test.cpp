// Flags that ranks share, between processes: what is raised is seen, and nobody takes another's memory for
// them.
#include "host_flags.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <string>

#include "counterflow/runtime/error.h"
#include "fake_peers.h"

namespace counterflow::runtime {
namespace {

std::uint32_t value_of(const std::byte* flag) {
  return *reinterpret_cast<const volatile std::uint32_t*>(flag);
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const TransportError& error) {
    return error.what();
  }
  return "";
}

TEST(HostFlagsTest, AreSeenByOthers) {
  const HostFlags flags(3);
  const PeerFlags theirs(flags.handle());
  for (const std::size_t flag : {0, 1, 2}) {
    EXPECT_EQ(value_of(flags.on_device(flag)), 0);
    EXPECT_EQ(value_of(theirs.on_device(flag)), 0);
  }
  std::memset(theirs.on_device(1), 1, 1);  // as a device does
  EXPECT_EQ(value_of(flags.on_device(0)), 0);
  EXPECT_EQ(value_of(flags.on_device(1)), 1);
  flags.raise_all();
  for (const std::size_t flag : {0, 1, 2}) EXPECT_EQ(value_of(theirs.on_device(flag)), 1);
  EXPECT_FALSE(theirs.has_left());
  flags.leave();
  EXPECT_TRUE(theirs.has_left());
}

TEST(HostFlagsTest, StayWithThoseThatHaveThemOpen) {
  auto flags = std::make_unique<HostFlags>(1);
  const std::string handle = flags->handle();
  const PeerFlags theirs(handle);
  flags->raise_all();
  flags.reset();
  EXPECT_EQ(value_of(theirs.on_device(0)), 1);
  EXPECT_NE(error_of([&] { PeerFlags{handle}; }), "");
}

/// What is new takes the numbers of what was closed.
TEST(HostFlagsTest, AreNotTakenForLaterOnes) {
  auto flags = std::make_unique<HostFlags>(1);
  const std::string handle = flags->handle();
  flags.reset();
  const HostFlags later(1);
  EXPECT_NE(error_of([&] { PeerFlags{handle}; }).find("not what that rank has shown"), std::string::npos);
}

TEST(HostFlagsTest, LeaveNoFileOpenWhereTheDeviceDoesNotReachThem) {
  const auto next_file = [] {
    const int file = dup(0);
    close(file);
    return file;
  };
  const int before = next_file();
  fake::peer_faults().no_host_memory = true;
  EXPECT_NE(error_of([] { HostFlags{1}; }).find("cudaHostRegister"), std::string::npos);
  fake::peer_faults().no_host_memory = false;
  EXPECT_EQ(next_file(), before);
}

/// A handle's numbers: the process, its file, the size, the token.
using Numbers = std::array<std::int64_t, 4>;

std::string altered(const std::string& handle, const std::function<void(Numbers&)>& change) {
  Numbers numbers{};
  std::memcpy(numbers.data(), handle.data(), sizeof numbers);
  change(numbers);
  return {reinterpret_cast<const char*>(numbers.data()), sizeof numbers};
}

TEST(HostFlagsTest, RefusesWhatIsNotMeant) {
  const HostFlags flags(1);
  const auto error = [&](const std::function<void(Numbers&)>& change) {
    return error_of([&] { PeerFlags{altered(flags.handle(), change)}; });
  };
  EXPECT_EQ(error([](Numbers&) {}), "");
  EXPECT_NE(error([](Numbers& numbers) { numbers[0] = 1 << 30; }).find("No such file"), std::string::npos);
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe(pipe.data()), 0);
  const auto is_elsewhere = [](const std::string& text) {
    return text.find("not what that rank has shown: it is on another host, or in another container") !=
               std::string::npos &&
           text.find("use the transport over NCCL") != std::string::npos;
  };
  EXPECT_TRUE(is_elsewhere(error([&](Numbers& numbers) { numbers[1] = pipe[0]; })));
  EXPECT_TRUE(is_elsewhere(error([](Numbers& numbers) { numbers[2] *= 2; })));
  EXPECT_TRUE(is_elsewhere(error([](Numbers& numbers) { ++numbers[3]; })));
  EXPECT_NE(error_of([] { PeerFlags{"short"}; }), "");
  for (const int end : pipe) close(end);
}

}  // namespace
}  // namespace counterflow::runtime
