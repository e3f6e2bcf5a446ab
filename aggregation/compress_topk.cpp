#include "aggregation/compress_topk.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <string>

#include "aggregation/clip.h"
#include "aggregation/quantize.h"
#include "aggregation/secagg_words.h"
#include "core/base/assert.h"

namespace covey::aggregation {
namespace {

std::uint32_t position_bits(std::size_t values) {
  return std::max<std::uint32_t>(1, static_cast<std::uint32_t>(std::bit_width(values - 1)));
}

/// Positions of the k largest magnitudes, growing.
std::vector<std::uint32_t> largest_of(std::span<const float> x, std::size_t kept) {
  std::vector<std::uint32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  const auto larger = [&](std::uint32_t a, std::uint32_t b) {
    const float left = std::abs(x[a]);
    const float right = std::abs(x[b]);
    return left != right ? left > right : a < b;
  };
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(kept);
  if (end != order.end()) std::nth_element(order.begin(), end - 1, order.end(), larger);
  order.resize(kept);
  std::ranges::sort(order);
  return order;
}

}  // namespace

Result<Sparsified> sparsify(const UpdateSpec& spec, std::span<const float> delta, std::span<const float> residual,
                            const RandomBits& random) {
  COVEY_TRY(spec.check());
  if (spec.kept == 0 || delta.size() != spec.values || (!residual.empty() && residual.size() != spec.values)) {
    return Error{ErrorCode::invalid_argument, "top-k: delta, residual and plan have different lengths"};
  }
  Sparsified out;
  out.residual.assign(delta.begin(), delta.end());
  for (std::size_t i = 0; i < residual.size(); ++i) out.residual[i] += residual[i];
  if (!std::ranges::all_of(out.residual, [](float value) { return std::isfinite(value); })) {
    return Error{ErrorCode::invalid_argument, "top-k: the delta holds values that are not finite"};
  }
  out.words.positions = largest_of(out.residual, spec.kept);
  std::vector<float> kept;
  for (const std::uint32_t at : out.words.positions) kept.push_back(out.residual[at]);
  COVEY_ASSIGN(const double clip, clip_factor(kept, spec.clip_norm));
  out.words.q = quantize(kept, clip * spec.scale(), spec.magnitude_max(), random);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    out.residual[out.words.positions[i]] -= static_cast<float>(out.words.q[i] / spec.scale());
  }
  return out;
}

std::size_t sparse_size(std::size_t kept, std::size_t values, std::uint32_t bits) {
  return packed_size(kept, position_bits(values)) + packed_size(kept, bits);
}

Bytes pack_sparse(const SparseWords& words, std::size_t values, std::uint32_t bits) {
  COVEY_ASSERT(words.positions.size() == words.q.size());
  Bytes out = pack_words(words.positions, position_bits(values));
  const Bytes packed = pack_signed(words.q, bits);
  out.insert(out.end(), packed.begin(), packed.end());
  return out;
}

Result<std::vector<std::int32_t>> unpack_sparse(ByteSpan bytes, std::size_t kept, std::size_t values,
                                                std::uint32_t bits) {
  const auto bad = [](const std::string& what) { return Error{ErrorCode::invalid_argument, "sparse update: " + what}; };
  const std::size_t due = sparse_size(kept, values, bits);
  if (bytes.size() != due) {
    return bad("has " + std::to_string(bytes.size()) + " bytes, " + std::to_string(due) + " are due");
  }
  const std::size_t head = packed_size(kept, position_bits(values));
  COVEY_ASSIGN(const auto positions, unpack_words(bytes.first(head), kept, position_bits(values)));
  COVEY_ASSIGN(const auto q, unpack_signed(bytes.subspan(head), kept, bits));
  std::vector<std::int32_t> out(values);
  std::int64_t before = -1;
  for (std::size_t i = 0; i < kept; ++i) {
    const std::uint32_t at = positions[i];
    if (std::int64_t{at} <= before || at >= values) return bad("its positions do not grow within the update");
    before = at;
    out[at] = q[i];
  }
  return out;
}

}  // namespace covey::aggregation
