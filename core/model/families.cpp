#include "core/model/families.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/base/assert.h"

namespace covey::model {
namespace {

constexpr Names kLlama{.embedding = "model.embed_tokens",
                       .block = "model.layers.",
                       .attention_norm = "input_layernorm",
                       .q = "self_attn.q_proj",
                       .k = "self_attn.k_proj",
                       .v = "self_attn.v_proj",
                       .o = "self_attn.o_proj",
                       .q_norm = "self_attn.q_norm",
                       .k_norm = "self_attn.k_norm",
                       .mlp_norm = "post_attention_layernorm",
                       .gate = "mlp.gate_proj",
                       .up = "mlp.up_proj",
                       .down = "mlp.down_proj",
                       .final_norm = "model.norm",
                       .head = "lm_head"};

constexpr Names gemma2_names() {
  Names n = kLlama;
  n.attention_out_norm = "post_attention_layernorm";
  n.mlp_norm = "pre_feedforward_layernorm";
  n.mlp_out_norm = "post_feedforward_layernorm";
  return n;
}
constexpr Names kGemma2 = gemma2_names();

constexpr Names olmo2_names() {
  Names n = kLlama;
  n.attention_out_norm = "post_attention_layernorm";
  n.mlp_out_norm = "post_feedforward_layernorm";
  return n;
}
constexpr Names kOlmo2 = olmo2_names();

constexpr Names phi_names() {
  Names n = kLlama;
  n.o = "self_attn.dense";
  n.q_norm = "self_attn.q_layernorm";
  n.k_norm = "self_attn.k_layernorm";
  n.up = "mlp.fc1";
  n.down = "mlp.fc2";
  n.final_norm = "model.final_layernorm";
  return n;
}
constexpr Names kPhi = phi_names();

constexpr Names phi3_names() {
  Names n = kLlama;
  n.qkv = "self_attn.qkv_proj";
  n.gate_up = "mlp.gate_up_proj";
  return n;
}
constexpr Names kPhi3 = phi3_names();

constexpr Names stablelm_names() {
  Names n = kLlama;
  n.q_norm = "self_attn.q_layernorm";
  n.k_norm = "self_attn.k_layernorm";
  return n;
}
constexpr Names kStableLm = stablelm_names();

constexpr Names kGptNeoX{.embedding = "gpt_neox.embed_in",
                         .block = "gpt_neox.layers.",
                         .attention_norm = "input_layernorm",
                         .qkv = "attention.query_key_value",
                         .o = "attention.dense",
                         .mlp_norm = "post_attention_layernorm",
                         .up = "mlp.dense_h_to_4h",
                         .down = "mlp.dense_4h_to_h",
                         .final_norm = "gpt_neox.final_layer_norm",
                         .head = "embed_out"};

constexpr Names kBloom{.embedding = "transformer.word_embeddings",
                       .embedding_norm = "transformer.word_embeddings_layernorm",
                       .block = "transformer.h.",
                       .attention_norm = "input_layernorm",
                       .qkv = "self_attention.query_key_value",
                       .o = "self_attention.dense",
                       .mlp_norm = "post_attention_layernorm",
                       .up = "mlp.dense_h_to_4h",
                       .down = "mlp.dense_4h_to_h",
                       .final_norm = "transformer.ln_f",
                       .head = "lm_head"};

constexpr Names kGpt2{.embedding = "transformer.wte",
                      .positions = "transformer.wpe",
                      .block = "transformer.h.",
                      .attention_norm = "ln_1",
                      .qkv = "attn.c_attn",
                      .o = "attn.c_proj",
                      .mlp_norm = "ln_2",
                      .up = "mlp.c_fc",
                      .down = "mlp.c_proj",
                      .final_norm = "transformer.ln_f",
                      .head = "lm_head"};

constexpr Names gpt_neo_names() {
  Names n = kGpt2;
  n.qkv = "";
  n.q = "attn.attention.q_proj";
  n.k = "attn.attention.k_proj";
  n.v = "attn.attention.v_proj";
  n.o = "attn.attention.out_proj";
  return n;
}
constexpr Names kGptNeo = gpt_neo_names();

constexpr Names kOpt{.embedding = "model.decoder.embed_tokens",
                     .positions = "model.decoder.embed_positions",
                     .project_in = "model.decoder.project_in",
                     .project_out = "model.decoder.project_out",
                     .block = "model.decoder.layers.",
                     .attention_norm = "self_attn_layer_norm",
                     .q = "self_attn.q_proj",
                     .k = "self_attn.k_proj",
                     .v = "self_attn.v_proj",
                     .o = "self_attn.out_proj",
                     .mlp_norm = "final_layer_norm",
                     .up = "fc1",
                     .down = "fc2",
                     .final_norm = "model.decoder.final_layer_norm",
                     .head = "lm_head"};

constexpr Names kOpenElm{.embedding = "transformer.token_embeddings",
                         .block = "transformer.layers.",
                         .attention_norm = "attn_norm",
                         .qkv = "attn.qkv_proj",
                         .o = "attn.out_proj",
                         .q_norm = "attn.q_norm",
                         .k_norm = "attn.k_norm",
                         .mlp_norm = "ffn_norm",
                         .up = "ffn.proj_1",
                         .gate_up = "ffn.proj_1",
                         .down = "ffn.proj_2",
                         .final_norm = "transformer.norm",
                         .head = "lm_head"};

constexpr Names kBert{.embedding = "bert.embeddings.word_embeddings",
                      .positions = "bert.embeddings.position_embeddings",
                      .types = "bert.embeddings.token_type_embeddings",
                      .embedding_norm = "bert.embeddings.LayerNorm",
                      .block = "bert.encoder.layer.",
                      .attention_norm = "attention.output.LayerNorm",
                      .q = "attention.self.query",
                      .k = "attention.self.key",
                      .v = "attention.self.value",
                      .o = "attention.output.dense",
                      .mlp_norm = "output.LayerNorm",
                      .up = "intermediate.dense",
                      .down = "output.dense"};

constexpr Names roberta_names() {
  Names n = kBert;
  n.embedding = "roberta.embeddings.word_embeddings";
  n.positions = "roberta.embeddings.position_embeddings";
  n.types = "roberta.embeddings.token_type_embeddings";
  n.embedding_norm = "roberta.embeddings.LayerNorm";
  n.block = "roberta.encoder.layer.";
  return n;
}
constexpr Names kRoberta = roberta_names();

constexpr Names kDistilBert{.embedding = "distilbert.embeddings.word_embeddings",
                            .positions = "distilbert.embeddings.position_embeddings",
                            .embedding_norm = "distilbert.embeddings.LayerNorm",
                            .block = "distilbert.transformer.layer.",
                            .attention_norm = "sa_layer_norm",
                            .q = "attention.q_lin",
                            .k = "attention.k_lin",
                            .v = "attention.v_lin",
                            .o = "attention.out_lin",
                            .mlp_norm = "output_layer_norm",
                            .up = "ffn.lin1",
                            .down = "ffn.lin2"};

constexpr Names kAlbert{.embedding = "albert.embeddings.word_embeddings",
                        .positions = "albert.embeddings.position_embeddings",
                        .types = "albert.embeddings.token_type_embeddings",
                        .embedding_norm = "albert.embeddings.LayerNorm",
                        .project_in = "albert.encoder.embedding_hidden_mapping_in",
                        .block = "albert.encoder.albert_layer_groups.",
                        .attention_norm = "attention.LayerNorm",
                        .q = "attention.query",
                        .k = "attention.key",
                        .v = "attention.value",
                        .o = "attention.dense",
                        .mlp_norm = "full_layer_layer_norm",
                        .up = "ffn",
                        .down = "ffn_output"};

constexpr Names kMobileBert{.embedding = "mobilebert.embeddings.word_embeddings",
                            .positions = "mobilebert.embeddings.position_embeddings",
                            .types = "mobilebert.embeddings.token_type_embeddings",
                            .embedding_norm = "mobilebert.embeddings.LayerNorm",
                            .project_in = "mobilebert.embeddings.embedding_transformation",
                            .block = "mobilebert.encoder.layer.",
                            .attention_norm = "attention.output.LayerNorm",
                            .q = "attention.self.query",
                            .k = "attention.self.key",
                            .v = "attention.self.value",
                            .o = "attention.output.dense",
                            .mlp_norm = "output.LayerNorm",
                            .up = "intermediate.dense",
                            .down = "output.dense"};

constexpr Names kT5Encoder{.embedding = "shared",
                           .block = "encoder.block.",
                           .attention_norm = "layer.0.layer_norm",
                           .q = "layer.0.SelfAttention.q",
                           .k = "layer.0.SelfAttention.k",
                           .v = "layer.0.SelfAttention.v",
                           .o = "layer.0.SelfAttention.o",
                           .mlp_norm = "layer.1.layer_norm",
                           .gate = "layer.1.DenseReluDense.wi_0",
                           .up = "layer.1.DenseReluDense.wi",
                           .down = "layer.1.DenseReluDense.wo",
                           .gated_up = "layer.1.DenseReluDense.wi_1",
                           .relative = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
                           .final_norm = "encoder.final_layer_norm",
                           .head = "lm_head"};

constexpr Names t5_decoder_names() {
  Names n = kT5Encoder;
  n.block = "decoder.block.";
  n.cross_norm = "layer.1.layer_norm";
  n.cross_q = "layer.1.EncDecAttention.q";
  n.cross_k = "layer.1.EncDecAttention.k";
  n.cross_v = "layer.1.EncDecAttention.v";
  n.cross_o = "layer.1.EncDecAttention.o";
  n.mlp_norm = "layer.2.layer_norm";
  n.gate = "layer.2.DenseReluDense.wi_0";
  n.up = "layer.2.DenseReluDense.wi";
  n.down = "layer.2.DenseReluDense.wo";
  n.gated_up = "layer.2.DenseReluDense.wi_1";
  n.relative = "decoder.block.0.layer.0.SelfAttention.relative_attention_bias";
  n.final_norm = "decoder.final_layer_norm";
  return n;
}
constexpr Names kT5Decoder = t5_decoder_names();

constexpr Names kBartEncoder{.embedding = "model.shared",
                             .positions = "model.encoder.embed_positions",
                             .embedding_norm = "model.encoder.layernorm_embedding",
                             .block = "model.encoder.layers.",
                             .attention_norm = "self_attn_layer_norm",
                             .q = "self_attn.q_proj",
                             .k = "self_attn.k_proj",
                             .v = "self_attn.v_proj",
                             .o = "self_attn.out_proj",
                             .mlp_norm = "final_layer_norm",
                             .up = "fc1",
                             .down = "fc2",
                             .head = "lm_head"};

constexpr Names bart_decoder_names() {
  Names n = kBartEncoder;
  n.positions = "model.decoder.embed_positions";
  n.embedding_norm = "model.decoder.layernorm_embedding";
  n.block = "model.decoder.layers.";
  n.cross_norm = "encoder_attn_layer_norm";
  n.cross_q = "encoder_attn.q_proj";
  n.cross_k = "encoder_attn.k_proj";
  n.cross_v = "encoder_attn.v_proj";
  n.cross_o = "encoder_attn.out_proj";
  return n;
}
constexpr Names kBartDecoder = bart_decoder_names();

constexpr Names kRwkv{.embedding = "rwkv.embeddings",
                      .embedding_norm = "rwkv.blocks.0.pre_ln",
                      .block = "rwkv.blocks.",
                      .attention_norm = "ln1",
                      .mlp_norm = "ln2",
                      .final_norm = "rwkv.ln_out",
                      .head = "head"};

constexpr Names kRwkv7{.embedding = "model.embeddings",
                       .embedding_norm = "model.layers.0.pre_norm",
                       .block = "model.layers.",
                       .attention_norm = "attn_norm",
                       .mlp_norm = "ffn_norm",
                       .final_norm = "model.norm",
                       .head = "lm_head"};

constexpr std::array kFirst{
    std::pair{std::string_view("llama"), &kLlama},       std::pair{std::string_view("mistral"), &kLlama},
    std::pair{std::string_view("qwen2"), &kLlama},       std::pair{std::string_view("qwen3"), &kLlama},
    std::pair{std::string_view("gemma"), &kLlama},       std::pair{std::string_view("gemma2"), &kGemma2},
    std::pair{std::string_view("phi"), &kPhi},           std::pair{std::string_view("phi3"), &kPhi3},
    std::pair{std::string_view("olmo"), &kLlama},        std::pair{std::string_view("olmo2"), &kOlmo2},
    std::pair{std::string_view("stablelm"), &kStableLm}, std::pair{std::string_view("gpt_neox"), &kGptNeoX},
    std::pair{std::string_view("bloom"), &kBloom},       std::pair{std::string_view("gpt2"), &kGpt2},
    std::pair{std::string_view("gpt_neo"), &kGptNeo},    std::pair{std::string_view("opt"), &kOpt},
    std::pair{std::string_view("openelm"), &kOpenElm},   std::pair{std::string_view("bert"), &kBert},
    std::pair{std::string_view("roberta"), &kRoberta},   std::pair{std::string_view("distilbert"), &kDistilBert},
    std::pair{std::string_view("albert"), &kAlbert},     std::pair{std::string_view("mobilebert"), &kMobileBert},
    std::pair{std::string_view("t5"), &kT5Encoder},      std::pair{std::string_view("bart"), &kBartEncoder},
    std::pair{std::string_view("rwkv"), &kRwkv},         std::pair{std::string_view("rwkv7"), &kRwkv7}};

}  // namespace

bool known_family(std::string_view family) {
  return std::any_of(kFirst.begin(), kFirst.end(), [&](const auto& entry) { return entry.first == family; });
}

const Names& names_of(const ModelConfig& config, bool second) {
  if (second) return config.family == "t5" ? kT5Decoder : kBartDecoder;
  for (const auto& [family, names] : kFirst) {
    if (config.family == family) return *names;
  }
  COVEY_ASSERT(false);
  return kLlama;
}

}  // namespace covey::model
