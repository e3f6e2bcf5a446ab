/// What must hold in a world whatever fails in it, checked from outside the machines: by what the coordinator says to
/// devices, and by what its store holds. Source: security.md section 9, "simulated worlds".
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "coordinator/rows.h"
#include "core/base/result.h"
#include "core/store/store.h"
#include "core/wire/message.h"
#include "simulations/fault_scenario.h"

namespace covey::simulations {

enum class Checker : std::uint8_t {
  sum = 0,    ///< a version is the one before plus the mean of its contributors' updates
  once,       ///< a device counts once in a round
  kept,       ///< a device whose update was acknowledged is among the contributors of the published round
  threshold,  ///< no version of fewer contributors than the plan's minimum
  ledger,     ///< a round's privacy charge is durable before its version is offered
  durable,    ///< a version that was offered is in the store ever after, with that content
  store,      ///< `covey-coordinator verify` is clean
  progress,   ///< all rounds are published once the faults have ended, unless too few devices may still mask
  replay,     ///< the same seed makes the same trace
};
inline constexpr std::size_t kCheckers = 9;
const char* to_string(Checker checker);

struct Violation {
  Checker checker{};
  std::string what;
};

/// What a device's training gives in these worlds: small integers, which quantization leaves as they are. In units of
/// one quantized step; the weight counts examples.
struct TrueUpdate {
  std::vector<std::int32_t> delta;  ///< (P)
  std::uint32_t weight = 1;
};

class FaultChecks {
 public:
  /// @param update  what a device contributes to a round.
  FaultChecks(const FaultScenario& scenario, std::function<TrueUpdate(const DeviceId& device, RoundId round)> update)
      : scenario_(scenario), update_(std::move(update)) {}

  /// A frame on its way to a device, while the coordinator that sent it is alive; `store` is that coordinator's.
  void said(const DeviceId& device, const wire::Message& message, store::Store& store);
  /// Looks at the versions that the store holds and that were not looked at before. @errors what the store reports.
  Status audit(store::Store& store);
  /// At the end of the world. @errors what the store reports.
  Status finish(store::Store& store, const wire::Key& roster);
  void violated(Checker checker, std::string what);

  [[nodiscard]] const std::vector<Violation>& violations() const { return violations_; }

 private:
  Status audit_version(store::Store& store, ModelVersion version);
  void check_sum(const coordinator::VersionRow& row, const coordinator::ContributorsRow& contributors,
                 std::span<const float> before, std::span<const float> after);

  FaultScenario scenario_;
  std::function<TrueUpdate(const DeviceId&, RoundId)> update_;
  std::map<ModelVersion, wire::Hash> offered_;
  std::map<RoundId, std::set<DeviceId>> acknowledged_;
  std::uint64_t audited_ = 0;  ///< versions 1 ... audited_
  std::vector<Violation> violations_;
};

}  // namespace covey::simulations
