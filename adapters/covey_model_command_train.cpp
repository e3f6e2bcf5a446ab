// train: an adapter from a data file, with everything that a long run needs to be left alone.
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <optional>
#include <utility>

#include "adapters/adapter.h"
#include "adapters/adapter_file.h"
#include "adapters/covey_model.h"
#include "adapters/covey_model_command_settings.h"
#include "adapters/covey_model_progress.h"
#include "adapters/gguf_adapter.h"
#include "adapters/task_rows.h"
#include "adapters/workbench.h"
#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/base/log.h"
#include "core/train/flat_view.h"
#include "core/train/training_run.h"

namespace covey::adapters {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

void ask_to_stop(int) {
  stop_asked = 1;
}

/// SIGINT and SIGTERM end the run after its step, with a checkpoint; a second one ends it at once.
class StopSignals {
 public:
  StopSignals() {
    stop_asked = 0;
    struct sigaction action {};
    action.sa_handler = ask_to_stop;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGINT, &action, &old_int_);
    sigaction(SIGTERM, &action, &old_term_);
  }
  ~StopSignals() {
    sigaction(SIGINT, &old_int_, nullptr);
    sigaction(SIGTERM, &old_term_, nullptr);
  }
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

 private:
  struct sigaction old_int_ {};
  struct sigaction old_term_ {};
};

class Observer final : public train::RunObserver {
 public:
  Observer(MetricsLog& log, TrainProgress& progress) : log_(log), progress_(progress) {}

  Status on_step(const train::StepReport& report) override {
    progress_.step(report);
    formats::Json line = formats::Json::object({{"step", report.step},
                                                {"loss", report.loss},
                                                {"lr", report.lr},
                                                {"gradient_norm", report.gradient_norm},
                                                {"tokens", report.tokens}});
    if (report.directions > 0) line.set("directions", report.directions);
    return log_.write(line);
  }
  Status on_evaluation(std::int64_t step, const train::Evaluation& evaluation, bool best) override {
    progress_.evaluation(step, evaluation);
    return log_.write(formats::Json::object({{"step", step},
                                             {"held_out_loss", evaluation.loss},
                                             {"held_out_perplexity", evaluation.perplexity},
                                             {"held_out_accuracy", evaluation.accuracy},
                                             {"best", best}}));
  }
  Result<std::uint64_t> make_durable() override { return log_.make_durable(); }
  bool stop_wanted() override { return stop_asked != 0; }

 private:
  MetricsLog& log_;
  TrainProgress& progress_;
};

/// The adapter that training starts from.
Result<Adapter> starting_adapter(const TrainOptions& options, const TrainSettings& settings, const Workbench& bench) {
  if (!options.common.adapter.empty()) return load_adapter(options.common.adapter, *bench.model);
  AdapterOptions wanted = settings.adapter;
  wanted.lora.train_head = wanted.lora.train_head && bench.model->config().task == model::Task::classification;
  if (wanted.lora.target_modules == std::vector<std::string>{"auto"}) {
    wanted.lora.target_modules = default_targets(bench.model->linear_sites());
  }
  if (wanted.type != AdapterType::lora || settings.choice.all()) {
    auto fresh = Adapter::create_fresh(*bench.model, wanted, settings.training.seed);
    if (!fresh.ok()) return fresh.error().in(options.config);
    return fresh;
  }
  auto layout =
      chosen_lora_layout(bench.model->linear_sites(), wanted.lora, settings.choice, bench.model->head_parameters());
  if (!layout.ok()) return layout.error().in(options.config);
  std::vector<float> values = with_model_head(*layout, *bench.model, initial_values(*layout, settings.training.seed));
  return Adapter::create(*bench.model, *std::move(layout), std::move(values));
}

/// Whether the run goes on from what is there; without --resume an unfinished run's checkpoint is not thrown away.
Status resume_or_begin(const TrainOptions& options, const std::string& checkpoint, train::TrainingRun& run) {
  std::error_code ignored;
  const bool there = std::filesystem::exists(checkpoint, ignored);
  if (options.resume) {
    COVEY_ASSIGN(const bool resumed, run.resume());
    if (!resumed) log_info("train", checkpoint + ": not there; training begins");
    return {};
  }
  if (!there) return {};
  COVEY_ASSIGN(const bool complete, train::checkpoint_is_complete(checkpoint));
  if (complete) return {};
  return Error{ErrorCode::already_exists, checkpoint +
                                              ": an unfinished run's checkpoint; go on with --resume, or remove "
                                              "it to start over"};
}

/// What the run learns from and is tested on.
struct Material {
  data::Labels labels;
  std::vector<train::TokenRow> rows;
  std::vector<train::TokenRow> held_out;
  std::optional<data::Masking> masking;
};

/// The model, with a new head where it is to classify and has none to do it with.
Result<Workbench> bench_of(const TrainOptions& options, const TrainSettings& settings) {
  const CommonOptions& common = options.common;
  COVEY_ASSIGN(Workbench bench, open_workbench(common.model, common.tokenizer, {}, dtype_named(common.dtype)));
  if (settings.task != task_name(model::Task::classification) ||
      bench.model->config().task == model::Task::classification) {
    return bench;
  }
  COVEY_ASSIGN(const auto examples, read_examples(options.data));
  auto opened =
      open_classifier(common.model, common.tokenizer, common.adapter.empty() ? "" : common.adapter + kLabelsFile,
                      examples, dtype_named(common.dtype));
  if (!opened.ok()) return opened.error().in(options.data);
  return opened;
}

