// The configuration in GGUF's keys and in config.json's.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <utility>

#include "core/formats/gguf_families.h"
#include "core/formats/quant_blocks.h"

namespace covey::formats {
namespace {

/// Sizes that stand in both files. Key after "ARCH.", name in config.json, bounds.
struct Size {
  const char* key;
  const char* field;
  std::int64_t max;
};
constexpr std::array kSizes{Size{"context_length", "max_position_embeddings", 1 << 24},
                            Size{"embedding_length", "hidden_size", 1 << 16},
                            Size{"block_count", "num_hidden_layers", 1024},
                            Size{"feed_forward_length", "intermediate_size", 1 << 20},
                            Size{"attention.head_count", "num_attention_heads", 1024},
                            Size{"attention.head_count_kv", "num_key_value_heads", 1024}};

/// Keys of an architecture that are read here, or that say nothing about what is computed.
constexpr std::array kKnownKeys{"context_length",
                                "embedding_length",
                                "block_count",
                                "feed_forward_length",
                                "attention.head_count",
                                "attention.head_count_kv",
                                "attention.layer_norm_rms_epsilon",
                                "attention.key_length",
                                "attention.value_length",
                                "rope.freq_base",
                                "rope.dimension_count",
                                "rope.scaling.type",
                                "rope.scaling.factor",
                                "rope.scaling.original_context_length",
                                "rope.scaling.finetuned",
                                "vocab_size",
                                "tensor_data_layout"};

/// The parameters with which Llama 3.1 and 3.2 were published.
struct Llama3Scaling {
  double factor = 8, low = 1, high = 4;
  std::int64_t original = 8192;
};

/// rope_freqs.weight: what each frequency is divided by. Source: Hugging Face, modeling_rope_utils.py.
std::vector<float> llama3_factors(const Llama3Scaling& s, double theta, std::int64_t head_dim) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double turns = static_cast<double>(s.original) * frequency / (2 * std::numbers::pi);
    const double blend = std::clamp((turns - s.low) / (s.high - s.low), 0.0, 1.0);
    out.push_back(static_cast<float>(1 / ((1 - blend) / s.factor + blend)));
  }
  return out;
}

/// A float as the double that its shortest decimal form names: 1e-5, not 9.99999974e-06.
Json decimal(double value) {
  return Json(static_cast<float>(value));
}

Error unsupported(const std::string& what) {
  return {ErrorCode::unsupported, what};
}

/// Our own keys, which other readers ignore: GGUF keeps only the factors that follow from them.
constexpr const char* kLlama3Low = "covey.rope_scaling.low_freq_factor";
constexpr const char* kLlama3High = "covey.rope_scaling.high_freq_factor";
constexpr const char* kLlama3Original = "covey.rope_scaling.original_context";

/// Scaling by rope_freqs.weight, recognised by its numbers: those of the published Llamas, or those that our own keys
/// lead to.
Status read_rope_factors(const GgufFile& file, double theta, std::int64_t head_dim, Json& config) {
  const GgufTensor* tensor = file.find("rope_freqs.weight");
  if (tensor == nullptr) return {};
  std::vector<float> factors(static_cast<std::size_t>(tensor->elements()));
  if (auto status = dequantize(*tensor->type, tensor->bytes, factors); !status.ok()) {
    return status.error().in(file.path() + ": rope_freqs.weight");
  }
  Llama3Scaling stated;
  COVEY_ASSIGN(stated.low, file.get_double(kLlama3Low, stated.low));
  COVEY_ASSIGN(stated.high, file.get_double(kLlama3High, stated.high));
  COVEY_ASSIGN(stated.original, file.get_int(kLlama3Original, stated.original));
  const double largest = factors.empty() ? 1 : *std::ranges::max_element(factors);
  for (const double factor : {largest, std::round(largest)}) {
    stated.factor = factor;
    const auto expected = llama3_factors(stated, theta, head_dim);
    const auto close = [](float a, float b) { return std::abs(a - b) <= 1e-5F * std::abs(b); };
    if (!std::ranges::equal(factors, expected, close)) continue;
    config.set("rope_scaling", Json::object({{"rope_type", "llama3"},
                                             {"factor", decimal(factor)},
                                             {"low_freq_factor", decimal(stated.low)},
                                             {"high_freq_factor", decimal(stated.high)},
                                             {"original_max_position_embeddings", stated.original}}));
    return {};
  }
  return unsupported(file.path() + ": tensor rope_freqs.weight scales RoPE in a way that config.json cannot say; " +
                     "only Llama 3's scaling is known");
}

