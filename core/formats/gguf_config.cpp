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

/// Sizes that every architecture has: key after "ARCH.", name in config.json, largest value.
struct Size {
  const char* key;
  std::string_view GgufSizes::*field;
  std::int64_t max;
};
constexpr std::array kSizes{
    Size{"context_length", &GgufSizes::context, 1 << 24},  Size{"embedding_length", &GgufSizes::hidden, 1 << 16},
    Size{"block_count", &GgufSizes::layers, 1024},         Size{"feed_forward_length", &GgufSizes::inner, 1 << 20},
    Size{"attention.head_count", &GgufSizes::heads, 1024}, Size{"attention.head_count_kv", &GgufSizes::kv_heads, 1024}};

/// Keys of an architecture that are read here, or that say nothing about what is computed.
constexpr std::array kKnownKeys{"context_length",
                                "embedding_length",
                                "block_count",
                                "feed_forward_length",
                                "attention.head_count",
                                "attention.head_count_kv",
                                "attention.layer_norm_rms_epsilon",
                                "attention.layer_norm_epsilon",
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

constexpr const char* kRmsEpsilon = "attention.layer_norm_rms_epsilon";
constexpr const char* kEpsilon = "attention.layer_norm_epsilon";

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

/// The share of a head, as a decimal that gives this width again.
Json share_of(std::int64_t turned, std::int64_t head_dim) {
  double share = static_cast<double>(turned) / static_cast<double>(head_dim);
  while (static_cast<std::int64_t>(static_cast<double>(head_dim) * share) < turned) share = std::nextafter(share, 2.0);
  return Json(share);
}

Status read_rope(const GgufFile& file, const GgufFamily& family, std::int64_t head_dim, Json& config) {
  const std::string prefix = std::string(family.architecture) + ".";
  COVEY_ASSIGN(const double theta, file.get_double(prefix + "rope.freq_base", 10000.0));
  config.set("rope_theta", decimal(theta));
  COVEY_ASSIGN(const std::int64_t turned, file.get_int(prefix + "rope.dimension_count", head_dim));
  if (turned < 2 || turned > head_dim || (turned != head_dim && family.rotated.empty())) {
    return file.error_at(prefix + "rope.dimension_count", "is not the head's width");
  }
  if (!family.rotated.empty()) config.set(family.rotated, share_of(turned, head_dim));
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

Status refuse_unknown(const GgufFile& file, const GgufFamily& family) {
  const std::string prefix = std::string(family.architecture) + ".";
  for (const GgufEntry& entry : file.entries()) {
    if (!entry.key.starts_with(prefix)) continue;
    const std::string_view key = entry.key.substr(prefix.size());
    if (std::ranges::find(kKnownKeys, key) != kKnownKeys.end()) continue;
    if (std::ranges::find(family.fields, key, &GgufField::key) != family.fields.end()) continue;
    if (!entry.value.is_array && entry.value.type != GgufType::string) {
      const auto number = entry.value.double_at(0);
      if (number.ok() && *number == 0) continue;  // an option that is off
    }
    return unsupported(file.path() + ": key " + std::string(entry.key.substr(0, 80)) +
                       " is not one that we compute; it may change the result");
  }
  return {};
}

/// What the family's own keys and the presence of tensors say.
Status read_fields(const GgufFile& file, const GgufFamily& family, Json& config) {
  const std::string prefix = std::string(family.architecture) + ".";
  for (const GgufFixed& fixed : family.fixed) {
    COVEY_ASSIGN(Json value, Json::parse(fixed.value));
    config.set(fixed.field, std::move(value));
  }
  for (const GgufName& flag : family.by_tensor) config.set(flag.hf, file.find(flag.gguf) != nullptr);
  for (const GgufField& field : family.fields) {
    const std::string key = prefix + std::string(field.key);
    if (!file.contains(key)) {
      config.set(field.field, Json());
      continue;
    }
    if (field.kind == GgufField::Kind::flag) {
      COVEY_ASSIGN(const bool value, file.get_bool(key));
      config.set(field.field, value);
    } else if (field.kind == GgufField::Kind::real) {
      COVEY_ASSIGN(const double value, file.get_double(key));
      config.set(field.field, value == 0 ? Json() : decimal(value));
    } else {
      COVEY_ASSIGN(const std::int64_t value, file.get_int_between(key, 0, 1 << 24));
      config.set(field.field, value == 0 ? Json() : Json(value));
    }
  }
  return {};
}

/// Gemma 2's queries are divided by the root of a number that GGUF does not hold: llama.cpp takes the head's width, of
/// the largest model (46 layers) the embedding's share of a head.
std::int64_t gemma2_scalar(std::int64_t layers, std::int64_t hidden, std::int64_t heads, std::int64_t head_dim) {
  return layers == 46 ? hidden / heads : head_dim;
}

}  // namespace

Result<Json> hf_config_of(const GgufFile& file) {
  COVEY_ASSIGN(const std::string architecture, file.get_string("general.architecture"));
  auto known = gguf_family(architecture);
  if (!known.ok()) return known.error().in(file.path());
  const GgufFamily& family = **known;
  const std::string prefix = architecture + ".";
  COVEY_TRY(refuse_unknown(file, family));
  Json config = Json::object({{"model_type", family.model_type}});
  config.set("architectures", Json::array({family.class_name}));
  std::int64_t sizes[kSizes.size()];
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    const bool kv = std::string_view(kSizes[i].key) == "attention.head_count_kv";
    const std::string key =
        prefix + (kv && !file.contains(prefix + kSizes[i].key) ? "attention.head_count" : kSizes[i].key);
    COVEY_ASSIGN(sizes[i], file.get_int_between(key, 1, kSizes[i].max));
    const std::string_view field = family.sizes.*kSizes[i].field;
    if (!field.empty()) config.set(field, sizes[i]);
  }
  const std::int64_t hidden = sizes[1];
  const std::int64_t heads = sizes[4];
  if (family.sizes.kv_heads.empty() && sizes[5] != heads) {
    return file.error_at(prefix + "attention.head_count_kv", "differs from head_count");
  }
  if (family.sizes.inner.empty() && sizes[3] != 4 * hidden) {
    return file.error_at(prefix + "feed_forward_length", "is not 4 times embedding_length");
  }
  COVEY_ASSIGN(const std::int64_t head_dim, file.get_int(prefix + "attention.key_length", hidden / heads));
  COVEY_ASSIGN(const std::int64_t value_dim, file.get_int(prefix + "attention.value_length", head_dim));
  if (head_dim < 2 || head_dim > 4096 || head_dim % 2 != 0 || value_dim != head_dim) {
    return file.error_at(prefix + "attention.key_length", "(or value_length) gives heads of odd or unequal width");
  }
  if (!family.sizes.head_dim.empty()) {
    config.set(family.sizes.head_dim, head_dim);
  } else if (head_dim * heads != hidden) {
    return file.error_at(prefix + "attention.key_length", "is not embedding_length by head_count");
  }
  const double usual = family.sizes.epsilon.empty() ? 1e-5 : -1;
  const std::string epsilon_key = prefix + (family.rms ? kRmsEpsilon : kEpsilon);
  const auto epsilon = usual > 0 ? file.get_double(epsilon_key, usual) : file.get_double(epsilon_key);
  COVEY_TRY(epsilon);
  if (!family.sizes.epsilon.empty()) {
    config.set(family.sizes.epsilon, decimal(*epsilon));
  } else if (decimal(*epsilon) != decimal(usual)) {
    return file.error_at(epsilon_key, "is not 1e-5, which these models have");
  }
  if (family.rope) COVEY_TRY(read_rope(file, family, head_dim, config));
  COVEY_ASSIGN(const GgufTensor* embedding, file.get("token_embd.weight"));
  if (embedding->shape.size() != 2) return file.error_at("tensor token_embd.weight", "has not two dimensions");
  config.set("vocab_size", embedding->shape[0]);
  config.set("tie_word_embeddings", file.find("output.weight") == nullptr);
  COVEY_TRY(read_fields(file, family, config));
  if (architecture == "gemma2") {
    config.set("query_pre_attn_scalar", gemma2_scalar(sizes[2], hidden, heads, head_dim));
  }
  COVEY_TRY(read_tokens(file, config));
  return config;
}

