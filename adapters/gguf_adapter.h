/// LoRA adapters as GGUF, which llama.cpp applies beside a model. Source: llama.cpp, convert_lora_to_gguf.py and
/// llama-adapter.cpp; formats.md.
#pragma once

#include <string>

#include "adapters/adapter.h"

namespace covey::adapters {

/// The file has one alpha and scales each site by alpha / rank. Sites whose scale is another (rsLoRA with several
/// ranks, several alphas) get the difference multiplied into B; all others keep their bits.
/// @param model  the one that the adapter is bound to
/// @errors unsupported: a family that is not written as GGUF, a site that GGUF has no name for; io_error.
Status save_gguf_adapter(const std::string& path, const Adapter& adapter, const model::Model& model);

/// @errors not_found, corrupt_data; unsupported: not a LoRA adapter, a tensor that is no LoRA pair of a linear layer;
/// invalid_argument: made for another architecture, or for a model of other layers or shapes.
Result<Adapter> load_gguf_adapter(const std::string& path, const model::Model& model);

/// A `.gguf`, a directory that save_adapter() or PEFT wrote, or a file in flat form. @errors as the loader of each.
Result<Adapter> load_adapter(const std::string& path, const model::Model& model);

}  // namespace covey::adapters
