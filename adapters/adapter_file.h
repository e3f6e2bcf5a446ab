/// An adapter as one file. Two forms, both safetensors:
/// - flat: what coordinator and devices exchange, for other programs and for debugging. One F32 tensor "values" [P] and
///   the metadata entry "covey.layout" (AdapterLayout's canonical text). Only for what a model of ours computes.
/// - whole: a PEFT directory in one file, of any kind. PEFT's tensors, and adapter_config.json as the metadata entry
///   "covey.peft_config".
#pragma once

#include <string>

#include "adapters/adapter.h"
#include "core/formats/peft.h"

namespace covey::adapters {

/// @errors io_error.
Status save_flat(const std::string& path, const Adapter& adapter);
/// @errors not_found, corrupt_data; invalid_argument: the layout belongs to another model.
Result<Adapter> load_flat(const std::string& path, const model::Model& model);

/// A directory: PEFT's where PEFT has a form for the adapter, else kFlatName in it, in flat form. What the other form
/// left there before is removed. load_adapter (gguf_adapter.h) reads both. @errors as save_peft.
Status save_adapter(const std::string& directory, const Adapter& adapter, const std::string& base_model_name);
inline constexpr const char* kFlatName = "covey_adapter.safetensors";

/// @errors as formats::write_peft_directory.
Status save_whole(const std::string& path, const formats::PeftAdapter& adapter);
/// What save_whole wrote, bit for bit; a PEFT directory; or a state dict in torch's format, which needs `options`.
/// @errors not_found, corrupt_data, unsupported (names what); invalid_argument: a flat file, which needs its model.
Result<formats::PeftAdapter> read_adapter(const std::string& path, const formats::StateDictOptions& options);
/// Whether the file is a safetensors file in flat form. @errors as SafetensorsFile::open.
Result<bool> is_flat(const std::string& path);

}  // namespace covey::adapters
