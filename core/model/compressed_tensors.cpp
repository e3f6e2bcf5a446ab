#include "core/model/compressed_tensors.h"

#include <algorithm>
#include <cmath>

#include "core/base/folder.h"
#include "core/formats/safetensors.h"
#include "core/model/config_json.h"
#include "core/model/families.h"

namespace covey::model {
namespace {

using formats::Json;

Error not_computed(const std::string& where, const std::string& member, const std::string& wanted) {
  return Error{ErrorCode::unsupported, where + ": quantization_config." + member + " other than " + wanted +
                                           " is not computed; re-quantize the model, or take its f32 files"};
}

/// Missing, or one of the JSON values that say "none".
bool says_nothing(const Json* value) {
  return value == nullptr || value->is_null() || *value == Json(false) || *value == Json("") ||
         ((value->is_array() || value->is_object()) && value->empty());
}

/// Members that do not change what is computed from a file in int8.
bool is_informational(std::string_view key) {
  return key == "observer" || key == "observer_kwargs" || key == "zp_dtype" || key == "scale_dtype";
}

/// What the format takes where a member is missing or null.
Json value_or_default(const Json& numbers, std::string_view key) {
  const Json* given = numbers.find(key);
  if (given != nullptr && !given->is_null()) return *given;
  if (key == "num_bits") return 8;
  if (key == "type") return "int";
  if (key == "symmetric") return true;
  if (key == "dynamic") return false;
  const Json* group = numbers.find("group_size");  // of "strategy"
  if (group == nullptr || group->is_null()) return "tensor";
  return *group == Json(-1) ? "channel" : "group";
}

/// Eight bits, symmetric. @param what  "weights" or "input_activations"
Status check_numbers(const Json& group, const std::string& where, const std::string& path, const std::string& what,
                     const char* strategy, bool dynamic) {
  const std::string name = path + "." + what;
  const Json* numbers = group.find(what);
  if (numbers == nullptr || !numbers->is_object()) {
    return Error{ErrorCode::unsupported, where + ": quantization_config." + name +
                                             " is missing; we compute int8 weights with int8 activations"};
  }
  const std::pair<const char*, Json> wanted[] = {
      {"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", strategy}, {"dynamic", dynamic}};
  for (const auto& [key, value] : wanted) {
    if (!(value_or_default(*numbers, key) == value)) return not_computed(where, name + "." + key, value.dump());
  }
  for (const auto& member : numbers->members()) {
    const bool checked =
        std::ranges::any_of(wanted, [&](const auto& of) { return std::string_view(of.first) == member.key; });
    if (checked || is_informational(member.key) || says_nothing(&member.value)) continue;
    if (member.key == "group_size" && member.value == Json(-1)) continue;  // "the whole row"
    // GPTQ may have gone through the columns in another order; "group" would also keep them so.
    if (member.key == "actorder" && (member.value == Json("weight") || member.value == Json("static"))) continue;
    return not_computed(where, name + "." + member.key, "null");
  }
  return {};
}

Status check_group(const Json& group, const std::string& where, const std::string& path) {
  if (!group.is_object()) return not_computed(where, path, "an object of its numbers");
  COVEY_TRY(check_numbers(group, where, path, "weights", "channel", false));
  COVEY_TRY(check_numbers(group, where, path, "input_activations", "token", true));
  for (const auto& member : group.members()) {
    // Which layers are meant is said again by the tensors themselves: those that are I8.
    if (member.key == "weights" || member.key == "input_activations" || member.key == "targets") continue;
    if (member.key == "format" && member.value == Json("int-quantized")) continue;
    if (!says_nothing(&member.value)) return not_computed(where, path + "." + member.key, "null");
  }
  return {};
}

bool passes(const Json& all, const std::string& key) {
  static const std::set<std::string_view> kElsewhere = {"quant_method", "format", "config_groups"};
  static const std::set<std::string_view> kOfNoEffect = {"ignore", "quantization_status", "global_compression_ratio",
                                                         "version", "run_compressed"};
  if (kElsewhere.contains(key) || kOfNoEffect.contains(key)) return true;
  const Json* value = all.find(key);
  if (key == "sparsity_config" && value->is_object()) {
    const Json* format = value->find("format");
    return format == nullptr ? value->empty() : *format == Json("dense");
  }
  return says_nothing(value);
}

Json numbers_of(const char* strategy, bool dynamic) {
  return Json::object(
      {{"num_bits", 8}, {"type", "int"}, {"symmetric", true}, {"strategy", strategy}, {"dynamic", dynamic}});
}

bool stored_in_int8(const Linear& linear) {
  return linear.int8 != nullptr && !linear.word_head;
}

Json quantization_config(const Model::Impl& impl) {
  Json ignored = Json::array({std::string(names_of(impl.config).head)});
  for (const Linear& linear : impl.linears) {
    if (stored_in_int8(linear) || linear.site < 0) continue;
    const std::string& path = impl.sites[static_cast<std::size_t>(linear.site)].path;
    if (path != names_of(impl.config).head) ignored.push_back(path);
  }
  const Json group = Json::object({{"targets", Json::array({"Linear"})},
                                   {"weights", numbers_of("channel", false)},
                                   {"input_activations", numbers_of("token", true)},
                                   {"output_activations", nullptr}});
  return Json::object({{"quant_method", "compressed-tensors"},
                       {"format", "int-quantized"},
                       {"quantization_status", "compressed"},
                       {"config_groups", Json::object({{"group_0", group}})},
                       {"ignore", ignored},
                       {"kv_cache_scheme", nullptr}});
}

/// "model.layers.0.mlp.down_proj" of "model.layers.0.mlp.down_proj.weight".
std::string module_of(const std::string& weight) {
  return weight.substr(0, weight.rfind('.'));
}

Status write_outliers(const Model::Impl& impl, const std::string& directory) {
  std::vector<formats::TensorView> tensors;
  std::vector<std::vector<std::int32_t>> columns;  // moving a vector keeps its bytes in place
  for (const Parameter& p : impl.parameters) {
    const auto found = impl.outliers.find(p.at);
    if (found == impl.outliers.end()) continue;
    const auto& kept = columns.emplace_back(found->second.columns.begin(), found->second.columns.end());
    const auto count = static_cast<std::int64_t>(kept.size());
    formats::TensorView& view = tensors.emplace_back();
    view.name = module_of(p.name) + ".outlier_columns";
    view.dtype = formats::DType::i32;
    view.shape = {count};
    view.bytes = {reinterpret_cast<const std::uint8_t*>(kept.data()), kept.size() * sizeof(std::int32_t)};
    tensors.push_back(
        formats::f32_view(module_of(p.name) + ".outlier_weight", {p.shape.front(), count}, found->second.values));
  }
  return formats::write_safetensors(directory + "/" + kOutliersFile, tensors, {{"format", "pt"}});
}

Result<OutlierColumns> outliers_of(const formats::SafetensorsFile& file, const Parameter& p) {
  const std::string name = module_of(p.name) + ".outlier_columns";
  const auto wrong = [&](const std::string& what) {
    return Error{ErrorCode::corrupt_data, file.path() + ": " + name + " " + what + "; quantize the model again"};
  };
  COVEY_ASSIGN(const formats::TensorView* columns, file.get(name));
  COVEY_ASSIGN(const formats::TensorView* values, file.get(module_of(p.name) + ".outlier_weight"));
  const auto read = formats::to_i64(*columns);
  if (!read.ok() || columns->shape.size() != 1 || read->empty()) return wrong("is no list of columns");
  OutlierColumns out;
  for (const std::int64_t column : *read) {
    if (column < 0 || column >= p.shape[1]) {
      return wrong("names column " + std::to_string(column) + " of " + std::to_string(p.shape[1]));
    }
    if (!out.columns.empty() && column <= out.columns.back()) return wrong("is not in ascending order");
    out.columns.push_back(static_cast<int>(column));
  }
  if (values->shape != std::vector<std::int64_t>{p.shape.front(), static_cast<std::int64_t>(out.columns.size())}) {
    return wrong("and its outlier_weight " + values->shape_text() + " do not fit the layer");
  }
  COVEY_ASSIGN(out.values, formats::to_f32(*values));
  if (!std::ranges::all_of(out.values, [](float v) { return std::isfinite(v); })) {
    return wrong("has an outlier_weight that is no number");
  }
  return out;
}

}  // namespace

Status check_quantization(const Json& config, const std::string& where) {
  const Json& all = *config.find("quantization_config");
  const std::pair<const char*, const char*> wanted[] = {{"quant_method", "compressed-tensors"},
                                                        {"format", "int-quantized"}};
  for (const auto& [key, value] : wanted) {
    const Json* given = all.is_object() ? all.find(key) : nullptr;
    if (given == nullptr || !(*given == Json(value))) {
      return Error{ErrorCode::unsupported,
                   where + ": quantization_config." + key + " other than \"" + value + "\" is not one that we read"};
    }
  }
  const Json* groups = all.find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) {
    return Error{ErrorCode::corrupt_data, where + ": quantization_config has no config_groups"};
  }
  for (const auto& group : groups->members()) {
    COVEY_TRY(check_group(group.value, where, "config_groups." + group.key));
  }
  for (const auto& member : all.members()) {
    if (!passes(all, member.key)) return not_computed(where, member.key, "null");
  }
  return {};
}

