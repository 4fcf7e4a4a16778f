// What happens under mpirun when something goes wrong: it ends soon, non-zero, and every rank that can says
// where it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

std::string mpirun;  // with the flag of the number of ranks
std::string program;

struct Outcome {
  int exit_status = -1;
  std::string output;
  std::vector<std::string> lines;
  double seconds = 0;
};

Outcome run(int num_ranks, const std::string& what) {
  Outcome result;
  const auto start = std::chrono::steady_clock::now();
  const std::string command = mpirun + " " + std::to_string(num_ranks) + " " + program + " " + what + " 2>&1";
  FILE* pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> part{};
  while (const std::size_t size = std::fread(part.data(), 1, part.size(), pipe))
    result.output.append(part.data(), size);
  const int status = ::pclose(pipe);
  result.exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::istringstream text(result.output);
  for (std::string line; std::getline(text, line);) result.lines.push_back(line);
  return result;
}

/// Each of the ranks has a line that says where it was, and why it ended.
void expect_error_of_ranks(const Outcome& result, const std::vector<int>& ranks, const std::string& why) {
  for (const int rank : ranks)
    EXPECT_THAT(
        result.lines,
        Contains(AllOf(StartsWith("error: rank " + std::to_string(rank) + ": "), HasSubstr(why))).Times(1))
        << result.output;
  EXPECT_NE(result.exit_status, 0);
  EXPECT_LT(result.seconds, 20);
  EXPECT_THAT(result.lines, Not(Contains("fine")));
}

TEST(MpiFailureTest, NothingGoesWrong) {
  const Outcome result = run(4, "nothing");
  EXPECT_EQ(result.exit_status, 0) << result.output;
  EXPECT_THAT(result.lines, Contains("fine").Times(4));
}

/// What rank 2 says when rank 1 ends in 1F2: the news may overtake what rank 1 sent before, a rank that does
/// not wait for it finds out when it sends, and one that is late when it begins.
const std::string kRank2Saw =
    "error: rank 2: (2..|before the first action): (waited [0-9.]+ s for 1F[0-2] from rank 1, which|waited "
    ".* when rank 1|rank 1) "
    "ended: ";

TEST(MpiFailureTest, AnExceptionOnOneRankEndsAll) {
  const Outcome result = run(4, "exception");
  expect_error_of_ranks(result, {0, 1, 2, 3}, "1F2: out of luck");
  EXPECT_THAT(result.lines, Contains("error: rank 1: 1F2: out of luck"));
  EXPECT_THAT(result.lines, Contains(MatchesRegex(kRank2Saw + "1F2: out of luck")));
}

TEST(MpiFailureTest, AKilledRankIsNamedAndTheOthersSayWhereTheyWere) {
  const Outcome result = run(4, "killed");
  expect_error_of_ranks(result, {0, 2, 3}, "rank 1");
  EXPECT_THAT(result.lines, Contains(MatchesRegex(kRank2Saw + "its process is dead")));
  EXPECT_THAT(result.output, HasSubstr("signal 9"));
}

TEST(MpiFailureTest, ARankThatExitsIsNamed) {
  const Outcome result = run(4, "exit");
  expect_error_of_ranks(result, {0, 2, 3}, "rank 1");
  EXPECT_THAT(result.output, HasSubstr("ended: its process is dead"));
}

TEST(MpiFailureTest, ARankThatHangsIsLeftAtTheTimeLimit) {
  const Outcome result = run(4, "hang");
  expect_error_of_ranks(result, {0, 2, 3}, "nothing came in time");
}

TEST(MpiFailureTest, ATerminatedRankSaysWhereItWas) {
  const Outcome result = run(4, "terminated");
  expect_error_of_ranks(result, {0, 2, 3}, "told to end (SIGTERM)");
}

TEST(MpiFailureTest, AnotherShapeThanBeforeIsAnError) {
  const Outcome result = run(4, "shape");
  expect_error_of_ranks(result, {0, 1, 2, 3}, "rank 1 sent Float[1, 3] for 1F2, but Float[2, 3] for 1F0");
}

TEST(MpiFailureTest, TooFewRanksAreAnErrorOfEach) {
  const Outcome result = run(3, "nothing");
  expect_error_of_ranks(result, {0, 1, 2}, "is for 4 ranks; there are 3");
}

TEST(MpiFailureTest, ARankThatFailsAfterTheLastStepEndsAllNonZero) {
  const Outcome result = run(4, "late");
  EXPECT_NE(result.exit_status, 0);
  EXPECT_LT(result.seconds, 20);
  EXPECT_THAT(result.lines, Contains("error: the disk is full"));
  EXPECT_THAT(result.lines, Contains(AllOf(StartsWith("error: "), HasSubstr("the disk is full"))).Times(4))
      << result.output;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 4) {
    std::fputs("usage: mpi_failure_test MPIRUN FLAG PROGRAM\n", stderr);
    return 2;
  }
  mpirun = std::string(argv[1]) + " " + argv[2];
  program = argv[3];
  return RUN_ALL_TESTS();
}
