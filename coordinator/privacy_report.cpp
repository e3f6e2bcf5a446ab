#include "coordinator/privacy_report.h"

#include <cstdio>

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

Result<std::optional<PrivacyReport>> read_privacy_report(const TaskConfig& task, store::Store& store) {
  const auto& dp = task.privacy.dp;
  if (!dp.on()) return std::optional<PrivacyReport>();
  PrivacyReport out;
  out.delta = dp.budget.delta;
  out.epsilon_max = dp.budget.epsilon_max;
  out.clip_norm = task.privacy.clip_norm;
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
