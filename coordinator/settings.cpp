#include "coordinator/settings.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "adapters/seeded.h"
#include "aggregation/grouped.h"
#include "coordinator/round_planner.h"
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/train/method.h"

namespace covey::coordinator {

namespace {
namespace fs = std::filesystem;

std::uint32_t count(config::Section& section, std::string_view key, std::uint32_t fallback, std::int64_t min,
                    std::int64_t max) {
  return static_cast<std::uint32_t>(section.int64(key, std::int64_t{fallback}, min, max));
}

void read_local(config::Section section, LocalTraining& local) {
  local.steps = count(section, "steps", 0, 0, 1'000'000);
  local.epochs = count(section, "epochs", local.steps > 0 ? 0 : 1, 0, 1'000);
  if (local.steps > 0 && local.epochs > 0) section.problem("epochs", "and `steps` exclude each other; keep one");
  local.steps_max = count(section, "steps_max", local.steps_max, 1, 1'000'000);
  local.batch = count(section, "batch", local.batch, 1, 4'096);
  local.seq = count(section, "seq", local.seq, 1, 65'536);
  local.method = section.choice("method", train::plan_method_names(), local.method);
  local.candidates = count(section, "candidates", 0, 0, 65'536);
  local.optimizer = section.choice("optimizer", {"adamw", "sgd"}, local.optimizer);
  local.learning_rate = section.real("learning_rate", local.learning_rate, 0, 1'000);
  local.final_factor = section.real("final_factor", local.final_factor, 0, 1);
  local.weight_decay = section.real("weight_decay", local.weight_decay, 0, 100);
  local.prox_mu = section.real("prox_mu", local.prox_mu, 0, 1'000);
  local.gradient_clip = section.real("clip", local.gradient_clip, 0, 1e6);
  local.stochastic_rounding = section.boolean("stochastic_rounding", local.stochastic_rounding);
}

void read_server_optimizer(config::Section section, aggregation::ServerOptimizerConfig& out) {
  const std::string name =
      section.choice("name", aggregation::server_optimizer_names(), aggregation::to_string(out.kind));
  if (const auto kind = aggregation::server_optimizer_kind(name); kind.ok()) out.kind = *kind;
  out.learning_rate = section.real("lr", out.learning_rate, 0, 1'000);
  out.momentum = section.real("momentum", out.momentum, 0, 0.999999);
  out.beta1 = section.real("beta1", out.beta1, 0, 0.999999);
  out.beta2 = section.real("beta2", out.beta2, 0, 0.999999);
  out.tau = section.real("tau", out.tau, 1e-12, 1'000);
}

void read_dp(config::Section section, Privacy& privacy) {
  aggregation::dp::CentralConfig& out = privacy.dp;
  const std::string mechanism = section.choice(
      "mechanism", {"none", "central_gaussian", "distributed_gaussian", "distributed_skellam", "tree", "blt"}, "none");
  const double noise = section.real("noise_multiplier", 1.0, 1e-3, 1e3);
  out.noise_multiplier = mechanism == "central_gaussian" ? noise : 0;
  if (mechanism == "distributed_gaussian") privacy.noise = {wire::NoiseKind::discrete_gaussian, noise};
  if (mechanism == "distributed_skellam") privacy.noise = {wire::NoiseKind::skellam, noise};
  if (mechanism == "tree" || mechanism == "blt") {
    privacy.correlated.kind = mechanism == "tree" ? wire::CorrelatedKind::tree : wire::CorrelatedKind::blt;
    privacy.correlated.multiplier = noise;
    privacy.correlated.separation =
        static_cast<std::uint32_t>(section.int64("separation", config::required, 1, 1'000'000));
    privacy.correlated.participations_max = count(section, "participations_max", 0, 0, 1'000'000);
  }
  if (mechanism == "blt") privacy.correlated.buffers = count(section, "buffers", 4, 1, 16);
  out.budget.delta = section.real("delta", 1e-6, 1e-300, 0.5);
  out.budget.epsilon_max = section.real("epsilon_max", 8, 1e-6, 1e6);
  out.adaptive_clip = section.boolean("adaptive_clip", false);
}

void read_privacy(config::Section section, Privacy& out) {
  const std::string mode = section.choice("mode", {"robust", "grouped", "secure"}, "secure");
  const bool grouped = mode == "grouped";
  out.mode = mode == "robust" ? wire::PrivacyMode::robust
             : grouped        ? wire::PrivacyMode::grouped
                              : wire::PrivacyMode::secure;
  if (grouped) {
    out.groups = count(section, "groups", out.groups, 3, aggregation::kGroupsMax);
    out.groups_min = count(section, "groups_min", 0, 0, aggregation::kGroupsMax);
  }
  out.corrupt_fraction = section.real("corrupt_fraction", out.corrupt_fraction, 0, 0.9);
  out.dropout_fraction = section.real("dropout_fraction", out.dropout_fraction, 0, 0.9);
  read_dp(section.section("dp"), out);
  // Fewer than that make a claim of differential privacy a demonstration; whoever wants it writes so.
  constexpr std::uint32_t kPrivateMin = 100;
  out.survivors_min = count(section, "survivors_min", out.distributed() ? kPrivateMin : out.survivors_min, 2, 1'280);
  out.phase_ms = section.duration_ms("phase", out.phase_ms, 100, kDay_ms);
  out.clip_norm = section.real("clip_norm", out.clip_norm, 1e-9, 1e9);
  out.value_bits = count(section, "value_bits", out.value_bits, 4, 24);
  out.weight_max = count(section, "weight_max", out.weight_max, 1, 1'000'000);
  out.rotate = section.boolean("rotate", false);
  out.top_k = section.real("top_k", 0, 0, 1);
}

void read_aggregation(config::Section section, TaskConfig& task) {
  aggregation::RuleConfig& out = task.aggregation;
  const std::string name = section.choice("rule", aggregation::strategy_names(), aggregation::traits(out.rule).name);
  if (const auto rule = aggregation::strategy_of(name); rule.ok()) out.rule = *rule;
  out.byzantine = section.real("byzantine", out.byzantine, 0, 0.499);
  out.select = count(section, "select", out.select, 0, 100'000);
  out.bound = section.real("bound", out.bound, 0, 1e9);
  out.iterations = static_cast<int>(section.int64("iterations", out.iterations, 1, 100));
  task.rule_memory_bytes_max = static_cast<std::uint64_t>(section.int64("memory_mib_max", 2048, 1, 1 << 24)) << 20;
}

std::string beside(const fs::path& folder, const std::string& path) {
  if (path.empty()) return path;
  return (folder / path).lexically_normal().string();
}

bool belongs_to_model(const std::string& name) {
  for (const char* ending : {".safetensors", ".safetensors.index.json", "config.json", "tokenizer.json",
                             "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                             "vocab.json", "merges.txt", "vocab.txt", "tokenizer.bin"}) {
    if (name.ends_with(ending) && !name.starts_with(".")) return true;
  }
  return false;
}
}  // namespace

void read_rounds(config::Section root, TaskConfig& task) {
  task.rounds = static_cast<std::uint64_t>(root.int64("rounds", static_cast<std::int64_t>(task.rounds), 1, 1'000'000));
  task.rounds_tried_max = static_cast<std::uint64_t>(root.int64("rounds_tried_max", 0, 0, 10'000'000));
  read_privacy(root.section("privacy"), task.privacy);
  if (task.privacy.correlated.kind == wire::CorrelatedKind::blt) {
    task.privacy.correlated.fitted_rounds = static_cast<std::uint32_t>(task.rounds);
  }
  const bool sums = task.privacy.mode != wire::PrivacyMode::robust;
  // Not told otherwise, a secure round gathers as many as its sums need at least.
  task.goal_count = count(root, "goal", sums ? task.privacy.devices_min() : task.goal_count, 1, 100'000);
  task.min_count = count(root, "min", std::min(task.min_count, task.goal_count), 1, 100'000);
  if (task.min_count > task.goal_count) {
    root.problem("min", "is above `goal` (" + std::to_string(task.goal_count) + "); lower it");
  }
  task.over_selection = root.real("over_selection", task.over_selection, 1, 10);
  task.deadline_ms = root.duration_ms("deadline", task.deadline_ms, 100, 7 * kDay_ms);
  task.round_pause_ms = root.duration_ms("round_pause", task.round_pause_ms, 0, kDay_ms);
  task.check_back_ms =
      static_cast<std::uint32_t>(root.duration_ms("check_back", std::int64_t{task.check_back_ms}, 10, kDay_ms));
  task.seed = static_cast<std::uint64_t>(
      root.int64("seed", static_cast<std::int64_t>(task.seed), 0, std::numeric_limits<std::int64_t>::max()));
  auto selection = root.section("selection");
  task.selection.sortition = selection.choice("policy", {"uniform", "sortition"}, "uniform") == "sortition";
  task.selection.spare = selection.real("spare", task.selection.spare, 1, 100);
  read_local(root.section("local"), task.local);
  read_server_optimizer(root.section("server_optimizer"), task.server_optimizer);
  read_aggregation(root.section("aggregation"), task);
  if (const Status fits = task.check_rule(); !fits.ok()) {
    root.problem("aggregation", "does not fit: " + fits.error().message);
  }
  task.loss_growth_max = root.section("canary").real("loss_growth_max", task.loss_growth_max, 0, 1e6);
}

adapters::AdapterOptions read_adapter(config::Section section) {
  return adapters::read_adapter_options(std::move(section));
}

Result<Settings> load_settings(const std::string& path) {
  COVEY_ASSIGN(auto document, config::Document::load(path));
  const fs::path folder = fs::path(path).parent_path();
  auto root = document.root();
  Settings out;
  out.home = folder.empty() ? "." : folder.string();
  out.task.task = root.text("task", config::required);
  if (out.task.task.empty() || out.task.task.size() > 128) root.problem("task", "needs 1 to 128 bytes");
  out.listen = root.text("listen", "tcp://127.0.0.1:7400");
  if (!out.listen.starts_with("tcp://")) root.problem("listen", "is no endpoint; write tcp://ADDRESS:PORT");
  out.advertise = root.text("advertise", "");
  out.rotate = read_rotation(root, folder.string());
  out.data_dir = beside(folder, root.text("data_dir", "."));
  if (out.data_dir.empty()) out.data_dir = ".";
  out.model = beside(folder, root.text("model", config::required));
  out.tokenizer = beside(folder, root.text("tokenizer", ""));
  out.roster_key = beside(folder, root.text("roster_key", ""));
  out.adapter = read_adapter(root.section("adapter"));
  auto held_out = root.section("held_out");
  out.held_out.file = beside(folder, held_out.text("file", ""));
  out.held_out.examples_max = held_out.int64("examples_max", out.held_out.examples_max, 1, 10'000'000);
  out.held_out.batch = static_cast<int>(held_out.int64("batch", out.held_out.batch, 1, 4'096));
  out.held_out.seq = static_cast<int>(held_out.int64("seq", out.held_out.seq, 2, 65'536));
  out.held_out.threads = static_cast<int>(held_out.int64("threads", 1, 1, 256));
  read_rounds(root, out.task);
  out.dashboard_port = static_cast<int>(root.section("dashboard").int64("port", 0, 0, 65'535));
  out.exit_when_finished = root.boolean("exit_when_finished", false);
  COVEY_TRY(document.finish());
  return out;
}

Status add_adapter(TaskConfig& task, const model::Model& model, const adapters::AdapterOptions& options) {
  COVEY_ASSIGN(const auto layout, adapters::adapter_layout(model, options));
  task.adapter_layout = layout.canonical();
  constexpr std::uint64_t kAdapterPurpose = 0x61646170;  // "adap"
  if (task.local.candidates > 0) {
    task.initial.assign(task.local.candidates, 0);
    return {};
  }
  COVEY_ASSIGN(task.initial, adapters::first_values(layout, model, derive_seed(task.seed, kAdapterPurpose)));
  return {};
}

Result<std::vector<float>> adapter_of_version(const TaskConfig& task, const adapters::AdapterLayout& layout,
                                              const model::Model& model, std::vector<float> version,
                                              ThreadPool& threads) {
  if (task.local.candidates == 0) return version;
  const train::SeedPool pool{.seed = task.seeded_seed(), .count = static_cast<int>(task.local.candidates)};
  return adapters::seeded_values(layout, model, pool, version, threads);
}

Result<std::vector<ModelFile>> model_files(const std::string& path, const std::string& tokenizer) {
  std::vector<ModelFile> out;
  std::error_code error;
  if (fs::is_regular_file(path, error)) {
    out.push_back({fs::path(path).filename().string(), path});
    if (!tokenizer.empty()) {
      out.push_back({"tokenizer.bin", tokenizer});
      return out;
    }
    for (const auto& entry : fs::directory_iterator(
             fs::path(path).parent_path().empty() ? fs::path(".") : fs::path(path).parent_path(), error)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("tok") && name.ends_with(".bin") && entry.is_regular_file(error)) {
        out.push_back({name, entry.path().string()});
      }
    }
  } else if (fs::is_directory(path, error)) {
    for (const auto& entry : fs::directory_iterator(path, error)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_regular_file(error) && belongs_to_model(name)) out.push_back({name, entry.path().string()});
    }
    if (!tokenizer.empty()) out.push_back({fs::path(tokenizer).filename().string(), tokenizer});
  } else {
    return Error{ErrorCode::not_found, path + ": no model here; give a Hugging Face directory or a llama2.c .bin"};
  }
  if (error) return Error{ErrorCode::io_error, path + ": " + error.message()};
  if (out.empty()) return Error{ErrorCode::invalid_argument, path + ": has no files of a model"};
  std::ranges::sort(out, {}, &ModelFile::name);
  return out;
}

Status serve_model(TaskConfig& task, const std::vector<ModelFile>& files, net::BlobServer& blobs) {
  task.model.clear();
  for (const ModelFile& file : files) {
    COVEY_ASSIGN(const auto manifest, net::make_manifest_of_file(file.path));
    COVEY_ASSIGN(const wire::Hash name, blobs.add_file(file.path, manifest));
    task.model.push_back({file.name, name, manifest.bytes});
  }
  return {};
}

std::string settings_template(const std::string& task) {
  return "# Configuration of covey-coordinator. Paths are relative to this file. Unknown keys are refused.\n"
         "task: " +
         task + "\n" + R"(
# Where devices connect, and what invites tell them (default: `listen` as bound).
listen: tcp://127.0.0.1:7400
# advertise: tcp://coordinator.example.org:7400

# A new transport key (`covey-coordinator rotate-key next.key`): devices that come within the overlap are told of the
# second endpoint and use it from then on; then the first one is given up.
# rotate: {listen: tcp://127.0.0.1:7401, key: next.key, overlap_h: 168}   # advertise: as above

# Base model: a Hugging Face directory or a llama2.c .bin. Devices download its files.
model: model
# tokenizer: tokenizer.bin      # where it does not lie beside the model

# What is trained: LoRA on the named linear layers, or [all-linear].
adapter: {rank: 8, alpha: 16, targets: [q_proj, v_proj]}

# Measures each version on the coordinator. Leave `file` out to publish without.
held_out:
  # file: held_out.jsonl        # .txt: one example a line; .jsonl: {"text": ...} or {"prompt": ..., "response": ...}
  examples_max: 1000
  batch: 16
  seq: 256
  threads: 1

rounds: 20                 # published rounds that end the task
goal: 40                   # updates that end a round
min: 32                    # fewer at the deadline: the round is aborted
over_selection: 1.0        # devices invited / goal
deadline_s: 600
round_pause_s: 0
check_back_s: 5            # when a device that has nothing to do asks again
seed: 1
# rounds_tried_max: 200    # aborted rounds included; default 10 x rounds

# uniform: this coordinator draws a round's devices among those that are there. sortition (modes secure and grouped): the
# roster, the round's number and a device's identity draw it, so that every device can check that nobody else was put
# into a round; spare x (goal x over_selection) of all active devices are drawn, since not all of them come.
selection: {policy: uniform, spare: 2}

# What each device does in a round. `steps`, or `epochs` bounded by steps_max.
local:
  epochs: 1
  steps_max: 1000
  batch: 8
  seq: 128
  method: backprop         # backprop; with inference memory and more steps: forward-gradient (exact derivatives),
                           # forward-gradient-central (their differences), zeroth-order, zeroth-order-sign
  # candidates: 4096       # with the last four and sgd: versions and updates are so many scalars, kilobytes for any model
  optimizer: adamw         # adamw, sgd
  learning_rate: 0.001
  final_factor: 1          # the learning rate falls linearly over the rounds, to this part of it in the last
  weight_decay: 0
  prox_mu: 0               # FedProx; 0 = off
  clip: 1                  # gradient norm; 0 = off
  # stochastic_rounding: true  # with backprop and a base model in int8 (w8a8): gradients without bias, with more noise

# fedavg, fedavgm, fedadagrad, fedadam, fedyogi, lion
server_optimizer: {name: fedavg, lr: 1.0}

# secure: this coordinator learns sums over at least survivors_min devices, and nothing of a single one, while fewer
# than corrupt_fraction of a round's devices work together with it; up to dropout_fraction may vanish on the way. Each
# phase of a round's end takes at most phase. Devices refuse a survivors_min below their own policy's (32).
# grouped: the devices are dealt at random into groups, survivors_min and the fractions hold for each of them, this
# coordinator learns the groups' sums, and the aggregation rule looks at the groups' means; groups_min of them must be left.
# robust: the coordinator is trusted and sees each update.
# In all, deltas are clipped to clip_norm (L2) and rounded to value_bits; a device counts for up to weight_max examples
# (1: all devices count the same).
privacy:
  mode: secure
  survivors_min: 32
  corrupt_fraction: 0.1
  dropout_fraction: 0.2
  phase_s: 60
  clip_norm: 10
  value_bits: 16
  weight_max: 1
  # groups: 8                # of mode grouped; goal must be at least groups x survivors_min
  # groups_min: 5            # default: more than half
  # rotate: true             # random rotation before rounding: lets value_bits be small; pads to a power of two
  # top_k: 0.01              # robust mode: only this share of the values is sent, the largest; the rest waits on the device

# privacy.dp adds noise. distributed_gaussian, distributed_skellam (secure mode): each device adds a share before it masks, so
# that the coordinator too sees noised sums only; as many survivors_min as there are (default 100), less corrupt_fraction of
# them, are counted on for it. central_gaussian (robust mode) adds noise to each round's sum, so that the published adapters tell little of any one device; the
# coordinator still sees updates. tree, blt (DP-FTRL; secure or robust mode): noise of the coordinator's that is correlated
# over the rounds, so that it grows slowly and sampling is not assumed: each device refuses to send again within
# `separation` rounds, or more than participations_max times (0: as often as that lets). None of these keys may change
# under a running task. noise_multiplier = deviation / clip_norm; the task ends before epsilon passes
# epsilon_max (at delta); needs weight_max 1 and rule mean. adaptive_clip moves clip_norm to the median norm.
#   dp: {mechanism: central_gaussian, noise_multiplier: 1.0, delta: 1e-6, epsilon_max: 8, adaptive_clip: false}
#   dp: {mechanism: blt, noise_multiplier: 6, separation: 20, participations_max: 0, buffers: 4, delta: 1e-6, epsilon_max: 8}

# How updates become one. mean: only their sum is kept. median, trimmed_mean, krum, multi_krum, geometric_median,
# norm_bound, centred_clipping (modes `robust` and `grouped`) withstand a share `byzantine` of bad devices, count every device
# once and keep each update until the round ends: about 5 bytes x values x devices, at most memory_mib_max.
# Further keys: select (multi_krum), bound (norm_bound, centred_clipping; 0 = the round's median), iterations.
aggregation: {rule: mean, byzantine: 0.2, memory_mib_max: 2048}

# A version whose held-out loss is above this factor of the last one's is not published: the round is aborted.
# 0 = never; needs `held_out`.
canary: {loss_growth_max: 1.5}

# The key that signs the roster. `roster_key` on the coordinator signs by itself, which is convenient and means that
# whoever holds the coordinator can invent devices. Move the file away and delete this line to sign by
# `covey-coordinator roster sign --key FILE`.
roster_key: roster.key

data_dir: .                # database, keys, admin socket
dashboard: {port: 0}       # on 127.0.0.1; 0 = off
exit_when_finished: false
)";
}

}  // namespace covey::coordinator
