// The fake of CUDA graphs keeps the real ones' rules: tests of recorded steps rest on that.
#include "fake_graph.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "fake_memory.h"
#include "misuse.h"
#include "ranks.h"

namespace counterflow::fake {
namespace {

/// In a process of its own, which has a device of its own. What was thrown, or else misused.
std::string trouble_of(const std::function<void()>& body) {
  const Outcome outcome = run_ranks(1, [&](int, const OpenStore&) { body(); }).at(0);
  if (!outcome.ended) return "it did not come to an end";
  return outcome.error.empty() ? outcome.whole.misuse : outcome.error;
}

void expect(cudaError_t expected, cudaError_t found) {
  if (found != expected)
    throw std::runtime_error(std::string("expected: ") + cudaGetErrorString(expected) +
                             ", found: " + cudaGetErrorString(found));
}

/// A capture that has begun on a stream, and another stream beside it.
struct Capturing {
  Capturing() { expect(cudaSuccess, begin_capture(first)); }

  /// The second stream waits for the first one.
  void fork() { order(first, second); }
  void join() { order(second, first); }

  static void order(cudaStream_t before, cudaStream_t after) {
    cudaEvent_t event = nullptr;
    cudaEventCreateWithFlags(&event, 0);
    expect(cudaSuccess, cudaEventRecord(event, before));
    expect(cudaSuccess, cudaStreamWaitEvent(after, event, 0));
    cudaEventDestroy(event);
  }

  cudaError_t end() { return end_capture(first, graph); }

  const cudaStream_t first = make_stream();
  const cudaStream_t second = make_stream();
  std::shared_ptr<Graph> graph;
};

/// The driver's functions, found as a program finds them.
void on_number(const char* name, cudaStream_t stream, CUdeviceptr address, unsigned int value,
               unsigned int flags) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  expect(cudaSuccess, cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &result));
  if (result != cudaDriverEntryPointSuccess) throw std::runtime_error("there is no such function");
  const auto call = reinterpret_cast<PFN_cuStreamWaitValue32_v11070>(function);  // both are of one type
  if (call(stream, address, value, flags) != CUDA_SUCCESS) throw std::runtime_error("it failed");
}
void write(cudaStream_t stream, CUdeviceptr address, unsigned int value) {
  on_number("cuStreamWriteValue32", stream, address, value, CU_STREAM_WRITE_VALUE_DEFAULT);
}
void wait_until(cudaStream_t stream, CUdeviceptr address, unsigned int value) {
  on_number("cuStreamWaitValue32", stream, address, value, CU_STREAM_WAIT_VALUE_EQ);
}

bool nothing() {
  return true;
}

cudaEvent_t recorded(cudaStream_t stream) {
  cudaEvent_t event = nullptr;
  cudaEventCreateWithFlags(&event, 0);
  cudaEventRecord(event, stream);
  return event;
}

TEST(FakeGraphTest, DoesAtEachReplayWhatItWasAskedForAndNotBefore) {
  EXPECT_EQ(trouble_of([] {
              Capturing capture;
              std::string done;
              const auto note = [&done](char what) { return [&done, what] { return done += what, true; }; };
              expect(cudaSuccess, enqueue(capture.first, note('a')));
              capture.fork();
              int asked = 0;
              const auto slow = [&done, asked]() mutable { return ++asked == 3 && (done += 'b', true); };
              expect(cudaSuccess, enqueue(capture.second, slow));
              expect(cudaSuccess, enqueue(capture.first, note('c')));
              capture.join();
              expect(cudaSuccess, enqueue(capture.first, note('d')));
              expect(cudaSuccess, capture.end());
              synchronize_device();
              if (!done.empty()) throw std::runtime_error("done in the capture: " + done);
              for (int i = 0; i < 2; ++i) Graph::launch(capture.graph, capture.first);
              synchronize(capture.first);
              if (done != "acbdacbd") throw std::runtime_error("done: " + done);
            }),
            "");
}

TEST(FakeGraphTest, AStreamHasToBeJoinedBack) {
  EXPECT_EQ(trouble_of([] {
              Capturing capture;
              capture.fork();
              expect(cudaSuccess, enqueue(capture.second, nothing));
              expect(cudaErrorStreamCaptureUnjoined, capture.end());
            }),
            "");
}

