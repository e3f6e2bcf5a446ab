/// An adapter as one file in its flat form: what coordinator and devices exchange, for other programs and for
/// debugging. Format: safetensors with one F32 tensor "values" [P] and the metadata entry "covey.layout"
/// (AdapterLayout's canonical text).
#pragma once

#include <string>

#include "adapters/adapter.h"

namespace covey::adapters {

/// @errors io_error.
Status save_flat(const std::string& path, const Adapter& adapter);
/// @errors not_found, corrupt_data; invalid_argument: the layout belongs to another model.
Result<Adapter> load_flat(const std::string& path, const model::Model& model);

}  // namespace covey::adapters