Status read_int8(Model::Impl& impl, const Parameter& p, const formats::HfDirectory& directory, std::span<float> room) {
  COVEY_ASSIGN(const formats::TensorView* tensor, directory.get(p.name));
  COVEY_ASSIGN(const formats::TensorView* scales, directory.get(p.name + "_scale"));
  const auto out = static_cast<std::size_t>(p.shape.front());
  const bool fits = p.shape.size() == 2 && !scales->shape.empty() && scales->shape.front() == p.shape.front() &&
                    (scales->shape.size() == 1 || (scales->shape.size() == 2 && scales->shape[1] == 1));
  if (!fits) {
    return Error{ErrorCode::corrupt_data, scales->name + " has shape " + scales->shape_text() +
                                              "; a scale for each row of " + p.name + " is needed"};
  }
  // Writers of symmetric weights leave zero points out, or write zeros.
  if (const auto* zeros = directory.find(p.name + "_zero_point"); zeros != nullptr) {
    if (std::ranges::any_of(zeros->bytes, [](std::uint8_t byte) { return byte != 0; })) {
      return Error{ErrorCode::unsupported,
                   zeros->name + " holds zero points other than 0: asymmetric weights are not computed"};
    }
  }
  if (const auto* order = directory.find(p.name + "_g_idx"); order != nullptr) {
    return Error{ErrorCode::unsupported, order->name + ": reordered columns (actorder) are not computed"};
  }
  Int8Source source{reinterpret_cast<const std::int8_t*>(tensor->bytes.data()), std::vector<float>(out)};
  COVEY_TRY(formats::to_f32(*scales, source.scales));
  for (const float scale : source.scales) {
    if (!std::isfinite(scale)) return Error{ErrorCode::corrupt_data, scales->name + " holds a scale that is no number"};
  }
  const auto in = static_cast<std::size_t>(p.shape[1]);
  for (std::size_t i = 0; i < room.size(); ++i) {
    room[i] = source.scales[i / in] * static_cast<float>(source.rows[i]);
  }
  if (room.empty()) {
    impl.int8_sources.emplace(p.at, std::move(source));
    return {};
  }
  const auto large = impl.outliers.find(p.at);
  if (large == impl.outliers.end()) return {};
  const std::size_t count = large->second.columns.size();
  for (std::size_t i = 0; i < large->second.values.size(); ++i) {
    room[i / count * in + static_cast<std::size_t>(large->second.columns[i % count])] = large->second.values[i];
  }
  return {};
}

