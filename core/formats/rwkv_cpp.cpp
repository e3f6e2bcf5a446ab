#include "core/formats/rwkv_cpp.h"

#include <cmath>
#include <cstring>
#include <utility>

namespace covey::formats {
namespace {

constexpr std::uint32_t kRwkvMagic = 0x67676d66;
constexpr std::size_t kRwkvHeaderBytes = 24;
constexpr std::size_t kRwkvTensorsMax = std::size_t{1} << 16;
constexpr std::uint32_t kRwkvNameMax = 256;
// What the format does not say: the lengths that published models were trained on. The state itself has no end.
constexpr int kContext4 = 1024;
constexpr int kContext7 = 4096;
constexpr const char* kMixed = "rwkvag";  ///< order of version 7's stacked mixes

std::uint32_t word_at(ByteSpan file, std::size_t at) {
  std::uint32_t value = 0;
  std::memcpy(&value, file.data() + at, sizeof value);
  return value;
}

void replace(std::string& name, std::string_view from, std::string_view to) {
  if (const auto found = name.find(from); found != std::string::npos) name.replace(found, from.size(), to);
}

std::string name_in_version4(std::string name) {
  constexpr std::pair<std::string_view, std::string_view> kChanges[] = {{"emb.weight", "embeddings.weight"},
                                                                        {"att.", "attention."},
                                                                        {"ffn.", "feed_forward."},
                                                                        {"time_mix_k", "time_mix_key"},
                                                                        {"time_mix_v", "time_mix_value"},
                                                                        {"time_mix_r", "time_mix_receptance"},
                                                                        {"ln0", "pre_ln"}};
  for (const auto& [from, to] : kChanges) replace(name, from, to);
  return name.starts_with("head.") ? name : "rwkv." + name;
}

std::string name_in_version7(std::string name) {
  if (name.starts_with("emb.")) return "model.embeddings.weight";
  if (name.starts_with("head.")) return "lm_head.weight";
  constexpr std::pair<std::string_view, std::string_view> kChanges[] = {
      {"blocks.", "model.layers."}, {"ln_out", "model.norm"},    {"ln0", "pre_norm"},
      {"ln1", "attn_norm"},         {"ln2", "ffn_norm"},         {"att.ln_x", "att.g_norm"},
      {"att.key", "att.k_proj"},    {"att.value", "att.v_proj"}, {"att.receptance", "att.r_proj"},
      {"att.output", "att.o_proj"}, {".att.", ".attn."}};
  for (const auto& [from, to] : kChanges) replace(name, from, to);
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos || name.size() != dot + 3 || name.find(".attn.") == std::string::npos) return name;
  const char letter = name[dot + 1];
  const char digit = name[dot + 2];
  if (std::string_view("wvag").find(letter) == std::string_view::npos || digit < '0' || digit > '2') return name;
  constexpr std::string_view kParts[] = {"2.bias", "0.weight", "2.weight"};
  return name.substr(0, dot + 1) + letter + "_lora.lora." + std::string(kParts[digit - '0']);
}

/// Sizes without the ones in front.
std::vector<std::int64_t> plain_shape(std::vector<std::int64_t> shape) {
  while (shape.size() > 1 && shape.front() == 1) shape.erase(shape.begin());
  return shape;
}

}  // namespace

struct RwkvCppFile::Header {
  int vocab = 0;
  int width = 0;
  int layers = 0;
};

bool is_rwkv_cpp(const std::string& path) {
  const auto file = MappedFile::open(path);
  return file.ok() && file->bytes().size() >= kRwkvHeaderBytes && word_at(file->bytes(), 0) == kRwkvMagic;
}

