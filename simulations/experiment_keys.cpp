#include "simulations/experiment_keys.h"

namespace covey::simulations {

const std::vector<ExperimentKey>& experiment_keys() {
  static const std::vector<ExperimentKey> keys = {
      {"name", "title of the report, name of the task", "file's name", ""},
      {"model", "Hugging Face directory or llama2.c `.bin`", "required", ""},
      {"tokenizer", "tokenizer file or directory", "beside the model", ""},
      {"devices", "devices in the world", "required", "1 to 1,000,000"},
      {"threads", "devices trained at the same time; changes no result", "1", "1 to 1024"},
      {"seed", "of everything random", "1", "0 to 2^63 - 1"},
      {"central", "the baseline without a federation: one device has the rows of all; robust mode, `goal` 1", "false",
       ""},
      {"virtual_time_max", "the world gives up there", "365 days", "1 s to 10 years"},
      {"data.format",
       "`lines` (.jsonl: \"text\" or \"prompt\" and \"response\", \"key\", \"label\"; else one example a line), `play` "
       "(blocks `NAME:`), `households` (generated)",
       "lines", ""},
      {"data.file", "not for `households`", "required", ""},
      {"data.lines", "`households` only: examples per device, on average", "300", "1 to 10,000"},
      {"data.partition",
       "`key`: one device per key, the largest ones; `iid`: shuffled, even; `label`: label mixes by a Dirichlet "
       "distribution; `quantity`: amounts by one",
       "key", ""},
      {"data.alpha", "`label` and `quantity`: of that distribution; the smaller, the more unlike the devices", "0.5",
       "0.001 to 1e6"},
      {"data.held_out", "share of each device's examples that only the coordinator sees", "0.1", "0 to 0.9"},
      {"data.held_out_rows_max", "rows evaluated, drawn evenly; 0 = all", "400", "0 to 10,000,000"},
      {"rounds", "published rounds that end the task", "10", "1 to 1,000,000"},
      {"rounds_tried_max", "tried rounds that end it anyway; 0 = 10 x `rounds`", "0", "0 to 10,000,000"},
      {"goal", "updates that end a round", "`secure`: privacy.survivors_min; else 1", "1 to 100,000"},
      {"min", "fewer at the deadline: the round is aborted", "1", "1 to `goal`"},
      {"over_selection", "invited / `goal`", "1", "1 to 10"},
      {"deadline", "of a round", "600 s", "100 ms to 7 days"},
      {"round_pause", "between rounds", "0", "0 to 1 day"},
      {"check_back", "when a device without work asks again; also the span in which devices first come", "5 s",
       "10 ms to 1 day"},
      {"adapter.type",
       "`lora`, `ia3`, `bias`, `prefix`, `bottleneck`, `prompt`; the other types' keys: adapters/README.md", "lora",
       ""},
      {"adapter.rank", "of LoRA", "8", "1 to 1,024"},
      {"adapter.alpha", "scale alpha / rank", "2 x rank", "1e-6 to 1e6"},
      {"adapter.rslora", "scale alpha / sqrt(rank)", "false", ""},
      {"adapter.targets", "names of linear layers, or `[all-linear]`", "[q_proj, v_proj]", ""},
      {"local.epochs", "local work of a round; or `local.steps`", "1", "0 to 1,000"},
      {"local.steps", "instead of `local.epochs`", "0", "0 to 1,000,000"},
      {"local.steps_max", "bound on the steps that epochs make", "1000", "1 to 1,000,000"},
      {"local.batch", "rows per step", "8", "1 to 4,096"},
      {"local.seq", "tokens per row", "128", "1 to 65,536"},
      {"local.method",
       "`backprop`; `forward-gradient` (exact directional derivatives), `forward-gradient-central` (FwdLLM's "
       "differences), `zeroth-order` (MeZO): core/train/method.cpp",
       "backprop", ""},
      {"local.candidates", "K of a seeded task (not `backprop`; `sgd`), as FedKSeed; 0: dense updates", "0",
       "0 to 65,536"},
      {"local.optimizer", "`adamw`, `sgd`", "adamw", ""},
      {"local.learning_rate", "", "0.001", "0 to 1,000"},
      {"local.final_factor", "the learning rate's factor in the last round, on a line from 1 in the first", "1",
       "0 to 1"},
      {"local.weight_decay", "", "0", "0 to 100"},
      {"local.prox_mu", "FedProx; 0 = off", "0", "0 to 1,000"},
      {"local.clip", "gradient norm; 0 = off", "1", "0 to 1e6"},
      {"server_optimizer.name", "`fedavg`, `fedavgm`, `fedadagrad`, `fedadam`, `fedyogi`", "fedavg", ""},
      {"server_optimizer.lr", "as aggregation/server_optimizer.h defines it, and the next ones", "1", "0 to 1,000"},
      {"server_optimizer.momentum", "", "0.9", "0 to 0.999999"},
      {"server_optimizer.beta1", "", "0.9", "0 to 0.999999"},
      {"server_optimizer.beta2", "", "0.99", "0 to 0.999999"},
      {"server_optimizer.tau", "", "0.001", "1e-12 to 1,000"},
      {"aggregation.rule",
       "`mean`, `median`, `trimmed_mean`, `krum`, ...: aggregation/README.md; all but `mean` in robust mode", "mean",
       ""},
      {"aggregation.byzantine", "share of a round's updates that may be bad", "0.2", "0 to 0.499"},
      {"aggregation.select", "`multi_krum`: updates kept; 0: all but the bad share", "0", "0 to 100,000"},
      {"aggregation.bound", "`norm_bound`, `centred_clipping`: norm or radius; 0: the median of the round", "0",
       "0 to 1e9"},
      {"aggregation.iterations", "of `centred_clipping`", "3", "1 to 100"},
      {"aggregation.memory_mib_max", "what a rule that holds all updates may take", "2048", "1 to 2^24"},
      {"canary.loss_growth_max", "a version whose held-out loss grows by more is not published; 0 = off", "0",
       "0 to 1e6"},
      {"privacy.mode",
       "`secure`: sums only; `grouped`: sums of random groups; `robust`: the coordinator is trusted and sees each "
       "update",
       "secure", ""},
      {"privacy.groups", "`grouped`: groups that a round's devices are dealt into", "8", "3 to 640"},
      {"privacy.groups_min", "`grouped`: fewer sums end the round unpublished; 0: more than half needed", "0",
       "0 to `groups`"},
      {"privacy.survivors_min", "`secure`: fewer devices are never summed", "32; with distributed noise 100",
       "2 to 1,280"},
      {"privacy.corrupt_fraction", "`secure`: share of a round's devices that may collude", "0.1", "0 to 0.9"},
      {"privacy.dropout_fraction", "`secure`: share of a round's devices that may vanish", "0.2", "0 to 0.9"},
      {"privacy.phase", "`secure`: how long each phase after the advertised keys may take", "60 s", "100 ms to 1 day"},
      {"privacy.clip_norm", "L2 bound of a delta", "10", "1e-9 to 1e9"},
      {"privacy.value_bits", "of one quantized value", "16", "4 to 24"},
      {"privacy.rotate", "updates are rotated before rounding; rule `mean`", "false", ""},
      {"privacy.weight_max", "examples that a device counts for, at most; 1 = all alike", "1", "1 to 1,000,000"},
      {"privacy.dp.mechanism", "`none`, `central_gaussian`, `distributed_gaussian`, `distributed_skellam`", "none", ""},
      {"privacy.dp.noise_multiplier", "noise's deviation / `clip_norm`", "1", "0.001 to 1,000"},
      {"privacy.dp.delta", "", "1e-6", "above 0, to 0.5"},
      {"privacy.dp.epsilon_max", "the task ends before it spends more", "8", "1e-6 to 1e6"},
      {"privacy.dp.adaptive_clip", "`clip_norm` follows the median of the updates' norms", "false", ""},
      {"fleet.dropout", "chance that a device dies while it trains for a round", "0", "0 to 1"},
      {"fleet.away", "how long a dead device stays away", "600 s", "0 to 30 days"},
      {"fleet.classes", "a list of classes in place of the built-in ones: below", "built-in", ""},
      {"adversaries.share", "part of the devices that is bad, to the nearest whole device", "0", "0 to 1"},
      {"adversaries.attack",
       "`sign_flip` (-scale x the update), `scaled_noise` (noise of scale x its norm), `label_flip` (targets v -> V - "
       "1 - v), `backdoor` (one token follows a trigger; scale x the update)",
       "sign_flip", ""},
      {"adversaries.scale", "see above; what leaves is clipped to `privacy.clip_norm` like every update", "10",
       "0 to 1e6"},
  };
  return keys;
}

std::string experiment_keys_table() {
  std::string out = "| key | meaning | default | range |\n|---|---|---|---|\n";
  for (const auto& key : experiment_keys()) {
    out += "| `" + key.name + "` | " + key.meaning + " | " + key.fallback + " | " + key.range + " |\n";
  }
  return out;
}

}  // namespace covey::simulations
