/// Table lookup and its gradient.
#pragma once

#include <cstdint>

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// y row i (H) = table row ids[i]; ids (N) are below the table's rows (the caller checks), negative ones are passed
/// over: their row of y stays.
void embedding_forward(ThreadPool& pool, int N, int H, const std::int32_t* ids, const float* table, float* y);
/// y row i += table row ids[i] + offset.
void embedding_add(ThreadPool& pool, int N, int H, const std::int32_t* ids, int offset, const float* table, float* y);
/// dtable row ids[i] + offset += dy row i, rows in order: the same bits for any number of threads. Negative ids are
/// passed over.
void embedding_backward(ThreadPool& pool, int N, int H, const std::int32_t* ids, const float* dy, float* dtable,
                        int offset = 0);

}  // namespace covey::kernels
