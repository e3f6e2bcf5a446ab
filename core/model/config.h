/// What a model computes: the sizes and choices read from Hugging Face's config.json, GGUF metadata or a llama2.c
/// header. A family is a table from its file to this structure; every field that changes what is computed is honoured
/// or refused by name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/kernels/activation.h"
#include "core/kernels/norm.h"

namespace covey::model {

using kernels::Activation;
using kernels::NormKind;

enum class RopeScaling { none, linear, dynamic, yarn, llama3, longrope };

/// Rotary position embedding. With `neighbours` false, rows of q and k are in Hugging Face's order (element i turns
/// with i + R/2): files that pair neighbours (llama2.c, GGUF's llama) are reordered when they are read.
struct RopeConfig {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;  ///< linear, dynamic, yarn, llama3
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int original_context = 0;  ///< yarn, llama3, longrope
  double beta_fast = 32;     ///< yarn: waves with more turns in the original context are kept
  double beta_slow = 1;      ///< yarn: those with fewer are stretched
  bool truncate = true;      ///< yarn: the bounds between are whole elements
  int rotary_dim = 0;        ///< R: elements of a head that turn; 0: all of it
  bool neighbours = false;
  std::vector<double> short_factor = {};  ///< longrope, (R/2): sequences up to original_context
  std::vector<double> long_factor = {};   ///< longer ones
  double attention_factor = 1;            ///< yarn, longrope: cosine and sine are multiplied by it
};

enum class Task { causal_lm, masked_lm, classification, seq2seq };
enum class BlockKind { transformer, mobilebert, rwkv, rwkv7 };
enum class PositionKind { none, rope, learned, alibi, relative };
/// Where a block normalizes. pre: x + f(norm(x)); post: norm(x + f(x)); sandwich: x + norm(f(norm(x))); branch:
/// x + norm(f(x)).
enum class NormPlacement { pre, post, sandwich, branch };
/// How q, k and v lie in the file. `heads`: q, k, v of the first head, then of the next (GPT-NeoX, Bloom).
enum class QkvLayout { separate, fused, fused_heads };
/// What is normalized of q and k: nothing, each head with one weight, each head with its own weight, the whole row.
enum class QkNorm { none, head, own_head, row };
/// What a classifier does before its last layer. See build_heads.cpp.
enum class Pooler { none, bert, albert, mobilebert, roberta, distilbert, last_token };

/// Letters as in the kernels: V vocabulary, H hidden, I intermediate, L layers, D head_dim. Defaults are llama's.
struct ModelConfig {
  std::string family = "llama";  ///< Hugging Face model_type
  Task task = Task::causal_lm;
  BlockKind block = BlockKind::transformer;
  int vocab_size = 0;         ///< V
  int hidden_size = 0;        ///< H
  int intermediate_size = 0;  ///< I
  int layers = 0;             ///< L; of the encoder where there are two stacks
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;     ///< D; heads * D need not be H
  int context_max = 0;  ///< positions
  double norm_eps = 1e-5;
  bool tied_head = true;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  RopeConfig rope;
  std::vector<int> window;  ///< per layer: a query at i sees keys i-W+1..i; 0 = all. Empty = 0 everywhere

  // The norms.
  NormKind norm = NormKind::rms;
  NormPlacement placement = NormPlacement::pre;
  bool norm_weight = true;  ///< false: OLMo's norms have none
  bool norm_bias = false;
  double norm_offset = 0;  ///< added to the weights (Gemma: 1)
  bool final_norm = true;  ///< before the head
  bool embedding_norm = false;
  bool parallel = false;            ///< attention and MLP both read the block's input
  bool shared_norm = false;         ///< parallel: one norm for both
  bool residual_from_norm = false;  ///< Bloom's apply_residual_connection_post_layernorm

  // Attention.
  bool bidirectional = false;  ///< every token sees the whole row
  QkvLayout qkv = QkvLayout::separate;
  QkNorm qk_norm = QkNorm::none;
  NormKind qk_norm_kind = NormKind::rms;
  bool qk_norm_bias = false;
  double attention_scale = 0;   ///< of q k^T; 0: 1/sqrt(D)
  bool scale_by_layer = false;  ///< GPT-2: the scale is also divided by layer + 1
  double attention_cap = 0;     ///< soft cap on scores; 0: none
  double clip_qkv = 0;          ///< q, k, v are cut to [-c, c]; 0: not
  bool linear_in_out = false;   ///< block weights lie as [in, out] (GPT-2's Conv1D)

