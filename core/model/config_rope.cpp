// Rotary positions: rope_theta, rope_scaling, rope_parameters, partial_rotary_factor.
#include <algorithm>
#include <cmath>

#include "core/model/config_json.h"

namespace covey::model {
namespace {

using formats::Json;

/// The object that says how positions are scaled: rope_scaling, or rope_parameters in newer files. nullptr: neither.
Result<const Json*> rope_object(Fields& fields) {
  const Json* chosen = nullptr;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* given = fields.find(key);
    if (given == nullptr || given->is_null()) continue;
    if (!given->is_object()) {
      return Error{ErrorCode::invalid_argument, fields.where() + ": " + key + " is not an object"};
    }
    if (chosen != nullptr && !(*chosen == *given))
      return fields.unsupported("rope_parameters differs from rope_scaling");
    chosen = given;
  }
  return chosen;
}

Status read_factors(const Json& scaling, const char* key, const std::string& where, int half, std::vector<double>& to) {
  const Json* list = scaling.find(key);
  if (list == nullptr || !list->is_array() || list->size() != static_cast<std::size_t>(half)) {
    return Error{ErrorCode::invalid_argument,
                 where + ": rope_scaling." + key + " must be a list of " + std::to_string(half) + " numbers"};
  }
  COVEY_ASSIGN(to, scaling.get_doubles(key));
  return {};
}

/// original_max_position_embeddings, beside rope_scaling or inside it. Where it is there, the reference's versions take
/// either `factor` or the quotient of the two contexts: both must be the same. @return whether it is there.
Result<bool> read_original(Fields& fields, const Json& scaling, ModelConfig& c) {
  constexpr const char* kKey = "original_max_position_embeddings";
  RopeConfig& rope = c.rope;
  const bool beside = !fields.absent(kKey);
  const Json* nested = scaling.find(kKey);
  const bool inside = nested != nullptr && !nested->is_null();
  rope.original_context = c.context_max;
  if (beside) COVEY_TRY(fields.size(kKey, kSizeMax, rope.original_context));
  if (inside) {
    COVEY_ASSIGN(const auto value, scaling.get_int_between(kKey, 1, kSizeMax));
    if (beside && value != rope.original_context) {
      return fields.unsupported("rope_scaling." + std::string(kKey) + " differs from " + kKey);
    }
    rope.original_context = static_cast<int>(value);
  }
  if (!beside && !inside) return false;
  const double quotient = static_cast<double>(c.context_max) / rope.original_context;
  COVEY_ASSIGN(const double factor, scaling.get_double("factor", quotient));
  if (inside && std::abs(factor - quotient) > 1e-6 * quotient) {
    return fields.unsupported("rope_scaling.factor other than max_position_embeddings / " + std::string(kKey) +
                              ", which other programs take instead; make them agree");
  }
  rope.factor = quotient;
  return true;
}

/// Source of the attention factor: Ding et al., 2024, "LongRoPE"; Hugging Face's modeling_rope_utils.
Status read_longrope(Fields& fields, const Json& scaling, ModelConfig& c) {
  RopeConfig& rope = c.rope;
  rope.scaling = RopeScaling::longrope;
  const int half = (rope.rotary_dim > 0 ? rope.rotary_dim : c.head_dim) / 2;
  COVEY_TRY(read_factors(scaling, "short_factor", fields.where(), half, rope.short_factor));
  COVEY_TRY(read_factors(scaling, "long_factor", fields.where(), half, rope.long_factor));
  COVEY_ASSIGN(const bool stated, read_original(fields, scaling, c));
  double factor = rope.factor;
  if (!stated) {
    COVEY_ASSIGN(factor, scaling.get_double("factor", 1.0));
  }
  rope.factor = 1;  // the angles' own factors do it all
  const double usual = factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(rope.original_context));
  COVEY_ASSIGN(rope.attention_factor, scaling.get_double("attention_factor", usual));
  return {};
}

/// Peng et al., 2023, "YaRN", with the fields of Hugging Face's modeling_rope_utils.
Status read_yarn(Fields& fields, const Json& scaling, ModelConfig& c) {
  RopeConfig& rope = c.rope;
  rope.scaling = RopeScaling::yarn;
  COVEY_ASSIGN(const bool stated, read_original(fields, scaling, c));
  if (!stated) {
    COVEY_ASSIGN(rope.factor, scaling.get_double("factor"));
  }
  COVEY_ASSIGN(rope.beta_fast, scaling.get_double("beta_fast", 32.0));
  COVEY_ASSIGN(rope.beta_slow, scaling.get_double("beta_slow", 1.0));
  COVEY_ASSIGN(rope.truncate, scaling.get_bool("truncate", true));
  COVEY_ASSIGN(const double mscale, scaling.get_double("mscale", 0.0));
  COVEY_ASSIGN(const double all, scaling.get_double("mscale_all_dim", 0.0));
  const auto sharpened = [&](double by) { return rope.factor <= 1 ? 1.0 : 0.1 * by * std::log(rope.factor) + 1; };
  const double usual = mscale != 0 && all != 0 ? sharpened(mscale) / sharpened(all) : sharpened(1);
  COVEY_ASSIGN(rope.attention_factor, scaling.get_double("attention_factor", usual));
  return {};
}

