/// A tokenizer as a checked structure, whatever file it came from, and the reader of tokenizer.json. Source:
/// huggingface/tokenizers (formats.md). A part we do not compute is refused by its name. Other files:
/// vocabulary_files.h, sentencepiece.h, gguf_tokenizer.h.
///
/// tokenizer.json's `truncation` and `padding` are not read: they belong to batches.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/base/result.h"

namespace covey::formats {

inline constexpr std::size_t kTokenBytesMax = 65536;
inline constexpr std::size_t kPieceBytesMax =
    1024;  ///< of a SentencePiece vocabulary: all cuts of a piece are looked at

struct TokenizerSpec {
  struct AddedToken {
    std::int32_t id = 0;
    std::string content;
    bool single_word = false;
    bool lstrip = false;
    bool rstrip = false;
    bool special = false;
    bool normalized = false;  ///< looked for in the normalized text, itself normalized
  };
  /// Applied in order to each stretch of text between added tokens.
  struct Normalizer {
    enum class Kind {
      nfc,
      nfd,
      nfkc,
      nfkd,
      prepend,
      replace,
      lowercase,
      strip,          ///< white space at the ends
      strip_accents,  ///< characters of category M
      bert,
      nmt,             ///< control characters out, odd spaces to spaces
      charsmap,        ///< `content`: SentencePiece's precompiled map, applied as HF's Precompiled
      collapse_spaces  ///< SentencePiece's remove_extra_whitespaces: none at the ends, one between words
    } kind = Kind::nfc;
    std::string pattern{};           ///< replace
    bool is_regex = false;           ///< replace: `pattern` is an expression
    std::string content{};           ///< prepend, replace, charsmap
    bool left = true, right = true;  ///< strip
    bool clean_text = true, chinese = true, strip_accents = true, lowercase = true;  ///< bert
  };
  /// Applied in order; each splits the pieces of the one before it.
  struct PreTokenizer {
    enum class Kind {
      gpt2_split,        ///< ByteLevel's own expression
      llama3_split,      ///< numbers in groups of up to 3
      qwen2_split,       ///< every digit by itself
      digits,            ///< runs of digits; every digit by itself with `individual`
      metaspace,         ///< spaces become `replacement`
      byte_level,        ///< bytes become printable characters; adds no split of its own
      regex,             ///< `pattern`, its matches treated by `behavior`
      literal,           ///< the same with a fixed string
      bert,              ///< at white space, which goes; punctuation by itself
      whitespace,        ///< \w+|[^\w\s]+
      whitespace_split,  ///< at white space, which goes
      punctuation        ///< punctuation treated by `behavior`
    } kind = Kind::gpt2_split;
    enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
    bool add_prefix_space = false;                                          ///< byte_level, gpt2_split
    bool individual = false;                                                ///< digits
    bool split = true;                                                      ///< metaspace: a piece for each word
    std::string replacement{};                                              ///< metaspace
    enum class Prepend { always, first, never } prepend = Prepend::always;  ///< metaspace
    std::string pattern{};                                                  ///< regex, literal
    bool invert = false;                     ///< regex, literal: the gaps are the matches
    Behavior behavior = Behavior::isolated;  ///< regex, literal, punctuation
  };

  std::vector<AddedToken> added_tokens;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  bool byte_level = false;  ///< tokens are spelled in ByteLevel's alphabet

  // model
  enum class Model {
    bpe,         ///< `merges`
    scored_bpe,  ///< SentencePiece's and tiktoken's BPE: two neighbours merge where both together are a token, best
                 ///< score first
    unigram,     ///< the cut of the highest sum of scores
    wordpiece    ///< longest token first
  } model = Model::bpe;
  std::vector<std::string> vocab;  ///< by id; empty where no token has the id
  struct Merge {
    std::int32_t left, right, result;
  };
  std::vector<Merge> merges;   ///< by rank
  std::vector<double> scores;  ///< scored_bpe, unigram: one for each id
  /// scored_bpe, unigram: ids that no text becomes (control, unused, byte pieces). Empty: none.
  std::vector<bool> hidden;
  std::string unk_token;  ///< empty: none
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
  std::string continuing_prefix;           ///< wordpiece: of a token inside a word ("##")
  std::int64_t word_characters_max = 100;  ///< wordpiece: a longer word is unknown

  // post_processor: the ids put before and after one text
  std::vector<std::int32_t> prefix_ids;
  std::vector<std::int32_t> suffix_ids;

  // decoder
  std::string decode_space;         ///< decoded as a space where not empty (Metaspace, Replace)
  bool decode_strip_space = false;  ///< one space is taken off the start of the text
  bool decode_words = false;        ///< WordPiece's: a space before each token that lacks `decode_prefix`
  std::string decode_prefix;
  bool decode_cleanup = false;  ///< no space before punctuation and English contractions

  // tokenizer_config.json or special_tokens; -1: not said
  std::int32_t bos_id = -1;
  std::int32_t eos_id = -1;
};

/// @errors corrupt_data, invalid_argument (each names file and key), unsupported.
Result<TokenizerSpec> parse_tokenizer_json(std::string_view json, const std::string& where);
/// Reads the file, and tokenizer_config.json beside it where there is one.
Result<TokenizerSpec> read_tokenizer_json(const std::string& path);

using TokenIndex = std::unordered_map<std::string, std::int32_t>;
/// token -> id; of two equal tokens the first.
TokenIndex index_tokens(const TokenizerSpec& spec);
/// The merge of two tokens into a third; nothing where one of the three is no token, or the halves are empty.
std::optional<TokenizerSpec::Merge> merge_of(const TokenIndex& index, std::string_view left, std::string_view right);
/// The same of "left right".
std::optional<TokenizerSpec::Merge> merge_of(const TokenIndex& index, std::string_view text);

/// id of a token, or -1. @cost O(vocabulary).
std::int32_t token_id(const TokenizerSpec& spec, std::string_view content);
/// bos_id and eos_id from a tokenizer_config.json in the folder of `path`, where there is one.
[[nodiscard]] Status read_ends(const std::string& path, TokenizerSpec& spec);
/// The same from the frame and the special tokens' names, where they are not known yet.
void guess_ends(TokenizerSpec& spec);

/// The expressions that have a kind of their own: others are Kind::regex.
std::optional<TokenizerSpec::PreTokenizer::Kind> known_split(std::string_view expression);

/// The expressions that a byte-level spec splits with, one after the other; none where it does anything else before BPE
/// (a prefix space, digits, other treatments of a match).
std::optional<std::vector<std::string>> split_expressions(const TokenizerSpec& spec);

/// Writes tokenizer.json and tokenizer_config.json for a byte-level BPE (vocab, merges, ignore_merges, added_tokens,
/// prefix_ids, bos_id, eos_id of `spec` and its split_expressions; GPT-2's split where it has none), which
/// read_tokenizer_json and Hugging Face read. @errors io_error; unsupported: another pre_tokenizer.
[[nodiscard]] Status write_byte_level_tokenizer(const std::string& directory, const TokenizerSpec& spec);

}  // namespace covey::formats
