// golden, bench: commands that check and time the engine.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <thread>

#include "adapters/adapter.h"
#include "adapters/covey_model.h"
#include "adapters/golden.h"
#include "core/base/rng.h"
#include "core/model/engine.h"
#include "core/train/gradient.h"
#include "core/train/local_trainer.h"
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

namespace {

/// Random tokens, and what to predict after each.
struct RandomBatch {
  std::vector<std::int32_t> ids, targets;
  RandomBatch(int batch, int seq, int vocab) {
    const auto positions = static_cast<std::size_t>(batch) * static_cast<std::size_t>(seq);
    Rng rng(0);
    for (auto* tokens : {&ids, &targets}) {
      tokens->resize(positions);
      for (auto& token : *tokens) token = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(vocab)));
    }
  }
};

/// What is measured: a model, what of it trains, and the way to its gradient.
struct Bench {
  std::shared_ptr<model::Model> model;
  Adapter adapter;
  std::optional<train::Parameters> parameters;
  std::unique_ptr<train::GradientSource> source;  ///< none: forward and loss alone
  std::unique_ptr<model::Engine> engine;          ///< for those
  std::optional<train::Optimizer> optimizer;      ///< of dense gradients
  model::MemoryPlan plan;
  std::uint64_t stash_kept = 0;        ///< bytes of activations that wait for the backward pass without checkpoints
  std::uint64_t stash_checkpoint = 0;  ///< and with them; the same for each dtype: both keep f32
};

/// Plans the step as it is told, and the stash both ways. @param plan_of  the plan of a TrainConfig
template <typename PlanOf>
void plan_bench(Bench& b, train::TrainConfig config, PlanOf plan_of) {
  b.plan = plan_of(config);
  if (config.gradient.method != train::Method::backprop) return;
  config.gradient.checkpoint_activations = false;
  b.stash_kept = plan_of(config).stash_bytes;
  config.gradient.checkpoint_activations = true;
  b.stash_checkpoint = plan_of(config).stash_bytes;
}

Status attach(const BenchOptions& options, train::TrainConfig config, Bench& b) {
  if (options.step.full) {
    COVEY_ASSIGN(model::TensorChoice choice, chosen_tensors(*b.model, options.step.choice));
    plan_bench(b, config,
               [&](const train::TrainConfig& of) { return train::memory_plan_full(*b.model, choice, of, of.seq); });
    b.parameters = train::Parameters::of_model(*b.model, std::move(choice));
    return {};
  }
  const LoraOptions lora{.rank = options.rank,
                         .alpha = 2.0 * options.rank,
                         .target_modules = {"all-linear"},
                         .rank_pattern = {},
                         .alpha_pattern = {}};
  const auto& sites = b.model->linear_sites();
  COVEY_ASSIGN(AdapterLayout layout, chosen_lora_layout(sites, lora, options.step.choice));
  std::vector<float> values = initial_values(layout, 0);
  COVEY_ASSIGN(b.adapter, Adapter::create(*b.model, std::move(layout), std::move(values)));
  model::AdapterSpec spec = b.adapter.spec();
  COVEY_TRY(freeze_rest(spec, sites, options.step.choice));
  plan_bench(b, config, [&](const train::TrainConfig& of) { return train::memory_plan(*b.model, spec, of, of.seq); });
  COVEY_ASSIGN(b.parameters,
               train::Parameters::of_adapter(*b.model, spec, {b.adapter.values().begin(), b.adapter.values().end()}));
  return {};
}

/// A random model as a device has it: read from a file that holds its blocks in int8. Another process writes that file,
/// so that the f32 values never were in this one's memory. Before any thread is started.
Result<std::shared_ptr<model::Model>> random_int8(const model::ModelConfig& config) {
  std::string folder = (std::filesystem::temp_directory_path() / "covey-bench-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr)
    return Error{ErrorCode::io_error, folder + ": cannot be made; name a folder that can be written by TMPDIR"};
  const pid_t writer = fork();
  if (writer == 0) {
    const auto model = model::Model::create(config, 0);
    const bool written = model.ok() && (*model)->use_int8().ok() && (*model)->save_int8(folder).ok();
    _exit(written ? 0 : 1);
  }
  int status = 1;
  const bool written = writer > 0 && waitpid(writer, &status, 0) == writer && status == 0;
  Result<std::shared_ptr<model::Model>> model =
      written
          ? model::Model::load(folder)
          : Error{ErrorCode::io_error,
                  folder +
                      ": the random model in int8 could not be written there; it needs memory for the f32 values and "
                      "disk for the int8 ones (another folder: TMPDIR)"};
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);  // what is mapped stays
  return model;
}

Status prepare(const BenchOptions& options, ThreadPool& pool, Bench& b) {
  const StepFlags& step = options.step;
  const model::ModelConfig shape = config_of(shapes().at(options.shape), step.seq);
  COVEY_ASSIGN(b.model, options.dtype == "w8a8" ? random_int8(shape) : model::Model::create(shape, 0));
  const bool gradient = train::method_named(step.method).has_value();
  StepFlags planned = step;
  if (!gradient) planned.method = to_string(train::Method::zeroth_order);  // the memory of inference
  train::TrainConfig config = train_config_of(planned);
  config.optimizer.weight_decay = config.gradient.method == train::Method::backprop ? 0.01 : 0;
  if (config.gradient.method != train::Method::backprop) config.gradient.directions = 1;
  COVEY_TRY(attach(options, config, b));
  const int rows = step.micro_batch > 0 ? step.micro_batch : step.batch;
  if (!gradient) {
    COVEY_ASSIGN(b.engine, model::Engine::create(*b.model, {.batch_max = rows, .seq_max = step.seq}, pool));
    return {};
  }
  COVEY_ASSIGN(b.source,
               train::GradientSource::create(*b.parameters, config.gradient, {.rows = rows, .seq = step.seq}, pool));
  if (config.gradient.method == train::Method::backprop) b.optimizer.emplace(config.optimizer, b.parameters->size());
  return {};
}

