/// Expands mask seeds and adds them to a vector of words. Source: security.md section 4 (ChaCha20, 256-bit seeds).
#pragma once

#include <cstdint>
#include <span>

#include "aggregation/secagg_session.h"
#include "core/base/thread_pool.h"

namespace covey::aggregation {

/// words[i] += (or -=) word i of each term's key stream, modulo 2^32; the caller reduces to 2^b.
/// Streamed in tiles that do not depend on the number of threads; addition commutes, so neither does the result.
/// @param pool  nullptr: on the caller's thread.
/// @cost O(terms x words) time; 16 KiB a thread beside `words`.
void add_masks(std::span<std::uint32_t> words, std::span<const MaskTerm> terms, ThreadPool* pool);

}  // namespace covey::aggregation
