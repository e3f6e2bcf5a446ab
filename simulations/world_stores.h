/// The stores of a real-training world, which holds many devices and a coordinator that never dies: only what somebody
/// reads again is kept.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "client/roster.h"
#include "core/store/memory_store.h"

namespace covey::simulations {

/// A device's disk, as small as it goes: its rows lie one after another in one block. The journal of what was done,
/// which only the device's owner reads, is counted and not kept. Who is active in the roster is held as a set, which
/// devices at the same epoch can share. One thread.
class DeviceStore final : public store::Store {
 public:
  Status commit(std::span<const store::Write> writes) override;
  Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key) override;
  Status scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) override;
  Status verify() override { return {}; }
  /// @errors unsupported, always.
  Status backup(const std::string& path) override;

  /// In place of an equal set of its own.
  void share_active(client::ActiveDevices active);
  [[nodiscard]] std::uint64_t journal_lines() const { return journal_lines_; }
  /// Of the block, without what is shared.
  [[nodiscard]] std::size_t bytes() const { return rows_.size(); }

 private:
  void apply(const store::Write& write);
  void apply_roster(const store::Write& write);

  Bytes rows_;
  client::ActiveDevices active_;  ///< null: none; the rows of table "roster"
  std::uint64_t journal_lines_ = 0;
};

/// The coordinator's disk in a world in which it never dies: tables that are read only by a restart are counted, and
/// who was asked in a round is kept until the next one has ended.
class CoordinatorStore final : public store::Store {
 public:
  Status commit(std::span<const store::Write> writes) override;
  Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key) override { return kept_.get(table, key); }
  Status scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) override {
    return kept_.scan(table, key_prefix, visit);
  }
  Status verify() override { return {}; }
  /// @errors unsupported, always.
  Status backup(const std::string& path) override;

  /// Who was asked in rounds before this one.
  Status forget_before(RoundId round);
  [[nodiscard]] std::uint64_t rows_counted() const { return rows_counted_; }

 private:
  store::MemoryStore kept_;
  std::uint64_t first_round_ = 1;  ///< of which table "cohort" has rows
  std::uint64_t rows_counted_ = 0;
};

}  // namespace covey::simulations
