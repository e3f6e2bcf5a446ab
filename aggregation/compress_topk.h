/// Sparse updates: the k largest elements, and a memory of what was left out. Source: Stich, Cordonnier, Jaggi 2018,
/// "Sparsified SGD with memory"; Karimireddy et al. 2019 (error feedback). For `robust` mode only: which elements a
/// device sends tells of its data, and positions that differ between devices cannot be masked and summed.
///
/// Packed: k positions, growing, of as many bits as P - 1 has, filled up to whole bytes; then k values of m bits
/// (quantize.h), on the scale that all devices of a round share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/update.h"
#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::aggregation {

struct SparseWords {
  std::vector<std::uint32_t> positions;  ///< growing
  std::vector<std::int32_t> q;           ///< of the same length, |q| < 2^(m-1)
};

struct Sparsified {
  SparseWords words;
  std::vector<float>
      residual;  ///< shape (P): what residual and delta held beyond the words; carry it to the next round
};

/// The k elements of residual + delta of the largest magnitude (the lower position first among equals), clipped
/// together to the L2 norm C, x S, stochastically rounded. What clipping and rounding took is in the new residual, too.
/// @param delta, residual  shape (P); an empty residual is zero. @param spec  k = spec.kept > 0.
/// @errors invalid_argument: other lengths, or an element that is not finite. @cost O(P) time, 12 bytes x P.
Result<Sparsified> sparsify(const UpdateSpec& spec, std::span<const float> delta, std::span<const float> residual,
                            const RandomBits& random);

/// Bytes of k packed elements of P values, m bits each.
std::size_t sparse_size(std::size_t kept, std::size_t values, std::uint32_t bits);
Bytes pack_sparse(const SparseWords& words, std::size_t values, std::uint32_t bits);
/// From a peer. @return dense, shape (P). @errors invalid_argument: another length than sparse_size(), positions that
/// do not grow within P, or words that pack_sparse() cannot have written; nothing is allocated before the length is
/// right.
Result<std::vector<std::int32_t>> unpack_sparse(ByteSpan bytes, std::size_t kept, std::size_t values,
                                                std::uint32_t bits);

}  // namespace covey::aggregation
