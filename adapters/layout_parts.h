/// First values of what is not LoRA. Private to adapters.
#pragma once

#include "adapters/layout.h"

namespace covey::adapters {

/// A place's own stream of random numbers, from its name.
std::uint64_t stream_of(std::string_view name);
/// The soft prompt's and the parts' of `values` (P).
void fill_parts(const AdapterLayout& layout, std::uint64_t seed, std::span<float> values);

}  // namespace covey::adapters
