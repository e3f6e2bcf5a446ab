/// A model from an rwkv.cpp file. Internal to core/model.
#pragma once

#include <memory>
#include <string>

#include "core/model/weights.h"

namespace covey::model {

/// All weights are copied: the file does not align them. @errors those of RwkvCppFile and config_from_json.
Result<std::unique_ptr<Model::Impl>> load_rwkv_cpp(const std::string& path);

}  // namespace covey::model
