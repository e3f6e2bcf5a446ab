/// Learns a byte-level BPE vocabulary for a base model of our own. Source: Sennrich, Haddow, Birch, ACL 2016; words as
/// GPT-2 cuts them.
///
///   COVEY_ASSIGN(const auto spec, text::train_bpe(corpus, 1024));
///   COVEY_TRY(formats::write_byte_level_tokenizer(dir, spec));
///   COVEY_ASSIGN(const auto tokenizer, text::make_tokenizer(spec));
#pragma once

#include <string_view>

#include "core/base/result.h"
#include "core/formats/tokenizer_spec.h"

namespace covey::text {

/// "<s>" (bos, id 0, put before a text), "</s>" (eos, id 1), 256 bytes, then merges, most frequent pair first, of
/// equals the one with smaller ids. May give fewer tokens: no pair that occurs once is merged. Deterministic.
/// @errors invalid_argument: vocab_size below 258 or above 2^20.
/// @cost O(n log n) in the number of distinct words' bytes.
Result<formats::TokenizerSpec> train_bpe(std::string_view text, int vocab_size);

}  // namespace covey::text
