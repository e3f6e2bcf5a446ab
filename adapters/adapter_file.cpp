#include "adapters/adapter_file.h"

#include <array>

#include "core/formats/safetensors.h"

namespace covey::adapters {

Status save_flat(const std::string& path, const Adapter& adapter) {
  const std::array tensors{formats::f32_view("values", {adapter.layout().size}, adapter.values())};
  return formats::write_safetensors(path, tensors, {{"covey.layout", adapter.layout().canonical()}});
}

Result<Adapter> load_flat(const std::string& path, const model::Model& model) {
  COVEY_ASSIGN(const auto file, formats::SafetensorsFile::open(path));
  const auto text = file.metadata().find("covey.layout");
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

}  // namespace covey::adapters
