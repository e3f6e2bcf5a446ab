/// `export`: a version's adapter as a file of somebody else's program.
#pragma once

#include <string>

#include "coordinator/settings.h"
#include "core/base/bytes.h"
#include "core/base/ids.h"

namespace covey::coordinator {

struct ExportOptions {
  std::string format = "peft";  ///< "peft": a directory; "gguf": a LoRA file that llama.cpp applies beside the model
  std::string out;
};

/// @param values  the version's row in `adapters` (decode_values)
/// @errors invalid_argument: a format that is neither, a file for gguf that does not end in .gguf; unsupported: a
/// family or a layer that GGUF has no name for; those of Model::load and decode_values; io_error.
Status export_adapter(const Settings& settings, ByteSpan values, const ExportOptions& options);

}  // namespace covey::coordinator
