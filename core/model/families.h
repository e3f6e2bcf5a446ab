/// What each family calls its tensors. Internal to core/model.
#pragma once

#include <string_view>

#include "core/model/config.h"

namespace covey::model {

/// Module paths; empty where a family has none. Those of a block follow `block` + index + ".".
struct Names {
  std::string_view embedding = {};
  std::string_view positions = {};
  std::string_view types = {};
  std::string_view embedding_norm = {};
  std::string_view project_in = {};   ///< from E to H
  std::string_view project_out = {};  ///< from H to E
  std::string_view block = {};
  std::string_view attention_norm = {};
  std::string_view q = {}, k = {}, v = {}, qkv = {}, o = {};
  std::string_view q_norm = {}, k_norm = {};
  std::string_view attention_out_norm = {};  ///< on the branch: sandwich, branch
  std::string_view cross_norm = {}, cross_q = {}, cross_k = {}, cross_v = {}, cross_o = {};
  std::string_view mlp_norm = {};
  std::string_view gate = {}, up = {}, gate_up = {}, down = {};
  std::string_view gated_up = {};  ///< what `up` is called where there is a gate, if it differs
  std::string_view mlp_out_norm = {};
  std::string_view relative = {};  ///< table of T5's biases, in the first block
  std::string_view final_norm = {};
  std::string_view head = {};
};

bool known_family(std::string_view family);
/// The names of a configuration's (first or second) stack; the family must be known (asserted).
const Names& names_of(const ModelConfig& config, bool second = false);

}  // namespace covey::model
