#include "core/train/flat_view.h"

#include <cstddef>

#include "core/base/assert.h"

namespace covey::train {
namespace {

template <typename Float>
model::BasicAdapterView<Float> view(const model::AdapterSpec& spec, std::span<const model::LinearSite> sites, int width,
                                    std::span<Float> flat) {
  COVEY_ASSERT(spec.head_values >= 0 && static_cast<std::int64_t>(flat.size()) == flat_size(spec, sites, width));
  model::BasicAdapterView<Float> out;
  out.lora.reserve(spec.lora.size());
  std::size_t at = 0;
  const auto take = [&](std::size_t count) {
    const auto part = flat.subspan(at, count);
    at += count;
    return part;
  };
  for (const auto& lora : spec.lora) {
    const auto& site = sites[static_cast<std::size_t>(lora.site)];
    const auto rank = static_cast<std::size_t>(lora.rank);
    const auto a = take(rank * static_cast<std::size_t>(site.in));
    const auto b = take(static_cast<std::size_t>(site.out) * rank);
    out.lora.push_back({a, b});
  }
  out.prompt = take(static_cast<std::size_t>(spec.prompt_tokens) * static_cast<std::size_t>(width));
  out.head = take(static_cast<std::size_t>(spec.head_values));
  out.parts.reserve(spec.parts.size());
  for (const auto& part : spec.parts) out.parts.push_back(take(static_cast<std::size_t>(part.size())));
  return out;
}

}  // namespace

std::int64_t flat_size(const model::AdapterSpec& spec, std::span<const model::LinearSite> sites, int width) {
  std::int64_t size = std::int64_t{spec.prompt_tokens} * width + spec.head_values;
  for (const auto& lora : spec.lora) {
    COVEY_ASSERT(lora.site >= 0 && static_cast<std::size_t>(lora.site) < sites.size());
    const auto& site = sites[static_cast<std::size_t>(lora.site)];
    size += std::int64_t{lora.rank} * (std::int64_t{site.in} + site.out);
  }
  for (const auto& part : spec.parts) size += part.size();
  return size;
}

model::AdapterView flat_view(const model::AdapterSpec& spec, std::span<const model::LinearSite> sites, int width,
                             std::span<const float> flat) {
  return view<const float>(spec, sites, width, flat);
}

model::AdapterGradView flat_grad_view(const model::AdapterSpec& spec, std::span<const model::LinearSite> sites,
                                      int width, std::span<float> flat) {
  return view<float>(spec, sites, width, flat);
}

}  // namespace covey::train
