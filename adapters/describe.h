/// What a model's files are, whether our engine computes them or not.
#pragma once

#include <string>

#include "core/base/result.h"
#include "core/formats/json.h"

namespace covey::adapters {

/// {"format", "architecture", "files", "tensors", "types": {"F32": 3, ...}, "weights_bytes", "tokenizer"}, then what
/// the model computes (family, layers, hidden_size, ...), or "not_supported" with the reason that it cannot be
/// computed. `tokenizer` is the kind of vocabulary, "none" where there is none.
/// @errors not_found, corrupt_data, io_error: files that are no model. What is only unsupported is no error here.
Result<formats::Json> describe_model(const std::string& path);

}  // namespace covey::adapters
