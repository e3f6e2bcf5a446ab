/// Peak heap use of a stretch of code, for tests: link counting_allocator.cpp, which replaces operator new and delete.
#pragma once

#include <cstddef>

namespace covey::test {

/// Starts a new measurement: the peak is forgotten, what is live now counts as zero.
void start_counting_allocations();
/// Most bytes that were live at once since then, beyond what was live at its start. One thread only.
std::size_t peak_allocated_bytes();

}  // namespace covey::test
