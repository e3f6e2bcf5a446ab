#include "aggregation/compress_topk.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <string>

#include "aggregation/quantize.h"
#include "aggregation/serial.h"
#include "core/base/assert.h"

namespace covey::aggregation {
namespace {

constexpr std::size_t kHeadBytes = 12;

std::int32_t largest(std::uint32_t bits) {
  return (std::int32_t{1} << (bits - 1)) - 1;
}

/// The unit of the quantized values: the largest magnitude over the largest integer.
float unit_of(std::span<const float> values, std::uint32_t bits) {
  float top = 0;
  for (const float value : values) top = std::max(top, std::abs(value));
  return top / static_cast<float>(largest(bits));
}

}  // namespace

TopK::TopK(std::size_t values, std::size_t kept) : kept_(kept), residual_(values) {
  COVEY_ASSERT(kept >= 1 && kept <= values);
}

Result<SparseUpdate> TopK::compress(std::span<const float> delta, std::uint32_t bits, const RandomBits& random) {
  if (delta.size() != residual_.size() || bits < kValueBitsMin || bits > kValueBitsMax) {
    return Error{ErrorCode::invalid_argument, "top-k: the delta has another length, or bits are not 2 to 24"};
  }
  std::vector<float> whole(residual_);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    whole[i] += delta[i];
    if (!std::isfinite(whole[i])) {
      return Error{ErrorCode::invalid_argument, "top-k: the delta holds values that are not finite"};
    }
  }
  std::vector<std::uint32_t> order(whole.size());
  std::iota(order.begin(), order.end(), 0);
  const auto larger = [&](std::uint32_t a, std::uint32_t b) {
    const float x = std::abs(whole[a]);
    const float y = std::abs(whole[b]);
    return x != y ? x > y : a < b;
  };
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(kept_);
  if (end != order.end()) std::nth_element(order.begin(), end - 1, order.end(), larger);
  SparseUpdate out;
  out.positions.assign(order.begin(), end);
  std::ranges::sort(out.positions);
  for (const std::uint32_t at : out.positions) out.values.push_back(whole[at]);
  const float unit = unit_of(out.values, bits);
  const auto q = quantize(out.values, unit > 0 ? 1.0 / double{unit} : 0.0, largest(bits), random);
  for (std::size_t i = 0; i < q.size(); ++i) {
    out.values[i] = static_cast<float>(q[i]) * unit;
    whole[out.positions[i]] -= out.values[i];
  }
  residual_ = std::move(whole);
  return out;
}

Bytes TopK::serialize() const {
  Bytes out;
  out.reserve(4 * residual_.size());
  put_f32s(out, residual_);
  return out;
}

Status TopK::restore(ByteSpan bytes) {
  const auto corrupt = [] { return Error{ErrorCode::corrupt_data, "stored residual: damaged; remove it"}; };
  if (bytes.size() != 4 * residual_.size()) return corrupt();
  StateReader in(bytes);
  std::vector<float> read(residual_.size());
  for (float& value : read) {
    if (!std::isfinite(value = in.f32())) return corrupt();
  }
  residual_ = std::move(read);
  return {};
}

Bytes encode_sparse(const SparseUpdate& update, std::uint32_t bits) {
  COVEY_ASSERT(update.positions.size() == update.values.size());
  const float unit = unit_of(update.values, bits);
  Bytes out;
  put_u32(out, static_cast<std::uint32_t>(update.positions.size()));
  put_u32(out, bits);
  put_u32(out, std::bit_cast<std::uint32_t>(unit));
  for (const std::uint32_t at : update.positions) put_u32(out, at);
  std::vector<std::int32_t> q;
  for (const float value : update.values) {
    q.push_back(unit > 0 ? static_cast<std::int32_t>(std::lround(value / unit)) : 0);
  }
  const Bytes packed = pack_signed(q, bits);
  out.insert(out.end(), packed.begin(), packed.end());
  return out;
}

Result<std::vector<float>> decode_sparse(ByteSpan bytes, std::size_t values, std::size_t kept_max) {
  const auto corrupt = [](const std::string& what) { return Error{ErrorCode::corrupt_data, "sparse update: " + what}; };
  StateReader head(bytes);
  const std::size_t count = head.u32();
  const std::uint32_t bits = head.u32();
  const float unit = head.f32();
  if (!head.ok()) return corrupt("is too short");
  if (count < 1 || count > kept_max || count > values) return corrupt(std::to_string(count) + " elements");
  if (bits < kValueBitsMin || bits > kValueBitsMax) return corrupt(std::to_string(bits) + " bits");
  if (!std::isfinite(unit) || unit < 0 || !std::isfinite(unit * static_cast<float>(largest(bits)))) {
    return corrupt("its scale is no magnitude");
  }
  const std::size_t due = kHeadBytes + 4 * count + packed_size(count, bits);
  if (bytes.size() != due) {
    return corrupt("has " + std::to_string(bytes.size()) + " bytes, " + std::to_string(due) + " are due");
  }
  const auto q = unpack_signed(bytes.subspan(kHeadBytes + 4 * count), count, bits);
  if (!q.ok()) return corrupt(q.error().message);
  std::vector<float> out(values);
  std::int64_t before = -1;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t at = head.u32();
    if (std::int64_t{at} <= before || at >= values) return corrupt("its positions do not grow within the update");
    before = at;
    out[at] = static_cast<float>((*q)[i]) * unit;
  }
  return out;
}

}  // namespace covey::aggregation
