// The fake device's memory, as libtorch's allocator hands it out: what is given back is for the stream that
// it was allocated on, and holds until that stream asks for more and comes to what it was asked for before,
// and so do those streams that it was said to be used on. A graph keeps what was allocated while it was
// captured.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "fake_device.h"

namespace counterflow::fake {

class Graph;

void* allocate(std::size_t bytes, cudaStream_t stream);

/// It is not given to anyone else before that stream, too, is done with it.
void use_on(const void* memory, cudaStream_t stream);

void release(void* memory);

/// A node of a graph that is being captured reads or writes memory, by the address of any byte of it.
void note_use(const std::shared_ptr<Graph>& graph, int node, const std::vector<const void*>& memory);

}  // namespace counterflow::fake
