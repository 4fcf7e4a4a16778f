// Memory that processes share which are forked from now on.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>

namespace counterflow::fake {

/// Zeros. Is never given back.
template <class Type>
Type* share(std::size_t count = 1) {
  void* memory =
      ::mmap(nullptr, count * sizeof(Type), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return new (memory) Type[count];
}

}  // namespace counterflow::fake
