/// A tokenizer as tokenizer.json describes it, whatever file its parts came from:
/// added tokens -> normalizer -> pre-tokenizer -> model -> frame.
#pragma once

#include <memory>
#include <string>

#include "core/base/result.h"
#include "core/formats/tokenizer_spec.h"
#include "core/text/tokenizer.h"

namespace covey::text {

/// @errors unsupported, corrupt_data: an expression or a map inside `spec`.
Result<std::shared_ptr<const Tokenizer>> make_tokenizer(formats::TokenizerSpec spec);

}  // namespace covey::text