Status read_llama3(const Json& scaling, RopeConfig& rope) {
  rope.scaling = RopeScaling::llama3;
  COVEY_ASSIGN(rope.factor, scaling.get_double("factor"));
  COVEY_ASSIGN(rope.low_freq_factor, scaling.get_double("low_freq_factor"));
  COVEY_ASSIGN(rope.high_freq_factor, scaling.get_double("high_freq_factor"));
  COVEY_ASSIGN(const auto original, scaling.get_int_between("original_max_position_embeddings", 1, kSizeMax));
  rope.original_context = static_cast<int>(original);
  return {};
}

/// Frequencies change beyond max_position_embeddings only, where we do not go.
Status read_dynamic(Fields& fields, const Json& scaling, ModelConfig& c) {
  c.rope.scaling = RopeScaling::dynamic;
  COVEY_ASSIGN(c.rope.factor, scaling.get_double("factor"));
  COVEY_ASSIGN(const auto original,
               scaling.get_int_between("original_max_position_embeddings", 1, kSizeMax, c.context_max));
  if (original < c.context_max) {
    return fields.unsupported(
        "rope_scaling.original_max_position_embeddings below max_position_embeddings with type "
        "\"dynamic\"; set max_position_embeddings to it");
  }
  return {};
}

}  // namespace

Status read_partial_rotation(Fields& fields, const char* key, double& partial) {
  const bool beside = !fields.absent(key);
  COVEY_TRY(fields.number(key, partial));
  COVEY_ASSIGN(const Json* nested, rope_object(fields));
  if (nested == nullptr || nested->find("partial_rotary_factor") == nullptr) return {};
  COVEY_ASSIGN(const double inside, nested->get_double("partial_rotary_factor", partial));
  if (beside && inside != partial) {
    return fields.unsupported("rope_parameters.partial_rotary_factor differs from " + std::string(key));
  }
  partial = inside;
  return {};
}

Status read_rope(Fields& fields, ModelConfig& c) {
  RopeConfig& rope = c.rope;
  const bool stated = !fields.absent("rope_theta");
  COVEY_TRY(fields.number("rope_theta", rope.theta));
  COVEY_ASSIGN(const Json* scaling, rope_object(fields));
  if (scaling == nullptr) return {};
  COVEY_ASSIGN(const double theta, scaling->get_double("rope_theta", rope.theta));
  if (stated && theta != rope.theta) return fields.unsupported("rope_parameters.rope_theta differs from rope_theta");
  rope.theta = theta;
  COVEY_ASSIGN(std::string kind, scaling->get_string("rope_type", ""));
  if (kind.empty()) {
    COVEY_ASSIGN(kind, scaling->get_string("type", "default"));
  }
  std::vector<std::string> known{"rope_type", "type", "rope_theta", "partial_rotary_factor"};
  const auto knows = [&](std::initializer_list<const char*> keys) {
    known.insert(known.end(), keys.begin(), keys.end());
  };
  if (kind == "linear") {
    knows({"factor"});
    rope.scaling = RopeScaling::linear;
    COVEY_ASSIGN(rope.factor, scaling->get_double("factor"));
  } else if (kind == "llama3") {
    knows({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
    COVEY_TRY(read_llama3(*scaling, rope));
  } else if (kind == "longrope" || kind == "su") {
    knows({"short_factor", "long_factor", "factor", "attention_factor", "original_max_position_embeddings"});
    COVEY_TRY(read_longrope(fields, *scaling, c));
  } else if (kind == "yarn") {
    knows({"factor", "attention_factor", "beta_fast", "beta_slow", "truncate", "mscale", "mscale_all_dim",
           "original_max_position_embeddings"});
    COVEY_TRY(read_yarn(fields, *scaling, c));
  } else if (kind == "dynamic") {
    knows({"factor", "original_max_position_embeddings"});
    COVEY_TRY(read_dynamic(fields, *scaling, c));
  } else if (kind != "default") {
    return fields.unsupported("rope_scaling of type \"" + kind +
                              "\"; we have default, linear, dynamic, yarn, llama3 and longrope");
  }
  for (const auto& member : scaling->members()) {
    if (std::find(known.begin(), known.end(), member.key) == known.end() && !is_neutral(member.value)) {
      return fields.unsupported("field \"rope_scaling." + member.key + "\" with type \"" + kind + "\"");
    }
  }
  return {};
}

}  // namespace covey::model
