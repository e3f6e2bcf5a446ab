/// The vocabulary of models that read plain bytes: token i is byte i, and there are no special tokens.
#pragma once

#include <memory>

#include "core/text/tokenizer.h"

namespace covey::text {

std::shared_ptr<const Tokenizer> make_byte_tokenizer();

}  // namespace covey::text
