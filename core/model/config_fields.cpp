#include <algorithm>
#include <array>
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
                              "is_llama_config",
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
                              "output_past",
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

}  // namespace

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

namespace {

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

}  // namespace covey::model