Status RwkvCppFile::read_tensor(ByteSpan file, std::size_t& at) {
  if (file.size() - at < 12) return corrupt(where_, "is cut off; fetch it again");
  const std::uint32_t dimensions = word_at(file, at);
  const std::uint32_t length = word_at(file, at + 4);
  const std::uint32_t type = word_at(file, at + 8);
  at += 12;
  if (dimensions < 1 || dimensions > 4 || length < 1 || length > kRwkvNameMax) {
    return corrupt(where_, "holds a tensor with " + std::to_string(dimensions) + " dimensions and a name of " +
                               std::to_string(length) + " bytes");
  }
  if (file.size() - at < 4 * dimensions + length) return corrupt(where_, "is cut off; fetch it again");
  TensorView tensor;
  const std::size_t name_at = at + 4 * std::size_t{dimensions};
  tensor.name.assign(reinterpret_cast<const char*>(file.data()) + name_at, length);
  if (type > 1) {
    return Error{ErrorCode::unsupported,
                 where_ + ": tensor " + shown(tensor.name, 64) + " is quantized; take the FP32 or FP16 file"};
  }
  tensor.dtype = type == 0 ? DType::f32 : DType::f16;
  const std::size_t room = (file.size() - name_at - length) / size_of(tensor.dtype);
  std::size_t count = 1;
  for (std::uint32_t d = dimensions; d-- > 0;) {
    const std::uint32_t extent = word_at(file, at + 4 * std::size_t{d});
    if (extent < 1 || extent > room / count) {
      return corrupt(where_, "is cut off inside tensor " + shown(tensor.name, 64) + "; fetch it again");
    }
    count *= extent;
    tensor.shape.push_back(extent);
  }
  at = name_at + length;
  tensor.bytes = file.subspan(at, count * size_of(tensor.dtype));
  at += tensor.bytes.size();
  const std::string name = tensor.name;
  if (tensors_.size() >= kRwkvTensorsMax) return corrupt(where_, "holds more than 65536 tensors");
  if (!tensors_.emplace(name, std::move(tensor)).second) {
    return corrupt(where_, "holds tensor " + shown(name, 64) + " twice");
  }
  return {};
}

Status RwkvCppFile::name_tensors(const Header& header) {
  const bool seven = tensors_.contains("blocks.0.att.r_k");
  const bool four = tensors_.contains("blocks.0.att.time_mix_k") && !tensors_.contains("blocks.0.att.ln_x.weight");
  if (!seven && !four) {
    return Error{ErrorCode::unsupported, where_ + ": is an RWKV of version 5 or 6; we compute versions 4 and 7"};
  }
  rwkv_version_ = seven ? 7 : 4;
  std::map<std::string, TensorView> renamed;
  for (auto& [name, tensor] : tensors_) {
    if (seven && name.ends_with("att.x_rwkvag")) {
      const std::size_t width = static_cast<std::size_t>(header.width) * size_of(tensor.dtype);
      if (tensor.bytes.size() != 6 * width) return corrupt(where_, name + " is not six rows of the width");
      for (std::size_t i = 0; i < 6; ++i) {
        TensorView part = tensor;
        part.shape = {header.width};
        part.bytes = tensor.bytes.subspan(i * width, width);
        renamed[name_in_version7(name.substr(0, name.rfind('.')) + ".x_" + kMixed[i])] = part;
      }
      continue;
    }
    renamed[seven ? name_in_version7(name) : name_in_version4(name)] = std::move(tensor);
  }
  tensors_ = std::move(renamed);
  return {};
}

Result<std::int64_t> RwkvCppFile::size_of_tensor(const std::string& name, std::size_t from_end) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return corrupt(where_, "holds no tensor for " + name);
  const auto& shape = found->second.shape;
  return from_end < shape.size() ? shape[shape.size() - 1 - from_end] : std::int64_t{1};
}

