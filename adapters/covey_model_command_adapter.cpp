// adapter info | export | import: what an adapter file is, and adapter files into one another.
#include <cmath>
#include <map>

#include "adapters/adapter.h"
#include "adapters/adapter_file.h"
#include "adapters/covey_model.h"
#include "core/train/optimizer.h"

namespace covey::adapters {

Status run_adapter_info(const AdapterFileOptions& options, Console& console) {
  COVEY_ASSIGN(const auto model, model::Model::load(options.common.model));
  COVEY_ASSIGN(const Adapter adapter, load_peft(options.in, *model));
  const auto& layout = adapter.layout();
  std::map<int, int> ranks;
  double b_squares = 0;
  for (const auto& entry : layout.lora) {
    ++ranks[entry.rank];
    const auto b = adapter.values().subspan(static_cast<std::size_t>(entry.offset + entry.a_size()),
                                            static_cast<std::size_t>(entry.b_size()));
    b_squares += std::pow(train::l2_norm(b), 2);
  }
  formats::Json by_rank = formats::Json::object();
  for (const auto& [rank, count] : ranks) by_rank.set(std::to_string(rank), count);
  console.result(formats::Json::object({{"sites", layout.lora.size()},
                                        {"values", layout.size},
                                        {"bytes", layout.size * 4},
                                        {"sites_by_rank", by_rank},
                                        {"target_modules", adapter.target_modules()},
                                        {"norm", train::l2_norm(adapter.values())},
                                        {"norm_of_b", std::sqrt(b_squares)}}));
  return {};
}

Status run_adapter_export(const AdapterFileOptions& options, Console& console) {
  COVEY_ASSIGN(const auto model, model::Model::load(options.common.model));
  COVEY_ASSIGN(const Adapter adapter, load_peft(options.in, *model));
  COVEY_TRY(save_flat(options.out, adapter));
  console.result(formats::Json::object({{"out", options.out}, {"values", adapter.layout().size}}));
  return {};
}

Status run_adapter_import(const AdapterFileOptions& options, Console& console) {
  COVEY_ASSIGN(const auto model, model::Model::load(options.common.model));
  COVEY_ASSIGN(const Adapter adapter, load_flat(options.in, *model));
  COVEY_TRY(save_peft(options.out, adapter, options.common.model));
  console.result(formats::Json::object({{"out", options.out}, {"values", adapter.layout().size}}));
  return {};
}

}  // namespace covey::adapters