Result<Material> material_of(const TrainOptions& options, const TrainSettings& settings, const Workbench& bench) {
  const CommonOptions& common = options.common;
  const model::ModelConfig& config = bench.model->config();
  if (settings.task != "auto" && settings.task != task_name(config.task)) {
    return Error{ErrorCode::invalid_argument, options.config + ": task is " + settings.task + ", but " + common.model +
                                                  " is made for " + std::string(task_name(config.task)) +
                                                  "; leave task out, or choose another model"};
  }
  const auto examples_of = [&](const std::string& file) {
    return read_examples_for({common.chat, common.model, common.tokenizer}, *bench.tokenizer, file);
  };
  const RowOptions sizes{.seq = settings.training.seq, .target_seq = settings.training.target_seq};
  Material out;
  COVEY_ASSIGN(const auto examples, examples_of(options.data));
  const std::string known = common.adapter.empty() ? "" : common.adapter + kLabelsFile;
  auto labels = labels_for(config, known, examples);
  if (!labels.ok()) return labels.error().in(options.data);
  out.labels = *std::move(labels);
  COVEY_ASSIGN(out.rows, task_rows(bench, out.labels, examples, sizes, options.data));
  if (!settings.held_out.empty()) {
    COVEY_ASSIGN(const auto tested, examples_of(settings.held_out));
    COVEY_ASSIGN(out.held_out, task_rows(bench, out.labels, tested, sizes, settings.held_out));
  }
  COVEY_ASSIGN(out.masking, masking_for(bench, settings.mask_share, settings.training.seed));
  return out;
}

formats::Json summary_of(const train::LocalTrainer& trainer, const train::TrainingRun& run, std::int64_t trainable) {
  formats::Json out = training_summary(trainer.report(), trainable);
  if (run.best().tokens > 0) {
    out.set("held_out_loss", run.best().loss)
        .set("held_out_perplexity", run.best().perplexity)
        .set("held_out_accuracy", run.best().accuracy)
        .set("best_step", run.best_step())
        .set("stopped_early", run.stopped_early());
  }
  return out;
}

}  // namespace

Status run_train(const TrainOptions& options, Console& console) {
  COVEY_ASSIGN(TrainSettings settings, read_train_settings(options.config));
  COVEY_ASSIGN(const Workbench bench, bench_of(options, settings));
  const int seq = settings.training.seq;
  COVEY_ASSIGN(const Material material, material_of(options, settings, bench));
  settings.training.masking = material.masking;
  COVEY_ASSIGN(Adapter adapter, starting_adapter(options, settings, bench));
  model::AdapterSpec spec = adapter.spec();
  if (const Status frozen = freeze_rest(spec, bench.model->linear_sites(), settings.choice); !frozen.ok()) {
    return frozen.error().in(options.config);
  }
  ThreadPool pool(thread_count(options.common.threads));
  const SystemClock clock;
  const auto start = std::span<const float>(adapter.values());
  COVEY_ASSIGN(const auto trainer, train::LocalTrainer::create(*bench.model, spec, {start.begin(), start.end()},
                                                               material.rows, settings.training, pool, clock));
  COVEY_TRY(make_folders(options.out));
  settings.run.checkpoint = options.out + "/training.ckpt";
  train::TrainingRun run(*trainer, settings.run, clock);
  COVEY_TRY(resume_or_begin(options, settings.run.checkpoint, run));
  COVEY_ASSIGN(MetricsLog log, MetricsLog::open(options.out + "/metrics.jsonl", run.logged_bytes()));
  COVEY_TRY(write_file_durably(options.out + "/training.yaml", settings.resolved));

  TrainProgress progress(console, clock);
  Observer observer(log, progress);
  const train::EvaluateValues evaluate = [&](std::span<const float> values) {
    return train::evaluate(
        *bench.model, adapter.spec(),
        train::flat_view(adapter.spec(), bench.model->linear_sites(), bench.model->config().embedding_width(), values),
        material.held_out,
        {.batch = settings.training.batch,
         .seq = seq,
         .target_seq = settings.training.target_seq,
         .masking = material.masking},
        pool);
  };
  {
    const StopSignals signals;
    const Status ran = run.run(evaluate, observer);
    progress.finish();
    if (!ran.ok() && ran.error().code == ErrorCode::cancelled) {
      return Error{ErrorCode::cancelled, ran.error().message + "; go on with --resume"};
    }
    COVEY_TRY(ran);
  }
  std::copy(run.best_values().begin(), run.best_values().end(), adapter.values().begin());
  if (!material.labels.names().empty()) COVEY_TRY(save_labels(options.out + kLabelsFile, material.labels));
  COVEY_TRY(save_adapter(options.out, adapter, options.common.model));
  console.result(summary_of(*trainer, run, adapter.layout().size));
  return {};
}

}  // namespace covey::adapters
