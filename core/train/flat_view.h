/// The flat layout of an adapter's P values: for each LoRA site in AdapterSpec order A (R, in) then B (out, R), then
/// the soft prompt (prompt_tokens, E), a classifier's head, last AdapterSpec::parts in their order. The one place that
/// knows this order; everything else sees spans of P floats.
#pragma once

#include <cstdint>
#include <span>

#include "core/model/adapter_spec.h"

namespace covey::train {

/// P. `width` is E = ModelConfig::embedding_width(), read only when the spec has prompt tokens.
std::int64_t flat_size(const model::AdapterSpec& spec, std::span<const model::LinearSite> sites, int width);

/// Views into `flat` (P), which must outlive them. The spec's site indices must be in range (asserted).
model::AdapterView flat_view(const model::AdapterSpec& spec, std::span<const model::LinearSite> sites, int width,
                             std::span<const float> flat);
model::AdapterGradView flat_grad_view(const model::AdapterSpec& spec, std::span<const model::LinearSite> sites,
                                      int width, std::span<float> flat);

}  // namespace covey::train