TEST(FakeGraphTest, NothingWaitsAcrossACapturesBorder) {
  EXPECT_EQ(trouble_of([] {
              const cudaEvent_t before = recorded(compute_stream());
              Capturing capture;
              expect(cudaErrorStreamCaptureIsolation, cudaStreamWaitEvent(capture.first, before, 0));
              expect(cudaErrorStreamCaptureInvalidated, enqueue(capture.first, nothing));
              expect(cudaErrorStreamCaptureInvalidated, capture.end());

              Capturing another;
              const cudaEvent_t inside = recorded(another.first);
              expect(cudaSuccess, another.end());
              expect(cudaErrorCapturedEvent, cudaStreamWaitEvent(compute_stream(), inside, 0));
              Capturing third;
              expect(cudaErrorStreamCaptureMerge, cudaStreamWaitEvent(third.first, inside, 0));
              expect(cudaErrorStreamCaptureInvalidated, third.end());
            }),
            "");
}

TEST(FakeGraphTest, WaitingForWhatIsCapturedEndsTheCapture) {
  EXPECT_EQ(trouble_of([] {
              Capturing event;
              expect(cudaErrorCapturedEvent, cudaEventQuery(recorded(event.first)));
              expect(cudaErrorStreamCaptureInvalidated, event.end());
              Capturing stream;
              expect(cudaErrorStreamCaptureUnsupported, cudaStreamSynchronize(stream.first));
              expect(cudaErrorStreamCaptureInvalidated, stream.end());
              Capturing device;
              expect(cudaErrorStreamCaptureUnsupported, cudaDeviceSynchronize());
              expect(cudaErrorStreamCaptureInvalidated, device.end());
            }),
            "");
}

TEST(FakeGraphTest, NotesWhatOnlyHappensWhileItIsCaptured) {
  EXPECT_EQ(trouble_of([] {
              Capturing capture;
              expect(cudaSuccess, enqueue(capture.second, nothing));
              expect(cudaSuccess, capture.end());
            }),
            "a stream was asked for something that has no part in the capture of this thread");
}

/// Memory of the first stream that the second one uses, given back and asked for again.
void use_on_second(bool joined_before) {
  Capturing capture;
  void* const memory = allocate(8, capture.first);
  capture.fork();
  expect(cudaSuccess, enqueue(capture.second, nothing, {memory}));
  if (joined_before) capture.join();
  release(memory);
  allocate(8, capture.first);
  capture.join();
  expect(cudaSuccess, capture.end());
}

TEST(FakeGraphTest, NotesMemoryThatIsUsedAgainTooEarly) {
  EXPECT_EQ(trouble_of([] { use_on_second(true); }), "");
  EXPECT_EQ(trouble_of([] { use_on_second(false); }),
            "memory that was given back in a capture is used again while another stream uses it");
}

TEST(FakeGraphTest, NotesAReplayWithoutItsMemory) {
  EXPECT_EQ(trouble_of([] {
              void* const memory = allocate(8, compute_stream());
              Capturing capture;
              expect(cudaSuccess, enqueue(capture.first, nothing, {memory}));
              expect(cudaSuccess, capture.end());
              Graph::launch(capture.graph, capture.first);
              if (!misuse().empty()) throw std::runtime_error(misuse());
              release(memory);
              Graph::launch(capture.graph, capture.first);
            }),
            "a graph was replayed after memory that it uses was given back");
}

TEST(FakeGraphTest, StreamsWriteNumbersAndWaitForThem) {
  EXPECT_EQ(trouble_of([] {
              std::uint32_t* number = nullptr;
              cudaHostAlloc(reinterpret_cast<void**>(&number), sizeof *number, cudaHostAllocMapped);
              const auto address = reinterpret_cast<CUdeviceptr>(number);
              Capturing capture;
              wait_until(capture.first, address, 1);
              write(capture.first, address, 2);
              expect(cudaSuccess, capture.end());
              for (int i = 0; i < 2; ++i) {
                Graph::launch(capture.graph, capture.first);
                if (cudaStreamQuery(capture.first) != cudaErrorNotReady)
                  throw std::runtime_error("it did not wait");
                write(capture.second, address, 1);
                wait_until(capture.second, address, 2);
                synchronize_device();
              }
              cudaFreeHost(number);
            }),
            "");
}

}  // namespace
}  // namespace counterflow::fake
