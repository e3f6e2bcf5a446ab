// train, pretrain, corpus: commands that make adapters, base models and the text to try them on.
#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>

#include "adapters/adapter.h"
#include "adapters/covey_model.h"
#include "adapters/gguf_adapter.h"
#include "adapters/workbench.h"
#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/base/log.h"
#include "core/config/reader.h"
#include "core/data/household.h"
#include "core/formats/tokenizer_spec.h"
#include "core/text/bpe_train.h"
#include "core/train/evaluate.h"
#include "core/train/local_trainer.h"

namespace covey::adapters {
namespace {

namespace fs = std::filesystem;

struct PretrainConfig {
  std::vector<std::string> data;
  std::string held_out;
  int vocab_size = 512;
  model::ModelConfig model;
  train::TrainConfig training;
};

/// The keys that `train` and `pretrain` share.
train::TrainConfig read_training(config::Section& section, const train::TrainConfig& defaults) {
  train::TrainConfig out = defaults;
  section.choice("method", {"backprop"}, "backprop");
  const std::string optimizer = section.choice("optimizer", {"adamw", "sgd"}, "adamw");
  out.optimizer.kind = optimizer == "sgd" ? train::OptimizerKind::sgd : train::OptimizerKind::adamw;
  out.optimizer.momentum = section.real("momentum", 0.0, 0, 0.9999);
  out.optimizer.beta1 = section.real("beta1", 0.9, 0, 0.9999);
  out.optimizer.beta2 = section.real("beta2", 0.999, 0, 0.999999);
  out.optimizer.weight_decay = section.real("weight_decay", defaults.optimizer.weight_decay, 0, 1);
  out.lr = section.real("lr", defaults.lr, 0, 100);
  out.batch = static_cast<int>(section.int64("batch", defaults.batch, 1, 4096));
  out.seq = static_cast<int>(section.int64("seq", defaults.seq, 1, 1 << 20));
  out.steps = section.int64("steps", 0, 0, 1'000'000'000);
  out.epochs = section.real("epochs", 0.0, 0, 1e6);
  if (out.steps > 0 && out.epochs > 0) section.problem("epochs", "and `steps` exclude each other; keep one");
  if (out.steps == 0 && out.epochs == 0) out.epochs = 1;
  const std::string schedule =
      section.choice("schedule", {"constant", "linear", "cosine"},
                     defaults.schedule.kind == train::ScheduleKind::cosine ? "cosine" : "constant");
  out.schedule.kind = schedule == "cosine"   ? train::ScheduleKind::cosine
                      : schedule == "linear" ? train::ScheduleKind::linear
                                             : train::ScheduleKind::constant;
  out.schedule.warmup_steps = section.int64("warmup_steps", defaults.schedule.warmup_steps, 0, 1'000'000'000);
  out.schedule.final_factor = section.real("final_factor", defaults.schedule.final_factor, 0, 1);
  out.clip_norm = section.real("clip_norm", defaults.clip_norm, 0, 1e9);
  out.seed = static_cast<std::uint64_t>(section.int64("seed", 1, 0, INT64_MAX));
  out.gradient.checkpoint_activations = section.boolean("checkpoint_activations", false);
  return out;
}

Result<std::pair<train::TrainConfig, LoraOptions>> read_train_config(const std::string& path) {
  COVEY_ASSIGN(auto document, config::Document::load(path));
  auto root = document.root();
  train::TrainConfig defaults;
  defaults.clip_norm = 1;
  const train::TrainConfig training = read_training(root, defaults);
  auto section = root.section("lora");
  LoraOptions lora;
  lora.rank = static_cast<int>(section.int64("rank", lora.rank, 1, kRankMax));
  lora.alpha = section.real("alpha", lora.alpha, 1e-6, 1e6);
  lora.use_rslora = section.boolean("use_rslora", false);
  lora.target_modules = section.texts("target_modules", lora.target_modules);
  COVEY_TRY(document.finish());
  return std::pair(training, lora);
}

/// Paths in the file are relative to it.
Result<PretrainConfig> read_pretrain_config(const std::string& path) {
  COVEY_ASSIGN(auto document, config::Document::load(path));
  auto root = document.root();
  PretrainConfig out;
  const fs::path folder = fs::path(path).parent_path();
  for (const std::string& file : root.texts("data", config::required)) out.data.push_back((folder / file).string());
  const std::string held_out = root.text("held_out", "");
  if (!held_out.empty()) out.held_out = (folder / held_out).string();
  out.vocab_size = static_cast<int>(root.int64("vocab_size", 512, 258, 1 << 20));
  auto shape = root.section("model");
  auto& m = out.model;
  m.layers = static_cast<int>(shape.int64("layers", 4, 1, 256));
  m.heads = static_cast<int>(shape.int64("heads", 4, 1, 256));
  m.kv_heads = static_cast<int>(shape.int64("kv_heads", m.heads, 1, 256));
  m.hidden_size = static_cast<int>(shape.int64("hidden_size", 128, 8, 1 << 16));
  m.intermediate_size = static_cast<int>(shape.int64("intermediate_size", 344, 8, 1 << 18));
  m.context_max = static_cast<int>(shape.int64("context", 256, 8, 1 << 20));
  m.tied_head = shape.boolean("tied_head", true);
  if (m.hidden_size % m.heads != 0) shape.problem("heads", "must divide `hidden_size`");
  if (m.heads % m.kv_heads != 0) shape.problem("kv_heads", "must divide `heads`");
  m.head_dim = m.hidden_size / m.heads;
  train::TrainConfig defaults;
  defaults.lr = 3e-3;
  defaults.batch = 16;
  defaults.clip_norm = 1;
  defaults.optimizer.weight_decay = 0.05;
  defaults.schedule = {.kind = train::ScheduleKind::cosine, .warmup_steps = 20, .final_factor = 0.1};
  auto training = root.section("training");
  out.training = read_training(training, defaults);
  COVEY_TRY(document.finish());
  return out;
}

std::string text_of(const train::StepReport& report) {
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "step %lld/%lld  loss %.4f", static_cast<long long>(report.step),
                static_cast<long long>(report.steps_planned), report.loss);
  return text.data();
}

Status run_with_progress(train::LocalTrainer& trainer, Console& console) {
  COVEY_TRY(trainer.run([&](const train::StepReport& report) {
    if (report.step > 0) console.progress(text_of(report));
    return true;
  }));
  console.end_progress();
  return {};
}

formats::Json summary(const train::TrainReport& report, std::int64_t trainable) {
  return formats::Json::object({{"steps", report.steps},
                                {"examples", report.examples},
                                {"tokens", report.tokens},
                                {"first_loss", report.first_loss},
                                {"last_loss", report.last_loss},
                                {"mean_loss", report.mean_loss},
                                {"seconds", report.seconds},
                                {"tokens_per_s", report.tokens_per_s()},
                                {"trainable", trainable}});
}

Status make_directory(const std::string& path) {
  return make_folders(path);
}

Status write_lines(const std::string& path, const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return write_file_durably(path, text);
}

}  // namespace

Status run_train(const TrainOptions& options, Console& console) {
  COVEY_ASSIGN(const auto config, read_train_config(options.config));
  const auto& [training, lora] = config;
  COVEY_ASSIGN(const Workbench bench, open_workbench(options.common.model, options.common.tokenizer));
  COVEY_ASSIGN(const auto examples,
               read_examples_for({options.common.chat, options.common.model, options.common.tokenizer},
                                 *bench.tokenizer, options.data));
  const auto rows = example_rows(*bench.tokenizer, examples, training.seq);
  Adapter adapter;
  if (options.common.adapter.empty()) {
    auto fresh = Adapter::create_lora(*bench.model, lora, training.seed);
    if (!fresh.ok()) return fresh.error().in(options.config);
    adapter = *std::move(fresh);
  } else {
    COVEY_ASSIGN(adapter, load_adapter(options.common.adapter, *bench.model));
  }
  ThreadPool pool(thread_count(options.common.threads));
  const SystemClock clock;
  const auto start = std::span<const float>(adapter.values());
  COVEY_ASSIGN(const auto trainer,
               train::LocalTrainer::create(*bench.model, adapter.spec(), {start.begin(), start.end()}, rows, training,
                                           pool, clock));
  COVEY_TRY(run_with_progress(*trainer, console));
  std::copy(trainer->values().begin(), trainer->values().end(), adapter.values().begin());
  COVEY_TRY(save_peft(options.out, adapter, options.common.model));
  console.result(summary(trainer->report(), adapter.layout().size));
  return {};
}

Status run_pretrain(const PretrainOptions& options, Console& console) {
  COVEY_ASSIGN(PretrainConfig config, read_pretrain_config(options.config));
  std::vector<TextExample> examples;
  std::string text;
  for (const std::string& path : config.data) {
    COVEY_ASSIGN(auto more, read_examples(path));
    for (const auto& example : more) text += example.prompt + example.text + "\n";
    std::move(more.begin(), more.end(), std::back_inserter(examples));
  }
  COVEY_ASSIGN(const formats::TokenizerSpec spec, text::train_bpe(text, config.vocab_size));
  COVEY_TRY(make_directory(options.out));
  COVEY_TRY(formats::write_byte_level_tokenizer(options.out, spec));
  COVEY_ASSIGN(const auto tokenizer, text::load_tokenizer(options.out));
  config.model.vocab_size = tokenizer->vocab_size();
  config.model.bos_id = tokenizer->bos_id();
  config.model.eos_ids = {tokenizer->eos_id()};
  COVEY_ASSIGN(const auto model, model::Model::create(config.model, config.training.seed));
  const int seq = std::min(config.training.seq, config.model.context_max);
  const auto rows = example_rows(*tokenizer, examples, seq);
  ThreadPool pool(thread_count(options.common.threads));
  const SystemClock clock;
  log_info("pretrain", std::to_string(model->parameter_count()) + " parameters, " + std::to_string(rows.size()) +
                           " rows, vocabulary " + std::to_string(config.model.vocab_size));
  COVEY_ASSIGN(const auto trainer, train::LocalTrainer::create_full(*model, rows, config.training, pool, clock));
  COVEY_TRY(run_with_progress(*trainer, console));
  COVEY_TRY(model->save(options.out));
  formats::Json out = summary(trainer->report(), model->parameter_count());
  if (!config.held_out.empty()) {
    COVEY_ASSIGN(const auto held_out, read_examples(config.held_out));
    COVEY_ASSIGN(const auto result,
                 train::evaluate(*model, {}, {}, example_rows(*tokenizer, held_out, seq), {.seq = seq}, pool));
    out.set("held_out_perplexity", result.perplexity).set("held_out_accuracy", result.accuracy);
  }
  console.result(out);
  return {};
}

Status run_corpus(const CorpusOptions& options, Console& console) {
  COVEY_ASSIGN(const data::HouseholdCorpus corpus, data::make_household_corpus({.households = options.households,
                                                                                .unseen = options.unseen,
                                                                                .lines_mean = options.lines,
                                                                                .general_lines = options.general_lines,
                                                                                .seed = options.seed}));
  std::vector<std::string> all_train;
  std::vector<std::string> all_held_out;
  std::vector<std::string> unseen_held_out;
  formats::Json sizes = formats::Json::object();
  const auto write = [&](const data::Household& home) -> Status {
    const std::string folder = options.out + "/" + home.name;
    COVEY_TRY(make_directory(folder));
    if (!home.train.empty()) COVEY_TRY(write_lines(folder + "/train.txt", home.train));
    sizes.set(home.name, formats::Json::object({{"train", home.train.size()}, {"held_out", home.held_out.size()}}));
    return write_lines(folder + "/held_out.txt", home.held_out);
  };
  COVEY_TRY(write(corpus.general));
  for (const auto& home : corpus.households) {
    COVEY_TRY(write(home));
    all_train.insert(all_train.end(), home.train.begin(), home.train.end());
    all_held_out.insert(all_held_out.end(), home.held_out.begin(), home.held_out.end());
  }
  for (const auto& home : corpus.unseen) {
    COVEY_TRY(write(home));
    unseen_held_out.insert(unseen_held_out.end(), home.held_out.begin(), home.held_out.end());
  }
  COVEY_TRY(write_lines(options.out + "/train.txt", all_train));
  COVEY_TRY(write_lines(options.out + "/held_out.txt", all_held_out));
  if (!unseen_held_out.empty()) COVEY_TRY(write_lines(options.out + "/unseen.txt", unseen_held_out));
  const formats::Json out = formats::Json::object({{"seed", options.seed}, {"lines", sizes}});
  COVEY_TRY(out.save(options.out + "/corpus.json"));
  console.result(out);
  return {};
}

}  // namespace covey::adapters
