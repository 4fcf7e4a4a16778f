#include "ranks.h"

#include <ATen/Parallel.h>
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <thread>

#include "counterflow/runtime/launch.h"
#include "fake_device.h"
#include "fake_peers.h"
#include "shared_memory.h"

/// In place of libc's: libtorch's store looks up the name of whoever connects, and answers nobody meanwhile,
/// which takes seconds where no name server does.
extern "C" int getnameinfo(const sockaddr*, socklen_t, char* host, socklen_t host_size, char* service,
                           socklen_t service_size, int) {
  if (host != nullptr) std::snprintf(host, host_size, "localhost");
  if (service != nullptr) std::snprintf(service, service_size, "0");
  return 0;
}

namespace counterflow::fake {
namespace {

using Clock = std::chrono::steady_clock;

/// What a rank leaves for the test to read.
struct Page {
  bool ended;
  Clock::time_point trouble;
  Clock::time_point end;
  char error[2048];
  Tally set_up;
  Tally whole;
  std::size_t num_numbers;
  std::array<double, 8192> numbers;
};

Page* g_page = nullptr;                         ///< of this rank
std::atomic<bool>* g_store_is_there = nullptr;  ///< of all

std::uint16_t free_port() {
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(socket, reinterpret_cast<sockaddr*>(&address), size);
  ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size);
  ::close(socket);
  return ntohs(address.sin_port);
}

void run_rank(const runtime::Launch& launch,
              const std::function<void(int rank, const OpenStore& open_store)>& body) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  at::set_num_threads(1);
  try {
    const OpenStore open = [&launch] { return runtime::open_store(launch, std::chrono::seconds(60)); };
    if (!launch.hosts_store) poll([] { return g_store_is_there->load(); });  // not to try again later
    const auto hold = open();                                                // stays while this process does
    *g_store_is_there = true;
    body(launch.rank, open);
  } catch (const std::exception& error) {
    std::snprintf(g_page->error, sizeof g_page->error, "%s", error.what());
  }
  g_page->whole = tally();
  g_page->end = Clock::now();
  g_page->ended = true;
  ::_exit(0);
}

/// Until all have ended or been stopped.
void wait_for(std::vector<pid_t> processes) {
  const auto give_up = Clock::now() + std::chrono::seconds(60);
  while (!processes.empty() && Clock::now() < give_up) {
    std::erase_if(processes, [](pid_t process) {
      int status = 0;
      return ::waitpid(process, &status, WNOHANG | WUNTRACED) != 0;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace

void note_trouble() {
  g_page->trouble = Clock::now();
}

void note_set_up() {
  g_page->set_up = tally();
}

void leave(const at::Tensor& numbers) {
  const at::Tensor mine = numbers.to(at::kCPU, at::kDouble).contiguous();
  const auto count = static_cast<std::size_t>(mine.numel());
  if (g_page->num_numbers + count > g_page->numbers.size()) throw std::length_error("a rank leaves too much");
  std::copy_n(mine.data_ptr<double>(), count, g_page->numbers.data() + g_page->num_numbers);
  g_page->num_numbers += count;
}

std::vector<Outcome> run_ranks(int num_ranks,
                               const std::function<void(int rank, const OpenStore& open_store)>& body) {
  start_nccl();
  start_peers();
  g_store_is_there = share<std::atomic<bool>>();
  Page* const pages = share<Page>(num_ranks);
  auto* const busy = share<std::atomic<bool>>(num_ranks);
  runtime::Launch launch;
  launch.launcher = "a test";
  launch.num_ranks = num_ranks;
  launch.host = "127.0.0.1";
  launch.port = free_port();
  std::vector<pid_t> processes;
  for (int rank = 0; rank < num_ranks; ++rank) {
    processes.push_back(::fork());
    if (processes.back() != 0) continue;
    g_page = &pages[rank];
    share_devices(busy, rank, num_ranks);
    be_device(rank);
    launch.rank = launch.local_rank = rank;
    launch.hosts_store = rank == 0;
    run_rank(launch, body);
  }
  wait_for(processes);
  for (const pid_t process : processes) {
    ::kill(process, SIGKILL);
    ::waitpid(process, nullptr, 0);
  }
  Clock::time_point trouble;
  for (int rank = 0; rank < num_ranks; ++rank) trouble = std::max(trouble, pages[rank].trouble);
  std::vector<Outcome> outcomes;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const Page& page = pages[rank];
    const double seconds = std::chrono::duration<double>(page.end - trouble).count();
    outcomes.push_back({page.ended,
                        seconds,
                        page.error,
                        page.set_up,
                        page.whole,
                        {page.numbers.begin(), page.numbers.begin() + page.num_numbers}});
  }
  return outcomes;
}

void expect_ends(const Outcome& outcome, int rank, double seconds, const std::string& error) {
  SCOPED_TRACE("rank " + std::to_string(rank));
  ASSERT_TRUE(outcome.ended);
  EXPECT_LT(outcome.seconds, seconds);
  EXPECT_THAT(outcome.error, testing::MatchesRegex("rank " + std::to_string(rank) + ": " + error));
  EXPECT_EQ(outcome.whole.aborted, outcome.whole.made);
  EXPECT_EQ(outcome.whole.destroyed, 0);
  EXPECT_STREQ(outcome.whole.misuse, "");
}

}  // namespace counterflow::fake
