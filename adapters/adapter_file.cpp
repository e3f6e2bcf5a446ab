#include "adapters/adapter_file.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "adapters/peft_files.h"
#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/formats/safetensors.h"
#include "core/formats/torch_zip.h"

namespace covey::adapters {
namespace {

constexpr const char* kLayoutKey = "covey.layout";
constexpr const char* kConfigKey = "covey.peft_config";

Result<bool> begins_as_zip(const std::string& path) {
  COVEY_ASSIGN(const MappedFile file, MappedFile::open(path));
  return formats::looks_like_zip(file.bytes());
}

Result<formats::PeftAdapter> read_whole(const std::string& path) {
  COVEY_ASSIGN(const auto file, formats::SafetensorsFile::open(path));
  formats::PeftAdapter out;
  out.metadata = file.metadata();
  if (out.metadata.contains(kLayoutKey)) {
    return Error{ErrorCode::invalid_argument, path + ": is a flat adapter file; name its model before it"};
  }
  const auto config = out.metadata.find(kConfigKey);
  if (config == out.metadata.end()) {
    return Error{ErrorCode::corrupt_data,
                 path + ": has neither covey.layout nor covey.peft_config; give the whole PEFT directory"};
  }
  COVEY_ASSIGN(out.config, formats::parse_peft_config(config->second, path));
  out.metadata.erase(config);
  for (const formats::TensorView& tensor : file.tensors()) {
    out.tensors.push_back({.name = tensor.name,
                           .dtype = tensor.dtype,
                           .shape = tensor.shape,
                           .bytes = Bytes(tensor.bytes.begin(), tensor.bytes.end())});
  }
  std::ranges::sort(out.tensors, {}, &formats::PeftTensor::name);
  if (const Status checked = formats::check_peft_adapter(out); !checked.ok()) return checked.error().in(path);
  return out;
}

}  // namespace

Status save_flat(const std::string& path, const Adapter& adapter) {
  const std::array tensors{formats::f32_view("values", {adapter.layout().size}, adapter.values())};
  return formats::write_safetensors(path, tensors, {{kLayoutKey, adapter.layout().canonical()}});
}

Result<Adapter> load_flat(const std::string& path, const model::Model& model) {
  COVEY_ASSIGN(const auto file, formats::SafetensorsFile::open(path));
  const auto text = file.metadata().find(kLayoutKey);
  if (text == file.metadata().end()) {
    return Error{ErrorCode::corrupt_data, path + ": has no covey.layout; it is not a flat adapter file"};
  }
  auto layout = AdapterLayout::parse(text->second);
  if (!layout.ok()) return layout.error().in(path);
  COVEY_ASSIGN(const formats::TensorView* values, file.get("values"));
  COVEY_ASSIGN(std::vector<float> flat, formats::to_f32(*values));
  auto adapter = Adapter::create(model, *std::move(layout), std::move(flat));
  if (!adapter.ok()) return adapter.error().in(path);
  return adapter;
}

Status save_adapter(const std::string& directory, const Adapter& adapter, const std::string& base_model_name) {
  namespace fs = std::filesystem;
  const fs::path folder(directory);
  std::error_code ignored;
  const auto file = peft_of(adapter, base_model_name);
  if (file.ok()) {
    fs::remove(folder / kFlatName, ignored);
    return formats::write_peft_directory(directory, *file);
  }
  if (adapter.layout().parts.empty()) return file.error().in(directory);
  COVEY_TRY(make_folders(directory));
  COVEY_TRY(save_flat((folder / kFlatName).string(), adapter));
  for (const char* old : {"adapter_config.json", "adapter_model.safetensors"}) fs::remove(folder / old, ignored);
  return {};
}

Status save_whole(const std::string& path, const formats::PeftAdapter& adapter) {
  if (const Status checked = formats::check_peft_adapter(adapter); !checked.ok()) return checked.error().in(path);
  std::vector<formats::TensorView> views;
  for (const auto& tensor : adapter.tensors) views.push_back(tensor.view());
  auto metadata = adapter.metadata;
  metadata[kConfigKey] = formats::peft_config_text(adapter.config);
  return formats::write_safetensors(path, views, metadata);
}

Result<formats::PeftAdapter> read_adapter(const std::string& path, const formats::StateDictOptions& options) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return formats::read_peft_directory(path);
  COVEY_ASSIGN(const bool zip, begins_as_zip(path));
  if (!zip) return read_whole(path);
  COVEY_ASSIGN(const auto file, formats::TorchZipFile::open(path));
  return formats::peft_from_state_dict(file.tensors(), options, path);
}

Result<bool> is_flat(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return false;
  COVEY_ASSIGN(const bool zip, begins_as_zip(path));
  if (zip) return false;
  COVEY_ASSIGN(const auto file, formats::SafetensorsFile::open(path));
  return file.metadata().contains(kLayoutKey);
}

}  // namespace covey::adapters