/// One step. @return its loss.
Result<double> bench_step(Bench& b, const model::TokenBatch& batch, int rows, std::uint64_t seed, ThreadPool& pool) {
  if (!b.source) {
    model::LossResult sum;
    for (const model::TokenBatch& part : train::parts_of(batch, rows)) {
      COVEY_ASSIGN(const auto loss, b.parameters->loss(*b.engine, part));
      sum.loss_sum += loss.loss_sum;
      sum.targets += loss.targets;
    }
    return sum.mean();
  }
  COVEY_ASSIGN(const auto estimate, b.source->estimate(batch, seed));
  if (b.optimizer) b.optimizer->begin_step();
  for (const train::Piece& piece : b.parameters->pieces()) {
    if (!b.optimizer) break;
    b.optimizer->update(piece.offset, piece.values,
                        estimate.dense.subspan(static_cast<std::size_t>(piece.offset), piece.values.size()), 1e-4,
                        piece.decay);
  }
  for (const auto& term : estimate.terms) {  // plain SGD, as MeZO
    train::add_direction(pool, b.parameters->pieces(), term.seed, -1e-6F * term.weight);
  }
  return estimate.loss.mean();
}

/// Milliseconds from the wish to stop, half a step after it began, to the step's end.
double abandon_ms(Bench& b, const model::TokenBatch& batch, int rows, double step_s, ThreadPool& pool) {
  if (!b.source) return 0;
  std::atomic<bool> stop = false;
  std::chrono::steady_clock::time_point asked;
  b.source->stop_when(&stop);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::duration<double>(step_s / 2));
    asked = std::chrono::steady_clock::now();
    stop = true;
  });
  static_cast<void>(bench_step(b, batch, rows, 0, pool));  // `cancelled`
  const auto ended = std::chrono::steady_clock::now();
  other.join();
  b.source->stop_when(nullptr);
  return std::max(0.0, std::chrono::duration<double>(ended - asked).count() * 1000);
}

}  // namespace

Status run_bench(const BenchOptions& options, Console& console) {
  const StepFlags& step = options.step;
  const int threads = thread_count(options.common.threads);
  Bench bench;
  ThreadPool pool(1);
  COVEY_TRY(prepare(options, pool, bench));
  pool.set_threads(threads);
  const RandomBatch tokens(step.batch, step.seq, shapes().at(options.shape).vocab);
  const model::TokenBatch batch{
      .B = step.batch, .T = step.seq, .ids = tokens.ids, .targets = tokens.targets, .lengths = {}};
  const double before = rss_mib();
  const int rows = step.micro_batch > 0 ? step.micro_batch : step.batch;
  formats::Json step_s = formats::Json::array({});
  std::vector<double> times;
  double loss = 0;
  for (int i = 0; i < options.steps; ++i) {
    const auto started = std::chrono::steady_clock::now();
    COVEY_ASSIGN(loss, bench_step(bench, batch, rows, static_cast<std::uint64_t>(i), pool));
    times.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    step_s.push_back(rounded(times.back(), 4));
    console.progress("step " + std::to_string(i + 1) + "/" + std::to_string(options.steps));
  }
  console.end_progress();
  const double peak = peak_rss_mib();
  // The first step touches memory for the first time: like the script, the median leaves it out.
  const double typical = median(times.size() > 1 ? std::vector(times.begin() + 1, times.end()) : times);
  const double abandon = abandon_ms(bench, batch, rows, typical, pool);
  const formats::Json out = formats::Json::object(
      {{"engine", "covey " COVEY_VERSION},
       {"shape", options.shape},
       {"batch", step.batch},
       {"seq", step.seq},
       {"rank", options.rank},
       {"threads", threads},
       {"grad", !bench.source ? "none" : (step.full ? "full" : "lora")},
       {"method", step.method},
       {"checkpoint", step.checkpoint},
       {"dtype", options.dtype},
       {"tokens_per_s", rounded(static_cast<double>(tokens.ids.size()) / typical, 1)},
       {"step_s", step_s},
       {"rss_before_mib", rounded(before, 1)},
       {"planned_mib", rounded(static_cast<double>(bench.plan.total()) / (1 << 20), 1)},
       {"peak_rss_mib", rounded(peak, 1)},
       {"stash_kept_mib", rounded(static_cast<double>(bench.stash_kept) / (1 << 20), 2)},
       {"stash_checkpoint_mib", rounded(static_cast<double>(bench.stash_checkpoint) / (1 << 20), 2)},
       {"trainable", bench.parameters->trained_size()},
       {"abandon_ms", rounded(abandon, 1)},
       {"loss", rounded(loss, 4)}});
  console.line(out.dump());
  return {};
}

}  // namespace covey::adapters
