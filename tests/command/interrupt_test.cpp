#include "interrupt.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

namespace counterflow::command {
namespace {

constexpr std::chrono::milliseconds kNextRequest{600};
constexpr int kStopped = 5;

void send(int signal) {
  kill(getpid(), signal);
}

void wait_for_stop(const StopOnInterrupt& interrupt) {
  while (!interrupt.token().stop_requested()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// Each test is a process of its own, for signals go to whole processes.
class StopOnInterruptTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(StopOnInterruptTest, TakesSignalsInARowForOneRequest) {
  const auto interrupted_twice = [] {
    const StopOnInterrupt interrupt;
    send(SIGTERM);
    wait_for_stop(interrupt);
    send(SIGINT);
    std::this_thread::sleep_for(kNextRequest);
    std::_Exit(kStopped);
  };
  EXPECT_EXIT(interrupted_twice(), ::testing::ExitedWithCode(kStopped), "");
}

TEST_F(StopOnInterruptTest, EndsTheProgramAtASecondRequest) {
  const auto interrupted_again = [] {
    const StopOnInterrupt interrupt;
    send(SIGINT);
    wait_for_stop(interrupt);
    std::this_thread::sleep_for(kNextRequest);
    send(SIGTERM);
    std::this_thread::sleep_for(std::chrono::minutes(1));
    std::_Exit(kStopped);
  };
  EXPECT_EXIT(interrupted_again(), ::testing::ExitedWithCode(128 + SIGTERM), "");
}

TEST_F(StopOnInterruptTest, LeavesSignalsAsTheyWere) {
  const auto interrupted_after = [] {
    { const StopOnInterrupt interrupt; }
    send(SIGTERM);
    std::this_thread::sleep_for(std::chrono::minutes(1));
  };
  EXPECT_EXIT(interrupted_after(), ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace counterflow::command
