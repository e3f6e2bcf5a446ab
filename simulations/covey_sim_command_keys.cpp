#include <cstdio>

#include "core/formats/json.h"
#include "simulations/covey_sim.h"
#include "simulations/experiment_keys.h"

namespace covey::simulations {

Status keys_command(bool json) {
  if (!json) {
    std::printf("%s", experiment_keys_table().c_str());
    return {};
  }
  formats::Json out = formats::Json::array();
  for (const auto& key : experiment_keys()) {
    out.push_back(formats::Json::object(
        {{"key", key.name}, {"meaning", key.meaning}, {"default", key.fallback}, {"range", key.range}}));
  }
  std::printf("%s\n", out.dump().c_str());
  return {};
}

}  // namespace covey::simulations
