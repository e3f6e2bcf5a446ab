/// config_from_hf on JSON that was parsed already. Internal to core/model.
#pragma once

#include <string>

#include "core/formats/json.h"
#include "core/model/config.h"

namespace covey::model {

Result<ModelConfig> config_from_json(const formats::Json& json, const std::string& where);

}  // namespace covey::model
