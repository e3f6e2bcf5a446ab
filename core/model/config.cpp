#include "core/model/config.h"

#include <cmath>

#include "core/model/config_json.h"
#include "core/model/families.h"

namespace covey::model {
namespace {

using formats::Json;

Status read_tokens(const Json& json, ModelConfig& c) {
  constexpr std::int64_t kMax = std::int64_t{1} << 31;
  COVEY_ASSIGN(const auto bos, json.get_int_between("bos_token_id", -1, kMax - 1, -1));
  COVEY_ASSIGN(const auto pad, json.get_int_between("pad_token_id", -1, kMax - 1, -1));
  COVEY_ASSIGN(const auto start, json.get_int_between("decoder_start_token_id", -1, kMax - 1, -1));
  c.bos_id = static_cast<int>(bos);
  c.pad_id = static_cast<int>(pad);
  c.decoder_start_id = static_cast<int>(start);
  const Json* eos = json.find("eos_token_id");
  if (eos != nullptr && eos->is_array()) {
    COVEY_ASSIGN(const auto ids, json.get_ints("eos_token_id"));
    for (const std::int64_t id : ids) {
      if (id < 0 || id >= kMax) return json.error_at("eos_token_id", "is not a list of token ids");
      c.eos_ids.push_back(static_cast<int>(id));
    }
  } else {
    COVEY_ASSIGN(const auto id, json.get_int_between("eos_token_id", -1, kMax - 1, -1));
    if (id >= 0) c.eos_ids.push_back(static_cast<int>(id));
  }
  return {};
}

/// How many classes, by whichever field says so.
Result<int> read_classes(Fields& f) {
  COVEY_ASSIGN(const std::string problem, f.text("problem_type", "single_label_classification"));
  if (problem != "single_label_classification") return f.unsupported("problem_type \"" + problem + "\"");
  int classes = 2;
  const Json* names = f.json().find("id2label");
  if (names != nullptr && names->is_object()) classes = static_cast<int>(names->size());
  int count = classes;
  COVEY_TRY(f.size("num_labels", 1 << 16, count, classes));
  if (names != nullptr && names->is_object() && count != classes) {
    return f.unsupported("num_labels differs from the number of names in id2label");
  }
  if (count < 2) return f.unsupported("a classifier of fewer than two classes");
  return count;
}

Status read_task(Fields& f, bool encoder, ModelConfig& c) {
  std::string architecture;
  const Json* list = f.json().find("architectures");
  if (list != nullptr && list->is_array() && !list->empty()) {
    COVEY_ASSIGN(const auto names, f.json().get_strings("architectures"));
    architecture = names.front();
  }
  const auto ends = [&](const char* end) { return architecture.ends_with(end); };
  const bool two = c.decoder_layers > 0;
  if (ends("ForSequenceClassification")) {
    if (two) return f.unsupported("architectures: classification with an encoder-decoder");
    if (!encoder &&
        (c.block == BlockKind::rwkv || c.block == BlockKind::rwkv7 || c.family == "opt" || c.family == "openelm")) {
      return f.unsupported("architectures: classification with a model of this family");
    }
    c.task = Task::classification;
    if (!encoder) c.pooler = Pooler::last_token;
    COVEY_ASSIGN(c.classes, read_classes(f));
  } else if (ends("ForMaskedLM") && encoder && !two) {
    c.task = Task::masked_lm;
    if (!c.tied_head) return f.unsupported("tie_word_embeddings false with a masked language model");
  } else if (two && (architecture.empty() || ends("ForConditionalGeneration"))) {
    c.task = Task::seq2seq;
  } else if (!encoder && (architecture.empty() || ends("ForCausalLM") || ends("LMHeadModel"))) {
    c.task = Task::causal_lm;
  } else if (architecture.empty()) {
    return f.unsupported("field \"architectures\" is missing; it says which head the model has");
  } else {
    return f.unsupported("architecture \"" + architecture + "\"");
  }
  if (c.family == "t5" && c.tied_head) c.logit_scale = 1.0 / std::sqrt(static_cast<double>(c.hidden_size));
  return {};
}

}  // namespace

Result<ModelConfig> config_from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) return Error{ErrorCode::corrupt_data, where + ": is not a JSON object"};
  ModelConfig c;
  COVEY_ASSIGN(c.family, json.get_string("model_type"));
  Fields fields(json, where);
  COVEY_TRY(fields.flag("tie_word_embeddings", c.tied_head));
  bool decoder = false;
  bool encoder = false;
  COVEY_TRY(read_decoder(fields, c, decoder));
  if (!decoder) COVEY_TRY(read_encoder(fields, c, encoder));
  if (!decoder && !encoder) {
    return fields.unsupported("model_type \"" + c.family +
                              "\" is not a family that we have; core/model/README.md lists them");
  }
  COVEY_TRY(read_tokens(json, c));
  COVEY_TRY(read_task(fields, encoder, c));
  COVEY_TRY(fields.finish(c.family));
  c.source = json.dump_pretty();
  if (auto status = check_config(c); !status.ok()) return status.error().in(where);
  return c;
}

Result<ModelConfig> config_from_hf(std::string_view json_text, const std::string& where) {
  COVEY_ASSIGN(const Json json, Json::parse(json_text, where));
  return config_from_json(json, where);
}

}  // namespace covey::model
