#include "heartbeat.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <shared_mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <vector>

namespace counterflow::runtime {
namespace {

using namespace std::chrono_literals;

/// The time-out of beats, and how long a test waits before it calls something missing.
constexpr auto kTimeout = 400ms;
constexpr auto kLong = 20s;

/// A store that stops answering, as if the process that hosts it had been killed.
class MortalStore : public c10d::HashStore {
 public:
  int64_t add(const std::string& key, int64_t value) override {
    if (dead) throw std::runtime_error("connection reset");
    return HashStore::add(key, value);
  }
  std::atomic<bool> dead = false;
};

struct Rank {
  Rank(const c10::intrusive_ptr<c10d::Store>& store, int rank, int num_ranks)
      : failed(promise.get_future()),
        heartbeat(std::make_unique<Heartbeat>(store, rank, num_ranks, kTimeout,
                                              [this](const Heartbeat::Failure& failure) {
                                                promise.set_value(failure);  // throws the second time
                                              })) {}

  std::promise<Heartbeat::Failure> promise;
  std::future<Heartbeat::Failure> failed;
  std::unique_ptr<Heartbeat> heartbeat;
};

TEST(HeartbeatTest, AnAbortReachesAllRanksWithItsReason) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Rank zero(store, 0, 3);
  Rank one(store, 1, 3);
  Rank two(store, 2, 3);
  one.heartbeat->abort("no memory");
  for (Rank* rank : {&zero, &two}) {
    ASSERT_EQ(rank->failed.wait_for(kLong), std::future_status::ready);
    EXPECT_EQ(rank->heartbeat->failure()->rank, 1);
    EXPECT_EQ(rank->heartbeat->failure()->reason, "no memory");
  }
}

TEST(HeartbeatTest, TheFirstAbortStays) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Rank zero(store, 0, 2);
  Rank one(store, 1, 2);
  one.heartbeat->abort("first");
  ASSERT_EQ(zero.failed.wait_for(kLong), std::future_status::ready);
  zero.heartbeat->abort("second");
  EXPECT_EQ(zero.heartbeat->failure()->reason, "first");
  EXPECT_EQ(one.failed.wait_for(kLong), std::future_status::ready);
  EXPECT_EQ(one.failed.get().reason, "first");
}

TEST(HeartbeatTest, ARankThatNeverBeatsCountsAsDead) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Rank zero(store, 0, 2);
  ASSERT_EQ(zero.failed.wait_for(kLong), std::future_status::ready);
  EXPECT_EQ(zero.failed.get().rank, 1);
}

/// Answers nobody for a while, as a store does that looks up the name of a rank that connects.
class BusyStore : public c10d::HashStore {
 public:
  int64_t add(const std::string& key, int64_t value) override {
    const std::shared_lock lock(busy);
    return HashStore::add(key, value);
  }
  std::shared_mutex busy;
};

TEST(HeartbeatTest, AStoreThatIsSlowToAnswerIsNoDeadRank) {
  const auto store = c10::make_intrusive<BusyStore>();
  Rank zero(store, 0, 2);
  Rank one(store, 1, 2);
  for (int times = 0; times < 2; ++times) {
    {
      const std::unique_lock lock(store->busy);
      std::this_thread::sleep_for(2 * kTimeout);
    }
    EXPECT_EQ(zero.failed.wait_for(kTimeout / 2), std::future_status::timeout);
    EXPECT_EQ(one.failed.wait_for(0s), std::future_status::timeout);
  }
}

TEST(HeartbeatTest, AStoreThatNeverAnswersIsAFailureAndHoldsNobodyUp) {
  const auto store = c10::make_intrusive<BusyStore>();
  Rank zero(store, 0, 2);
  Rank one(store, 1, 2);
  const std::unique_lock lock(store->busy);
  while (one.failed.wait_for(kTimeout / 4) != std::future_status::ready) one.heartbeat->check_store();
  EXPECT_EQ(one.failed.get().rank, 0);
  one.heartbeat.reset();
  zero.heartbeat.reset();
}

TEST(HeartbeatTest, TheStoresHostStaysUntilTheOthersKnowOfAFailure) {
  const auto store = c10::make_intrusive<MortalStore>();
  Rank zero(store, 0, 3);
  Rank one(store, 1, 3);
  Rank two(store, 2, 3);
  zero.heartbeat->abort("no memory");
  zero.heartbeat.reset();
  store->dead = true;
  for (Rank* rank : {&one, &two}) {
    ASSERT_EQ(rank->failed.wait_for(kLong), std::future_status::ready);
    EXPECT_EQ(rank->heartbeat->failure()->reason, "no memory");
  }
}

