#include "core/model/load_rwkv_cpp.h"

#include <new>

#include "core/formats/rwkv_cpp.h"
#include "core/model/config_json.h"

namespace covey::model {

Result<std::unique_ptr<Model::Impl>> load_rwkv_cpp(const std::string& path) {
  COVEY_ASSIGN(const auto file, formats::RwkvCppFile::open(path));
  auto impl = std::make_unique<Model::Impl>();
  COVEY_ASSIGN(impl->config, config_from_json(file.config(), path));
  list_parameters(*impl);
  // Before there is memory for what a few numbers in a header claim.
  for (const Parameter& p : impl->parameters) {
    if (const auto tensor = file.find(p.name, p.shape); !tensor.ok()) return tensor.error();
  }
  const auto count = static_cast<std::size_t>(impl->parameter_count);
  impl->memory.reset(new (std::nothrow) float[count]);
  if (impl->memory == nullptr) {
    return Error{ErrorCode::resource_exhausted, "no memory for " + std::to_string(count * 4) + " bytes of weights"};
  }
  for (Parameter& p : impl->parameters) {
    const std::span<float> values(impl->memory.get() + p.at, static_cast<std::size_t>(p.count));
    COVEY_TRY(file.read(p.name, p.shape, values));
    p.values = values.data();
  }
  impl->writable = true;
  return impl;
}

}  // namespace covey::model