Status RwkvCppFile::describe(const Header& header) {
  config_ = Json::object({{"vocab_size", header.vocab},
                          {"hidden_size", header.width},
                          {"num_hidden_layers", header.layers},
                          {"tie_word_embeddings", false}});
  const auto size = [&](const char* key, const std::string& name, std::size_t from_end) -> Status {
    COVEY_ASSIGN(const std::int64_t value, size_of_tensor(name, from_end));
    config_.set(key, value);
    return {};
  };
  if (rwkv_version_ == 4) {
    config_.set("model_type", "rwkv").set("architectures", Json::array({"RwkvForCausalLM"}));
    config_.set("context_length", kContext4);
    COVEY_TRY(size("attention_hidden_size", "rwkv.blocks.0.attention.key.weight", 1));
    return size("intermediate_size", "rwkv.blocks.0.feed_forward.key.weight", 1);
  }
  config_.set("model_type", "rwkv7").set("architectures", Json::array({"RWKV7ForCausalLM"}));
  config_.set("max_position_embeddings", kContext7).set("hidden_act", "sqrelu");
  const std::string first = "model.layers.0.";
  COVEY_TRY(size("head_dim", first + "attn.r_k", 0));
  COVEY_TRY(size("intermediate_size", first + "ffn.key.weight", 1));
  COVEY_TRY(size("decay_low_rank_dim", first + "attn.w_lora.lora.0.weight", 1));
  COVEY_TRY(size("a_low_rank_dim", first + "attn.a_lora.lora.0.weight", 1));
  COVEY_TRY(size("gate_low_rank_dim", first + "attn.g_lora.lora.0.weight", 1));
  if (header.layers == 1) return {};
  return size("v_low_rank_dim", "model.layers.1.attn.v_lora.lora.0.weight", 1);
}

Result<RwkvCppFile> RwkvCppFile::parse(ByteSpan file, const std::string& where) {
  RwkvCppFile result;
  result.where_ = where;
  if (file.size() < kRwkvHeaderBytes || word_at(file, 0) != kRwkvMagic) {
    return corrupt(where, "is no rwkv.cpp model");
  }
  const std::uint32_t version = word_at(file, 4);
  if (version != 100 && version != 101) {
    return Error{ErrorCode::unsupported,
                 where + ": is version " + std::to_string(version) + " of rwkv.cpp's format; we read 100 and 101"};
  }
  const struct {
    const char* name;
    std::uint32_t value, max;
  } fields[] = {{"n_vocab", word_at(file, 8), 1U << 24},
                {"n_embed", word_at(file, 12), 1U << 16},
                {"n_layer", word_at(file, 16), 1U << 10}};
  for (const auto& field : fields) {
    if (field.value < 1 || field.value > field.max) {
      return corrupt(where, std::string("says ") + field.name + " " + std::to_string(field.value) + ", outside 1.." +
                                std::to_string(field.max));
    }
  }
  const Header header{static_cast<int>(fields[0].value), static_cast<int>(fields[1].value),
                      static_cast<int>(fields[2].value)};
  result.vocab_ = header.vocab;
  for (std::size_t at = kRwkvHeaderBytes; at < file.size();) COVEY_TRY(result.read_tensor(file, at));
  COVEY_TRY(result.name_tensors(header));
  COVEY_TRY(result.describe(header));
  return result;
}

Result<RwkvCppFile> RwkvCppFile::open(const std::string& path) {
  COVEY_ASSIGN(MappedFile file, MappedFile::open(path));
  COVEY_ASSIGN(RwkvCppFile result, parse(file.bytes(), path));
  result.file_ = std::move(file);
  return result;
}

Result<const TensorView*> RwkvCppFile::find(const std::string& name, const std::vector<std::int64_t>& shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return Error{ErrorCode::not_found, where_ + ": holds no tensor for " + name};
  const TensorView& tensor = found->second;
  if (plain_shape(tensor.shape) == plain_shape(shape)) return &tensor;
  return corrupt(where_,
                 "tensor for " + name + " has shape " + tensor.shape_text() + ", which is not what the others ask for");
}

Status RwkvCppFile::read(const std::string& name, const std::vector<std::int64_t>& shape, std::span<float> out) const {
  COVEY_ASSIGN(const TensorView* tensor, find(name, shape));
  COVEY_TRY(to_f32(*tensor, out));
  // The file holds -exp(decay), Hugging Face's directories the decay.
  if (rwkv_version_ == 4 && name.ends_with("time_decay")) {
    for (float& value : out) {
      if (!(value < 0)) return corrupt(where_, "tensor for " + name + " is not below zero everywhere");
      value = std::log(-value);
    }
  }
  return {};
}

}  // namespace covey::formats
