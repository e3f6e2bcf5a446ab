/// A model out of a GGUF file. Internal to core/model.
#pragma once

#include <memory>
#include <string>

#include "core/model/weights.h"

namespace covey::model {

/// Quantized and 16-bit tensors are widened to f32; f32 stays mapped where its rows need no reordering.
/// @errors as Model::load.
Result<std::unique_ptr<Model::Impl>> load_gguf(const std::string& path);

}  // namespace covey::model
