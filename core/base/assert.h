/// COVEY_ASSERT: for our own mistakes only. Nothing that comes from a peer, a disk or a configuration may reach it.
/// Checked in debug builds and where COVEY_ASSERTS is defined (dev, asan, tsan); the condition is compiled always.
#pragma once

namespace covey {
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);
}

#if !defined(NDEBUG) || defined(COVEY_ASSERTS)
#define COVEY_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::covey::assertion_failed(#condition, __FILE__, __LINE__))
#else
#define COVEY_ASSERT(condition) static_cast<void>(sizeof((condition) ? 1 : 0))
#endif
