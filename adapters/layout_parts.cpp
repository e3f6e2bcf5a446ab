#include "adapters/layout_parts.h"

#include <algorithm>
#include <cmath>

#include "core/base/rng.h"

namespace covey::adapters {
namespace {

struct NamedPlace {
  int index = 0;
  int width = 0;
};

/// Where a part is in this model; index -1: nowhere.
NamedPlace find_place(const model::Model& model, const PartEntry& part) {
  using model::PartKind;
  if (part.kind == PartKind::scale_in || part.kind == PartKind::scale_out || part.kind == PartKind::bottleneck) {
    const auto& sites = model.linear_sites();
    const auto found = std::ranges::find(sites, part.name, &model::LinearSite::path);
    if (found == sites.end()) return {-1, 0};
    return {static_cast<int>(found - sites.begin()), part.kind == PartKind::scale_in ? found->in : found->out};
  }
  const auto& places = part.kind == PartKind::bias     ? model.biases()
                       : part.kind == PartKind::prefix ? model.attentions()
                                                       : model.blocks();
  const auto found = std::ranges::find(places, part.name, &model::AdapterPlace::name);
  if (found == places.end()) return {-1, 0};
  return {static_cast<int>(found - places.begin()), found->width};
}

}  // namespace

std::int64_t PartEntry::size() const {
  return model::AdapterPart{.kind = kind, .width = width, .count = count}.size();
}

Result<model::AdapterSpec> AdapterLayout::bind(const model::Model& model) const {
  COVEY_ASSIGN(model::AdapterSpec spec, bind(model.linear_sites(), model.head_parameters()));
  if (prompt_tokens > 0 && prompt_width != model.config().embedding_width()) {
    return Error{ErrorCode::invalid_argument, "adapter: its prompt is " + std::to_string(prompt_width) +
                                                  " wide, the model's embeddings " +
                                                  std::to_string(model.config().embedding_width())};
  }
  spec.prompt_tokens = prompt_tokens;
  for (const PartEntry& part : parts) {
    const NamedPlace at = find_place(model, part);
    if (at.index < 0) {
      return Error{ErrorCode::invalid_argument,
                   "adapter: the model has no " + part.name + "; it belongs to another model"};
    }
    if (at.width != part.width) {
      return Error{ErrorCode::invalid_argument, "adapter: " + part.name + " is " + std::to_string(part.width) +
                                                    " wide in the adapter and " + std::to_string(at.width) +
                                                    " in the model"};
    }
    spec.parts.push_back({part.kind, at.index, part.width, part.count, part.activation});
  }
  return spec;
}

/// FNV-1a.
std::uint64_t stream_of(std::string_view name) {
  std::uint64_t stream = 0xcbf29ce484222325ULL;
  for (const char c : name) stream = (stream ^ static_cast<std::uint8_t>(c)) * 0x100000001b3ULL;
  return stream;
}

namespace {

/// Normal with this deviation; `cut`: what lies beyond two of them is drawn again.
void fill_normal(std::span<float> to, std::uint64_t seed, std::uint64_t stream, double deviation, bool cut) {
  Rng random(seed, stream);
  for (float& value : to) {
    double drawn = random.normal();
    while (cut && std::abs(drawn) > 2) drawn = random.normal();
    value = static_cast<float>(deviation * drawn);
  }
}

void fill_part(const PartEntry& part, std::uint64_t seed, std::span<float> to) {
  const std::uint64_t stream = stream_of(part.name);
  const auto matrix = static_cast<std::size_t>(part.width) * static_cast<std::size_t>(part.count);
  switch (part.kind) {
    case model::PartKind::scale_in:
    case model::PartKind::scale_out:
      std::ranges::fill(to, 1.0F);
      break;
    case model::PartKind::bias:
      break;
    case model::PartKind::prefix:
      fill_normal(to, seed, stream, 0.02, false);
      break;
    case model::PartKind::bottleneck:
    case model::PartKind::block_bottleneck:
      fill_normal(to.first(matrix), seed, stream, 0.01, true);
      fill_normal(to.subspan(matrix + static_cast<std::size_t>(part.count), matrix), seed, stream ^ 1, 0.01, true);
      break;
  }
}

}  // namespace

void fill_parts(const AdapterLayout& layout, std::uint64_t seed, std::span<float> values) {
  const auto part_of = [&](std::int64_t offset, std::int64_t size) {
    return values.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size));
  };
  fill_normal(part_of(layout.prompt_offset, std::int64_t{layout.prompt_tokens} * layout.prompt_width), seed,
              stream_of("prompt"), 0.02, false);
  for (const auto& part : layout.parts) fill_part(part, seed, part_of(part.offset, part.size()));
}

}  // namespace covey::adapters
