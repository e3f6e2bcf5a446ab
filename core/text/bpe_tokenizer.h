/// Hugging Face's tokenizer.json with a BPE model. Source: huggingface/tokenizers (formats.md).
/// Deviations: added tokens are looked for in the text as it is, before normalization; texts with invalid UTF-8 are
/// taken (see tokenizer.h).
#pragma once

#include <memory>
#include <string>

#include "core/base/result.h"
#include "core/formats/tokenizer_spec.h"
#include "core/text/tokenizer.h"

namespace covey::text {

Result<std::shared_ptr<const Tokenizer>> load_tokenizer_json(const std::string& path);
std::shared_ptr<const Tokenizer> make_bpe_tokenizer(formats::TokenizerSpec spec);

}  // namespace covey::text
