#include "fake_memory.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "fake_graph.h"
#include "misuse.h"

namespace counterflow::fake {
namespace {

struct Block {
  Block(std::size_t size, cudaStream_t allocated_on)
      : bytes(size + 1), memory(static_cast<char*>(std::malloc(bytes))), stream(allocated_on) {
    spoil();
  }
  ~Block() {
    spoil();
    std::free(memory);
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  /// Whoever reads what was not written finds no numbers.
  void spoil() { std::memset(memory, 0xff, bytes); }

  const std::size_t bytes;
  char* const memory;
  const cudaStream_t stream;
  std::set<cudaStream_t> used_on;
  std::weak_ptr<Graph> graph;  ///< that it belongs to
  std::vector<std::pair<std::weak_ptr<Graph>, int>> uses;
};

struct Blocks {
  std::mutex mutex;
  std::map<const void*, std::shared_ptr<Block>> used;                      ///< by address
  std::map<cudaStream_t, std::vector<std::shared_ptr<Block>>> given_back;  ///< until the stream's next one

  Block* find(const void* address) {
    auto next = used.upper_bound(address);
    if (next == used.begin()) return nullptr;
    Block& block = *(--next)->second;
    return address < block.memory + block.bytes ? &block : nullptr;
  }
};

Blocks& blocks() {
  static Blocks& one = *new Blocks;
  return one;
}

/// In a capture, the stream is about to write to what was given back in that capture.
void check_is_done_with(const Block& block, const Graph& graph) {
  for (const auto& [user, node] : block.uses)
    if (user.lock().get() == &graph && !graph.is_before(node, block.stream->point.after))
      note_misuse("memory that was given back in a capture is used again while another stream uses it");
}

/// What a stream gets next may be what was given back to it. It is not: it is freed, or stays with its graph.
void take_again(cudaStream_t stream, std::vector<std::shared_ptr<Block>> given_back) {
  const auto& capture = stream->point.capture;
  for (std::shared_ptr<Block>& block : given_back) {
    const auto owner = block->graph.lock();
    if (owner && capture && capture->graph() == owner && block->used_on.empty())
      check_is_done_with(*block, *owner);
    if (owner)
      owner->keep(std::move(block));
    else
      enqueue_now(stream, [block] { return true; });
  }
}

}  // namespace

void* allocate(std::size_t bytes, cudaStream_t stream) {
  auto block = std::make_shared<Block>(bytes, stream);
  if (const auto& capture = stream->point.capture) block->graph = capture->graph();
  void* memory = block->memory;
  std::vector<std::shared_ptr<Block>> given_back;
  {
    const std::lock_guard lock(blocks().mutex);
    blocks().used[memory] = std::move(block);
    given_back.swap(blocks().given_back[stream]);
  }
  take_again(stream, std::move(given_back));
  return memory;
}

void use_on(const void* memory, cudaStream_t stream) {
  const std::lock_guard lock(blocks().mutex);
  Block* const block = blocks().find(memory);
  if (block && block->stream != stream) block->used_on.insert(stream);
}

void release(void* memory) {
  std::shared_ptr<Block> block;
  {
    const std::lock_guard lock(blocks().mutex);
    block = std::move(blocks().used.extract(memory).mapped());
    blocks().given_back[block->stream].push_back(block);
  }
  for (const cudaStream_t stream : block->used_on) enqueue_now(stream, [block] { return true; });
  if (block->graph.lock()) return;
  for (const auto& [user, node] : block->uses)
    if (const auto graph = user.lock()) graph->spoil("after memory that it uses was given back");
}

void note_use(const std::shared_ptr<Graph>& graph, int node, const std::vector<const void*>& memory) {
  const std::lock_guard lock(blocks().mutex);
  for (const void* address : memory)
    if (Block* const block = blocks().find(address)) block->uses.emplace_back(graph, node);
}

}  // namespace counterflow::fake
