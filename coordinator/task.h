/// What one federated task is, checked: the input of the planner and of the round machine. Made from a configuration
/// file by settings.h, or filled in by the simulator and by tests.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "aggregation/dp_central.h"
#include "aggregation/server_optimizer.h"
#include "aggregation/strategy.h"
#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::coordinator {

struct LocalTraining {
  std::uint32_t steps = 0;  ///< exactly one of steps and epochs is set
  std::uint32_t epochs = 1;
  std::uint32_t steps_max = 1000;
  std::uint32_t batch = 8;
  std::uint32_t seq = 128;
  std::string method = "backprop";  ///< train::plan_method_names()
  /// K > 0: a seeded task. Versions and updates are K scalars, one for each candidate direction; 0: dense.
  std::uint32_t candidates = 0;
  std::string optimizer = "adamw";  ///< adamw, sgd
  double learning_rate = 1e-3;
  double final_factor = 1;  ///< the learning rate falls linearly over the rounds, to this part of it in the last
  double weight_decay = 0;
  double gradient_clip = 1;          ///< 0 = off
  double prox_mu = 0;                ///< FedProx; 0 = off
  bool stochastic_rounding = false;  ///< of gradients that pass through int8 weights
};

struct Privacy {
  wire::PrivacyMode mode = wire::PrivacyMode::secure;
  double clip_norm = 10;              ///< L2 bound of a delta
  std::uint32_t value_bits = 16;      ///< of one quantized value
  std::uint32_t weight_max = 1;       ///< 1 = every device counts the same
  bool rotate = false;                ///< before rounding; pads an update to a power of two
  double top_k = 0;                   ///< share of an update's values that is sent, in `robust` mode; 0: all
  aggregation::dp::CentralConfig dp;  ///< noise of the coordinator's; its budget is that of `noise`, too
  wire::NoisePlan noise;              ///< noise of the devices', in `secure` mode
  [[nodiscard]] bool distributed() const { return noise.kind != wire::NoiseKind::none; }
  wire::CorrelatedPlan correlated;  ///< DP-FTRL: noise of the coordinator's over all rounds; `fitted_rounds` = `rounds`
  [[nodiscard]] bool correlates() const { return correlated.kind != wire::CorrelatedKind::none; }
  // secure aggregation (security.md section 4)
  double corrupt_fraction = 0.1;     ///< gamma
  double dropout_fraction = 0.2;     ///< delta
  std::uint32_t survivors_min = 32;  ///< n_min: fewer are never summed
  std::int64_t phase_ms = 60'000;    ///< of each phase after the advertised keys
  // `grouped` mode: the four above hold for every group
  std::uint32_t groups = 8;
  std::uint32_t groups_min = 0;  ///< fewer groups with a sum end the round unpublished; 0: more than half of them
  /// Groups whose sum a round needs; 1 in `secure` mode, which has one.
  [[nodiscard]] std::uint32_t groups_needed() const;
  /// Fewer devices cannot make a round of `secure` or `grouped` mode.
  [[nodiscard]] std::uint32_t devices_min() const;
};

/// How a round's devices are chosen.
struct Selection {
  bool sortition = false;  ///< by a lot that every device can check (security.md section 2); else uniformly
  double spare = 2;        ///< sortition: devices drawn on average / places, since not all that are drawn come
};

struct TaskConfig {
  std::string task = "task";
  std::vector<wire::FileBlob> model;
  std::string adapter_layout;  ///< canonical text
  std::vector<float> initial;  ///< P values of version 0; K zeros of a seeded task
  std::uint64_t seed = 1;

  std::uint64_t rounds = 10;           ///< published rounds that end the task
  std::uint64_t rounds_tried_max = 0;  ///< tried rounds that end it anyway; 0 = 10 x rounds
  std::uint32_t goal_count = 1;
  std::uint32_t min_count = 1;
  double over_selection = 1.0;  ///< invited / goal, 1 to 10
  std::int64_t deadline_ms = 600'000;
  std::int64_t round_pause_ms = 0;
  std::int64_t evaluation_timeout_ms = 3'600'000;
  std::uint32_t check_back_ms = 5'000;
  LocalTraining local;
  aggregation::ServerOptimizerConfig server_optimizer;
  Privacy privacy;
  Selection selection;
  aggregation::RuleConfig aggregation;
  std::uint64_t rule_memory_bytes_max = std::uint64_t{2} << 30;  ///< of a rule that keeps single updates
  double loss_growth_max = 0;  ///< canary: a version whose held-out loss is above this times the last is not published

  std::uint32_t group_commit_updates = 32;
  std::int64_t group_commit_ms = 500;
  std::int64_t invite_commit_ms = 20;                           ///< invitations of this span share one commit
  std::uint64_t assembly_bytes_max = std::uint64_t{256} << 20;  ///< of all uploads in progress
  std::uint64_t versions_kept = 16;                             ///< adapters whose values stay in the store

  [[nodiscard]] std::uint64_t values() const { return initial.size(); }
  /// Values of an update that are sent, under top_k; else 0.
  [[nodiscard]] std::uint32_t kept() const;
  /// What a seeded task's adapter and candidates follow from.
  [[nodiscard]] std::uint64_t seeded_seed() const;
  [[nodiscard]] std::uint32_t invited_max() const;
  /// Rounds after which the task ends, published or not.
  [[nodiscard]] std::uint64_t tried_max() const { return rounds_tried_max > 0 ? rounds_tried_max : 10 * rounds; }
  /// Bytes of one encoded update, at most.
  [[nodiscard]] std::uint64_t update_bytes_max() const;
  /// Whether the aggregation rule bears the numbers of updates, or of groups, that rounds close with.
  [[nodiscard]] Status check_rule() const;
  /// @errors invalid_argument: names the key, what it is and what it may be.
  [[nodiscard]] Status check() const;
};

}  // namespace covey::coordinator
