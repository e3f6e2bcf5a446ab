/// A tokenizer.json as a checked structure. Source: huggingface/tokenizers (formats.md). BPE models only; a part we do
/// not compute is refused by its name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.h"

namespace covey::formats {

struct TokenizerSpec {
  struct AddedToken {
    std::int32_t id = 0;
    std::string content;
    bool single_word = false;
    bool lstrip = false;
    bool rstrip = false;
    bool special = false;
  };
  /// Applied in order to each stretch of text between added tokens.
  struct Normalizer {
    enum class Kind { nfc, nfd, nfkc, nfkd, prepend, replace } kind = Kind::nfc;
    std::string pattern;  ///< replace
    std::string content;  ///< prepend, replace
  };
  /// Applied in order; each splits the pieces of the one before it.
  struct PreTokenizer {
    enum class Kind {
      gpt2_split,    ///< ByteLevel's own expression
      llama3_split,  ///< numbers in groups of up to 3
      qwen2_split,   ///< every digit by itself
      digits,        ///< runs of digits; every digit by itself with `individual`
      metaspace,     ///< spaces become `replacement`
      byte_level,    ///< bytes become printable characters; adds no split of its own
    } kind = Kind::gpt2_split;
    bool add_prefix_space = false;                                          ///< byte_level, gpt2_split
    bool individual = false;                                                ///< digits
    bool split = true;                                                      ///< metaspace: a piece for each word
    std::string replacement;                                                ///< metaspace
    enum class Prepend { always, first, never } prepend = Prepend::always;  ///< metaspace
  };

  std::vector<AddedToken> added_tokens;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  bool byte_level = false;  ///< tokens are spelled in ByteLevel's alphabet

  // model
  std::vector<std::string> vocab;  ///< by id; empty where no token has the id
  struct Merge {
    std::int32_t left, right, result;
  };
  std::vector<Merge> merges;  ///< by rank
  std::string unk_token;      ///< empty: none
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;

  // post_processor: the ids put before and after one text
  std::vector<std::int32_t> prefix_ids;
  std::vector<std::int32_t> suffix_ids;

  // decoder
  std::string decode_space;         ///< decoded as a space where not empty (Metaspace, Replace)
  bool decode_strip_space = false;  ///< one space is taken off the start of the text

  // tokenizer_config.json or special_tokens; -1: not said
  std::int32_t bos_id = -1;
  std::int32_t eos_id = -1;
};

/// @errors corrupt_data, invalid_argument (each names file and key), unsupported.
Result<TokenizerSpec> parse_tokenizer_json(std::string_view json, const std::string& where);
/// Reads the file, and tokenizer_config.json beside it where there is one.
Result<TokenizerSpec> read_tokenizer_json(const std::string& path);

/// Writes tokenizer.json and tokenizer_config.json for a byte-level BPE (vocab, merges, added_tokens, prefix_ids,
/// bos_id, eos_id of `spec`; GPT-2's split), which read_tokenizer_json and Hugging Face read. @errors io_error.
[[nodiscard]] Status write_byte_level_tokenizer(const std::string& directory, const TokenizerSpec& spec);

}  // namespace covey::formats
