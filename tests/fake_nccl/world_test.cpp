// The fake holds to what it promises, else what runs on it proves nothing.
#include "world.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace counterflow::fake_nccl {
namespace {

constexpr int kSeeds = 50;

// Two devices, a communicator for each direction and a stream for each of their ends.
struct Pair {
  explicit Pair(std::uint32_t seed) : world(2, seed) {}

  // What `second` is given from now on waits for what `first` has been given.
  void after(Stream first, Stream second) {
    const Event event = world.create_event();
    world.record(event, first);
    world.wait(second, event);
  }

  World world;
  Communicator up = world.create_communicator({0, 1});
  Communicator down = world.create_communicator({0, 1});
  Stream send_up = world.create_stream(0), receive_up = world.create_stream(1);
  Stream send_down = world.create_stream(1), receive_down = world.create_stream(0);
  Buffer one{1}, two{2}, three{3}, a{0}, b{0}, c{0};
};

TEST(FakeNcclTest, MessagesMeetInTheOrderOfTheCommunicator) {
  for (int seed = 0; seed < kSeeds; ++seed) {
    Pair p(seed);
    p.world.send(p.up, 1, p.one, p.send_up);
    p.world.send(p.up, 1, p.two, p.send_up);
    p.world.receive(p.up, 0, p.a, p.receive_up);
    p.world.receive(p.up, 0, p.b, p.receive_up);
    EXPECT_TRUE(p.world.run().finished);
    EXPECT_EQ(p.a, p.one);
    EXPECT_EQ(p.b, p.two);
  }
}

TEST(FakeNcclTest, SendWaitsForItsReceive) {
  Pair p(0);
  bool after = false;
  p.world.send(p.up, 1, p.one, p.send_up, "the send");
  p.world.launch(p.send_up, [&] { after = true; });
  const Outcome outcome = p.world.run();
  EXPECT_FALSE(outcome.finished);
  EXPECT_FALSE(after);
  EXPECT_EQ(outcome.stuck, std::vector<std::string>{"device 0: the send waits for its peer"});
}

TEST(FakeNcclTest, OpposingSendsOnOneStreamHangUnlessGrouped) {
  for (const bool grouped : {false, true}) {
    for (int seed = 0; seed < kSeeds; ++seed) {
      Pair p(seed);
      for (const int device : {0, 1}) {
        const Stream stream = device == 0 ? p.send_up : p.receive_up;
        if (grouped) p.world.group_start(device);
        p.world.send(p.up, 1 - device, device == 0 ? p.one : p.two, stream);
        p.world.receive(p.up, 1 - device, device == 0 ? p.a : p.b, stream);
        if (grouped) p.world.group_end(device);
      }
      EXPECT_EQ(p.world.run().finished, grouped);
      EXPECT_EQ(p.a, grouped ? p.two : Buffer{0});
      EXPECT_EQ(p.b, grouped ? p.one : Buffer{0});
    }
  }
}

TEST(FakeNcclTest, GroupsOfDifferentShapeHang) {
  for (const bool both : {false, true}) {
    for (int seed = 0; seed < kSeeds; ++seed) {
      Pair p(seed);
      p.world.group_start(0);
      p.world.send(p.up, 1, p.one, p.send_up);
      p.world.send(p.up, 1, p.two, p.send_up);
      p.world.group_end(0);
      if (both) p.world.group_start(1);
      p.world.receive(p.up, 0, p.a, p.receive_up);
      p.world.receive(p.up, 0, p.b, p.receive_up);
      if (both) p.world.group_end(1);
      EXPECT_EQ(p.world.run().finished, both);
      EXPECT_EQ(p.b, both ? p.two : Buffer{0});
    }
  }
}

TEST(FakeNcclTest, KernelThatWaitsForItsPeerKeepsItsPlace) {
  for (const int places : {1, 2}) {
    bool hung = false;
    for (int seed = 0; seed < kSeeds; ++seed) {
      Pair p(seed);
      for (const int device : {0, 1}) p.world.limit_residency(device, places);
      p.world.send(p.up, 1, p.one, p.send_up);
      p.world.receive(p.up, 0, p.a, p.receive_up);
      p.world.send(p.down, 0, p.two, p.send_down);
      p.world.receive(p.down, 1, p.b, p.receive_down);
      hung |= !p.world.run().finished;
    }
    EXPECT_EQ(hung, places == 1);
  }
}

TEST(FakeNcclTest, KernelHeldBackByAnEventTakesNoPlace) {
  for (int seed = 0; seed < kSeeds; ++seed) {
    Pair p(seed);
    for (const int device : {0, 1}) p.world.limit_residency(device, 1);
    const Stream compute = p.world.create_stream(1);
    p.world.receive(p.up, 0, p.a, p.receive_up);
    p.after(p.receive_up, compute);
    p.world.launch(compute, [&] { p.two[0] = p.a[0] + 10; });
    p.after(compute, p.send_down);
    p.world.send(p.down, 0, p.two, p.send_down);
    p.world.send(p.up, 1, p.one, p.send_up);
    p.after(p.send_up, p.receive_down);
    p.world.receive(p.down, 1, p.b, p.receive_down);
    EXPECT_TRUE(p.world.run().finished);
    EXPECT_EQ(p.b, Buffer{11});
  }
}

TEST(FakeNcclTest, WaitForAnEventThatIsRecordedLaterHoldsBack) {
  for (const bool recorded : {false, true}) {
    for (int seed = 0; seed < kSeeds; ++seed) {
      World world(1, seed);
      const Stream first = world.create_stream(0);
      const Stream second = world.create_stream(0);
      const Event event = world.create_event();
      std::string order;
      world.wait(second, event);
      world.launch(second, [&] { order += "2"; });
      world.launch(first, [&] { order += "1"; });
      if (recorded) world.record(event, first);
      EXPECT_EQ(world.run().finished, recorded);
      EXPECT_EQ(order, recorded ? "12" : "1");
    }
  }
}

TEST(FakeNcclTest, AllReduceSumsOverAllOrHangs) {
  for (const bool all : {false, true}) {
    World world(3, 7);
    const Communicator communicator = world.create_communicator({0, 1, 2});
    std::vector<Buffer> data{{1, 10}, {2, 20}, {3, 30}};
    for (int device = 0; device < (all ? 3 : 2); ++device)
      world.all_reduce(communicator, data[device], world.create_stream(device));
    EXPECT_EQ(world.run().finished, all);
    EXPECT_EQ(data[0], (all ? Buffer{6, 60} : Buffer{1, 10}));
  }
}

TEST(FakeNcclTest, SeedsGiveDifferentInterleavingsAndEachItsOwnAgain) {
  const auto order_of = [](std::uint32_t seed) {
    World world(4, seed);
    std::string order;
    for (int device = 0; device < 4; ++device) {
      const Stream stream = world.create_stream(device);
      for (int i = 0; i < 4; ++i)
        world.launch(stream, [&order, device] { order += static_cast<char>('0' + device); });
    }
    EXPECT_TRUE(world.run().finished);
    return order;
  };
  std::map<std::string, int> orders;
  for (int seed = 0; seed < kSeeds; ++seed) {
    EXPECT_EQ(order_of(seed), order_of(seed));
    ++orders[order_of(seed)];
  }
  EXPECT_GT(orders.size(), 40U);
}

TEST(FakeNcclTest, RefusesWrongUse) {
  World world(3, 0);
  const Communicator communicator = world.create_communicator({0, 1});
  Buffer data{0};
  EXPECT_THROW(world.send(communicator, 2, data, world.create_stream(0)), std::logic_error);
  EXPECT_THROW(world.send(communicator, 1, data, world.create_stream(2)), std::logic_error);
  EXPECT_THROW(world.group_end(0), std::logic_error);
}

}  // namespace
}  // namespace counterflow::fake_nccl
