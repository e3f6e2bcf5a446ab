/// Vocabularies in files older than tokenizer.json: BERT's vocab.txt, GPT-2's vocab.json with merges.txt, tiktoken's
/// ranks. What such a file does not say is taken from the model that it is known from; each function says what.
#pragma once

#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/formats/tokenizer_spec.h"

namespace covey::formats {

/// vocab.txt: one WordPiece token a line, its id the line's number. The text is put in lower case where no token holds
/// an ASCII capital ([UNK] and its like aside). Frame: [CLS] text [SEP].
/// @errors corrupt_data: no [UNK], more than 2^21 lines.
Result<TokenizerSpec> parse_vocab_txt(std::string_view text, const std::string& where);

/// vocab.json ({"token": id}) and merges.txt (a merge a line, first line "#version"): byte-level BPE with GPT-2's
/// split.
/// "<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>" and "<mask>" are special where they are tokens. No frame.
/// @errors corrupt_data.
Result<TokenizerSpec> parse_vocab_merges(std::string_view vocab, std::string_view merges, const std::string& where);

/// tiktoken: a line is base64 of a token's bytes, a space, its rank, which is its id. Which expression splits the text
/// follows from the number of ranks: GPT-2's (50,256; 50,280), cl100k (100,256), Llama 3 (128,000), Qwen (151,643),
/// o200k (199,998). Special tokens stand in no such file.
/// @errors corrupt_data; unsupported: another number of ranks.
Result<TokenizerSpec> parse_tiktoken(std::string_view text, const std::string& where);
/// Whether a file begins as tiktoken's do.
bool looks_like_tiktoken(std::string_view text);

/// Sets how a byte-level `spec` splits a text: by this expression.
void use_split(TokenizerSpec& spec, std::string_view expression);
/// WordPiece with BERT's normalizer, pre-tokenizer and decoder.
void use_bert(TokenizerSpec& spec, bool lowercase);

}  // namespace covey::formats
