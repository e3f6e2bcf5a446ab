#include "adapters/seeded.h"

#include "core/base/rng.h"

namespace covey::adapters {

Result<std::vector<float>> seeded_values(const AdapterLayout& layout, const model::Model& model,
                                         const train::SeedPool& pool, std::span<const float> scalars,
                                         ThreadPool& threads) {
  constexpr std::uint64_t kFirstValues = 0x66697273'74000000;  // far above every candidate's number
  std::vector<float> out = with_model_head(layout, model, initial_values(layout, derive_seed(pool.seed, kFirstValues)));
  const train::Piece all{.offset = 0, .values = out};
  COVEY_TRY(train::apply(pool, scalars, {&all, 1}, threads));
  return out;
}

}  // namespace covey::adapters
