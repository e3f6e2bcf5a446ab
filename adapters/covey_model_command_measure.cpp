// golden, bench: commands that check and time the engine.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "adapters/adapter.h"
#include "adapters/covey_model.h"
#include "adapters/golden.h"
#include "core/base/rng.h"
#include "core/model/engine.h"
#include "core/train/gradient.h"
#include "core/train/optimizer.h"

namespace covey::adapters {
namespace {

struct Shape {
  int dim, layers, heads, kv_heads, hidden, vocab;
};

const std::map<std::string, Shape>& shapes() {  // those of peers/torch_lora_step.py; embeddings are tied
  static const std::map<std::string, Shape> table = {{"stories15m", {288, 6, 6, 6, 768, 32000}},
                                                     {"smollm135m", {576, 30, 9, 3, 1536, 49152}},
                                                     {"qwen05b", {896, 24, 14, 2, 4864, 151936}}};
  return table;
}

model::ModelConfig config_of(const Shape& shape, int seq) {
  model::ModelConfig config;
  config.hidden_size = shape.dim;
  config.layers = shape.layers;
  config.heads = shape.heads;
  config.kv_heads = shape.kv_heads;
  config.head_dim = shape.dim / shape.heads;
  config.intermediate_size = shape.hidden;
  config.vocab_size = shape.vocab;
  config.context_max = std::max(seq, 1024);
  return config;
}

double rss_mib() {
  std::ifstream statm("/proc/self/statm");
  double size = 0;
  double resident = 0;
  statm >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

double peak_rss_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

double rounded(double value, double digits) {
  const double scale = std::pow(10, digits);
  return std::round(value * scale) / scale;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

Status run_golden(const GoldenOptions& options, Console& console) {
  for (const std::string& directory : options.cases) {
    std::error_code ignored;
    if (!std::filesystem::exists(directory + "/case.json", ignored)) {
      return Error{ErrorCode::not_found, directory + ": holds no case.json, so it is not a golden case"};
    }
  }
  ThreadPool pool(thread_count(options.common.threads));
  std::size_t passed = 0;
  formats::Json cases = formats::Json::array({});
  for (const std::string& directory : options.cases) {
    const GoldenReport report = check_golden_case(directory, pool);
    passed += report.passed() ? 1 : 0;
    if (!console.json()) {
      console.line(report.line());
      continue;
    }
    formats::Json entry = formats::Json::object({{"case", report.name}, {"passed", report.passed()}});
    if (!report.failure.empty()) entry.set("reason", report.failure);
    formats::Json errors = formats::Json::object();
    for (const auto& check : report.checks) {
      errors.set(check.name, formats::Json::object({{"error", check.error}, {"limit", check.limit}}));
    }
    cases.push_back(entry.set("checks", errors));
  }
  const std::size_t failed = options.cases.size() - passed;
  if (console.json()) {
    console.result(formats::Json::object({{"passed", passed}, {"failed", failed}, {"cases", cases}}));
  }
  if (failed == 0) return {};
  return Error{ErrorCode::internal,
               "golden: " + std::to_string(failed) + " of " + std::to_string(options.cases.size()) + " cases failed"};
}

Status run_bench(const BenchOptions& options, Console& console) {
  const Shape& shape = shapes().at(options.shape);
  const auto method = train::method_named(options.method);  // none: forward and loss alone
  const bool training = method == train::Method::backprop;
  const int threads = thread_count(options.common.threads);
  COVEY_ASSIGN(const auto model, model::Model::create(config_of(shape, options.seq), 0));
  LoraOptions lora;
  lora.rank = options.rank;
  lora.alpha = 2 * options.rank;
  lora.target_modules = {"all-linear"};
  COVEY_ASSIGN(Adapter adapter, Adapter::create_lora(*model, lora, 0));
  ThreadPool pool(threads);
  std::unique_ptr<model::Engine> engine;
  if (!method) {
    COVEY_ASSIGN(engine, model::Engine::create(*model, {.batch_max = options.batch, .seq_max = options.seq}, pool));
  }
  const auto positions = static_cast<std::size_t>(options.batch) * static_cast<std::size_t>(options.seq);
  std::vector<std::int32_t> ids(positions);
  std::vector<std::int32_t> targets(positions);
  Rng rng(0);
  for (auto* tokens : {&ids, &targets}) {
    for (auto& token : *tokens) token = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(shape.vocab)));
  }
  const model::TokenBatch batch{.B = options.batch, .T = options.seq, .ids = ids, .targets = targets, .lengths = {}};
  COVEY_ASSIGN(auto parameters, train::Parameters::of_adapter(*model, adapter.spec(),
                                                              {adapter.values().begin(), adapter.values().end()}));
  train::GradientConfig how;
  how.method = method.value_or(how.method);
  how.directions = method && !training ? 1 : 0;
  how.checkpoint_activations = training && options.checkpoint;
  std::unique_ptr<train::GradientSource> source;
  if (method) {
    COVEY_ASSIGN(source,
                 train::GradientSource::create(parameters, how, {.rows = options.batch, .seq = options.seq}, pool));
  }
  train::Optimizer optimizer({.weight_decay = 0.01}, training ? parameters.size() : 0);
  const double before = rss_mib();
  formats::Json step_s = formats::Json::array({});
  std::vector<double> times;
  double loss = 0;
  for (int step = 0; step < options.steps; ++step) {
    const auto started = std::chrono::steady_clock::now();
    if (method) {
      COVEY_ASSIGN(const auto estimate, source->estimate(batch, static_cast<std::uint64_t>(step)));
      if (training) optimizer.step(parameters.pieces().front().values, estimate.dense, 1e-4);
      for (const auto& term : estimate.terms) {  // plain SGD, as MeZO
        train::add_direction(pool, parameters.pieces(), term.seed, -1e-6F * term.weight);
      }
      loss = estimate.loss.mean();
    } else {
      COVEY_ASSIGN(const auto result, engine->loss(batch, adapter.spec(), adapter.view()));
      loss = result.mean();
    }
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    step_s.push_back(rounded(times.back(), 4));
    console.progress("step " + std::to_string(step + 1) + "/" + std::to_string(options.steps));
  }
  console.end_progress();
  // The first step touches memory for the first time: like the script, the median leaves it out.
  const double typical = median(times.size() > 1 ? std::vector(times.begin() + 1, times.end()) : times);
  const formats::Json out =
      formats::Json::object({{"engine", "covey " COVEY_VERSION},
                             {"shape", options.shape},
                             {"batch", options.batch},
                             {"seq", options.seq},
                             {"rank", options.rank},
                             {"threads", threads},
                             {"grad", method ? "lora" : "none"},
                             {"method", options.method},
                             {"checkpoint", options.checkpoint},
                             {"tokens_per_s", rounded(static_cast<double>(positions) / typical, 1)},
                             {"step_s", step_s},
                             {"rss_before_mib", rounded(before, 1)},
                             {"peak_rss_mib", rounded(peak_rss_mib(), 1)},
                             {"trainable", adapter.layout().size},
                             {"loss", rounded(loss, 4)}});
  console.line(out.dump());
  return {};
}

}  // namespace covey::adapters
