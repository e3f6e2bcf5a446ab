#include "coordinator/registry.h"

#include <cmath>

namespace covey::coordinator {

namespace {
constexpr double kMeanFactor = 0.3;

/// What a device says of its speed is a claim: only finite positive numbers are kept.
void keep_figure(double& known, double claimed) {
  if (std::isfinite(claimed) && claimed > 0) known = claimed;
}
}  // namespace

DeviceRow& Registry::change(const DeviceId& device) {
  dirty_.insert(device);
  return rows_[device];
}

void Registry::note(DeviceRow& row, const DeviceRound& entry) {
  if (!row.history.empty() && row.history.back().round == entry.round) row.history.pop_back();
  if (row.history.size() >= kHistoryMax) row.history.erase(row.history.begin());
  row.history.push_back(entry);
}

void Registry::seen(const DeviceId& device, const wire::Capabilities& capabilities, std::int64_t now_ms) {
  DeviceRow& row = change(device);
  if (row.first_seen_ms == 0) row.first_seen_ms = now_ms;
  row.last_seen_ms = now_ms;
  row.capabilities = capabilities;
  keep_figure(row.tokens_per_s, capabilities.tokens_per_s);
  keep_figure(row.bytes_per_s, capabilities.bytes_per_s);
}

void Registry::invited(const DeviceId& device, RoundId round) {
  DeviceRow& row = change(device);
  ++row.invited;
  note(row, {.round = round, .state = CohortState::invited});
}

void Registry::refused(const DeviceId& device, RoundId round) {
  DeviceRow& row = change(device);
  ++row.refused;
  note(row, {.round = round, .state = CohortState::refused});
}

void Registry::contributed(const DeviceId& device, const DeviceRound& entry, const wire::TrainingReport& report) {
  DeviceRow& row = change(device);
  ++row.contributed;
  const double took = entry.took_ms;
  row.round_ms_mean = row.round_ms_mean == 0 ? took : row.round_ms_mean + kMeanFactor * (took - row.round_ms_mean);
  keep_figure(row.tokens_per_s, report.tokens_per_s);
  keep_figure(row.bytes_per_s, report.bytes_per_s);
  note(row, entry);
}

void Registry::failed(const DeviceId& device, RoundId round, CohortState state) {
  DeviceRow& row = change(device);
  ++row.failed;
  note(row, {.round = round, .state = state});
}

void Registry::late(const DeviceId& device, RoundId round, bool was_failed) {
  DeviceRow& row = change(device);
  if (was_failed && row.failed > 0) --row.failed;
  ++row.late;
  note(row, {.round = round, .state = CohortState::late});
}

const DeviceRow* Registry::find(const DeviceId& device) const {
  const auto at = rows_.find(device);
  return at == rows_.end() ? nullptr : &at->second;
}

std::vector<DeviceId> Registry::seen_since(std::int64_t from_ms) const {
  std::vector<DeviceId> out;
  for (const auto& [device, row] : rows_) {
    if (row.last_seen_ms >= from_ms) out.push_back(device);
  }
  return out;
}

void Registry::flush(std::vector<store::Write>& writes) {
  for (const DeviceId& device : dirty_)
    writes.push_back({"devices", store::key_of(device), wire::encode(rows_[device])});
  dirty_.clear();
}

}  // namespace covey::coordinator
