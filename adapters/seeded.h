/// Adapters of a seeded task: P values that K scalars stand for, so that versions and updates are kilobytes whatever
/// the model's size. Source: FedKSeed (Qin et al., ICML 2024): w = w0 + sum_k c_k z_k; here w0 follows from the seed,
/// too.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "adapters/layout.h"
#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/model/model.h"
#include "core/train/seeded_update.h"

namespace covey::adapters {

/// shape (P): the layout's initial_values() with the model's own head, moved along the candidates. The same bits on
/// every machine and with any number of threads.
/// @param pool     the task's candidates; the first values come from its seed, apart from those.
/// @param scalars  shape (K): a version.
/// @errors those of train::apply(): another number of scalars, one that is not finite, K out of range.
/// @cost O(K P) normal deviates for scalars that are not zero.
Result<std::vector<float>> seeded_values(const AdapterLayout& layout, const model::Model& model,
                                         const train::SeedPool& pool, std::span<const float> scalars,
                                         ThreadPool& threads);

}  // namespace covey::adapters
