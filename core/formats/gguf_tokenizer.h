/// The tokenizer inside a GGUF file: its tokenizer.ggml.* keys. Source: formats.md; llama.cpp, llama-vocab.cpp.
#pragma once

#include "core/base/result.h"
#include "core/formats/gguf.h"
#include "core/formats/tokenizer_spec.h"

namespace covey::formats {

/// Models "gpt2" (byte-level BPE; the names of tokenizer.ggml.pre in split_patterns.h), "llama" (SentencePiece BPE),
/// "t5" (SentencePiece Unigram), "bert" (WordPiece). Control tokens are special added tokens, user-defined ones added.
/// @errors corrupt_data; unsupported: another model or pre-tokenizer, by name; not_found: the file has no vocabulary.
Result<TokenizerSpec> gguf_tokenizer(const GgufFile& file);

}  // namespace covey::formats
