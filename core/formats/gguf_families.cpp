#include "core/formats/gguf_families.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "core/base/assert.h"

namespace covey::formats {
namespace {

constexpr GgufName kLlamaNames[] = {
    {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},   {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"}};
constexpr GgufName kQwen3Names[] = {{"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
                                    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
                                    {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
                                    {"self_attn.k_norm", "attn_k_norm"}, {"post_attention_layernorm", "ffn_norm"},
                                    {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
                                    {"mlp.down_proj", "ffn_down"}};
constexpr GgufName kOlmo2Names[] = {{"self_attn.q_proj", "attn_q"},
                                    {"self_attn.k_proj", "attn_k"},
                                    {"self_attn.v_proj", "attn_v"},
                                    {"self_attn.o_proj", "attn_output"},
                                    {"self_attn.q_norm", "attn_q_norm"},
                                    {"self_attn.k_norm", "attn_k_norm"},
                                    {"post_attention_layernorm", "post_attention_norm"},
                                    {"post_feedforward_layernorm", "post_ffw_norm"},
                                    {"mlp.gate_proj", "ffn_gate"},
                                    {"mlp.up_proj", "ffn_up"},
                                    {"mlp.down_proj", "ffn_down"}};

constexpr GgufName kGemma2Names[] = {{"input_layernorm", "attn_norm"},
                                     {"self_attn.q_proj", "attn_q"},
                                     {"self_attn.k_proj", "attn_k"},
                                     {"self_attn.v_proj", "attn_v"},
                                     {"self_attn.o_proj", "attn_output"},
                                     {"post_attention_layernorm", "post_attention_norm"},
                                     {"pre_feedforward_layernorm", "ffn_norm"},
                                     {"post_feedforward_layernorm", "post_ffw_norm"},
                                     {"mlp.gate_proj", "ffn_gate"},
                                     {"mlp.up_proj", "ffn_up"},
                                     {"mlp.down_proj", "ffn_down"}};
constexpr GgufName kPhiNames[] = {
    {"input_layernorm", "attn_norm"}, {"self_attn.q_proj", "attn_q"},     {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},   {"self_attn.dense", "attn_output"}, {"mlp.fc1", "ffn_up"},
    {"mlp.fc2", "ffn_down"}};
constexpr GgufName kPhi3Names[] = {{"input_layernorm", "attn_norm"},    {"self_attn.qkv_proj", "attn_qkv"},
                                   {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
                                   {"mlp.gate_up_proj", "ffn_up"},      {"mlp.down_proj", "ffn_down"}};
constexpr GgufName kGpt2Names[] = {{"ln_1", "attn_norm"}, {"attn.c_attn", "attn_qkv"}, {"attn.c_proj", "attn_output"},
                                   {"ln_2", "ffn_norm"},  {"mlp.c_fc", "ffn_up"},      {"mlp.c_proj", "ffn_down"}};
constexpr GgufName kGptNeoXNames[] = {{"input_layernorm", "attn_norm"},   {"attention.query_key_value", "attn_qkv"},
                                      {"attention.dense", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
                                      {"mlp.dense_h_to_4h", "ffn_up"},    {"mlp.dense_4h_to_h", "ffn_down"}};
constexpr GgufName kBloomNames[] = {
    {"input_layernorm", "attn_norm"},        {"self_attention.query_key_value", "attn_qkv"},
    {"self_attention.dense", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
    {"mlp.dense_h_to_4h", "ffn_up"},         {"mlp.dense_4h_to_h", "ffn_down"}};

constexpr GgufName kGlobals[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
constexpr GgufName kPhiGlobals[] = {
    {"model.embed_tokens", "token_embd"}, {"model.final_layernorm", "output_norm"}, {"lm_head", "output"}};
constexpr GgufName kGpt2Globals[] = {{"transformer.wte", "token_embd"},
                                     {"transformer.wpe", "position_embd"},
                                     {"transformer.ln_f", "output_norm"},
                                     {"lm_head", "output"}};
constexpr GgufName kGptNeoXGlobals[] = {
    {"gpt_neox.embed_in", "token_embd"}, {"gpt_neox.final_layer_norm", "output_norm"}, {"embed_out", "output"}};
constexpr GgufName kBloomGlobals[] = {{"transformer.word_embeddings", "token_embd"},
                                      {"transformer.word_embeddings_layernorm", "token_embd_norm"},
                                      {"transformer.ln_f", "output_norm"},
                                      {"lm_head", "output"}};

constexpr GgufSizes sizes_with(std::string_view epsilon) {
  GgufSizes sizes;
  sizes.epsilon = epsilon;
  return sizes;
}
constexpr GgufSizes kGpt2Sizes{.context = "n_positions",
                               .hidden = "n_embd",
                               .layers = "n_layer",
                               .inner = "n_inner",
                               .heads = "n_head",
                               .kv_heads = "",
                               .head_dim = "",
                               .epsilon = "layer_norm_epsilon"};
constexpr GgufSizes kBloomSizes{.context = "seq_length",
                                .hidden = "hidden_size",
                                .layers = "n_layer",
                                .inner = "",
                                .heads = "n_head",
                                .kv_heads = "",
                                .head_dim = "",
                                .epsilon = "layer_norm_epsilon"};

constexpr GgufFixed kSilu[] = {{"hidden_act", "\"silu\""}};
constexpr GgufFixed kGelu[] = {{"hidden_act", "\"gelu\""}};
constexpr GgufFixed kGeluNew[] = {{"hidden_act", "\"gelu_new\""}};
constexpr GgufFixed kGemmaGelu[] = {{"hidden_activation", "\"gelu_pytorch_tanh\""}};
constexpr GgufFixed kGpt2Fixed[] = {{"activation_function", "\"gelu_new\""}, {"scale_attn_weights", "true"}};

constexpr GgufName kLlamaFlags[] = {{"attention_bias", "blk.0.attn_q.bias"}, {"mlp_bias", "blk.0.ffn_up.bias"}};
constexpr GgufName kNeoXFlags[] = {{"attention_bias", "blk.0.attn_qkv.bias"}};
constexpr GgufName kStableLmFlags[] = {{"use_qkv_bias", "blk.0.attn_q.bias"}};

constexpr GgufField kGemma2Fields[] = {{"attn_logit_softcapping", "attn_logit_softcapping", GgufField::Kind::real},
                                       {"final_logit_softcapping", "final_logit_softcapping", GgufField::Kind::real},
                                       {"sliding_window", "attention.sliding_window"}};
constexpr GgufField kPhi3Fields[] = {{"sliding_window", "attention.sliding_window"}};
constexpr GgufField kParallelFields[] = {{"use_parallel_residual", "use_parallel_residual", GgufField::Kind::flag}};
constexpr GgufField kOlmoFields[] = {{"clip_qkv", "attention.clamp_kqv", GgufField::Kind::real}};

constexpr std::array kFamilies{GgufFamily{.architecture = "llama",
                                          .model_type = "llama",
                                          .class_name = "LlamaForCausalLM",
                                          .names = kLlamaNames,
                                          .globals = kGlobals,
                                          .fixed = kSilu,
                                          .by_tensor = kLlamaFlags,
                                          .paired = true},
                               GgufFamily{.architecture = "qwen2",
                                          .model_type = "qwen2",
                                          .class_name = "Qwen2ForCausalLM",
                                          .names = kLlamaNames,
                                          .globals = kGlobals,
                                          .fixed = kSilu},
                               GgufFamily{.architecture = "qwen3",
                                          .model_type = "qwen3",
                                          .class_name = "Qwen3ForCausalLM",
                                          .names = kQwen3Names,
                                          .globals = kGlobals,
                                          .fixed = kSilu},
                               GgufFamily{.architecture = "olmo2",
                                          .model_type = "olmo2",
                                          .class_name = "Olmo2ForCausalLM",
                                          .names = kOlmo2Names,
                                          .globals = kGlobals,
                                          .fixed = kSilu},
                               GgufFamily{.architecture = "olmo",
                                          .model_type = "olmo",
                                          .class_name = "OlmoForCausalLM",
                                          .names = kLlamaNames,
                                          .globals = kGlobals,
                                          .sizes = sizes_with(""),
                                          .rms = false,
                                          .fixed = kSilu,
                                          .fields = kOlmoFields,
                                          .paired = true},
                               GgufFamily{.architecture = "gemma",
                                          .model_type = "gemma",
                                          .class_name = "GemmaForCausalLM",
                                          .names = kLlamaNames,
                                          .globals = kGlobals,
                                          .fixed = kGemmaGelu,
                                          .plus_one = true},
                               GgufFamily{.architecture = "gemma2",
                                          .model_type = "gemma2",
                                          .class_name = "Gemma2ForCausalLM",
                                          .names = kGemma2Names,
                                          .globals = kGlobals,
                                          .fixed = kGemmaGelu,
                                          .fields = kGemma2Fields,
                                          .plus_one = true},
                               GgufFamily{.architecture = "phi2",
                                          .model_type = "phi",
                                          .class_name = "PhiForCausalLM",
                                          .names = kPhiNames,
                                          .globals = kPhiGlobals,
                                          .sizes = sizes_with("layer_norm_eps"),
                                          .rms = false,
                                          .rotated = "partial_rotary_factor",
                                          .fixed = kGeluNew},
                               GgufFamily{.architecture = "phi3",
                                          .model_type = "phi3",
                                          .class_name = "Phi3ForCausalLM",
                                          .names = kPhi3Names,
                                          .globals = kGlobals,
                                          .rotated = "partial_rotary_factor",
                                          .fixed = kSilu,
                                          .fields = kPhi3Fields},
                               GgufFamily{.architecture = "stablelm",
                                          .model_type = "stablelm",
                                          .class_name = "StableLmForCausalLM",
                                          .names = kLlamaNames,
                                          .globals = kGlobals,
                                          .sizes = sizes_with("layer_norm_eps"),
                                          .rms = false,
                                          .rotated = "partial_rotary_factor",
                                          .fixed = kSilu,
                                          .fields = kParallelFields,
                                          .by_tensor = kStableLmFlags},
                               GgufFamily{.architecture = "gptneox",
                                          .model_type = "gpt_neox",
                                          .class_name = "GPTNeoXForCausalLM",
                                          .names = kGptNeoXNames,
                                          .globals = kGptNeoXGlobals,
                                          .layers = "gpt_neox.layers.",
                                          .sizes = sizes_with("layer_norm_eps"),
                                          .rms = false,
                                          .rotated = "rotary_pct",
                                          .fixed = kGelu,
                                          .fields = kParallelFields,
                                          .by_tensor = kNeoXFlags,
                                          .apart = true},
                               GgufFamily{.architecture = "gpt2",
                                          .model_type = "gpt2",
                                          .class_name = "GPT2LMHeadModel",
                                          .names = kGpt2Names,
                                          .globals = kGpt2Globals,
                                          .layers = "transformer.h.",
                                          .sizes = kGpt2Sizes,
                                          .rms = false,
                                          .rope = false,
                                          .fixed = kGpt2Fixed,
                                          .transposed = true},
                               GgufFamily{.architecture = "bloom",
                                          .model_type = "bloom",
                                          .class_name = "BloomForCausalLM",
                                          .names = kBloomNames,
                                          .globals = kBloomGlobals,
                                          .layers = "transformer.h.",
                                          .sizes = kBloomSizes,
                                          .rms = false,
                                          .rope = false,
                                          .apart = true}};

constexpr std::string_view kGgufLayers = "blk.";

std::string known_families() {
  std::string text;
  for (const GgufFamily& family : kFamilies) text += (text.empty() ? "" : ", ") + std::string(family.architecture);
  return text;
}

/// "model.layers.12.mlp.up_proj.weight" as layer, middle and suffix; layer is empty for tensors outside the layers.
struct NameParts {
  std::string_view layer, middle, suffix;
};
NameParts parts_of(std::string_view name, std::string_view prefix) {
  NameParts parts;
  for (const std::string_view suffix : {".weight", ".bias"}) {
    if (!name.ends_with(suffix)) continue;
    parts.suffix = suffix;
    name.remove_suffix(suffix.size());
  }
  parts.middle = name;
  if (name.starts_with(prefix)) {
    const std::string_view rest = name.substr(prefix.size());
    const std::size_t digits = rest.find_first_not_of("0123456789");
    if (digits > 0 && digits < rest.size() && rest[digits] == '.') {
      parts.layer = rest.substr(0, digits);
      parts.middle = rest.substr(digits + 1);
    }
  }
  return parts;
}

std::string translated(const GgufFamily& family, std::string_view name, bool to_gguf) {
  const NameParts parts = parts_of(name, to_gguf ? family.layers : kGgufLayers);
  if (parts.suffix.empty()) return {};
  const std::span<const GgufName> names = parts.layer.empty() ? family.globals : family.names;
  const auto from = to_gguf ? &GgufName::hf : &GgufName::gguf;
  const auto to = to_gguf ? &GgufName::gguf : &GgufName::hf;
  const auto found = std::ranges::find(names, parts.middle, from);
  if (found == names.end()) return {};
  std::string out;
  if (!parts.layer.empty()) out = std::string(to_gguf ? kGgufLayers : family.layers) + std::string(parts.layer) + ".";
  return out + std::string((*found).*to) + std::string(parts.suffix);
}

Bytes reordered(ByteSpan bytes, std::int64_t rows, std::int64_t heads, bool pair) {
  COVEY_ASSERT(heads > 0 && rows % (2 * heads) == 0 && bytes.size() % static_cast<std::size_t>(rows) == 0);
  const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(rows);
  const std::int64_t dim = rows / heads;
  Bytes out(bytes.size());
  for (std::int64_t row = 0; row < rows; ++row) {  // in the order of pairs
    const std::int64_t in_head = row % dim;
    const auto paired = static_cast<std::size_t>(row) * row_bytes;
    const auto halves = static_cast<std::size_t>(row - in_head + in_head / 2 + in_head % 2 * (dim / 2)) * row_bytes;
    std::memcpy(out.data() + (pair ? paired : halves), bytes.data() + (pair ? halves : paired), row_bytes);
  }
  return out;
}

/// Rows of q, k and v of each head in turn, to all of q, all of k, all of v (`apart`), or back.
Bytes sorted_heads(ByteSpan bytes, std::int64_t rows, std::int64_t heads, bool apart) {
  const std::size_t row_bytes = bytes.size() / static_cast<std::size_t>(rows);
  const std::size_t stretch = static_cast<std::size_t>(rows / (3 * heads)) * row_bytes;  // of one head's q, k or v
  Bytes out(bytes.size());
  for (std::size_t head = 0; head < static_cast<std::size_t>(heads); ++head) {
    for (std::size_t part = 0; part < 3; ++part) {
      const std::size_t mixed = (head * 3 + part) * stretch;
      const std::size_t sorted = (part * static_cast<std::size_t>(heads) + head) * stretch;
      std::memcpy(out.data() + (apart ? sorted : mixed), bytes.data() + (apart ? mixed : sorted), stretch);
    }
  }
  return out;
}

Bytes transposed(ByteSpan bytes, std::size_t rows, std::size_t columns, std::size_t size) {
  Bytes out(bytes.size());
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < columns; ++c) {
      std::memcpy(out.data() + (c * rows + r) * size, bytes.data() + (r * columns + c) * size, size);
    }
  }
  return out;
}

}  // namespace

Result<const GgufFamily*> gguf_family(std::string_view architecture) {
  const auto* found = std::ranges::find(kFamilies, architecture, &GgufFamily::architecture);
  if (found != kFamilies.end()) return found;
  return Error{ErrorCode::unsupported,
               "general.architecture \"" + shown(architecture) + "\" is not read; these are: " + known_families()};
}

Result<const GgufFamily*> gguf_family_of_type(std::string_view model_type) {
  const std::string_view type = model_type == "mistral" ? "llama" : model_type;
  const auto* found = std::ranges::find(kFamilies, type, &GgufFamily::model_type);
  if (found != kFamilies.end()) return found;
  return Error{ErrorCode::unsupported, "model_type \"" + shown(model_type) +
                                           "\" is not written as GGUF; these are: " + known_families() + ", mistral"};
}

std::string gguf_tensor_name(const GgufFamily& family, std::string_view hf_name) {
  return translated(family, hf_name, true);
}
std::string hf_tensor_name(const GgufFamily& family, std::string_view gguf_name) {
  return translated(family, gguf_name, false);
}

GgufChange gguf_change(const GgufFamily& family, std::string_view gguf_name, std::int64_t heads,
                       std::int64_t kv_heads) {
  using Kind = GgufChange::Kind;
  const NameParts parts = parts_of(gguf_name, kGgufLayers);
  const bool layer = !parts.layer.empty();
  if (family.paired && layer && parts.middle == "attn_q") return {Kind::pairs, heads};
  if (family.paired && layer && parts.middle == "attn_k") return {Kind::pairs, kv_heads};
  if (family.apart && layer && parts.middle == "attn_qkv") return {Kind::apart, heads};
  if (parts.suffix != ".weight") return {};
  const bool norm = parts.middle.ends_with("_norm");
  if (family.transposed && layer && !norm) return {Kind::transposed};
  return family.plus_one && norm ? GgufChange{Kind::plus_one} : GgufChange{};
}

Result<Bytes> gguf_changed(const GgufChange& change, const GgmlTypeInfo& type, std::vector<std::int64_t>& shape,
                           ByteSpan bytes, bool to_gguf) {
  using Kind = GgufChange::Kind;
  const auto broken = [](const char* what) { return Error{ErrorCode::corrupt_data, what}; };
  if (change.kind == Kind::none) return Bytes(bytes.begin(), bytes.end());
  if (change.moves_rows()) {
    const std::int64_t parts = change.kind == Kind::pairs ? 2 : 3;
    if (change.heads <= 0 || shape.empty() || shape[0] % (parts * change.heads) != 0)
      return broken("cannot be cut into heads");
    if (change.kind == Kind::pairs) return reordered(bytes, shape[0], change.heads, to_gguf);
    return sorted_heads(bytes, shape[0], change.heads, to_gguf);
  }
  if (type.block != 1) return Error{ErrorCode::unsupported, "is quantized and lies otherwise in the other format"};
  if (change.kind == Kind::transposed) {
    if (shape.size() != 2) return broken("has not two dimensions");
    std::swap(shape[0], shape[1]);
    return transposed(bytes, static_cast<std::size_t>(shape[1]), static_cast<std::size_t>(shape[0]), type.block_bytes);
  }
  if (type.number != static_cast<std::uint32_t>(GgmlType::f32)) {
    return Error{ErrorCode::unsupported, "is a norm of another type than F32"};
  }
  Bytes out(bytes.begin(), bytes.end());
  for (std::size_t at = 0; at + sizeof(float) <= out.size(); at += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, out.data() + at, sizeof value);
    value += to_gguf ? 1.0F : -1.0F;
    std::memcpy(out.data() + at, &value, sizeof value);
  }
  return out;
}

Bytes to_pairs(ByteSpan bytes, std::int64_t rows, std::int64_t heads) {
  return reordered(bytes, rows, heads, true);
}
Bytes from_pairs(ByteSpan bytes, std::int64_t rows, std::int64_t heads) {
  return reordered(bytes, rows, heads, false);
}

}  // namespace covey::formats
