/// The tokenizer of llama2.c: SentencePiece-like BPE with scores and byte fallback. Source: karpathy/llama2.c, run.c
/// (encode, decode). Ids 1 and 2 are bos and eos; bytes are ids 3..258; encoding puts a space before the text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/llama2c.h"
#include "core/text/tokenizer.h"

namespace covey::text {

/// encode(..., add_special) puts bos before the text, nothing after it.
Result<std::shared_ptr<const Tokenizer>> load_llama2c_tokenizer(const std::string& path);
std::shared_ptr<const Tokenizer> make_llama2c_tokenizer(std::vector<formats::ScoredPiece> pieces);

}  // namespace covey::text