Status read_rope(const GgufFile& file, const std::string& prefix, std::int64_t head_dim, Json& config) {
  COVEY_ASSIGN(const double theta, file.get_double(prefix + "rope.freq_base", 10000.0));
  config.set("rope_theta", decimal(theta));
  COVEY_ASSIGN(const std::int64_t turned, file.get_int(prefix + "rope.dimension_count", head_dim));
  if (turned != head_dim) return file.error_at(prefix + "rope.dimension_count", "is not the head's width");
  COVEY_ASSIGN(const std::string kind, file.get_string(prefix + "rope.scaling.type", "none"));
  if (kind == "linear") {
    COVEY_ASSIGN(const double factor, file.get_double(prefix + "rope.scaling.factor"));
    config.set("rope_scaling", Json::object({{"rope_type", "linear"}, {"factor", decimal(factor)}}));
  } else if (kind != "none") {
    return unsupported(file.path() + ": " + prefix + "rope.scaling.type is neither none nor linear");
  }
  return read_rope_factors(file, static_cast<double>(static_cast<float>(theta)), head_dim, config);
}

Status read_tokens(const GgufFile& file, Json& config) {
  const auto id = [&](const char* name) -> Result<std::int64_t> {
    const std::string key = std::string("tokenizer.ggml.") + name + "_token_id";
    COVEY_ASSIGN(const std::int64_t value, file.get_int(key, -1));
    // Writers put 2^32 - 1 where there is no such token.
    return value == 0xFFFFFFFF ? -1 : value;
  };
  COVEY_ASSIGN(const std::int64_t bos, id("bos"));
  COVEY_ASSIGN(const std::int64_t eos, id("eos"));
  COVEY_ASSIGN(const std::int64_t eot, id("eot"));
  COVEY_ASSIGN(const std::int64_t pad, id("padding"));
  if (bos >= 0) config.set("bos_token_id", bos);
  if (pad >= 0) config.set("pad_token_id", pad);
  if (eos >= 0 && eot >= 0 && eot != eos) {
    config.set("eos_token_id", Json::array({eos, eot}));
  } else if (eos >= 0) {
    config.set("eos_token_id", eos);
  }
  return {};
}

Status refuse_unknown(const GgufFile& file, const std::string& prefix) {
  for (const GgufEntry& entry : file.entries()) {
    if (!entry.key.starts_with(prefix)) continue;
    const std::string_view key = entry.key.substr(prefix.size());
    if (std::ranges::find(kKnownKeys, key) != kKnownKeys.end()) continue;
    if (!entry.value.is_array && entry.value.type != GgufType::string) {
      const auto number = entry.value.double_at(0);
      if (number.ok() && *number == 0) continue;  // an option that is off
    }
    return unsupported(file.path() + ": key " + std::string(entry.key.substr(0, 80)) +
                       " is not one that we compute; it may change the result");
  }
  return {};
}

}  // namespace

