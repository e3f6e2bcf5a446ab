/// Writes a model as llama2.c's version 0 `.bin`, where that loses nothing. Source: karpathy/llama2.c, export.py.
#pragma once

#include <string>

#include "core/model/model.h"

namespace covey::adapters {

/// @param model  must be writable (its parameters() are read); it is not changed.
/// @errors unsupported: the model has something the format cannot hold (biases, windows, scaled or other RoPE, another
/// norm epsilon, a head width that is not hidden / heads), which the message names; io_error.
Status write_llama2c(const std::string& path, model::Model& model);

}  // namespace covey::adapters
