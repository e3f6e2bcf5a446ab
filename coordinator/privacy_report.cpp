#include "coordinator/privacy_report.h"

#include <cstdio>

#include "aggregation/dp_distributed.h"
#include "coordinator/rows.h"
#include "core/wire/codec.h"

namespace covey::coordinator {

std::string PrivacyReport::words() const {
  char figures[160];
  std::snprintf(figures, sizeof figures, "epsilon %.4g of at most %.4g at delta %.3g after %llu rounds", epsilon,
                epsilon_max, delta, static_cast<unsigned long long>(rounds_charged));
  return std::string(figures) + "; " + mechanism + "; unit of privacy: " + unit + "; protects from " + protects_from +
         "; assumes " + assumptions;
}

namespace {

void describe_central(const aggregation::dp::CentralConfig& dp, PrivacyReport& out) {
  char mechanism[128];
  std::snprintf(mechanism, sizeof mechanism, "central discrete Gaussian noise, multiplier %.4g%s", dp.noise_multiplier,
                dp.adaptive_clip ? ", adaptive clipping" : "");
  out.mechanism = mechanism;
  out.unit = "all updates of one device, added or removed";
  out.protects_from =
      "whoever sees the published adapters; not from the coordinator, which sees each update, adds the noise and keeps "
      "reported losses and counts";
  out.assumptions =
      "that one device sends at most one update a round and one person has one device; nothing about which devices "
      "take part, and no gain from sampling is counted";
}

void describe_distributed(const Privacy& privacy, PrivacyReport& out) {
  const bool skellam = privacy.noise.kind == wire::NoiseKind::skellam;
  const aggregation::dp::DistributedConfig shares{
      skellam ? aggregation::dp::Distributed::skellam : aggregation::dp::Distributed::discrete_gaussian,
      privacy.noise.multiplier, privacy.corrupt_fraction, privacy.survivors_min};
  char text[256];
  std::snprintf(text, sizeof text, "distributed %s noise under secure aggregation, multiplier %.4g",
                skellam ? "Skellam" : "discrete Gaussian", privacy.noise.multiplier);
  out.mechanism = text;
  out.unit = "the values of all updates of one device, added or removed; that it takes part, and when, is not hidden";
  out.protects_from =
      "the coordinator and whoever sees the published adapters, as far as the claim of secure mode goes; not from "
      "devices that leave out the noise of their own updates";
  std::snprintf(text, sizeof text,
                "that at least %u devices of each sum add their share of the noise honestly, which %s; one person has "
                "one device; no gain from sampling is counted",
                shares.honest_min(),
                privacy.survivors_min < 100 ? "makes this a demonstration (fewer than 100 devices in a sum)"
                                            : "nobody can check");
  out.assumptions = text;
}

void describe_correlated(const Privacy& privacy, PrivacyReport& out) {
  const wire::CorrelatedPlan& claim = privacy.correlated;
  const bool tree = claim.kind == wire::CorrelatedKind::tree;
  char text[320];
  std::snprintf(text, sizeof text,
                "DP-FTRL: %s noise correlated over the rounds, multiplier %.4g, separation %u rounds",
                tree ? "tree (discrete Gaussian)" : "BLT", claim.multiplier, claim.separation);
  out.mechanism = text;
  if (claim.participations_max > 0) {
    out.mechanism += ", at most " + std::to_string(claim.participations_max) + " updates of one device";
  }
  if (!tree) out.mechanism += ", " + std::to_string(claim.buffers) + " buffers";
  out.unit = "all updates of one device, set to zero";
  out.protects_from =
      std::string("whoever sees the published adapters; not from the coordinator, which adds the noise and ") +
      (privacy.mode == wire::PrivacyMode::secure ? "learns each round's sum without it"
                                                 : "sees each update, and keeps reported losses and counts");
  std::snprintf(text, sizeof text,
                "that each device keeps %u rounds between its updates%s, which it does by its own memory, and that one "
                "person has one device; nothing about which devices take part when",
                claim.separation, claim.participations_max > 0 ? " and counts them" : "");
  out.assumptions = text;
}

}  // namespace

Result<std::optional<PrivacyReport>> read_privacy_report(const TaskConfig& task, store::Store& store) {
  const auto& dp = task.privacy.dp;
  if (!dp.on() && !task.privacy.distributed() && !task.privacy.correlates()) return std::optional<PrivacyReport>();
  PrivacyReport out;
  out.delta = dp.budget.delta;
  out.epsilon_max = dp.budget.epsilon_max;
  out.clip_norm = task.privacy.clip_norm;
  if (task.privacy.correlates()) {
    describe_correlated(task.privacy, out);
  } else if (task.privacy.distributed()) {
    describe_distributed(task.privacy, out);
  } else {
    describe_central(dp, out);
  }
  COVEY_ASSIGN(const auto stored, store.get("privacy", store::key_of("state")));
  if (stored) {
    COVEY_ASSIGN(const auto row, wire::decode<PrivacyRow>(*stored));
    COVEY_ASSIGN(const auto ledger, aggregation::dp::Ledger::restore(dp.budget, row.ledger));
    out.epsilon = ledger.epsilon();
    out.rounds_charged = ledger.charges();
    out.clip_norm = row.clip_norm;
  }
  return std::optional<PrivacyReport>(std::move(out));
}

}  // namespace covey::coordinator
