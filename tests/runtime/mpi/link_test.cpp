// Bytes between processes: what comes is of the size that was agreed on, or an error.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "counterflow/runtime/error.h"
#include "mpi_link.h"

namespace counterflow::runtime {
namespace {

using Tag = MpiLink::Tag;

/// Runs `body` on ranks 0 and 1; the others stand by.
void run_two(const std::function<void(MpiLink&)>& body) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm two = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank < 2 ? 0 : MPI_UNDEFINED, rank, &two);
  if (two == MPI_COMM_NULL) return;
  MpiLink link(two);
  link.set_timeout(std::chrono::seconds(20));
  body(link);
  link.leave(std::chrono::seconds(5));
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const TransportError& error) {
    return error.what();
  }
  return "none";
}

TEST(MpiLinkTest, CarriesBytesInOrder) {
  run_two([](MpiLink& link) {
    const int other = 1 - link.rank();
    std::string bytes(3, ' ');
    const auto received = link.receive(other, Tag::kData, bytes.data(), bytes.size(), nullptr);
    link.send(other, Tag::kData, std::string("abc"));
    link.send(other, Tag::kHeader, std::string());
    link.wait({received});
    EXPECT_EQ(bytes, "abc");
    MpiLink::TransferPtr empty;
    link.wait([&] {
      return (empty = empty ? empty : link.take(other, Tag::kHeader, 10)) ? MpiLink::kNobody : other;
    });
    EXPECT_EQ(empty->bytes, "");
  });
}

TEST(MpiLinkTest, NothingIsWrittenBesideWhatWasExpected) {
  for (const int sent : {100, 25, 23, 0}) {
    run_two([sent](MpiLink& link) {
      if (link.rank() == 1) {
        link.send(0, Tag::kData, std::string(sent, 'x'));
        link.flush();
        return;
      }
      std::string memory(200, '-');
      const auto received = link.receive(1, Tag::kData, &memory[50], 24, nullptr);
      const std::string error = error_of([&] { link.wait({received}); });
      EXPECT_NE(error.find("rank 1"), std::string::npos) << sent << ": " << error;
      EXPECT_EQ(memory.substr(0, 50), std::string(50, '-')) << sent;
      EXPECT_EQ(memory.substr(74), std::string(126, '-')) << sent;
    });
  }
}

TEST(MpiLinkTest, AMessageBeyondTheLimitIsNotTaken) {
  run_two([](MpiLink& link) {
    if (link.rank() == 1) {
      link.send(0, Tag::kHeader, std::string(1001, 'x'));
      return;
    }
    EXPECT_EQ(
        error_of([&] { link.wait([&] { return link.take(1, Tag::kHeader, 1000) ? MpiLink::kNobody : 1; }); }),
        "rank 1 sent 1001 bytes where at most 1000 were expected");
  });
}

}  // namespace
}  // namespace counterflow::runtime