namespace {

Status write_rope(const Json& config, const GgufFamily& family, std::int64_t head_dim, GgufWriter& out) {
  const std::string prefix = std::string(family.architecture) + ".";
  COVEY_ASSIGN(const double theta, config.get_double("rope_theta", 10000.0));
  double share = 1;
  if (!family.rotated.empty()) {
    COVEY_ASSIGN(share, config.get_double(family.rotated));
  }
  if (!(share > 0 && share <= 1)) return config.error_at(family.rotated, "must lie between 0 and 1");
  const auto turned = static_cast<std::int64_t>(static_cast<double>(head_dim) * share);
  out.set(prefix + "rope.freq_base", static_cast<float>(theta));
  out.set(prefix + "rope.dimension_count", static_cast<std::uint32_t>(turned));
  const Json* scaling = config.find("rope_scaling");
  if (scaling == nullptr || scaling->is_null()) return {};
  COVEY_ASSIGN(const std::string older, scaling->get_string("type", "default"));
  COVEY_ASSIGN(const std::string kind, scaling->get_string("rope_type", older));
  if (kind == "default") return {};
  if (kind != "linear" && kind != "llama3")
    return unsupported("GGUF has no key for rope_scaling of type " + shown(kind));
  COVEY_ASSIGN(const double factor, scaling->get_double("factor"));
  if (kind == "linear") {
    out.set(prefix + "rope.scaling.type", "linear");
    out.set(prefix + "rope.scaling.factor", static_cast<float>(factor));
    return {};
  }
  if (turned != head_dim) return unsupported("GGUF has no key for rope_scaling of a part of each head");
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

/// Fields of config.json that the tables do not name, and that some key holds or that need none.
constexpr std::array kHeldFields{"architectures",       "model_type",   "vocab_size",   "head_dim",
                                 "tie_word_embeddings", "rope_theta",   "rope_scaling", "torch_dtype",
                                 "bos_token_id",        "eos_token_id", "pad_token_id", "num_key_value_heads"};
/// The engine has seen that these agree with what is held.
constexpr std::array kSaidTwice{"hidden_act", "partial_rotary_factor", "rotary_emb_base",     "n_embed",
                                "n_inner",    "num_hidden_layers",     "num_attention_heads", "layer_types"};

bool is_off(const Json& value) {
  return value.is_null() || value == Json(false) || value == Json(0) || value == Json(0.0) ||
         ((value.is_array() || value.is_object()) && value.empty());
}

/// By name what no key of the family's says.
Status refuse_unheld(const Json& config, const GgufFamily& family) {
  const auto one_of = [](const auto& list, std::string_view key, auto projection) {
    return std::ranges::find(list, key, projection) != list.end();
  };
  const GgufSizes& s = family.sizes;
  const std::array sizes = {s.context,  s.hidden,   s.layers,  s.inner,       s.heads,
                            s.kv_heads, s.head_dim, s.epsilon, family.rotated};
  for (const JsonMember& member : config.members()) {
    const auto plain = [](std::string_view key) { return key; };
    const bool held = one_of(kHeldFields, member.key, plain) || one_of(sizes, member.key, plain) ||
                      one_of(family.fields, member.key, &GgufField::field) ||
                      one_of(family.by_tensor, member.key, &GgufName::hf) ||
                      (family.architecture == "gemma2" && member.key == "query_pre_attn_scalar");
    const auto fixed = std::ranges::find(family.fixed, member.key, &GgufFixed::field);
    if (fixed != family.fixed.end()) {
      COVEY_ASSIGN(const Json only, Json::parse(fixed->value));
      if (member.value == only || member.value.is_null()) continue;
      return unsupported("GGUF's " + std::string(family.architecture) + " means " + member.key + " " +
                         std::string(fixed->value) + " and has no key for another");
    }
    const bool twice = !family.rms || family.plus_one ? one_of(kSaidTwice, member.key, plain) : false;
    if (held || twice || is_off(member.value)) continue;
    return unsupported("GGUF's " + std::string(family.architecture) + " has no key for config.json's \"" + member.key +
                       "\"");
  }
  return {};
}

Status write_fields(const Json& config, const GgufFamily& family, GgufWriter& out) {
  for (const GgufField& field : family.fields) {
    const std::string key = std::string(family.architecture) + "." + std::string(field.key);
    const Json* given = config.find(field.field);
    if (given == nullptr || given->is_null()) continue;
    if (field.kind == GgufField::Kind::flag) {
      COVEY_ASSIGN(const bool value, config.get_bool(field.field));
      out.set(key, value);
    } else if (field.kind == GgufField::Kind::real) {
      COVEY_ASSIGN(const double value, config.get_double(field.field));
      out.set(key, static_cast<float>(value));
    } else {
      COVEY_ASSIGN(const std::int64_t value, config.get_int_between(field.field, 0, 1 << 24));
      out.set(key, static_cast<std::uint32_t>(value));
    }
  }
  return {};
}

}  // namespace

Status gguf_config_of(const Json& config, GgufWriter& out) {
  COVEY_ASSIGN(const std::string type, config.get_string("model_type"));
  COVEY_ASSIGN(const GgufFamily* known, gguf_family_of_type(type));
  const GgufFamily& family = *known;
  COVEY_TRY(refuse_unheld(config, family));
  const std::string prefix = std::string(family.architecture) + ".";
  out.set("general.architecture", family.architecture);
  std::int64_t sizes[kSizes.size()];
  for (std::size_t i = 0; i < kSizes.size(); ++i) {
    const std::string_view field = family.sizes.*kSizes[i].field;
    const Json* given = field.empty() ? nullptr : config.find(field);
    const bool stated = given != nullptr && !given->is_null();
    if (!stated && kSizes[i].field == &GgufSizes::inner) {
      sizes[i] = 4 * sizes[1];
    } else if (!stated && kSizes[i].field == &GgufSizes::kv_heads) {
      sizes[i] = sizes[4];
    } else if (!stated && family.architecture == "bloom" && i == 0) {
      sizes[i] = 2048;  // its positions have no end; this is what the first of them were trained with
    } else {
      COVEY_ASSIGN(sizes[i], config.get_int_between(field, 1, kSizes[i].max));
    }
    out.set(prefix + kSizes[i].key, static_cast<std::uint32_t>(sizes[i]));
  }
  const std::int64_t hidden = sizes[1];
  const std::int64_t heads = sizes[4];
  COVEY_ASSIGN(const std::int64_t vocab, config.get_int_between("vocab_size", 1, 1 << 24));
  out.set(prefix + "vocab_size", static_cast<std::uint32_t>(vocab));
  COVEY_ASSIGN(const std::int64_t head_dim, config.get_int_between("head_dim", 2, 4096));
  if (head_dim * heads != hidden) {
    out.set(prefix + "attention.key_length", static_cast<std::uint32_t>(head_dim));
    out.set(prefix + "attention.value_length", static_cast<std::uint32_t>(head_dim));
  }
  double epsilon = 1e-5;
  if (!family.sizes.epsilon.empty()) {
    COVEY_ASSIGN(epsilon, config.get_double(family.sizes.epsilon));
  }
  out.set(prefix + (family.rms ? kRmsEpsilon : kEpsilon), static_cast<float>(epsilon));
  if (family.architecture == "gemma2") {
    COVEY_ASSIGN(const double scalar, config.get_double("query_pre_attn_scalar", 256));
    if (scalar != static_cast<double>(gemma2_scalar(sizes[2], hidden, heads, head_dim))) {
      return unsupported("GGUF has no key for a query_pre_attn_scalar other than the head's width");
    }
  }
  COVEY_TRY(write_fields(config, family, out));
  return family.rope ? write_rope(config, family, head_dim, out) : Status();
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