Result<std::map<std::int64_t, OutlierColumns>> read_outliers(const Model::Impl& impl,
                                                             const formats::HfDirectory& directory) {
  std::map<std::int64_t, OutlierColumns> all;
  const Json* named = directory.config().find(kOutliersKey);
  if (named == nullptr || named->is_null()) return all;
  if (!(*named == Json(kOutliersFile))) {
    return Error{ErrorCode::unsupported, directory.config_path() + ": " + kOutliersKey + " other than \"" +
                                             kOutliersFile + "\" is not one that we read"};
  }
  COVEY_ASSIGN(const auto file, formats::SafetensorsFile::open(directory.path() + "/" + kOutliersFile));
  const std::set<std::int64_t> matrices = block_matrices(impl);
  std::size_t found = 0;
  for (const Parameter& p : impl.parameters) {
    if (!matrices.contains(p.at) || file.find(module_of(p.name) + ".outlier_columns") == nullptr) continue;
    COVEY_ASSIGN(OutlierColumns columns, outliers_of(file, p));
    all.emplace(p.at, std::move(columns));
    found += 2;
  }
  if (found == file.tensors().size()) return all;
  return Error{ErrorCode::corrupt_data,
               file.path() + ": holds tensors of no layer of this model; quantize the model again"};
}

