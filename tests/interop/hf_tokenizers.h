/// Runs npm's @huggingface/tokenizers over texts.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace covey::interop {

struct HfEncoded {
  std::vector<std::vector<std::int32_t>> ids;  ///< without the tokenizer's frame
  std::vector<std::string> decoded;            ///< of several texts, with special tokens
  double seconds = 0;                          ///< CPU time of the best run over all texts
};

/// Nothing, and a line that says SKIPPED, where the package is not installed.
/// @param texts valid UTF-8
std::optional<HfEncoded> encode_with_hf(const std::string& tokenizer_json, const std::vector<std::string>& texts,
                                        int runs);

}  // namespace covey::interop
