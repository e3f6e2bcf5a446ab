/// What the coordinator has learned about each device: what it is, how fast, how reliable. Pure bookkeeping in memory;
/// changed rows are handed to the next Persist, so that a restart continues from what was committed.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "coordinator/rows.h"
#include "core/store/store.h"

namespace covey::coordinator {

class Registry {
 public:
  void put_restored(const DeviceId& device, DeviceRow row) { rows_[device] = std::move(row); }

  /// A check-in. Figures a device did not measure (0) leave the known ones.
  void seen(const DeviceId& device, const wire::Capabilities& capabilities, std::int64_t now_ms);
  void invited(const DeviceId& device, RoundId round);
  void refused(const DeviceId& device, RoundId round);
  void contributed(const DeviceId& device, const DeviceRound& entry, const wire::TrainingReport& report);
  /// Its update broke the plan, or nothing came by the deadline.
  void failed(const DeviceId& device, RoundId round, CohortState state);
  /// Its update came after the round. @param was_failed  the round's end had booked it as failed: that is taken back.
  void late(const DeviceId& device, RoundId round, bool was_failed);

  [[nodiscard]] const std::map<DeviceId, DeviceRow>& rows() const { return rows_; }
  [[nodiscard]] const DeviceRow* find(const DeviceId& device) const;
  [[nodiscard]] std::vector<DeviceId> seen_since(std::int64_t from_ms) const;
  [[nodiscard]] bool dirty() const { return !dirty_.empty(); }
  /// Appends the changed rows; they count as written from here on.
  void flush(std::vector<store::Write>& writes);

 private:
  DeviceRow& change(const DeviceId& device);
  void note(DeviceRow& row, const DeviceRound& entry);

  std::map<DeviceId, DeviceRow> rows_;
  std::set<DeviceId> dirty_;
};

}  // namespace covey::coordinator
