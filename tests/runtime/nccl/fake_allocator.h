// libtorch's allocator of device memory, over the fake device's.
#pragma once

#include <c10/cuda/CUDACachingAllocator.h>

namespace counterflow::fake {

c10::cuda::CUDACachingAllocator::CUDAAllocator& allocator();

}  // namespace counterflow::fake
