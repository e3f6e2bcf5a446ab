// analyze: which layers and tensors are worth training within so much memory.
#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "adapters/adapter.h"
#include "adapters/analyze.h"
#include "adapters/covey_model.h"
#include "adapters/gguf_adapter.h"
#include "adapters/task_rows.h"
#include "adapters/workbench.h"

namespace covey::adapters {
namespace {

double mib(std::uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

/// A layer with what its linear layers contribute together.
struct LayerRow {
  int layer = 0;
  double contribution = 0;
  int sites = 0;
  int chosen = 0;
  std::uint64_t alone_bytes = 0;  ///< training this layer and nothing else
};

/// What is said, in the order of rank.
struct Analysis {
  std::vector<Contribution> sites;
  std::set<int> chosen;  ///< site indices
  std::vector<LayerRow> layers;
  TrainedSubset subset;
  double total = 0;
  std::vector<std::string> settings;  ///< lines of a training configuration
};

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return "[" + out + "]";
}

/// The subset in train's words: layers and leaf names where it is just those, else every path.
std::vector<std::string> settings_of(const std::vector<model::LinearSite>& sites, const Analysis& a) {
  std::set<int> layers;
  std::set<std::string> leaves;
  std::vector<std::string> paths;
  for (const int i : a.chosen) {
    const auto& site = sites[static_cast<std::size_t>(i)];
    layers.insert(site.layer);
    leaves.insert(site.leaf);
    paths.push_back(site.path);
  }
  std::size_t product = 0;
  std::set<std::string> all_leaves;
  for (const auto& c : a.sites) {
    const auto& site = sites[static_cast<std::size_t>(c.site)];
    all_leaves.insert(site.leaf);
    product += layers.contains(site.layer) && leaves.contains(site.leaf) ? 1 : 0;
  }
  if (product != a.chosen.size()) return {"train_tensors: " + joined(paths)};
  std::vector<std::string> numbers;
  for (const int layer : layers) numbers.push_back(std::to_string(layer));
  std::vector<std::string> out = {"train_layers: " + joined(numbers)};
  if (leaves != all_leaves) out.push_back("train_tensors: " + joined({leaves.begin(), leaves.end()}));
  return out;
}

std::vector<LayerRow> layers_of(const model::Model& model, const model::AdapterSpec& spec, const Analysis& a,
                                const train::TrainConfig& config, int longest) {
  std::map<int, LayerRow> rows;
  std::map<int, std::vector<int>> members;
  for (std::size_t i = 0; i < a.sites.size(); ++i) {
    const int layer = model.linear_sites()[static_cast<std::size_t>(a.sites[i].site)].layer;
    LayerRow& row = rows[layer];
    row.layer = layer;
    row.contribution += a.sites[i].total();
    ++row.sites;
    row.chosen += a.chosen.contains(a.sites[i].site) ? 1 : 0;
    members[layer].push_back(static_cast<int>(i));
  }
  std::vector<LayerRow> out;
  for (auto& [layer, row] : rows) {
    row.alone_bytes = bytes_to_train(model, only(spec, members[layer]), config, longest);
    out.push_back(row);
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const LayerRow& x, const LayerRow& y) { return x.contribution > y.contribution; });
  return out;
}

formats::Json json_of(const Analysis& a, const std::vector<model::LinearSite>& sites) {
  formats::Json layers = formats::Json::array({});
  for (const auto& row : a.layers) {
    layers.push_back(formats::Json::object({{"layer", row.layer},
                                            {"contribution", row.contribution},
                                            {"alone_mib", mib(row.alone_bytes)},
                                            {"tensors", row.sites},
                                            {"chosen", row.chosen}}));
  }
  formats::Json tensors = formats::Json::array({});
  for (const auto& c : a.sites) {
    const auto& site = sites[static_cast<std::size_t>(c.site)];
    tensors.push_back(formats::Json::object({{"path", site.path},
                                             {"layer", site.layer},
                                             {"lora_A", c.a},
                                             {"lora_B", c.b},
                                             {"chosen", a.chosen.contains(c.site)}}));
  }
  return formats::Json::object({{"measure", "mean over batches of the squared gradient norm"},
                                {"layers", layers},
                                {"tensors", tensors},
                                {"planned_mib", mib(a.subset.bytes)},
                                {"share", a.total > 0 ? a.subset.contribution / a.total : 0.0},
                                {"settings", a.settings}});
}

std::string number(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string scientific(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3e", value);
  return text;
}

/// One line of a table: cells to the right of their columns, the last one free.
std::string row_of(const std::vector<std::string>& cells) {
  static constexpr std::size_t kWidths[] = {6, 13, 9, 12, 0};
  std::string out;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const std::size_t width = i + 1 == cells.size() ? 0 : kWidths[i];
    out += std::string(width > cells[i].size() ? width - cells[i].size() : 0, ' ') + cells[i] +
           (i + 1 < cells.size() ? "  " : "");
  }
  return out;
}

void print(const Analysis& a, const std::vector<model::LinearSite>& sites, const Console& console) {
  const auto share = [&](double value) { return number(a.total > 0 ? 100 * value / a.total : 0.0, 1) + "%"; };
  console.line("contribution: mean over batches of the squared gradient norm");
  console.line(row_of({"layer", "contribution", "share", "alone, MiB", "trains"}));
  for (const auto& row : a.layers) {
    console.line(
        row_of({std::to_string(row.layer), scientific(row.contribution), share(row.contribution),
                number(mib(row.alone_bytes), 1), std::to_string(row.chosen) + " of " + std::to_string(row.sites)}));
  }
  constexpr std::size_t kShown = 20;
  console.line(row_of({"chosen", "contribution", "share", "tensor"}));
  for (std::size_t i = 0; i < std::min(kShown, a.sites.size()); ++i) {
    const auto& c = a.sites[i];
    console.line(row_of({a.chosen.contains(c.site) ? "*" : "", scientific(c.total()), share(c.total()),
                         sites[static_cast<std::size_t>(c.site)].path}));
  }
  if (a.sites.size() > kShown) {
    console.line(row_of({"", "", "", std::to_string(a.sites.size() - kShown) + " more; --json lists all"}));
  }
  console.line("chosen: " + share(a.subset.contribution) + " of the contribution, " + number(mib(a.subset.bytes), 1) +
               " MiB planned");
  for (const auto& setting : a.settings) console.line(setting);
}

}  // namespace

