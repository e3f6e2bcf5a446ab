/// SentencePiece's tokenizer.model: a protocol-buffer message. Source: google/sentencepiece, sentencepiece_model.proto.
/// Read by hand: a dozen fields of three messages do not need a library on a device.
#pragma once

#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/formats/tokenizer_spec.h"

namespace covey::formats {

/// BPE and Unigram models; the frame is bos before a text, as the models of the Llama family want it, where the file
/// has a bos piece and it is BPE, and eos after it for Unigram (T5). Control pieces become special added tokens,
/// user-defined ones plain added tokens.
/// @errors corrupt_data: not such a message, more than 2^21 pieces, a piece longer than 1024 bytes, ids out of range.
/// unsupported: word and char models, treat_whitespace_as_suffix, spaces that are not escaped.
Result<TokenizerSpec> parse_sentencepiece(ByteSpan file, const std::string& where);

/// What sentencepiece and GGUF's "llama" and "t5" models have in common.
struct SentencePieceOptions {
  bool add_prefix = true;
  bool collapse_spaces = false;
  std::string charsmap;
};
/// Fills normalizers, pre-tokenizer and decoder of `spec`.
void use_sentencepiece_text(const SentencePieceOptions& options, TokenizerSpec& spec);
/// Kinds of pieces, as sentencepiece and tokenizer.ggml.token_type number them.
enum class TokenKind : std::int32_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
/// Enters piece `id` (already in spec.vocab) according to its kind. Missing numbers are `normal`.
void use_piece(std::int32_t id, TokenKind kind, TokenizerSpec& spec);

}  // namespace covey::formats
