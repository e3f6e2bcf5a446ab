/// Sparse updates: the k largest elements, and a memory of what was left out. Source: Stich, Cordonnier, Jaggi 2018,
/// "Sparsified SGD with memory"; Karimireddy et al. 2019 (error feedback). For `robust` mode only: which elements a
/// device sends tells of its data, and positions that differ between devices cannot be masked and summed.
///
/// Encoded: count k u32, bits m u32, scale f32, k positions u32 growing, k values of m bits packed (quantize.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/update.h"
#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::aggregation {

struct SparseUpdate {
  std::vector<std::uint32_t> positions;  ///< growing
  std::vector<float> values;             ///< of the same length
};

/// One device's compressor. Not thread-safe. Its residual is state that outlives a round and must be kept durable by
/// who wants error feedback over a restart; a new one starts from zero.
class TopK {
 public:
  /// @param values  P. @param kept  k, from 1 to P.
  TopK(std::size_t values, std::size_t kept);

  /// The k elements of residual + delta of the largest magnitude (the lower position first among equals),
  /// stochastically rounded to `bits`; the rest, rounding error included, becomes the residual.
  /// @errors invalid_argument: another length, an element that is not finite, bits outside of 2 to 24.
  Result<SparseUpdate> compress(std::span<const float> delta, std::uint32_t bits, const RandomBits& random);

  [[nodiscard]] std::span<const float> residual() const { return residual_; }
  [[nodiscard]] Bytes serialize() const;
  /// @errors corrupt_data: not 4 P bytes, or not finite.
  Status restore(ByteSpan bytes);

 private:
  std::size_t kept_;
  std::vector<float> residual_;  ///< (P)
};

Bytes encode_sparse(const SparseUpdate& update, std::uint32_t bits);
/// From a peer, for P values with at most `kept_max` of them. @return dense, shape (P).
/// @errors corrupt_data: a count, length, scale or position that encode_sparse() cannot have written; nothing larger
/// than 4 P bytes is allocated.
Result<std::vector<float>> decode_sparse(ByteSpan bytes, std::size_t values, std::size_t kept_max);

}  // namespace covey::aggregation
