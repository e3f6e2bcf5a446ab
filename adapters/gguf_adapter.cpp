#include "adapters/gguf_adapter.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "adapters/adapter_file.h"
#include "core/formats/gguf_families.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/quant_blocks.h"

namespace covey::adapters {
namespace {

using formats::GgmlType;

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kA = ".lora_a";
constexpr std::string_view kB = ".lora_b";

/// How the rows of a site's B lie otherwise: as those of its matrix.
formats::GgufChange rows_of(const formats::GgufFamily& family, std::string_view gguf_name,
                            const model::ModelConfig& config) {
  const auto change = formats::gguf_change(family, gguf_name, config.heads, config.kv_heads);
  return change.moves_rows() ? change : formats::GgufChange{};
}

/// A's scale as the file computes it, alpha / rank, times this is the site's own.
double alpha_of(const LoraEntry& entry) {
  return entry.rslora ? static_cast<double>(entry.scale()) * entry.rank : entry.alpha;
}

std::string tensor_error(const std::string& path, std::string_view name, const std::string& what) {
  return path + ": tensor " + std::string(name) + " " + what;
}

/// A and B of one site, as they lie in the file.
struct Pair {
  const formats::GgufTensor* a = nullptr;
  const formats::GgufTensor* b = nullptr;
};

Result<std::map<std::string, Pair>> pairs_of(const formats::GgufFile& file, const formats::GgufFamily& family) {
  std::map<std::string, Pair> pairs;
  for (const auto& tensor : file.tensors()) {
    const bool is_a = tensor.name.ends_with(kA);
    if (!is_a && !tensor.name.ends_with(kB)) {
      return Error{ErrorCode::unsupported, tensor_error(file.path(), tensor.name, "is no half of a LoRA pair")};
    }
    const std::string_view base = tensor.name.substr(0, tensor.name.size() - kA.size());
    std::string layer = formats::hf_tensor_name(family, base);
    if (!layer.ends_with(kWeight) || tensor.shape.size() != 2) {
      return Error{ErrorCode::unsupported, tensor_error(file.path(), tensor.name, "belongs to no linear layer")};
    }
    layer.resize(layer.size() - kWeight.size());
    (is_a ? pairs[layer].a : pairs[layer].b) = &tensor;
  }
  for (const auto& [layer, pair] : pairs) {
    if (pair.a == nullptr || pair.b == nullptr || pair.a->shape[0] != pair.b->shape[1]) {
      return Error{ErrorCode::corrupt_data, file.path() + ": A and B of " + layer + " do not fit each other"};
    }
  }
  return pairs;
}

Status append(const formats::GgufFile& file, const formats::GgufTensor& tensor, const formats::GgufChange& rows,
              std::vector<float>& values) {
  const std::size_t at = values.size();
  auto shape = tensor.shape;
  auto bytes = formats::gguf_changed(rows, *tensor.type, shape, tensor.bytes, false);
  if (!bytes.ok()) {
    return Error{bytes.error().code, tensor_error(file.path(), tensor.name, bytes.error().message)};
  }
  values.resize(at + static_cast<std::size_t>(tensor.elements()));
  auto status = dequantize(*tensor.type, *bytes, std::span(values).subspan(at));
  if (status.ok()) return {};
  return Error{status.error().code, tensor_error(file.path(), tensor.name, status.error().message)};
}

/// What the keys must say before a tensor is looked at. @return alpha; 0: the scale is 1.
Result<double> check_keys(const formats::GgufFile& file, const formats::GgufFamily& family) {
  COVEY_ASSIGN(const std::string type, file.get_string("general.type"));
  if (type != "adapter") {
    return Error{ErrorCode::unsupported, file.path() + ": is a GGUF of another type than adapter"};
  }
  COVEY_ASSIGN(const std::string kind, file.get_string("adapter.type"));
  if (kind != "lora") return Error{ErrorCode::unsupported, file.path() + ": is an adapter of another type than lora"};
  COVEY_ASSIGN(const std::string architecture, file.get_string("general.architecture"));
  if (architecture != family.architecture) {
    return Error{ErrorCode::invalid_argument, file.path() + ": is made for another architecture than the model's " +
                                                  std::string(family.architecture)};
  }
  return file.get_double("adapter.lora.alpha");
}

}  // namespace

Status save_gguf_adapter(const std::string& path, const Adapter& adapter, const model::Model& model) {
  COVEY_ASSIGN(const formats::GgufFamily* family, formats::gguf_family_of_type(model.config().family));
  const auto& entries = adapter.layout().lora;
  if (entries.empty() || !adapter.layout().parts.empty() || adapter.layout().prompt_tokens > 0) {
    return Error{ErrorCode::unsupported, path + ": GGUF holds LoRA alone; save another adapter as a directory"};
  }
  if (!adapter.layout().head.empty()) {
    return Error{ErrorCode::unsupported, path + ": GGUF has no place for a trained classification head"};
  }
  const double alpha = alpha_of(entries.front());
  formats::GgufWriter writer;
  writer.set("general.type", "adapter");
  writer.set("general.architecture", family->architecture);
  writer.set("adapter.type", "lora");
  writer.set("adapter.lora.alpha", static_cast<float>(alpha));
  const auto& f32 = ggml_type_info(GgmlType::f32);
  for (const LoraEntry& entry : entries) {
    const std::string name = formats::gguf_tensor_name(*family, entry.path + std::string(kWeight));
    if (name.empty()) return Error{ErrorCode::unsupported, path + ": GGUF has no name for the layer " + entry.path};
    const auto values = adapter.values().subspan(static_cast<std::size_t>(entry.offset));
    const auto a = values.first(static_cast<std::size_t>(entry.a_size()));
    const auto b = values.subspan(a.size(), static_cast<std::size_t>(entry.b_size()));
    COVEY_ASSIGN(Bytes a_bytes, formats::quantize(GgmlType::f32, a));
    std::vector<float> scaled(b.begin(), b.end());
    if (const double own = alpha_of(entry); own != alpha) {
      for (float& value : scaled) value = static_cast<float>(value * (own / alpha));
    }
    COVEY_ASSIGN(Bytes b_bytes, formats::quantize(GgmlType::f32, scaled));
    std::vector<std::int64_t> shape = {entry.out, entry.rank};
    COVEY_ASSIGN(b_bytes, formats::gguf_changed(rows_of(*family, name, model.config()), f32, shape, b_bytes, true));
    writer.add(name + std::string(kA), f32, {entry.rank, entry.in}, std::move(a_bytes));
    writer.add(name + std::string(kB), f32, {entry.out, entry.rank}, std::move(b_bytes));
  }
  return writer.write(path);
}

Result<Adapter> load_gguf_adapter(const std::string& path, const model::Model& model) {
  COVEY_ASSIGN(const formats::GgufFamily* family, formats::gguf_family_of_type(model.config().family));
  COVEY_ASSIGN(const auto file, formats::GgufFile::open(path));
  COVEY_ASSIGN(const double alpha, check_keys(file, *family));
  COVEY_ASSIGN(auto pairs, pairs_of(file, *family));
  std::vector<LoraEntry> entries;
  std::vector<float> values;
  for (const auto& site : model.linear_sites()) {  // the flat order is the model's
    const auto found = pairs.find(site.path);
    if (found == pairs.end()) continue;
    const Pair& pair = found->second;
    if (pair.a->shape[1] != site.in || pair.b->shape[0] != site.out) {
      return Error{ErrorCode::invalid_argument,
                   path + ": A and B of " + site.path + " have other shapes than the model"};
    }
    LoraEntry entry{.path = site.path, .in = site.in, .out = site.out};
    entry.rank = static_cast<int>(std::min<std::int64_t>(pair.a->shape[0], kRankMax + 1));
    entry.alpha = alpha == 0 ? entry.rank : alpha;
    entries.push_back(std::move(entry));
    const std::string name = formats::gguf_tensor_name(*family, site.path + std::string(kWeight));
    COVEY_TRY(append(file, *pair.a, {}, values));
    COVEY_TRY(append(file, *pair.b, rows_of(*family, name, model.config()), values));
    pairs.erase(found);
  }
  if (!pairs.empty()) {
    return Error{ErrorCode::invalid_argument, path + ": the model has no linear layer " + pairs.begin()->first +
                                                  "; the adapter belongs to another model"};
  }
  auto layout = AdapterLayout::of(std::move(entries));
  if (!layout.ok()) return layout.error().in(path);
  auto adapter = Adapter::create(model, *std::move(layout), std::move(values));
  if (!adapter.ok()) return adapter.error().in(path);
  return adapter;
}

Result<Adapter> load_adapter(const std::string& path, const model::Model& model) {
  if (path.ends_with(".gguf")) return load_gguf_adapter(path, model);
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    COVEY_ASSIGN(const bool flat, is_flat(path));
    if (flat) return load_flat(path, model);
    return load_peft(path, model);
  }
  const std::filesystem::path own = std::filesystem::path(path) / kFlatName;
  return std::filesystem::exists(own, ignored) ? load_flat(own.string(), model) : load_peft(path, model);
}

}  // namespace covey::adapters
