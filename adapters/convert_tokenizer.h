/// Tokenizer files on their way with a converted model. Internal to the conversion, and used by merge.
#pragma once

#include <string>
#include <vector>

#include "adapters/convert_source.h"
#include "core/formats/gguf_writer.h"

namespace covey::adapters {

/// Tokenizer files that go with a model: `tokenizer` itself (a file, or those of a directory) where it is given, else
/// those of the model's directory, or tokenizer.bin or tok<vocab>.bin beside a file.
std::vector<std::string> tokenizer_files(const std::string& model, const std::string& tokenizer, std::int64_t vocab);

/// Each appends to `not_held` what the target cannot hold, the whole tokenizer included: weights are converted all the
/// same, and --tokenizer may name it later. @errors io_error, corrupt_data.
///
/// Into a Hugging Face directory: a GGUF's own vocabulary as tokenizer.json or tokenizer.model, files as they are; a
/// llama2.c tokenizer is named tokenizer.bin there, where loaders look. `vocab`: as tokenizer_files().
Status tokenizer_to_directory(const std::string& model, const std::string& tokenizer, std::int64_t vocab,
                              const std::string& directory, std::vector<std::string>& not_held);
Status tokenizer_to_gguf(const SourceModel& source, const std::string& tokenizer, formats::GgufWriter& out,
                         std::vector<std::string>& not_held);
/// As tokenizer.bin beside `model`; a file that is there already stands.
Status tokenizer_to_llama2c(const SourceModel& source, const std::string& tokenizer, const std::string& model,
                            std::vector<std::string>& not_held);

}  // namespace covey::adapters