Status Model::save_int8(const std::string& directory) const {
  if (impl_->int8.empty()) return Error{ErrorCode::invalid_argument, "save_int8: the model is not in int8"};
  const std::string text = config_to_hf(impl_->config);
  if (text.empty()) {
    return Error{ErrorCode::unsupported,
                 directory + ": we cannot write the configuration of a " + impl_->config.family + " model"};
  }
  COVEY_ASSIGN(Json config, Json::parse(text));
  config.set("quantization_config", quantization_config(*impl_));
  if (!impl_->outliers.empty()) config.set(kOutliersKey, kOutliersFile);
  std::map<std::int64_t, const Linear*> int8_at;
  for (const Linear& linear : impl_->linears) {
    if (!stored_in_int8(linear)) continue;
    if (linear.in_out) {
      return Error{ErrorCode::unsupported, directory + ": compressed-tensors has no place for the matrices of a " +
                                               impl_->config.family + " model, which lie (in, out)"};
    }
    int8_at.emplace(linear.w_at, &linear);
  }
  std::vector<formats::TensorView> tensors;
  std::vector<std::vector<std::int8_t>> rows;  // moving a vector keeps its bytes in place
  for (const Parameter& p : impl_->parameters) {
    const auto found = int8_at.find(p.at);
    if (found == int8_at.end()) {
      tensors.push_back(formats::f32_view(p.name, p.shape, std::span(p.values, static_cast<std::size_t>(p.count))));
      continue;
    }
    const kernels::Int8Weights& w = *found->second->int8;
    std::vector<std::int8_t>& bytes = rows.emplace_back(static_cast<std::size_t>(p.count));
    for (int n = 0; n < w.out(); ++n) w.get_row(n, bytes.data() + static_cast<std::ptrdiff_t>(n) * w.in());
    formats::TensorView& view = tensors.emplace_back();
    view.name = p.name;
    view.dtype = formats::DType::i8;
    view.shape = p.shape;
    view.bytes = {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
    tensors.push_back(formats::f32_view(p.name + "_scale", {w.out(), 1}, w.scales()));
  }
  COVEY_TRY(make_folders(directory));
  COVEY_TRY(formats::write_safetensors(directory + "/model.safetensors", tensors, {{"format", "pt"}}));
  if (!impl_->outliers.empty()) COVEY_TRY(write_outliers(*impl_, directory));
  return write_file_durably(directory + "/config.json", config.dump_pretty());
}

}  // namespace covey::model
