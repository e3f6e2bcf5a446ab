// The bounds on a plan: what a hostile or mistaken coordinator might ask for, refused before anything is believed.
#include <algorithm>
#include <cmath>
#include <set>

#include "adapters/layout.h"
#include "aggregation/dp_correlated.h"
#include "aggregation/secagg_session.h"
#include "aggregation/update.h"
#include "client/session.h"
#include "core/base/clock.h"
#include "core/train/method.h"

namespace covey::client {
namespace {

constexpr std::uint32_t kBatchMax = 1024;
constexpr std::uint32_t kSeqMax = 8192;
constexpr std::uint32_t kEpochsMax = 1000;
constexpr std::size_t kFilesMax = 256;
constexpr std::int64_t kRoundMax_ms = 30 * kDay_ms;
constexpr std::uint32_t kCandidatesMax = 65'536;
constexpr std::uint64_t kUpdateHeadBytes = 1024;  ///< a ClearUpdate's fields beside its words, generously

bool between(double value, double lo, double hi) {
  return std::isfinite(value) && value >= lo && value <= hi;
}

PlanVerdict bad(std::string detail) {
  return {wire::RefusalReason::bad_plan, std::move(detail)};
}

/// A name that cannot leave its folder or surprise a shell.
bool plain_name(const std::string& name) {
  if (name.empty() || name.size() > 128 || name.front() == '.' || name.front() == '-') return false;
  return std::ranges::all_of(name, [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

PlanVerdict check_training(const wire::RoundPlan& plan, const SessionPolicy& policy) {
  if (!train::plan_method_named(plan.method)) return bad("unknown method");
  if (plan.optimizer != "adamw" && plan.optimizer != "sgd") return bad("unknown optimizer");
  if (!between(plan.learning_rate, 0, 100)) return bad("learning_rate");
  if (!between(plan.weight_decay, 0, 10)) return bad("weight_decay");
  if (!between(plan.gradient_clip, 0, 1e9)) return bad("gradient_clip");
  if (!between(plan.prox_mu, 0, 1e6)) return bad("prox_mu");
  if (plan.stochastic_rounding && plan.method != "backprop") return bad("stochastic_rounding: is for backprop");
  if (plan.batch < 1 || plan.batch > kBatchMax) return bad("batch");
  if (plan.seq < 2 || plan.seq > kSeqMax) return bad("seq");
  if ((plan.local_steps == 0) == (plan.local_epochs == 0)) return bad("local_steps and local_epochs: one of them");
  if (plan.local_epochs > kEpochsMax) return bad("local_epochs");
  if (plan.local_steps_max < 1 || plan.local_steps > plan.local_steps_max) return bad("local_steps_max");
  if (plan.local_steps_max > policy.steps_max)
    return {wire::RefusalReason::budget, "more local steps than the policy allows"};
  return {};
}

/// K scalars say where training went only where each step goes along candidates, and nothing else moves the values.
PlanVerdict check_seeded(const wire::RoundPlan& plan, const SessionPolicy&) {
  if (plan.seeded.candidates == 0) return {};
  if (plan.seeded.candidates > kCandidatesMax) return bad("seeded.candidates");
  const auto named = train::plan_method_named(plan.method);
  if (!named || named->method == train::Method::backprop) return bad("seeded: backprop has no directions");
  if (plan.optimizer != "sgd" || plan.weight_decay > 0 || plan.prox_mu > 0)
    return bad("seeded: needs plain sgd, without weight_decay and prox_mu");
  return {};
}

PlanVerdict check_files(const wire::RoundPlan& plan, const SessionPolicy& policy) {
  if (plan.model.empty() || plan.model.size() > kFilesMax) return bad("model: number of files");
  std::set<std::string> names;
  std::uint64_t total = 0;
  for (const auto& file : plan.model) {
    if (!plain_name(file.name) || !names.insert(file.name).second) return bad("model: file name");
    if (file.bytes > policy.model_bytes_max) return {wire::RefusalReason::budget, "model larger than allowed"};
    total += file.bytes;
  }
  if (total > policy.model_bytes_max) return {wire::RefusalReason::budget, "model larger than allowed"};
  return {};
}

PlanVerdict check_update(const wire::RoundPlan& plan, const SessionPolicy& policy) {
  if (plan.min_count < 1 || plan.goal_count < plan.min_count) return bad("min_count and goal_count");
  const auto layout = adapters::AdapterLayout::parse(plan.adapter_layout);
  if (!layout.ok() || layout->size < 1) return bad("adapter_layout");
  const auto adapter_values = static_cast<std::size_t>(layout->size);
  if (plan.adapter.bytes != aggregation::version_values(plan, adapter_values) * 4)
    return bad("adapter: its size is not that of its layout");
  if (plan.kept > 0 && (plan.mode != wire::PrivacyMode::robust || plan.rotate))
    return bad("kept: sparse updates are for mode robust without rotation");
  const auto spec = aggregation::UpdateSpec::of(plan, aggregation::update_values(plan, adapter_values));
  if (const auto fits = spec.check(); !fits.ok()) return bad(fits.error().message);
  const std::uint64_t bytes = spec.packed_bytes() + kUpdateHeadBytes;
  if (spec.packed_bytes() > plan.update_bytes_max) return bad("update_bytes_max: below the size of an update");
  if (bytes > policy.upload_bytes_max) return {wire::RefusalReason::budget, "a larger upload than the policy allows"};
  return {};
}

/// Noise of the coordinator's over all rounds: what it states must hold together.
PlanVerdict check_correlated_plan(const wire::RoundPlan& plan, const SessionPolicy& policy) {
  if (plan.correlated.kind == wire::CorrelatedKind::none) return {};
  if (const auto sound = aggregation::dp::check_correlated(plan.correlated); !sound.ok())
    return bad(sound.error().message);
  if (plan.weight_max != 1 || plan.rotate || plan.noise.kind != wire::NoiseKind::none)
    return bad("correlated noise: goes with weight_max 1, without rotation and without noise of the devices'");
  if (plan.mode == wire::PrivacyMode::grouped) return bad("correlated noise: not in mode grouped");
  if (plan.round.value > aggregation::dp::kCorrelatedRoundsMax) return bad("correlated noise: round number");
  if (plan.correlated.separation < policy.separation_min)
    return {wire::RefusalReason::mode, "a separation of " + std::to_string(plan.correlated.separation) +
                                           " rounds; this device's policy asks for " +
                                           std::to_string(policy.separation_min) + " (separation_min)"};
  return {};
}

/// What the plan promises of secure aggregation; the rest is checked against it message by message.
PlanVerdict check_secure(const wire::RoundPlan& plan, const SessionPolicy& policy) {
  if (plan.mode != wire::PrivacyMode::secure && plan.noise.kind != wire::NoiseKind::none)
    return bad("noise: only in mode secure");
  if (plan.mode == wire::PrivacyMode::robust)
    return plan.secure.drawn_below == 0 ? PlanVerdict{} : bad("drawn_below: only in modes secure and grouped");
  if (plan.noise.kind != wire::NoiseKind::none && plan.weight_max != 1) return bad("noise: weight_max must be 1");
  const auto layout = adapters::AdapterLayout::parse(plan.adapter_layout);  // check_update has read it
  const auto setup =
      aggregation::SecAggSetup::of(plan, {}, aggregation::update_values(plan, static_cast<std::size_t>(layout->size)));
  if (!setup.ok()) return bad(setup.error().message);
  if (plan.secure.phase_ms < 1 || plan.secure.phase_ms > kRoundMax_ms) return bad("secure.phase_ms");
  const auto weaker = [](const std::string& what) { return PlanVerdict{wire::RefusalReason::mode, what}; };
  if (plan.secure.survivors_min < policy.survivors_min)
    return weaker("sums over " + std::to_string(plan.secure.survivors_min) +
                  " devices; this device's policy asks for " + std::to_string(policy.survivors_min) +
                  " (survivors_min)");
  if (plan.secure.corrupt_fraction < policy.corrupt_fraction_min)
    return weaker("protects from fewer colluding devices than this device's policy asks (corrupt_fraction_min)");
  const std::uint64_t bytes = (setup->words() * setup->bits + 7) / 8 + kUpdateHeadBytes;
  if (bytes > policy.upload_bytes_max) return {wire::RefusalReason::budget, "a larger upload than the policy allows"};
  return {};
}

}  // namespace

PlanVerdict check_plan(const wire::RoundPlan& plan, const SessionPolicy& policy) {
  if (plan.round.value == 0 || plan.deadline_ms < 1 || plan.deadline_ms > kRoundMax_ms) return bad("round or deadline");
  if (plan.mode < policy.weakest_mode)
    return {wire::RefusalReason::mode, std::string("mode ") + wire::to_string(plan.mode) + " is weaker than " +
                                           wire::to_string(policy.weakest_mode) + ", the weakest this device accepts"};
  for (const auto check :
       {check_training, check_seeded, check_files, check_update, check_correlated_plan, check_secure}) {
    auto verdict = check(plan, policy);
    if (verdict.reason != wire::RefusalReason::none) return verdict;
  }
  return {};
}

}  // namespace covey::client