  // The MLP.
  Activation activation = Activation::silu;
  bool gated = true;
  bool fused_gate_up = false;  ///< one matrix, gate's rows first

  // Embeddings and positions.
  PositionKind position = PositionKind::rope;
  int embedding_size = 0;  ///< E, width of the token table; 0: H
  double embedding_scale = 1;
  int position_offset = 0;   ///< learned: row of position 0
  int position_rows = 0;     ///< learned: rows of the table; 0: context_max + position_offset
  int type_vocab = 0;        ///< token types (segments); 0: none
  bool trigram = false;      ///< MobileBERT: each position sees its neighbours' embeddings
  int relative_buckets = 0;  ///< relative (T5)
  int relative_distance = 0;

  // Layers that differ, or are shared.
  std::vector<int> layer_heads;  ///< per layer (OpenELM); empty: heads everywhere
  std::vector<int> layer_kv_heads;
  std::vector<int> layer_intermediate;
  int layer_groups = 0;  ///< ALBERT: groups of layers that share weights; 0: every layer has its own
  int inner_layers = 1;  ///< ALBERT: different layers within one group

  // The second stack of an encoder-decoder.
  int decoder_layers = 0;
  int decoder_heads = 0;
  int decoder_head_dim = 0;
  int decoder_intermediate = 0;
  int decoder_start_id = -1;

  // The head.
  double logit_scale = 1;  ///< of what enters the head (T5, tied: 1/sqrt(H))
  double logit_cap = 0;    ///< soft cap on logits; 0: none
  bool head_bias = false;
  Pooler pooler = Pooler::none;
  int classes = 0;  ///< classification

  // MobileBERT.
  int bottleneck_size = 0;  ///< intra_bottleneck_size; block width
  int feedforward_networks = 1;
  bool bottleneck_attention = false;    ///< use_bottleneck_attention
  bool shared_query_bottleneck = true;  ///< key_query_shared_bottleneck

  // RWKV 7: inner widths of the small networks that make decays, rates, the first block's share and the gate.
  int decay_rank = 0;
  int rate_rank = 0;
  int value_rank = 0;
  int gate_rank = 0;

  int bos_id = -1;           ///< -1: none
  std::vector<int> eos_ids;  ///< any of them ends generation
  int pad_id = -1;
  std::string source;  ///< the config.json that was read, written back by config_to_hf; empty: made from the fields

  [[nodiscard]] int q_width() const { return heads * head_dim; }
  [[nodiscard]] int kv_width() const { return kv_heads * head_dim; }
  [[nodiscard]] int window_of(int layer) const { return window.empty() ? 0 : window[static_cast<std::size_t>(layer)]; }
  /// Width of the token table and of soft prompts.
  [[nodiscard]] int embedding_width() const { return embedding_size > 0 ? embedding_size : hidden_size; }
  [[nodiscard]] bool two_stacks() const { return task == Task::seq2seq; }
  /// Whether text can be generated token by token.
  [[nodiscard]] bool generates() const { return task == Task::causal_lm; }
  /// Width of the logits.
  [[nodiscard]] int outputs() const { return task == Task::classification ? classes : vocab_size; }
};

/// Whether the numbers make a model that fits our bounds. @errors invalid_argument, naming the field.
[[nodiscard]] Status check_config(const ModelConfig& config);

/// Reads the text of a config.json. `where` leads every message.
/// @errors corrupt_data: not JSON, a missing or ill-typed field. unsupported: a field or family we do not compute.
Result<ModelConfig> config_from_hf(std::string_view json_text, const std::string& where);
/// The config.json that config_from_hf reads back to an equal ModelConfig: `source` where there is one.
std::string config_to_hf(const ModelConfig& config);

/// The first `positions` x R/2 angles: table[p * R/2 + i] = p * inverse frequency i, scaled as the configuration says.
/// Rounded as the reference implementation does (f32 frequencies, f32 product). `long_sequence` chooses longrope's
/// factors.
std::vector<float> rope_angles(const ModelConfig& config, int positions, bool long_sequence = false);

}  // namespace covey::model
