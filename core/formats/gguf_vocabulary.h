/// Vocabularies between GGUF's tokenizer.* keys and the files beside other models: llama2.c's tokenizer.bin,
/// sentencepiece's tokenizer.model, Hugging Face's tokenizer.json. Source: formats.md; llama.cpp, llama-vocab.cpp;
/// sentencepiece_model.proto.
#pragma once

#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/gguf.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/llama2c.h"
#include "core/formats/sentencepiece.h"
#include "core/formats/tokenizer_spec.h"

namespace covey::formats {

/// Every tokenizer.* key as it is.
void copy_vocabulary(const GgufFile& from, GgufWriter& to);

/// A llama2.c vocabulary as GGUF's "llama" model: spaces as U+2581, ids 0, 1, 2 unknown, bos, eos. `rows` is the
/// model's vocabulary: ids above the last piece become unused tokens.
void write_vocabulary(const std::vector<ScoredPiece>& pieces, std::size_t rows, GgufWriter& to);

/// A byte-level BPE as GGUF's "gpt2" model, SentencePiece's BPE as its "llama" model. Appends to `not_held` what GGUF
/// has no key for (a normalizer, a frame other than bos and eos). @errors unsupported: another kind of tokenizer, or a
/// pre-tokenizer that GGUF has no name for.
Status write_vocabulary(const TokenizerSpec& spec, std::size_t rows, GgufWriter& to,
                        std::vector<std::string>& not_held);

/// Pieces for tokenizer.bin. Appends to `not_held` what that file cannot say. @errors unsupported: not a "llama"
/// vocabulary, or one whose first ids are not unknown, bos, eos (llama2.c counts on that).
Result<std::vector<ScoredPiece>> llama2c_vocabulary(const GgufFile& from, std::vector<std::string>& not_held);
/// A file that read_llama2c_tokenizer reads. @errors io_error.
[[nodiscard]] Status write_llama2c_tokenizer(const std::string& path, const std::vector<ScoredPiece>& pieces);

/// Tokenizer files of a Hugging Face directory from GGUF's keys: tokenizer.model for "llama" vocabularies,
/// tokenizer.json for "gpt2" ones; tokenizer_config.json with both. @errors unsupported: another model or
/// pre-tokenizer, by name.
[[nodiscard]] Status write_hf_tokenizer(const GgufFile& from, const std::string& directory);

}  // namespace covey::formats
