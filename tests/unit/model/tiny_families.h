/// Tiny random models of every family, by their config.json, and rows that suit their task.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/formats/json.h"
#include "tests/unit/model/tiny.h"

namespace covey::model::tiny {

/// The fields of a tiny model of each kind; `more` replaces or adds some.
inline std::string config_text(const std::string& type, const std::string& architecture, const std::string& more) {
  const std::string llama = R"("vocab_size": 19, "hidden_size": 12, "intermediate_size": 14, "num_hidden_layers": 2,
      "num_attention_heads": 2, "max_position_embeddings": 64)";
  const std::string gpt = R"("vocab_size": 19, "n_embd": 12, "n_layer": 2, "n_head": 2, "n_positions": 64)";
  const std::string neo = R"("vocab_size": 19, "hidden_size": 12, "num_layers": 2, "num_heads": 2,
      "max_position_embeddings": 64, "attention_types": [[["local"], 1], [["global"], 1]], "window_size": 3)";
  const std::string opt = R"("vocab_size": 19, "hidden_size": 12, "ffn_dim": 14, "num_hidden_layers": 2,
      "num_attention_heads": 2, "max_position_embeddings": 64)";
  const std::string bloom = R"("vocab_size": 19, "hidden_size": 12, "n_layer": 2, "n_head": 3)";
  const std::string elm = R"("vocab_size": 19, "model_dim": 12, "head_dim": 4, "num_transformer_layers": 2,
      "max_context_length": 64, "num_query_heads": [2, 4], "num_kv_heads": [1, 2], "ffn_multipliers": [1.0, 1.5],
      "ffn_dim_divisor": 2)";
  const std::string rwkv = R"("vocab_size": 19, "hidden_size": 12, "num_hidden_layers": 2, "context_length": 64,
      "intermediate_size": 14)";
  const std::string rwkv7 = R"("vocab_size": 19, "hidden_size": 32, "num_hidden_layers": 3, "head_dim": 16,
      "max_position_embeddings": 64, "intermediate_size": 14, "decay_low_rank_dim": 3, "a_low_rank_dim": 4,
      "v_low_rank_dim": 5, "gate_low_rank_dim": 6)";
  const std::string distil = R"("vocab_size": 19, "dim": 12, "n_layers": 2, "n_heads": 2, "hidden_dim": 14,
      "max_position_embeddings": 64)";
  const std::string t5 = R"("vocab_size": 19, "d_model": 12, "d_kv": 5, "d_ff": 14, "num_layers": 2, "num_heads": 2,
      "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12)";
  const std::string bart = R"("vocab_size": 19, "d_model": 12, "encoder_layers": 2, "decoder_layers": 1,
      "encoder_attention_heads": 2, "decoder_attention_heads": 3, "encoder_ffn_dim": 14, "decoder_ffn_dim": 10,
      "max_position_embeddings": 64)";
  const std::map<std::string, std::string> base{
      {"gpt2", gpt},  {"gpt_neo", neo}, {"opt", opt},   {"bloom", bloom},       {"openelm", elm},
      {"rwkv", rwkv}, {"t5", t5},       {"bart", bart}, {"distilbert", distil}, {"rwkv7", rwkv7}};
  const auto found = base.find(type);
  auto json = formats::Json::parse("{" + (found == base.end() ? llama : found->second) + "}");
  REQUIRE_OK(json);
  json.value().set("model_type", type);
  json.value().set("architectures", formats::Json::array({architecture}));
  json.value().set("tie_word_embeddings", true);
  auto changes = formats::Json::parse("{" + more + "}");
  REQUIRE_OK(changes);
  for (const auto& member : changes.value().members()) json.value().set(member.key, member.value);
  return json.value().dump();
}

inline std::shared_ptr<Model> random_model(const std::string& text) {
  const auto config = config_from_hf(text, "config.json");
  REQUIRE_OK(config);
  auto model = tiny::model(config.value());
  for (auto& tensor : model->parameters()) {
    if (tensor.shape.size() < 3) continue;  // RWKV's mixes lie between 0 and 1
    for (float& value : tensor.values) value = 0.5F + 10 * value;
  }
  return model;
}

struct Tokens {
  std::vector<std::int32_t> ids, types, lengths, second, targets;
  TokenBatch batch;
};

/// Three rows of 6, 5 and 4 tokens, with whatever the model's task predicts.
inline Tokens tokens_for(const ModelConfig& c) {
  Tokens t;
  const auto rows = batch(3, 6, c.vocab_size);
  t.ids = rows.ids;
  t.lengths = rows.lengths;
  t.targets = rows.targets;
  t.batch = {.B = 3, .T = 6, .ids = {}, .targets = {}, .lengths = {}};
  if (c.type_vocab > 1) {
    for (int i = 0; i < 18; ++i) t.types.push_back(i % 6 > 2 ? 1 : 0);
  }
  if (c.task == Task::classification) t.targets = {1, 0, 2};
  if (c.two_stacks()) {
    for (int i = 0; i < 12; ++i) t.second.push_back((i * 5 + 3) % c.vocab_size);
    for (int i = 0; i < 12; ++i) t.targets.resize(12, kNoTarget);
    for (std::size_t i = 0; i < 12; ++i) t.targets[i] = i % 4 == 3 ? kNoTarget : t.second[i] / 2;
    t.batch.T2 = 4;
  }
  t.batch.ids = t.ids;
  t.batch.types = t.types;
  t.batch.lengths = t.lengths;
  t.batch.second_ids = t.second;
  t.batch.targets = t.targets;
  return t;
}

inline EngineOptions options_for(const ModelConfig& c, bool checkpoint) {
  return {.batch_max = 3,
          .seq_max = 6,
          .training = true,
          .checkpoint = checkpoint,
          .prompt_tokens_max = 0,
          .tangent = true,
          .target_seq_max = c.two_stacks() ? 4 : 0};
}

}  // namespace covey::model::tiny
