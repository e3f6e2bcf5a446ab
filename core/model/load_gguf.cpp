#include "core/model/load_gguf.h"

#include <new>

#include "core/formats/gguf_model.h"
#include "core/model/config_json.h"

namespace covey::model {

Result<std::unique_ptr<Model::Impl>> load_gguf(const std::string& path) {
  COVEY_ASSIGN(auto opened, formats::GgufModel::open(path));
  auto file = std::make_shared<formats::GgufModel>(std::move(opened));
  auto impl = std::make_unique<Model::Impl>();
  COVEY_ASSIGN(impl->config, config_from_json(file->config(), path));
  list_parameters(*impl);
  const auto is_mapped = [](const formats::GgufModel::Tensor& tensor) {
    return tensor.source->is(formats::GgmlType::f32) && !tensor.change &&
           reinterpret_cast<std::uintptr_t>(tensor.source->bytes.data()) % alignof(float) == 0;
  };
  std::int64_t widened = 0;
  for (const Parameter& p : impl->parameters) {
    const auto* tensor = file->find(p.name);
    if (tensor == nullptr) return Error{ErrorCode::not_found, path + ": holds no tensor for " + p.name};
    if (tensor->shape != p.shape) {
      return Error{ErrorCode::corrupt_data, path + ": tensor " + std::string(tensor->source->name) + " has shape " +
                                                tensor->source->shape_text() + ", which is not what its keys ask for"};
    }
    if (!is_mapped(*tensor)) widened += p.count;
  }
  impl->memory.reset(new (std::nothrow) float[static_cast<std::size_t>(widened)]);
  if (impl->memory == nullptr) {
    return Error{ErrorCode::resource_exhausted, "no memory for " + std::to_string(widened * 4) + " bytes of weights"};
  }
  float* next = impl->memory.get();
  for (Parameter& p : impl->parameters) {
    const auto& tensor = *file->find(p.name);
    if (is_mapped(tensor)) {
      p.values = reinterpret_cast<const float*>(tensor.source->bytes.data());
      continue;
    }
    COVEY_TRY(file->read(tensor, std::span(next, static_cast<std::size_t>(p.count))));
    p.values = next;
    next += p.count;
  }
  impl->borrowed.push_back(std::move(file));
  return impl;
}

}  // namespace covey::model
