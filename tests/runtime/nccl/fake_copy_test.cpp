// The fakes of CUDA IPC and of hardware queues keep the rules that were seen on real devices: tests of the
// copy engines rest on that.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "fake_device.h"
#include "fake_graph.h"
#include "fake_peers.h"
#include "fake_queues.h"
#include "misuse.h"
#include "ranks.h"
#include "shared_memory.h"
#include "stream_values.h"

namespace counterflow::fake {
namespace {

/// The first error or misuse of any rank.
std::string trouble_of(int num_ranks, const std::function<void(int rank)>& body) {
  for (const Outcome& outcome : run_ranks(num_ranks, [&](int rank, const OpenStore&) { body(rank); })) {
    if (!outcome.ended) return "a rank did not come to an end";
    if (!outcome.error.empty()) return outcome.error;
    if (outcome.whole.misuse[0] != '\0') return outcome.whole.misuse;
  }
  return "";
}

void expect(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(what);
}

int* allocate_number() {
  int* number = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&number), sizeof *number);
  cudaMemset(number, 0, sizeof *number);
  return number;
}

/// What two ranks show each other.
struct Page {
  cudaIpcMemHandle_t handle;
  std::atomic<int> stage;
};

/// Rank 0 has a number, which rank 1 has mapped and does something with.
std::string trouble_with_peer(const std::function<void(int* number)>& as_peer,
                              const std::function<void(int* number)>& afterwards) {
  static Page* page = nullptr;
  page = share<Page>();
  return trouble_of(2, [&](int rank) {
    if (rank == 0) {
      int* const number = allocate_number();
      cudaIpcGetMemHandle(&page->handle, number);
      void* own = nullptr;
      expect(cudaIpcOpenMemHandle(&own, page->handle, 0) != cudaSuccess, "it opens its own handle");
      page->stage = 1;
      poll([] { return page->stage == 2; });
      return afterwards(number);
    }
    poll([] { return page->stage == 1; });
    void* mapped = nullptr;
    expect(cudaIpcOpenMemHandle(&mapped, page->handle, 0) == cudaSuccess,
           "it does not open the peer's handle");
    as_peer(static_cast<int*>(mapped));
    synchronize_device();
    page->stage = 2;
  });
}

const auto kNothing = [](int*) {};

void copy_seven(int* to) {
  static const int seven = 7;
  cudaMemcpyAsync(to, &seven, sizeof seven, cudaMemcpyDefault, make_stream());
}

TEST(FakePeersTest, ACopyArrives) {
  EXPECT_EQ(trouble_with_peer(copy_seven, [](int* number) { expect(*number == 7, "it did not arrive"); }),
            "");
}

TEST(FakePeersTest, AStreamsWriteDoesNot) {
  EXPECT_EQ(trouble_with_peer([](int* number) { runtime::StreamValues().write(make_stream(), number, 7); },
                              [](int* number) { expect(*number == 0, "it arrived"); }),
            "a stream writes a number to a peer's memory, where it does not arrive");
}

TEST(FakePeersTest, NotesACopyToWhatIsNotMappedOrWasFreed) {
  EXPECT_EQ(trouble_with_peer(
                [](int* number) {
                  cudaIpcCloseMemHandle(number);
                  copy_seven(number);
                },
                kNothing),
            "a device reaches into a peer's memory that is not mapped");
  EXPECT_EQ(trouble_of(1,
                       [](int) {
                         int* const number = allocate_number();
                         cudaFree(number);
                         copy_seven(number);
                         synchronize_device();
                       }),
            "a device reaches into memory that was freed");
}

TEST(FakePeersTest, FreeingMemoryWaitsForTheDevice) {
  EXPECT_EQ(trouble_of(1,
                       [](int) {
                         std::atomic<bool> done = false;
                         std::atomic<bool> freed = false;
                         enqueue_now(make_stream(), [&] { return done.load(); });
                         std::thread frees([&] {
                           cudaFree(allocate_number());
                           freed = true;
                         });
                         std::this_thread::sleep_for(std::chrono::milliseconds(20));
                         const bool early = freed;
                         done = true;
                         frees.join();
                         expect(!early, "it did not wait");
                       }),
            "");
}

/// Streams that wait for a number, which one more is to write, or the host.
bool are_freed(int num_waiting, bool in_graph, bool by_host) {
  bool freed = false;
  const std::string trouble = trouble_of(1, [&](int) {
    set_queues({.number = 8});
    const runtime::StreamValues values;
    int* const number = allocate_number();
    const cudaStream_t origin = make_stream();
    std::shared_ptr<Graph> graph;
    if (in_graph) begin_capture(origin);
    for (int i = 0; i < num_waiting; ++i) {
      const cudaStream_t stream = i == 0 ? origin : make_stream();
      cudaEvent_t event = nullptr;
      cudaEventCreateWithFlags(&event, 0);
      cudaEventRecord(event, origin);
      cudaStreamWaitEvent(stream, event, 0);
      values.await_and_write(stream, number, 1, 1);
      cudaEventRecord(event, stream);
      cudaStreamWaitEvent(origin, event, 0);
    }
    if (in_graph) {
      end_capture(origin, graph);
      Graph::launch(graph, origin);
    }
    if (by_host)
      *static_cast<volatile int*>(number) = 1;
    else
      values.write(make_stream(), number, 1);
    for (int i = 0; i < 20 && !freed; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      freed = cudaStreamQuery(origin) == cudaSuccess;
    }
    throw std::runtime_error(freed ? "it is" : "it is not");
  });
  EXPECT_TRUE(trouble == "it is" || trouble == "it is not") << trouble;
  return trouble == "it is";
}

TEST(FakeQueuesTest, AStreamThatWaitsHoldsUpThoseOfItsQueue) {
  for (const bool in_graph : {false, true}) {
    EXPECT_TRUE(are_freed(3, in_graph, false));
    EXPECT_FALSE(are_freed(8, in_graph, false));
    EXPECT_TRUE(are_freed(8, in_graph, true));
  }
}

}  // namespace
}  // namespace counterflow::fake
