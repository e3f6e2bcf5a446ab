#include "simulations/fault_checks.h"

#include <algorithm>
#include <cmath>

#include "coordinator/verify.h"
#include "core/wire/codec.h"

namespace covey::simulations {
namespace {

using coordinator::ContributorsRow;
using coordinator::VersionRow;

/// The row, decoded; nullopt where it is not there.
template <typename Row>
Result<std::optional<Row>> read_row(store::Store& store, std::string_view table, ByteSpan key) {
  COVEY_ASSIGN(const auto bytes, store.get(table, key));
  if (!bytes) return std::optional<Row>();
  COVEY_ASSIGN(Row row, wire::decode<Row>(*bytes));
  return std::optional<Row>(std::move(row));
}

Result<std::optional<std::vector<float>>> read_values(store::Store& store, ModelVersion version) {
  COVEY_ASSIGN(const auto bytes, store.get("adapters", store::key_of(version)));
  if (!bytes) return std::optional<std::vector<float>>();
  COVEY_ASSIGN(auto values, coordinator::decode_values(*bytes, bytes->size() / sizeof(float)));
  return std::optional<std::vector<float>>(std::move(values));
}

std::string named(ModelVersion version) {
  return "version " + std::to_string(version.value);
}

}  // namespace

const char* to_string(Checker checker) {
  constexpr std::array<const char*, kCheckers> kNames = {"sum",     "once",  "kept",     "threshold", "ledger",
                                                         "durable", "store", "progress", "replay"};
  return kNames[static_cast<std::size_t>(checker)];
}

void FaultChecks::violated(Checker checker, std::string what) {
  violations_.push_back({checker, std::move(what)});
}

void FaultChecks::said(const DeviceId& device, const wire::Message& message, store::Store& store) {
  if (const auto* receipt = std::get_if<wire::Receipt>(&message)) {
    if (receipt->status == wire::ReceiptStatus::accepted) acknowledged_[receipt->round].insert(device);
    return;
  }
  const auto* offer = std::get_if<wire::TaskOffer>(&message);
  if (offer == nullptr) return;
  const auto plan = wire::decode<wire::RoundPlan>(offer->plan);
  if (!plan.ok()) return violated(Checker::durable, "an offer's plan cannot be read: " + plan.error().message);
  const auto [known, fresh] = offered_.emplace(plan->base_version, plan->adapter.blob);
  if (!fresh && known->second != plan->adapter.blob) {
    violated(Checker::durable, named(plan->base_version) + " was offered with two contents");
  }
  if (!fresh || plan->base_version.value == 0) return;
  const auto row = read_row<VersionRow>(store, "versions", store::key_of(plan->base_version));
  if (!row.ok() || !*row) return violated(Checker::durable, named(plan->base_version) + " was offered and is no row");
  if (!scenario_.ledger) return;
  const auto privacy = read_row<coordinator::PrivacyRow>(store, "privacy", store::key_of("state"));
  if (!privacy.ok() || !*privacy || (*privacy)->charged < (*row)->round) {
    violated(Checker::ledger, named(plan->base_version) + " was offered before round " +
                                  std::to_string((*row)->round.value) + " was charged");
  }
}

Status FaultChecks::audit(store::Store& store) {
  for (;;) {
    COVEY_ASSIGN(const auto row, store.get("versions", store::key_of(ModelVersion{audited_ + 1})));
    if (!row) return {};
    COVEY_TRY(audit_version(store, ModelVersion{++audited_}));
  }
}

Status FaultChecks::audit_version(store::Store& store, ModelVersion version) {
  COVEY_ASSIGN(const auto row, read_row<VersionRow>(store, "versions", store::key_of(version)));
  COVEY_ASSIGN(const auto list, read_row<ContributorsRow>(store, "contributors", store::key_of(row->round)));
  if (!list) {
    violated(Checker::kept, named(version) + " has no list of contributors");
    return {};
  }
  const std::set<DeviceId> devices(list->devices.begin(), list->devices.end());
  if (devices.size() != list->devices.size()) violated(Checker::once, named(version) + " counts a device twice");
  if (devices.size() < scenario_.least) {
    violated(Checker::threshold, named(version) + " is of " + std::to_string(devices.size()) + " devices");
  }
  for (const DeviceId& device : acknowledged_[row->round]) {
    if (devices.contains(device)) continue;
    violated(Checker::kept, "round " + std::to_string(row->round.value) + " acknowledged " + device.brief() +
                                " and was published without it");
  }
  COVEY_ASSIGN(const auto before, read_values(store, ModelVersion{version.value - 1}));
  COVEY_ASSIGN(const auto after, read_values(store, version));
  if (before && after) check_sum(*row, *list, *before, *after);
  return {};
}

void FaultChecks::check_sum(const VersionRow& row, const ContributorsRow& contributors, std::span<const float> before,
                            std::span<const float> after) {
  if (scenario_.ledger) return;  // noise lies on that sum
  std::vector<std::int64_t> sum(before.size());
  std::int64_t weight = 0;
  for (const DeviceId& device : contributors.devices) {
    const TrueUpdate update = update_(device, row.round);
    weight += update.weight;
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += std::int64_t{update.weight} * update.delta[i];
  }
  if (static_cast<std::uint64_t>(weight) != contributors.weight) {
    violated(Checker::sum, named(row.version) + " weighs " + std::to_string(contributors.weight) +
                               ", its contributors " + std::to_string(weight));
  }
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const double moved = (static_cast<double>(after[i]) - before[i]) * static_cast<double>(weight);
    // The sum is an integer; what floats lose of it is far below one half.
    if (std::abs(moved - static_cast<double>(sum[i])) < 0.25) continue;
    violated(Checker::sum, named(row.version) + " moved value " + std::to_string(i) + " by " + std::to_string(moved) +
                               " / " + std::to_string(weight) + " instead of " + std::to_string(sum[i]));
    return;
  }
}

Status FaultChecks::finish(store::Store& store, const wire::Key& roster) {
  COVEY_TRY(audit(store));
  for (const auto& [version, blob] : offered_) {
    COVEY_ASSIGN(const auto row, read_row<VersionRow>(store, "versions", store::key_of(version)));
    if (!row) {
      violated(Checker::durable, named(version) + " was offered and is no row in the end");
    } else if (row->adapter.blob != blob) {
      violated(Checker::durable, named(version) + " has another content in the end");
    }
  }
  COVEY_ASSIGN(const auto checks, coordinator::verify_store(store, &roster));
  for (const auto& check : checks) {
    if (!check.problem.empty()) violated(Checker::store, check.name + ": " + check.problem);
  }
  return {};
}

}  // namespace covey::simulations