Result<Json> hf_config_of(const GgufFile& file) {
  COVEY_ASSIGN(const std::string architecture, file.get_string("general.architecture"));
  auto known = gguf_family(architecture);
  if (!known.ok()) return known.error().in(file.path());
  const GgufFamily& family = **known;
  const std::string prefix = architecture + ".";
  COVEY_TRY(refuse_unknown(file, prefix));
  Json config = Json::object({{"model_type", family.model_type}, {"hidden_act", "silu"}});
  config.set("architectures", Json::array({family.class_name}));
  for (const Size& size : kSizes) {
    const bool optional = std::string_view(size.key) == "attention.head_count_kv";
    const std::string key =
        prefix + (optional && !file.contains(prefix + size.key) ? "attention.head_count" : size.key);
    COVEY_ASSIGN(const std::int64_t value, file.get_int_between(key, 1, size.max));
    config.set(size.field, value);
  }
  const std::int64_t hidden = config.get_int("hidden_size").value();
  const std::int64_t heads = config.get_int("num_attention_heads").value();
  COVEY_ASSIGN(const std::int64_t head_dim, file.get_int(prefix + "attention.key_length", hidden / heads));
  COVEY_ASSIGN(const std::int64_t value_dim, file.get_int(prefix + "attention.value_length", head_dim));
  if (head_dim < 2 || head_dim > 4096 || head_dim % 2 != 0 || value_dim != head_dim) {
    return file.error_at(prefix + "attention.key_length", "(or value_length) gives heads of odd or unequal width");
  }
  config.set("head_dim", head_dim);
  COVEY_ASSIGN(const double epsilon, file.get_double(prefix + "attention.layer_norm_rms_epsilon"));
  config.set("rms_norm_eps", decimal(epsilon));
  COVEY_TRY(read_rope(file, prefix, head_dim, config));
  COVEY_ASSIGN(const GgufTensor* embedding, file.get("token_embd.weight"));
  if (embedding->shape.size() != 2) return file.error_at("tensor token_embd.weight", "has not two dimensions");
  config.set("vocab_size", embedding->shape[0]);
  config.set("tie_word_embeddings", file.find("output.weight") == nullptr);
  if (family.model_type == "llama") {
    config.set("attention_bias", file.find("blk.0.attn_q.bias") != nullptr);
    config.set("mlp_bias", file.find("blk.0.ffn_up.bias") != nullptr);
  }
  COVEY_TRY(read_tokens(file, config));
  return config;
}

namespace {

Status write_rope(const Json& config, const std::string& prefix, std::int64_t head_dim, GgufWriter& out) {
  COVEY_ASSIGN(const double theta, config.get_double("rope_theta"));
  out.set(prefix + "rope.freq_base", static_cast<float>(theta));
  out.set(prefix + "rope.dimension_count", static_cast<std::uint32_t>(head_dim));
  const Json* scaling = config.find("rope_scaling");
  if (scaling == nullptr || scaling->is_null()) return {};
  COVEY_ASSIGN(const std::string kind, scaling->get_string("rope_type"));
  COVEY_ASSIGN(const double factor, scaling->get_double("factor"));
  if (kind == "linear") {
    out.set(prefix + "rope.scaling.type", "linear");
    out.set(prefix + "rope.scaling.factor", static_cast<float>(factor));
    return {};
  }
  if (kind != "llama3") return unsupported("GGUF has no key for rope_scaling of type " + kind);
  Llama3Scaling llama3{.factor = factor};
  COVEY_ASSIGN(llama3.low, scaling->get_double("low_freq_factor"));
  COVEY_ASSIGN(llama3.high, scaling->get_double("high_freq_factor"));
  COVEY_ASSIGN(llama3.original, scaling->get_int("original_max_position_embeddings"));
  const std::vector<float> factors = llama3_factors(llama3, theta, head_dim);
  out.set(kLlama3Low, static_cast<float>(llama3.low));
  out.set(kLlama3High, static_cast<float>(llama3.high));
  out.set(kLlama3Original, static_cast<std::uint32_t>(llama3.original));
  COVEY_ASSIGN(Bytes bytes, quantize(GgmlType::f32, factors));
  out.add("rope_freqs.weight", ggml_type_info(GgmlType::f32), {head_dim / 2}, std::move(bytes));
  return {};
}

/// Fields of config.json that the keys above hold, or that need none.
constexpr std::array kHeldFields{"architectures",
                                 "model_type",
                                 "vocab_size",
                                 "hidden_size",
                                 "intermediate_size",
                                 "num_hidden_layers",
                                 "num_attention_heads",
                                 "num_key_value_heads",
                                 "head_dim",
                                 "rms_norm_eps",
                                 "tie_word_embeddings",
                                 "hidden_act",
                                 "rope_theta",
                                 "rope_scaling",
                                 "max_position_embeddings",
                                 "attention_bias",
                                 "mlp_bias",
                                 "torch_dtype",
                                 "bos_token_id",
                                 "eos_token_id",
                                 "pad_token_id"};

bool is_off(const Json& value) {
  return value.is_null() || value == Json(false) || value == Json(0) || value == Json(0.0) ||
         ((value.is_array() || value.is_object()) && value.empty());
}

}  // namespace

