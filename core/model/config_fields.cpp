#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/model/config_json.h"

namespace covey::model {
namespace {

using formats::Json;

/// Members of config.json that say nothing about what is computed: bookkeeping, generation defaults, initialization.
/// pretraining_tp and chunk_size_feed_forward only cut the same sums differently.
constexpr std::array kIgnored{"architectures",
                              "auto_map",
                              "bad_words_ids",
                              "begin_suppress_tokens",
                              "bos_token_id",
                              "chunk_size_feed_forward",
                              "decoder_start_token_id",
                              "diversity_penalty",
                              "do_sample",
                              "dtype",
                              "early_stopping",
                              "encoder_no_repeat_ngram_size",
                              "eos_token_id",
                              "exponential_decay_length_penalty",
                              "finetuning_task",
                              "forced_bos_token_id",
                              "forced_eos_token_id",
                              "id2label",
                              "initializer_range",
                              "label2id",
                              "length_penalty",
                              "max_length",
                              "min_length",
                              "model_type",
                              "name_or_path",
                              "no_repeat_ngram_size",
                              "num_beam_groups",
                              "num_beams",
                              "num_labels",
                              "num_return_sequences",
                              "output_attentions",
                              "output_hidden_states",
                              "output_scores",
                              "pad_token_id",
                              "prefix",
                              "pretraining_tp",
                              "remove_invalid_values",
                              "repetition_penalty",
                              "return_dict",
                              "return_dict_in_generate",
                              "sep_token_id",
                              "suppress_tokens",
                              "task_specific_params",
                              "temperature",
                              "tf_legacy_loss",
                              "tokenizer_class",
                              "top_k",
                              "top_p",
                              "torch_dtype",
                              "torchscript",
                              "transformers_version",
                              "typical_p",
                              "use_bfloat16",
                              "use_cache"};

bool is_neutral(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::null:
      return true;
    case Json::Kind::boolean:
    case Json::Kind::integer:
    case Json::Kind::real:
      return value == Json(false) || value == Json(0) || value == Json(0.0);
    case Json::Kind::string: {
      const auto text = value.as_string();
      return text.ok() && text.value().empty();
    }
    default:
      return value.empty();
  }
}

constexpr std::array kActivations{std::pair{"silu", Activation::silu},
                                  std::pair{"swish", Activation::silu},
                                  std::pair{"gelu", Activation::gelu},
                                  std::pair{"gelu_python", Activation::gelu},
                                  std::pair{"gelu_new", Activation::gelu_tanh},
                                  std::pair{"gelu_fast", Activation::gelu_tanh},
                                  std::pair{"gelu_pytorch_tanh", Activation::gelu_tanh},
                                  std::pair{"gelu_python_tanh", Activation::gelu_tanh},
                                  std::pair{"quick_gelu", Activation::quick_gelu},
                                  std::pair{"relu", Activation::relu},
                                  std::pair{"relu2", Activation::relu_squared},
                                  std::pair{"tanh", Activation::tanh},
                                  std::pair{"sigmoid", Activation::sigmoid},
                                  std::pair{"linear", Activation::identity}};

}  // namespace

Status Fields::size(const char* key, int max, int& to, int missing) {
  known_.insert(key);
  if (missing == 0) {
    COVEY_ASSIGN(const auto value, json_.get_int_between(key, 1, max));
    to = static_cast<int>(value);
  } else {
    COVEY_ASSIGN(const auto value, json_.get_int_between(key, 1, max, missing));
    to = static_cast<int>(value);
  }
  return {};
}

Status Fields::number(const char* key, double& to) {
  known_.insert(key);
  COVEY_ASSIGN(to, json_.get_double(key, to));
  return {};
}

Status Fields::flag(const char* key, bool& to) {
  known_.insert(key);
  COVEY_ASSIGN(to, json_.get_bool(key, to));
  return {};
}

Result<std::string> Fields::text(const char* key, std::string missing) {
  known_.insert(key);
  return json_.get_string(key, std::move(missing));
}

Status Fields::activation(const char* key, const char* missing, Activation& to) {
  COVEY_ASSIGN(const std::string name, text(key, missing));
  const auto found =
      std::find_if(kActivations.begin(), kActivations.end(), [&](const auto& entry) { return name == entry.first; });
  if (found == kActivations.end()) return unsupported(std::string(key) + " \"" + name + "\" is not one that we have");
  to = found->second;
  return {};
}

Status Fields::must_be(const char* key, const Json& value) {
  known_.insert(key);
  const Json* given = json_.find(key);
  if (given == nullptr || given->is_null() || *given == value) return {};
  return unsupported("field \"" + std::string(key) + "\" other than " + value.dump());
}

bool Fields::absent(const char* key) {
  known_.insert(key);
  const Json* given = json_.find(key);
  return given == nullptr || given->is_null();
}