Status run_analyze(const AnalyzeOptions& options, Console& console) {
  COVEY_ASSIGN(const Workbench bench, open_workbench(options.common.model, options.common.tokenizer));
  const model::Model& model = *bench.model;
  COVEY_ASSIGN(const auto examples,
               read_examples_for({options.common.chat, options.common.model, options.common.tokenizer},
                                 *bench.tokenizer, options.data));
  train::TrainConfig config = train_config_of(options.step);
  COVEY_ASSIGN(const data::Labels labels, labels_for(model.config(), "", examples));
  COVEY_ASSIGN(const auto rows, task_rows(bench, labels, examples, {.seq = config.seq}, options.data));
  constexpr double kMaskShare = 0.15;  // as train's
  COVEY_ASSIGN(config.masking, masking_for(bench, kMaskShare, config.seed));
  const LoraOptions lora{.rank = options.lora.rank,
                         .alpha = options.lora.alpha,
                         .target_modules = options.lora.targets,
                         .rank_pattern = {},
                         .alpha_pattern = {}};
  COVEY_ASSIGN(const Adapter adapter, options.common.adapter.empty() ? Adapter::create_lora(model, lora, 1)
                                                                     : load_adapter(options.common.adapter, model));
  ThreadPool pool(thread_count(options.common.threads));
  Analysis a;
  COVEY_ASSIGN(a.sites, contributions(model, adapter, rows, config, options.batches, pool));
  const auto bytes_max = static_cast<std::uint64_t>(options.memory_mib) << 20;
  COVEY_ASSIGN(a.subset, best_subset(model, adapter.spec(), a.sites, config, config.seq, bytes_max));
  for (const int i : a.subset.sites) a.chosen.insert(a.sites[static_cast<std::size_t>(i)].site);
  for (const auto& c : a.sites) a.total += c.total();
  a.layers = layers_of(model, adapter.spec(), a, config, config.seq);
  std::stable_sort(a.sites.begin(), a.sites.end(),
                   [](const Contribution& x, const Contribution& y) { return x.total() > y.total(); });
  a.settings = settings_of(model.linear_sites(), a);
  if (console.json()) {
    console.result(json_of(a, model.linear_sites()));
  } else {
    print(a, model.linear_sites(), console);
  }
  return {};
}

}  // namespace covey::adapters
