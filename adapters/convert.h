/// Models from one file format into another: Hugging Face directories, GGUF, llama2.c. Weights keep their bits where
/// the target has their type; what the target cannot hold is named, or refused where it would change what is computed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/ggml_types.h"

namespace covey::adapters {

struct Conversion {
  std::int64_t tensors = 0;
  std::int64_t parameters = 0;
  std::vector<std::string> not_held;  ///< what the target has no place for; nothing of it changes a logit
};

/// The kind of a model path is told by its form: a directory, `.gguf`, `.bin`.
/// @param tokenizer  file or directory to take instead of the one with the model; empty: that one
/// @errors not_found, corrupt_data; unsupported: two paths of one kind, or a model that the target cannot hold, by
/// name; io_error.
Result<Conversion> convert_model(const std::string& in, const std::string& out, const std::string& tokenizer);

/// Any model as a GGUF of Q8_0 or Q4_0. Matrices are quantized where their rows fill blocks and become F16 where they
/// do not; vectors stay F32; with Q4_0 the output matrix (or the embedding that stands for it) gets Q8_0.
/// @errors as convert_model; unsupported: a model that is quantized already, or another type.
Result<Conversion> quantize_model(const std::string& in, const std::string& out, formats::GgmlType type,
                                  const std::string& tokenizer);

}  // namespace covey::adapters
