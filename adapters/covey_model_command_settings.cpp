#include "adapters/covey_model_command_settings.h"

#include <algorithm>
#include <filesystem>

#include "adapters/task_rows.h"
#include "core/config/reader.h"

namespace covey::adapters {
namespace {

namespace fs = std::filesystem;

std::string beside(const std::string& path, const std::string& file) {
  return file.empty() ? file : (fs::path(path).parent_path() / file).string();
}

void read_gradient(config::Section& section, train::GradientConfig& out) {
  out.method = train::method_named(section.choice("method", train::method_names(), "backprop")).value_or(out.method);
  out.derivative = train::derivative_named(section.choice("derivative", train::derivative_names(), "exact"))
                       .value_or(out.derivative);
  out.directions = static_cast<int>(section.int64("directions", 0, 0, 4096));
  out.epsilon = section.real("epsilon", 0.0, 0, 1);
  out.variance_max = section.real("variance_max", 0.0, 0, 1e12);
  out.directions_max = static_cast<int>(section.int64("directions_max", out.directions_max, 1, 4096));
  out.checkpoint_activations = section.boolean("checkpoint_activations", false);
}

/// The keys that `train` and `pretrain` share.
train::TrainConfig read_training(config::Section& section, const train::TrainConfig& defaults) {
  train::TrainConfig out = defaults;
  read_gradient(section, out.gradient);
  const std::string optimizer = section.choice("optimizer", train::optimizer_names(), "adamw");
  out.optimizer.kind = train::optimizer_named(optimizer).value_or(out.optimizer.kind);
  out.optimizer.momentum = section.real("momentum", 0.0, 0, 0.9999);
  out.optimizer.beta1 = section.real("beta1", 0.9, 0, 0.9999);
  out.optimizer.beta2 = section.real("beta2", 0.999, 0, 0.999999);
  out.optimizer.weight_decay = section.real("weight_decay", defaults.optimizer.weight_decay, 0, 1);
  out.lr = section.real("lr", defaults.lr, 0, 100);
  out.batch = static_cast<int>(section.int64("batch", defaults.batch, 1, 4096));
  out.micro_batch = static_cast<int>(section.int64("micro_batch", 0, 0, out.batch));
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
  if (section.boolean("stochastic_rounding", false)) out.gradient.stochastic_rounding = out.seed;
  return out;
}

void read_run(config::Section& section, TrainSettings& out, const std::string& path) {
  out.held_out = beside(path, section.text("held_out", ""));
  const bool tested = !out.held_out.empty();
  out.run.evaluate_every = section.int64("evaluate_every", tested ? 50 : 0, 0, 1'000'000'000);
  if (out.run.evaluate_every > 0 && !tested) section.problem("evaluate_every", "needs `held_out`, a data file");
  out.run.patience = static_cast<int>(section.int64("patience", 0, 0, 1'000'000));
  if (out.run.patience > 0 && out.run.evaluate_every == 0) section.problem("patience", "needs `evaluate_every`");
  out.run.min_improvement = section.real("min_improvement", 0.0, 0, 100);
  out.run.checkpoint_every = section.int64("checkpoint_every", 0, 0, 1'000'000'000);
}

/// What belongs to one task or another; keys of other tasks are without effect.
void read_task(config::Section& section, TrainSettings& out) {
  std::vector<std::string> tasks = task_names();
  tasks.insert(tasks.begin(), "auto");
  out.task = section.choice("task", tasks, "auto");
  out.training.target_seq = static_cast<int>(section.int64("target_seq", 0, 0, 1 << 20));
  out.mask_share = section.real("mask_share", 0.15, 0.001, 0.999);
  out.adapter.lora.train_head = section.boolean("train_head", true);
}

}  // namespace

Result<TrainSettings> read_train_settings(const std::string& path) {
  COVEY_ASSIGN(auto document, config::Document::load(path));
  auto root = document.root();
  train::TrainConfig defaults;
  defaults.clip_norm = 1;
  TrainSettings out;
  out.training = read_training(root, defaults);
  read_task(root, out);
  read_run(root, out, path);
  for (const std::int64_t layer : root.int64s("train_layers", std::vector<std::int64_t>{}, 0, 1 << 16)) {
    out.choice.layers.push_back(static_cast<int>(layer));
  }
  out.choice.tensors = root.texts("train_tensors", std::vector<std::string>{});
  const bool train_head = out.adapter.lora.train_head;
  if (root.has("adapter")) {
    if (root.has("lora")) root.problem("lora", "and `adapter` exclude each other; keep one");
    out.adapter = read_adapter_options(root.section("adapter"));
    out.adapter.lora.train_head = train_head;
  } else {
    auto section = root.section("lora");
    LoraOptions& lora = out.adapter.lora;
    lora.rank = static_cast<int>(section.int64("rank", lora.rank, 1, kRankMax));
    lora.alpha = section.real("alpha", lora.alpha, 1e-6, 1e6);
    lora.use_rslora = section.boolean("use_rslora", false);
    lora.target_modules = section.texts("target_modules", std::vector<std::string>{"auto"});
  }
  COVEY_TRY(document.finish());
  if (const Status fits = out.training.check(); !fits.ok()) return fits.error().in(path);
  out.resolved = document.resolved();
  return out;
}

Result<PretrainSettings> read_pretrain_settings(const std::string& path) {
  COVEY_ASSIGN(auto document, config::Document::load(path));
  auto root = document.root();
  PretrainSettings out;
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
  if (const Status fits = out.training.check(); !fits.ok()) return fits.error().in(path);
  return out;
}

}  // namespace covey::adapters
