#include "adapters/llama2c_writer.h"

#include <array>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "core/base/file.h"

namespace covey::adapters {
namespace {

/// What llama2.c's run.c assumes; empty where the model fits.
std::string unfit(const model::ModelConfig& c) {
  if (c.qkv_bias || c.o_bias || c.mlp_bias) return "biases";
  if (!c.window.empty()) {
    for (const int window : c.window) {
      if (window > 0) return "sliding windows";
    }
  }
  if (c.rope.scaling != model::RopeScaling::none) return "RoPE scaling";
  if (c.rope.theta != 10000) return "a RoPE base other than 10000";
  if (std::abs(c.norm_eps - 1e-5) > 1e-12) return "a norm epsilon other than 1e-5";
  if (c.head_dim * c.heads != c.hidden_size) return "a head width other than hidden / heads";
  return {};
}

class Writer {
 public:
  explicit Writer(model::Model& model) : config_(model.config()) {
    for (const auto& tensor : model.parameters()) tensors_.emplace(tensor.name, tensor.values);
  }

  Result<Bytes> bytes() {
    const auto& c = config_;
    const std::array<std::int32_t, 7> header{
        c.hidden_size, c.intermediate_size, c.layers, c.heads, c.kv_heads, c.tied_head ? c.vocab_size : -c.vocab_size,
        c.context_max};
    append(header.data(), sizeof header);
    COVEY_TRY(tensor("model.embed_tokens.weight"));
    COVEY_TRY(layers("input_layernorm"));
    COVEY_TRY(layers("self_attn.q_proj", c.heads));
    COVEY_TRY(layers("self_attn.k_proj", c.kv_heads));
    for (const char* name : {"self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj",
                             "mlp.down_proj", "mlp.up_proj"}) {
      COVEY_TRY(layers(name));
    }
    COVEY_TRY(tensor("model.norm.weight"));
    const std::vector<float> angles = model::rope_angles(c, c.context_max);
    for (const bool cosine : {true, false}) {
      for (const float angle : angles) {
        const float value = cosine ? std::cos(angle) : std::sin(angle);
        append(&value, sizeof value);
      }
    }
    if (!c.tied_head) COVEY_TRY(tensor("lm_head.weight"));
    return std::move(out_);
  }

 private:
  void append(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    out_.insert(out_.end(), bytes, bytes + size);
  }

  Result<std::span<const float>> find(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return Error{ErrorCode::unsupported, "has no " + name};
    return std::span<const float>(found->second);
  }

  Status tensor(const std::string& name) {
    COVEY_ASSIGN(const auto values, find(name));
    append(values.data(), values.size_bytes());
    return {};
  }

  /// `turned_heads` above 0: rows of each head go from Hugging Face's halves to llama2.c's neighbouring pairs.
  Status layers(const std::string& name, int turned_heads = 0) {
    for (int layer = 0; layer < config_.layers; ++layer) {
      const std::string full = "model.layers." + std::to_string(layer) + "." + name + ".weight";
      if (turned_heads == 0) {
        COVEY_TRY(tensor(full));
        continue;
      }
      COVEY_ASSIGN(const auto values, find(full));
      const auto width = static_cast<std::size_t>(config_.hidden_size);
      const int D = config_.head_dim;
      for (int row = 0; row < turned_heads * D; ++row) {
        const int in_head = row % D;
        const int from = row - in_head + in_head / 2 + (in_head % 2) * (D / 2);
        append(values.data() + static_cast<std::size_t>(from) * width, width * sizeof(float));
      }
    }
    return {};
  }

  const model::ModelConfig& config_;
  std::unordered_map<std::string, std::span<float>> tensors_;
  Bytes out_;
};

}  // namespace

Status write_llama2c(const std::string& path, model::Model& model) {
  const std::string reason = unfit(model.config());
  if (!reason.empty()) return Error{ErrorCode::unsupported, "llama2.c files cannot hold " + reason};
  COVEY_ASSIGN(const Bytes content, Writer(model).bytes());
  return write_file_durably(path, ByteSpan(content));
}

}  // namespace covey::adapters