Status gguf_config_of(const Json& config, GgufWriter& out) {
  COVEY_ASSIGN(const std::string type, config.get_string("model_type"));
  COVEY_ASSIGN(const GgufFamily* family, gguf_family_of_type(type));
  for (const JsonMember& member : config.members()) {
    if (std::ranges::find(kHeldFields, member.key) == kHeldFields.end() && !is_off(member.value)) {
      return unsupported("GGUF's " + std::string(family->architecture) + " has no key for config.json's \"" +
                         member.key + "\"");
    }
  }
  COVEY_ASSIGN(const std::string activation, config.get_string("hidden_act", "silu"));
  if (activation != "silu") return unsupported("GGUF has no key for hidden_act \"" + activation + "\"");
  const std::string prefix = std::string(family->architecture) + ".";
  out.set("general.architecture", family->architecture);
  for (const Size& size : kSizes) {
    COVEY_ASSIGN(const std::int64_t value, config.get_int_between(size.field, 1, size.max));
    out.set(prefix + size.key, static_cast<std::uint32_t>(value));
  }
  COVEY_ASSIGN(const std::int64_t vocab, config.get_int_between("vocab_size", 1, 1 << 24));
  out.set(prefix + "vocab_size", static_cast<std::uint32_t>(vocab));
  COVEY_ASSIGN(const std::int64_t head_dim, config.get_int_between("head_dim", 2, 4096));
  const std::int64_t heads = config.get_int("num_attention_heads").value();
  if (head_dim * heads != config.get_int("hidden_size").value()) {
    out.set(prefix + "attention.key_length", static_cast<std::uint32_t>(head_dim));
    out.set(prefix + "attention.value_length", static_cast<std::uint32_t>(head_dim));
  }
  COVEY_ASSIGN(const double epsilon, config.get_double("rms_norm_eps"));
  out.set(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(epsilon));
  return write_rope(config, prefix, head_dim, out);
}

Status gguf_token_ids_of(const Json& config, GgufWriter& out) {
  const auto set = [&](const char* name, std::int64_t id) {
    if (id >= 0) out.set(std::string("tokenizer.ggml.") + name + "_token_id", static_cast<std::uint32_t>(id));
  };
  COVEY_ASSIGN(const std::int64_t bos, config.get_int("bos_token_id", -1));
  COVEY_ASSIGN(const std::int64_t pad, config.get_int("pad_token_id", -1));
  set("bos", bos);
  set("padding", pad);
  const Json* eos = config.find("eos_token_id");
  if (eos == nullptr || !eos->is_array()) {
    COVEY_ASSIGN(const std::int64_t id, config.get_int("eos_token_id", -1));
    set("eos", id);
    return {};
  }
  COVEY_ASSIGN(const auto ids, config.get_ints("eos_token_id"));
  if (ids.size() > 2) return unsupported("GGUF has keys for two eos ids, config.json names more");
  if (!ids.empty()) set("eos", ids[0]);
  if (ids.size() == 2) set("eot", ids[1]);
  return {};
}

}  // namespace covey::formats
