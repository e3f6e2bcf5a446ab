#include "property/counting_allocator.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long long> live{0};
std::atomic<long long> peak{0};
long long base = 0;

void* counted(std::size_t size) {
  void* p = std::malloc(size == 0 ? 1 : size);
  if (p == nullptr) throw std::bad_alloc();
  // What was asked for, as far as it is known: the allocator's rounding is not ours, but never less than the request.
  const long long now = live += static_cast<long long>(malloc_usable_size(p));
  if (now > peak) peak = now;
  return p;
}

void released(void* p) noexcept {
  if (p == nullptr) return;
  live -= static_cast<long long>(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

void* operator new(std::size_t size) {
  return counted(size);
}
void* operator new[](std::size_t size) {
  return counted(size);
}
void operator delete(void* p) noexcept {
  released(p);
}
void operator delete[](void* p) noexcept {
  released(p);
}
void operator delete(void* p, std::size_t) noexcept {
  released(p);
}
void operator delete[](void* p, std::size_t) noexcept {
  released(p);
}

namespace covey::test {

void start_counting_allocations() {
  base = live;
  peak = base;
}

std::size_t peak_allocated_bytes() {
  return static_cast<std::size_t>(std::max(0LL, peak - base));
}

}  // namespace covey::test
