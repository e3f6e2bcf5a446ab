/// Masking of masked language models. Source: Devlin et al., NAACL 2019, appendix A.1, and the program that made BERT's
/// training data (create_pretraining_data): of a row's tokens round(share * n), at least one, are predicted; 80 of 100
/// of these become the mask token, 10 a random one, 10 stay.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/result.h"

namespace covey::data {

constexpr std::int32_t kNoTarget = -100;  ///< the position predicts nothing

struct Masking {
  std::int32_t mask_id = -1;
  std::int32_t vocab = 0;  ///< random tokens are drawn from [0, vocab)
  double share = 0.15;
  std::uint64_t seed = 0;

  /// @errors invalid_argument, naming the field.
  [[nodiscard]] Status check() const;
};

/// Masks one row in place. `targets` are the tokens that may be masked (kNoTarget: may not), and after it those that
/// were chosen. A pure function of the masking, the epoch and the row's number, the same on every machine.
void mask_row(const Masking& masking, std::uint64_t epoch, std::uint64_t row, std::span<std::int32_t> ids,
              std::span<std::int32_t> targets);

}  // namespace covey::data
