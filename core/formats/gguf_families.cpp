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

constexpr std::array kFamilies{GgufFamily{"llama", "llama", "LlamaForCausalLM", true, kLlamaNames},
                               GgufFamily{"qwen2", "qwen2", "Qwen2ForCausalLM", false, kLlamaNames},
                               GgufFamily{"qwen3", "qwen3", "Qwen3ForCausalLM", false, kQwen3Names},
                               GgufFamily{"olmo2", "olmo2", "Olmo2ForCausalLM", false, kOlmo2Names}};

/// Outside the layers.
constexpr GgufName kGlobalNames[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};

constexpr std::string_view kHfLayers = "model.layers.";
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
  const NameParts parts = parts_of(name, to_gguf ? kHfLayers : kGgufLayers);
  if (parts.suffix.empty()) return {};
  const std::span<const GgufName> names = parts.layer.empty() ? std::span<const GgufName>(kGlobalNames) : family.names;
  const auto from = to_gguf ? &GgufName::hf : &GgufName::gguf;
  const auto to = to_gguf ? &GgufName::gguf : &GgufName::hf;
  const auto found = std::ranges::find(names, parts.middle, from);
  if (found == names.end()) return {};
  std::string out;
  if (!parts.layer.empty()) out = std::string(to_gguf ? kGgufLayers : kHfLayers) + std::string(parts.layer) + ".";
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

bool is_paired(const GgufFamily& family, std::string_view gguf_name) {
  if (!family.paired) return false;
  const NameParts parts = parts_of(gguf_name, kGgufLayers);
  return !parts.layer.empty() && (parts.middle == "attn_q" || parts.middle == "attn_k");
}

Bytes to_pairs(ByteSpan bytes, std::int64_t rows, std::int64_t heads) {
  return reordered(bytes, rows, heads, true);
}
Bytes from_pairs(ByteSpan bytes, std::int64_t rows, std::int64_t heads) {
  return reordered(bytes, rows, heads, false);
}

}  // namespace covey::formats
