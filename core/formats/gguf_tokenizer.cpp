#include "core/formats/gguf_tokenizer.h"

#include <utility>

#include "core/formats/sentencepiece.h"
#include "core/formats/split_patterns.h"
#include "core/formats/vocabulary_files.h"

namespace covey::formats {
namespace {

const std::string kPrefix = "tokenizer.ggml.";

Error unsupported(const GgufFile& file, const std::string& what) {
  return {ErrorCode::unsupported, file.path() + ": " + what + " is not supported"};
}

/// The id that a key holds, -1 where it holds none of the vocabulary.
Result<std::int32_t> id_at(const GgufFile& file, const std::string& key, const TokenizerSpec& spec) {
  COVEY_ASSIGN(const std::int64_t id, file.get_int(kPrefix + key + "_token_id", -1));
  const bool known = id >= 0 && id < static_cast<std::int64_t>(spec.vocab.size());
  return known ? static_cast<std::int32_t>(id) : -1;
}

Status read_tokens(const GgufFile& file, TokenizerSpec& spec) {
  if (!file.contains(kPrefix + "tokens")) {
    return Error{ErrorCode::not_found, file.path() + ": holds no vocabulary (tokenizer.ggml.tokens)"};
  }
  COVEY_ASSIGN(const auto tokens, file.get_strings(kPrefix + "tokens"));
  if (tokens.empty() || tokens.size() > std::size_t{1} << 21) {
    return file.error_at(kPrefix + "tokens", "holds no tokens, or more than 2097152");
  }
  spec.vocab.assign(tokens.begin(), tokens.end());
  std::vector<std::int64_t> kinds(tokens.size(), 1);
  if (file.contains(kPrefix + "token_type")) {
    COVEY_ASSIGN(kinds, file.get_ints(kPrefix + "token_type"));
  }
  if (kinds.size() != tokens.size()) return file.error_at(kPrefix + "token_type", "has not one item for each token");
  for (std::size_t id = 0; id < kinds.size(); ++id) {
    if (kinds[id] < 1 || kinds[id] > 6) return file.error_at(kPrefix + "token_type", "holds a number outside 1..6");
    use_piece(static_cast<std::int32_t>(id), static_cast<TokenKind>(kinds[id]), spec);
  }
  return {};
}

/// bos before and eos after the text, as the file says.
Status read_frame(const GgufFile& file, bool bos_default, bool eos_default, TokenizerSpec& spec) {
  COVEY_ASSIGN(spec.bos_id, id_at(file, "bos", spec));
  COVEY_ASSIGN(spec.eos_id, id_at(file, "eos", spec));
  COVEY_ASSIGN(const bool bos, file.get_bool(kPrefix + "add_bos_token", bos_default));
  COVEY_ASSIGN(const bool eos, file.get_bool(kPrefix + "add_eos_token", eos_default));
  if (bos && spec.bos_id >= 0) spec.prefix_ids = {spec.bos_id};
  if (eos && spec.eos_id >= 0) spec.suffix_ids = {spec.eos_id};
  return {};
}

Status read_byte_level(const GgufFile& file, TokenizerSpec& spec) {
  spec.hidden.clear();
  spec.byte_fallback = false;
  spec.unk_token.clear();
  COVEY_ASSIGN(const std::string pre, file.get_string(kPrefix + "pre", "default"));
  const NamedSplit* split = named_split(pre);
  if (split == nullptr) return unsupported(file, "tokenizer.ggml.pre \"" + pre.substr(0, 40) + "\"");
  spec.byte_level = true;
  spec.ignore_merges = split->ignore_merges;
  for (const std::string_view pattern : split->patterns) use_split(spec, pattern);
  const TokenIndex index = index_tokens(spec);
  COVEY_ASSIGN(const auto merges, file.get_strings(kPrefix + "merges"));
  for (const std::string_view text : merges) {
    const auto merge = merge_of(index, text);
    if (!merge) {
      return file.error_at(kPrefix + "merges",
                           "item " + std::to_string(spec.merges.size()) + " is not two tokens that make a third");
    }
    spec.merges.push_back(*merge);
  }
  return read_frame(file, split->ignore_merges, false, spec);
}

Status read_sentencepiece(const GgufFile& file, bool unigram, TokenizerSpec& spec) {
  spec.model = unigram ? TokenizerSpec::Model::unigram : TokenizerSpec::Model::scored_bpe;
  spec.fuse_unk = unigram;
  COVEY_ASSIGN(spec.scores, file.get_doubles(kPrefix + "scores"));
  if (spec.scores.size() != spec.vocab.size()) {
    return file.error_at(kPrefix + "scores", "has not one item for each token");
  }
  for (const std::string& token : spec.vocab) {
    if (token.size() > kPieceBytesMax) return file.error_at(kPrefix + "tokens", "holds one longer than 1024 bytes");
  }
  for (const double score : spec.scores) {
    if (!(score - score == 0)) return file.error_at(kPrefix + "scores", "holds a number that is not finite");
  }
  COVEY_ASSIGN(const std::int32_t unknown, id_at(file, "unknown", spec));
  if (unknown >= 0) {
    spec.unk_token = spec.vocab[static_cast<std::size_t>(unknown)];
    spec.hidden[static_cast<std::size_t>(unknown)] = true;
  }
  SentencePieceOptions options;
  COVEY_ASSIGN(options.add_prefix, file.get_bool(kPrefix + "add_space_prefix", true));
  COVEY_ASSIGN(options.collapse_spaces, file.get_bool(kPrefix + "remove_extra_whitespaces", false));
  if (const GgufValue* map = file.value(kPrefix + "precompiled_charsmap"); map != nullptr && map->is_array) {
    options.charsmap.assign(reinterpret_cast<const char*>(map->bytes.data()), map->bytes.size());
  }
  use_sentencepiece_text(options, spec);
  return read_frame(file, !unigram, unigram, spec);
}

/// llama.cpp writes BERT's vocabulary the other way round: words begin with U+2581, what goes on has no mark.
Status read_wordpiece(const GgufFile& file, TokenizerSpec& spec) {
  constexpr std::string_view kMark = "\xE2\x96\x81";
  spec.hidden.clear();
  spec.byte_fallback = false;
  COVEY_ASSIGN(const std::int32_t unknown, id_at(file, "unknown", spec));
  if (unknown < 0) return file.error_at(kPrefix + "unknown_token_id", "must name a token");
  spec.unk_token = spec.vocab[static_cast<std::size_t>(unknown)];
  use_bert(spec, true);
  spec.word_characters_max = std::int64_t{1} << 30;  // llama.cpp has no limit
  for (std::string& token : spec.vocab) {
    if (token.starts_with(kMark)) {
      token.erase(0, kMark.size());
    } else if (!(token.starts_with('[') && token.ends_with(']') && token.size() > 2)) {
      token.insert(0, spec.continuing_prefix);
    }
  }
  COVEY_ASSIGN(const std::int32_t cls, id_at(file, "cls", spec));
  COVEY_ASSIGN(std::int32_t sep, id_at(file, "seperator", spec));  // as llama.cpp spells it
  if (sep < 0) {
    COVEY_ASSIGN(sep, id_at(file, "separator", spec));
  }
  if (cls >= 0) spec.prefix_ids = {cls};
  if (sep >= 0) spec.suffix_ids = {sep};
  return {};
}

}  // namespace

Result<TokenizerSpec> gguf_tokenizer(const GgufFile& file) {
  TokenizerSpec spec;
  COVEY_TRY(read_tokens(file, spec));
  COVEY_ASSIGN(const std::string model, file.get_string(kPrefix + "model"));
  if (model == "gpt2") {
    COVEY_TRY(read_byte_level(file, spec));
  } else if (model == "llama" || model == "t5") {
    COVEY_TRY(read_sentencepiece(file, model == "t5", spec));
  } else if (model == "bert") {
    COVEY_TRY(read_wordpiece(file, spec));
  } else {
    return unsupported(file, "tokenizer.ggml.model \"" + model.substr(0, 40) + "\"");
  }
  return spec;
}

}  // namespace covey::formats