TEST(HeartbeatTest, ARankThatEndsWellIsNotMissed) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Rank zero(store, 0, 3);
  Rank one(store, 1, 3);
  Rank two(store, 2, 3);
  two.heartbeat.reset();
  EXPECT_EQ(zero.failed.wait_for(4 * kTimeout), std::future_status::timeout);
  EXPECT_FALSE(one.heartbeat->failure());
}

TEST(HeartbeatTest, AllHearOfADeadRankThoughOneLooksAtIt) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Rank zero(store, 0, 5);
  Rank one(store, 1, 5);
  Rank two(store, 2, 5);
  Rank four(store, 4, 5);
  for (Rank* rank : {&zero, &one, &two, &four}) {
    ASSERT_EQ(rank->failed.wait_for(kLong), std::future_status::ready);
    EXPECT_EQ(rank->heartbeat->failure()->rank, 3);
    EXPECT_EQ(rank->heartbeat->failure()->reason, "its process gives no sign of life any more");
  }
}

TEST(HeartbeatTest, WhoLookedAtARankThatEndsWellLooksAtTheOneAfterIt) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Rank zero(store, 0, 4);
  Rank one(store, 1, 4);
  Rank two(store, 2, 4);
  two.heartbeat.reset();  // nobody else would have looked at rank 3
  for (Rank* rank : {&zero, &one}) {
    ASSERT_EQ(rank->failed.wait_for(kLong), std::future_status::ready);
    EXPECT_EQ(rank->heartbeat->failure()->rank, 3);
  }
}

TEST(HeartbeatTest, ARankThatIsWatchedIsKnownToHaveLeft) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Rank zero(store, 0, 3);
  Rank one(store, 1, 3);
  Rank two(store, 2, 3);
  zero.heartbeat->watch(2);
  two.heartbeat.reset();
  const auto give_up = std::chrono::steady_clock::now() + kLong;
  while (!zero.heartbeat->has_left(2) && std::chrono::steady_clock::now() < give_up)
    std::this_thread::sleep_for(10ms);
  EXPECT_TRUE(zero.heartbeat->has_left(2));
  EXPECT_FALSE(zero.heartbeat->has_left(1));
}

/// Counts beats and how often somebody looks at one.
class CountingStore : public c10d::HashStore {
 public:
  int64_t add(const std::string& key, int64_t value) override {
    ++(value == 0 ? looks : beats);
    return HashStore::add(key, value);
  }
  std::atomic<int> beats = 0;
  std::atomic<int> looks = 0;
};

TEST(HeartbeatTest, TheStoreHasAsMuchToDoAsThereAreRanks) {
  constexpr int kRanks = 12;
  const auto store = c10::make_intrusive<CountingStore>();
  std::vector<std::unique_ptr<Rank>> ranks;
  for (int rank = 0; rank < kRanks; ++rank) ranks.push_back(std::make_unique<Rank>(store, rank, kRanks));
  while (store->beats < 10 * kRanks) std::this_thread::sleep_for(10ms);
  EXPECT_LE(store->looks, store->beats + kRanks);
  EXPECT_GE(store->looks, store->beats / 2);
}

TEST(HeartbeatTest, TheStoreMayGoOnceItsHostEndedWell) {
  const auto store = c10::make_intrusive<MortalStore>();
  Rank zero(store, 0, 2);
  Rank one(store, 1, 2);
  zero.heartbeat.reset();
  store->dead = true;
  EXPECT_EQ(one.failed.wait_for(4 * kTimeout), std::future_status::timeout);
}

TEST(HeartbeatTest, ARankCanStillAbortOnceTheStoresHostEndedWell) {
  const auto store = c10::make_intrusive<MortalStore>();
  Rank zero(store, 0, 2);
  Rank one(store, 1, 2);
  zero.heartbeat.reset();
  store->dead = true;
  EXPECT_TRUE(one.heartbeat->has_left(0));
  one.heartbeat->abort("no memory");
  ASSERT_EQ(one.failed.wait_for(kLong), std::future_status::ready);
  EXPECT_EQ(one.failed.get().reason, "no memory");
}

TEST(HeartbeatTest, AStoreThatStopsAnsweringIsAFailure) {
  const auto store = c10::make_intrusive<MortalStore>();
  Rank zero(store, 0, 2);
  Rank one(store, 1, 2);
  store->dead = true;
  ASSERT_EQ(one.failed.wait_for(kLong), std::future_status::ready);
  EXPECT_NE(one.failed.get().reason.find("connection reset"), std::string::npos);
}

}  // namespace
}  // namespace counterflow::runtime
