#include "coordinator/round_planner.h"

#include <algorithm>
#include <cmath>

#include "aggregation/compress_rotate.h"
#include "aggregation/compress_topk.h"
#include "aggregation/dp_correlated.h"
#include "aggregation/dp_distributed.h"
#include "aggregation/grouped.h"
#include "aggregation/robust_set.h"
#include "aggregation/secagg_session.h"
#include "aggregation/strategy.h"
#include "aggregation/update.h"
#include "core/base/clock.h"
#include "core/base/rng.h"
#include "core/crypto/hash.h"
#include "core/net/blobs.h"
#include "core/train/method.h"
#include "core/wire/codec.h"
#include "core/wire/limits.h"

namespace covey::coordinator {

namespace {
/// Round, plan hash, weight, count, bits and the length of the words, with room to spare.
constexpr std::uint64_t kUpdateOverheadBytes = 256;

Error bad(const std::string& what) {
  return {ErrorCode::invalid_argument, "task: " + what};
}

/// DP-FTRL: sums of all rounds lie on one scale, and nothing but sums is noised.
Status check_correlated_task(const TaskConfig& task, const aggregation::UpdateSpec& spec) {
  const Privacy& privacy = task.privacy;
  if (!privacy.correlates()) return {};
  COVEY_TRY(privacy.dp.budget.check());
  COVEY_TRY(aggregation::dp::check_correlated(privacy.correlated, spec));
  if (privacy.dp.on() || privacy.distributed()) return bad("privacy.dp: choose one mechanism");
  if (privacy.dp.adaptive_clip) {
    return bad("privacy.dp.adaptive_clip: tree and blt add up noise of one scale over all rounds; leave it out");
  }
  if (privacy.rotate)
    return bad("privacy.rotate: turns each round's noise another way, so that none cancels; leave it out");
  if (privacy.mode == wire::PrivacyMode::grouped || task.aggregation.rule != aggregation::Strategy::mean) {
    return bad("privacy.dp: its noise is made for a sum; write mode secure or robust and `aggregation: {rule: mean}`");
  }
  if (task.tried_max() > aggregation::dp::kCorrelatedRoundsMax) {
    return bad("rounds_tried_max: tree and blt are accounted for up to 1000000 rounds");
  }
  return {};
}
}  // namespace

std::uint64_t TaskConfig::seeded_seed() const {
  constexpr std::uint64_t kPurpose = 0x73656564;  // apart from the rounds' seeds
  return derive_seed(seed, kPurpose << 32);
}

std::uint32_t TaskConfig::kept() const {
  if (privacy.top_k == 0) return 0;
  const double all = static_cast<double>(values());
  return static_cast<std::uint32_t>(std::clamp(std::ceil(privacy.top_k * all), 1.0, all));
}

std::uint32_t TaskConfig::invited_max() const {
  return static_cast<std::uint32_t>(std::ceil(goal_count * over_selection));
}

std::uint32_t Privacy::groups_needed() const {
  if (mode != wire::PrivacyMode::grouped) return 1;
  return groups_min > 0 ? groups_min : groups / 2 + 1;
}

std::uint32_t Privacy::devices_min() const {
  return mode == wire::PrivacyMode::grouped ? groups * survivors_min : survivors_min;
}

Status TaskConfig::check_rule() const {
  if (privacy.mode == wire::PrivacyMode::grouped) return aggregation.check(privacy.groups_needed(), privacy.groups);
  return aggregation.check(min_count, std::max(min_count, invited_max()));
}

std::uint64_t TaskConfig::update_bytes_max() const {
  // A masked word is as wide as the sum of all; 32 bits are the most it can be.
  const std::uint64_t bits = privacy.mode != wire::PrivacyMode::robust ? 32 : privacy.value_bits;
  if (kept() > 0) return aggregation::sparse_size(kept(), values(), privacy.value_bits) + kUpdateOverheadBytes;
  const std::uint64_t sent = privacy.rotate ? aggregation::rotated_size(initial.size()) : values();
  return ((sent + 1) * bits + 7) / 8 + kUpdateOverheadBytes;
}

Status TaskConfig::check() const {
  const bool secure = privacy.mode == wire::PrivacyMode::secure;
  const bool grouped = privacy.mode == wire::PrivacyMode::grouped;
  if (task.empty() || task.size() > wire::kNameBytesMax) return bad("name: needs 1 to 128 bytes");
  if (adapter_layout.empty() || adapter_layout.size() > wire::kLayoutBytesMax) {
    return bad("adapter: its layout has " + std::to_string(adapter_layout.size()) + " bytes; 1 to 131072 can be sent");
  }
  if (initial.empty()) return bad("adapter: has no values");
  COVEY_TRY(adapter_blob(ModelVersion{0}, encode_values(initial)));
  if (rounds == 0 || rounds > 1'000'000) return bad("rounds: write 1 to 1000000");
  if (goal_count == 0 || goal_count > 100'000) return bad("goal: write 1 to 100000 devices");
  if (min_count == 0 || min_count > goal_count) return bad("min: write 1 to goal (" + std::to_string(goal_count) + ")");
  if (!(over_selection >= 1 && over_selection <= 10)) return bad("over_selection: write 1 to 10");
  if (deadline_ms < 100 || deadline_ms > 7 * kDay_ms) return bad("deadline: write 0.1 s to 7 days");
  if (check_back_ms < 10 || check_back_ms > kDay_ms) return bad("check_back: write 10 ms to 24 h");
  if (round_pause_ms < 0) return bad("round_pause: write 0 or more");
  if ((local.steps > 0) == (local.epochs > 0)) return bad("local: set exactly one of steps and epochs");
  if (local.batch == 0 || local.seq == 0 || local.steps_max == 0) return bad("local: batch, seq, steps_max start at 1");
  const auto method = train::plan_method_named(local.method);
  if (!method) {
    std::string known;
    for (const auto& name : train::plan_method_names()) known += (known.empty() ? "" : ", ") + name;
    return bad("local.method: write one of " + known);
  }
  if (local.optimizer != "adamw" && local.optimizer != "sgd") return bad("local.optimizer: write adamw or sgd");
  if (local.stochastic_rounding && local.method != "backprop") {
    return bad("local.stochastic_rounding: only backprop rounds gradients; leave it out");
  }
  if (local.candidates > 0) {
    if (local.candidates > 65'536) return bad("local.candidates: write at most 65536");
    if (initial.size() != local.candidates) return bad("adapter: a seeded task starts from one scalar a candidate");
    if (method->method == train::Method::backprop || local.optimizer != "sgd" || local.weight_decay > 0 ||
        local.prox_mu > 0) {
      return bad(
          "local.candidates: K scalars need a method without backprop, and optimizer sgd without "
          "weight_decay and prox_mu");
    }
  }
  for (const double figure : {local.learning_rate, local.weight_decay, local.gradient_clip, local.prox_mu}) {
    if (!std::isfinite(figure) || figure < 0) return bad("local: rates and bounds are numbers of 0 or more");
  }
  if (!(local.final_factor >= 0 && local.final_factor <= 1)) return bad("local.final_factor: write 0 to 1");
  if (group_commit_updates == 0 || group_commit_ms < 0 || invite_commit_ms < 0 || versions_kept == 0) {
    return bad("group commits need at least one update, and no negative times");
  }
  COVEY_TRY(server_optimizer.check());
  COVEY_TRY(aggregation::check_supported(aggregation.rule, privacy.mode));
  if (grouped && (privacy.groups < 3 || privacy.groups > aggregation::kGroupsMax)) {
    return bad("privacy.groups: write 3 to " + std::to_string(aggregation::kGroupsMax) +
               "; a rule needs groups to compare");
  }
  if (grouped && (privacy.groups_needed() < 2 || privacy.groups_needed() > privacy.groups)) {
    return bad("privacy.groups_min: write 2 to groups (" + std::to_string(privacy.groups) + ")");
  }
  COVEY_TRY(check_rule());
  if (loss_growth_max != 0 && !(loss_growth_max >= 1 && loss_growth_max <= 1e6)) {
    return bad("canary.loss_growth_max: write a factor from 1, or 0 for none");
  }
  if (privacy.rotate && aggregation.rule != aggregation::Strategy::mean) {
    return bad(
        "privacy.rotate: rules that look at single values need them as they are; write `aggregation: {rule: mean}`");
  }
  if (!(privacy.top_k >= 0 && privacy.top_k <= 1)) return bad("privacy.top_k: write a share of the values, 0 to 1");
  if (privacy.top_k > 0) {
    if (privacy.mode != wire::PrivacyMode::robust || aggregation.rule != aggregation::Strategy::mean) {
      return bad(
          "privacy.top_k: positions that differ cannot be masked, and most values are missing to the other rules; "
          "write `mode: robust` and `aggregation: {rule: mean}`");
    }
    if (privacy.rotate) return bad("privacy.top_k: a rotation makes all values alike; leave out `rotate`");
    if (privacy.dp.on() || privacy.correlates())
      return bad("privacy.top_k: noise covers all values; leave out one of `dp` and `top_k`");
  }
  const wire::RoundPlan plan = plan_round(*this, {}, RoundId{1}, 0);
  const auto spec = aggregation::UpdateSpec::of(plan, aggregation::update_values(plan, initial.size()));
  COVEY_TRY(spec.check());
  COVEY_TRY(privacy.dp.check(spec));
  if (privacy.distributed()) {
    COVEY_TRY(privacy.dp.budget.check());
    if (!secure) return bad("privacy.dp: noise of the devices' own needs `privacy.mode: secure`, which adds it up");
    if (privacy.weight_max != 1)
      return bad("privacy.dp: every device must count the same; set privacy.weight_max to 1");
    COVEY_TRY(aggregation::dp::distributed_of(plan).check(aggregation::dp::distributed_sensitivity(spec)));
  }
  COVEY_TRY(check_correlated_task(*this, spec));
  if (privacy.dp.on() && privacy.mode != wire::PrivacyMode::robust) {
    return bad("privacy.dp: central noise needs `privacy.mode: robust`, where each update's norm is checked");
  }
  if (privacy.dp.on() && aggregation.rule != aggregation::Strategy::mean) {
    return bad("privacy.dp: its noise is made for a sum; write `aggregation: {rule: mean}`");
  }
  if (!grouped && !aggregation::traits(aggregation.rule).needs_only_sums &&
      aggregation::RobustSet::memory_bytes(spec) > rule_memory_bytes_max) {
    return bad("aggregation.rule: keeping every single update takes up to " +
               std::to_string(aggregation::RobustSet::memory_bytes(spec) >> 20) +
               " MiB; raise aggregation.memory_mib_max (" + std::to_string(rule_memory_bytes_max >> 20) +
               ") or lower the cohort");
  }
  if (secure || grouped) {
    if (goal_count < privacy.devices_min()) {
      return bad("goal: " + std::to_string(goal_count) + " devices are fewer than privacy.survivors_min (" +
                 std::to_string(privacy.survivors_min) + ")" +
                 (grouped ? " for each of " + std::to_string(privacy.groups) + " groups" : std::string()) +
                 "; raise goal, or lower survivors_min and say so to the devices");
    }
    if (privacy.phase_ms < 100 || privacy.phase_ms > kDay_ms) return bad("privacy.phase: write 0.1 s to 24 h");
    COVEY_TRY(aggregation::SecAggSetup::of(plan, {}, spec.values));
  }
  if (selection.sortition && privacy.mode == wire::PrivacyMode::robust) {
    return bad("selection.policy: devices check a sortition in modes secure and grouped; write uniform in mode robust");
  }
  if (!(selection.spare >= 1 && selection.spare <= 100)) return bad("selection.spare: write 1 to 100");
  if (plan.update_bytes_max > assembly_bytes_max) {
    return bad("one update has " + std::to_string(plan.update_bytes_max) + " bytes, more than all uploads may hold (" +
               std::to_string(assembly_bytes_max) + ")");
  }
  const std::size_t plan_bytes = wire::encode(plan).size();
  if (plan_bytes > wire::kPlanBytesMax) {
    return bad("its plan has " + std::to_string(plan_bytes) + " bytes; at most 262144 can be sent: adapt fewer layers");
  }
  return {};
}

namespace {

/// By published rounds, so that an aborted one does not cost a step of the schedule.
double learning_rate_at(const TaskConfig& config, ModelVersion base) {
  if (config.rounds < 2) return config.local.learning_rate;
  const double done = std::min(1.0, static_cast<double>(base.value) / static_cast<double>(config.rounds - 1));
  return config.local.learning_rate * (1.0 - done * (1.0 - config.local.final_factor));
}

}  // namespace

wire::RoundPlan plan_round(const TaskConfig& config, const VersionRow& base, RoundId round,
                           std::uint64_t roster_epoch) {
  wire::RoundPlan plan;
  plan.task = config.task;
  plan.round = round;
  plan.base_version = base.version;
  plan.model = config.model;
  plan.adapter_layout = config.adapter_layout;
  plan.adapter = base.adapter;
  plan.seed = derive_seed(config.seed, round.value);
  plan.method = config.local.method;
  plan.optimizer = config.local.optimizer;
  plan.learning_rate = learning_rate_at(config, base.version);
  plan.weight_decay = config.local.weight_decay;
  plan.gradient_clip = config.local.gradient_clip;
  plan.prox_mu = config.local.prox_mu;
  plan.stochastic_rounding = config.local.stochastic_rounding;
  plan.local_steps = config.local.steps;
  plan.local_epochs = config.local.epochs;
  plan.local_steps_max = config.local.steps_max;
  plan.batch = config.local.batch;
  plan.seq = config.local.seq;
  plan.mode = config.privacy.mode;
  plan.clip_norm = config.privacy.clip_norm;
  plan.value_bits = config.privacy.value_bits;
  plan.weight_max = config.privacy.weight_max;
  plan.rotate = config.privacy.rotate;
  plan.correlated = config.privacy.correlated;
  plan.kept = config.kept();
  plan.cohort_invited = config.invited_max();
  plan.goal_count = config.goal_count;
  plan.min_count = config.min_count;
  plan.update_bytes_max = config.update_bytes_max();
  plan.deadline_ms = config.deadline_ms;
  plan.roster_epoch = roster_epoch;
  if (config.local.candidates > 0) plan.seeded = {config.local.candidates, config.seeded_seed()};
  if (plan.mode != wire::PrivacyMode::robust) {
    plan.secure.corrupt_fraction = config.privacy.corrupt_fraction;
    plan.secure.dropout_fraction = config.privacy.dropout_fraction;
    plan.secure.survivors_min = config.privacy.survivors_min;
    plan.secure.phase_ms = config.privacy.phase_ms;
    if (plan.mode == wire::PrivacyMode::grouped) plan.secure.groups = config.privacy.groups;
    plan.noise = config.privacy.noise;
  }
  return plan;
}

Result<wire::FileBlob> adapter_blob(ModelVersion version, ByteSpan content) {
  COVEY_ASSIGN(const auto manifest, net::make_manifest(content));
  return wire::FileBlob{"adapter-" + std::to_string(version.value) + ".f32", net::blob_id(manifest), content.size()};
}

wire::Hash task_identity(const TaskConfig& config) {
  crypto::Hasher hasher("covey task 1");
  hasher.update(config.task).update_u64(config.task.size());
  for (const wire::FileBlob& file : config.model) hasher.update(wire::encode(file));
  hasher.update(config.adapter_layout).update_u64(config.seed);
  hasher.update_u64(static_cast<std::uint64_t>(config.server_optimizer.kind));
  // What an open round keeps depends on it. The plain mean adds nothing: older stores had no other rule.
  if (config.aggregation.rule != aggregation::Strategy::mean) {
    hasher.update(std::string_view(aggregation::traits(config.aggregation.rule).name));
  }
  if (config.privacy.dp.on()) hasher.update(std::string_view("central differential privacy"));
  if (config.privacy.distributed()) hasher.update(std::string_view("distributed differential privacy"));
  if (config.privacy.correlates()) hasher.update(std::string_view("correlated differential privacy"));
  if (config.local.candidates > 0) hasher.update(std::string_view("seeded")).update_u64(config.local.candidates);
  return hasher.update(encode_values(config.initial)).finish().bytes;
}

}  // namespace covey::coordinator
