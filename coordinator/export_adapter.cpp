#include "coordinator/export_adapter.h"

#include "adapters/adapter_file.h"
#include "adapters/adapter_options.h"
#include "adapters/gguf_adapter.h"
#include "coordinator/rows.h"
#include "core/base/cpu.h"

namespace covey::coordinator {

Status export_adapter(const Settings& settings, ByteSpan values, const ExportOptions& options) {
  const bool gguf = options.format == "gguf";
  if (!gguf && options.format != "peft") {
    return Error{ErrorCode::invalid_argument,
                 "export: there is no format \"" + shown(options.format) + "\"; there are peft and gguf"};
  }
  if (gguf && !options.out.ends_with(".gguf")) {
    return Error{ErrorCode::invalid_argument, "export: " + options.out + " must end in .gguf; that is what is written"};
  }
  COVEY_ASSIGN(const auto model, model::Model::load(settings.model));
  COVEY_ASSIGN(auto layout, adapters::adapter_layout(*model, settings.adapter));
  const std::size_t scalars = settings.task.local.candidates;
  COVEY_ASSIGN(auto decoded, decode_values(values, scalars > 0 ? scalars : static_cast<std::size_t>(layout.size)));
  ThreadPool threads(cpu_count());
  COVEY_ASSIGN(decoded, adapter_of_version(settings.task, layout, *model, std::move(decoded), threads));
  COVEY_ASSIGN(const auto adapter, adapters::Adapter::create(*model, std::move(layout), std::move(decoded)));
  return gguf ? adapters::save_gguf_adapter(options.out, adapter, *model)
              : adapters::save_adapter(options.out, adapter, settings.model);
}

}  // namespace covey::coordinator