const Json* Fields::find(const char* key) {
  known_.insert(key);
  return json_.find(key);
}

Status Fields::finish(const std::string& family) const {
  for (const auto& member : json_.members()) {
    const auto is_it = [&](const char* name) { return member.key == name; };
    if (member.key.starts_with('_') || known_.contains(member.key) || is_neutral(member.value) ||
        std::any_of(kIgnored.begin(), kIgnored.end(), is_it)) {
      continue;
    }
    return unsupported("field \"" + member.key + "\" is not one that we compute for " + family +
                       " models; remove it if it does not change the result");
  }
  return {};
}

namespace {

Status read_factors(const Json& scaling, const char* key, const std::string& where, int half, std::vector<double>& to) {
  const Json* list = scaling.find(key);
  if (list == nullptr || !list->is_array() || list->size() != static_cast<std::size_t>(half)) {
    return Error{ErrorCode::invalid_argument,
                 where + ": rope_scaling." + key + " must be a list of " + std::to_string(half) + " numbers"};
  }
  COVEY_ASSIGN(to, scaling.get_doubles(key));
  return {};
}

/// Source of the attention factor: Ding et al., 2024, "LongRoPE"; Hugging Face's modeling_rope_utils.
Status read_longrope(Fields& fields, const Json& scaling, ModelConfig& c) {
  RopeConfig& rope = c.rope;
  rope.scaling = RopeScaling::longrope;
  const int half = (rope.rotary_dim > 0 ? rope.rotary_dim : c.head_dim) / 2;
  COVEY_TRY(read_factors(scaling, "short_factor", fields.where(), half, rope.short_factor));
  COVEY_TRY(read_factors(scaling, "long_factor", fields.where(), half, rope.long_factor));
  COVEY_TRY(fields.size("original_max_position_embeddings", 1 << 24, rope.original_context, c.context_max));
  double factor = static_cast<double>(c.context_max) / rope.original_context;
  if (fields.absent("original_max_position_embeddings")) {
    COVEY_ASSIGN(factor, scaling.get_double("factor", 1.0));
  }
  const double usual = factor <= 1 ? 1.0 : std::sqrt(1 + std::log(factor) / std::log(rope.original_context));
  COVEY_ASSIGN(rope.attention_factor, scaling.get_double("attention_factor", usual));
  return {};
}

}  // namespace

Status read_rope(Fields& fields, ModelConfig& c) {
  RopeConfig& rope = c.rope;
  const std::string& where = fields.where();
  COVEY_TRY(fields.number("rope_theta", rope.theta));
  const Json* scaling = fields.find("rope_scaling");
  const Json* parameters = fields.find("rope_parameters");
  if (scaling == nullptr || scaling->is_null()) scaling = parameters;
  if (scaling == nullptr || scaling->is_null()) return {};
  if (!scaling->is_object()) return Error{ErrorCode::invalid_argument, where + ": rope_scaling is not an object"};
  COVEY_ASSIGN(rope.theta, scaling->get_double("rope_theta", rope.theta));
  COVEY_ASSIGN(std::string kind, scaling->get_string("rope_type", ""));
  if (kind.empty()) {
    COVEY_ASSIGN(kind, scaling->get_string("type", "default"));
  }
  std::vector<std::string> known{"rope_type", "type", "rope_theta"};
  if (kind == "linear" || kind == "llama3") {
    known.emplace_back("factor");
    COVEY_ASSIGN(rope.factor, scaling->get_double("factor"));
    rope.scaling = kind == "linear" ? RopeScaling::linear : RopeScaling::llama3;
  } else if (kind == "longrope" || kind == "su") {
    known.insert(known.end(), {"short_factor", "long_factor", "factor", "attention_factor"});
    COVEY_TRY(read_longrope(fields, *scaling, c));
  } else if (kind != "default") {
    return fields.unsupported("rope_scaling of type \"" + kind + "\"; we have default, linear, llama3 and longrope");
  }
  if (kind == "llama3") {
    known.insert(known.end(), {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
    COVEY_ASSIGN(rope.low_freq_factor, scaling->get_double("low_freq_factor"));
    COVEY_ASSIGN(rope.high_freq_factor, scaling->get_double("high_freq_factor"));
    COVEY_ASSIGN(const auto original,
                 scaling->get_int_between("original_max_position_embeddings", 1, std::int64_t{1} << 24));
    rope.original_context = static_cast<int>(original);
  }
  for (const auto& member : scaling->members()) {
    if (std::find(known.begin(), known.end(), member.key) == known.end() && !is_neutral(member.value)) {
      return fields.unsupported("field \"rope_scaling." + member.key + "\" with type \"" + kind + "\"");
    }
  }
  return {};
}

}  // namespace covey::model
