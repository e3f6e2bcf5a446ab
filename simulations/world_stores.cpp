#include "simulations/world_stores.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "client/session.h"

namespace covey::simulations {
namespace {

/// One row in a DeviceStore's block: u8 bytes of the table's name, u16 of the key, u32 of the value, and these.
struct PackedRow {
  static constexpr std::size_t kHead = 1 + 2 + 4;
  ByteSpan whole;
  std::string_view table;
  ByteSpan key;
  ByteSpan value;
};

PackedRow first_row(ByteSpan rows) {
  std::uint16_t key = 0;
  std::uint32_t value = 0;
  const std::size_t table = rows[0];
  std::memcpy(&key, rows.data() + 1, sizeof key);
  std::memcpy(&value, rows.data() + 3, sizeof value);
  PackedRow out;
  out.whole = rows.first(PackedRow::kHead + table + key + value);
  out.table = {reinterpret_cast<const char*>(rows.data()) + PackedRow::kHead, table};
  out.key = out.whole.subspan(PackedRow::kHead + table, key);
  out.value = out.whole.last(value);
  return out;
}

std::vector<PackedRow> all_rows(ByteSpan rows) {
  std::vector<PackedRow> out;
  for (; !rows.empty(); rows = rows.subspan(out.back().whole.size())) out.push_back(first_row(rows));
  return out;
}

bool starts_with(ByteSpan key, ByteSpan prefix) {
  return key.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), key.begin());
}

constexpr const char* kCohortTable = "cohort";

/// What is read while a coordinator lives: the roster, by devices that follow it; by the world, the privacy report and
/// what became of a round's devices.
bool read_again(std::string_view table) {
  return table == "roster" || table == "privacy" || table == kCohortTable;
}

}  // namespace

// ---- DeviceStore ---------------------------------------------------------------------------------------------------

Status DeviceStore::commit(std::span<const store::Write> writes) {
  for (const auto& write : writes) COVEY_TRY(store::check_write(write));
  for (const auto& write : writes) {
    if (write.table == client::kJournalTable) {
      journal_lines_ += write.value ? 1 : 0;
    } else if (write.table == client::kRosterTable) {
      apply_roster(write);
    } else {
      apply(write);
    }
  }
  return {};
}

void DeviceStore::apply(const store::Write& write) {
  const auto kept = [&](const PackedRow& row) {
    return row.table != write.table || !std::ranges::equal(row.key, write.key);
  };
  std::size_t size = write.value ? PackedRow::kHead + write.table.size() + write.key.size() + write.value->size() : 0;
  const auto rows = all_rows(rows_);
  for (const auto& row : rows) size += kept(row) ? row.whole.size() : 0;
  Bytes out;
  out.reserve(size);  // no byte more: there are many of these
  for (const auto& row : rows) {
    if (kept(row)) append(out, row.whole);
  }
  if (write.value) {
    const auto key = static_cast<std::uint16_t>(write.key.size());
    const auto value = static_cast<std::uint32_t>(write.value->size());
    out.push_back(static_cast<std::uint8_t>(write.table.size()));
    append(out, {reinterpret_cast<const std::uint8_t*>(&key), sizeof key});
    append(out, {reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
    append(out, as_byte_span(write.table));
    append(out, write.key);
    append(out, *write.value);
  }
  rows_ = std::move(out);
}

void DeviceStore::apply_roster(const store::Write& write) {
  const auto device = store::device_in_key(write.key);
  if (!device.ok()) return;  // no key that the client writes
  if (!active_ || active_.use_count() > 1) {
    active_ = active_ ? std::make_shared<std::set<wire::Key>>(*active_) : std::make_shared<std::set<wire::Key>>();
  }
  auto& own = *std::const_pointer_cast<std::set<wire::Key>>(active_);
  if (write.value) {
    own.insert(device->key);
  } else {
    own.erase(device->key);
  }
}

Result<std::optional<Bytes>> DeviceStore::get(std::string_view table, ByteSpan key) {
  COVEY_TRY(store::check_table_name(table));
  if (table == client::kRosterTable) {
    const auto device = store::device_in_key(key);
    const bool listed = device.ok() && active_ && active_->contains(device->key);
    return listed ? std::optional<Bytes>(Bytes{1}) : std::nullopt;
  }
  for (ByteSpan rows = rows_; !rows.empty();) {
    const auto row = first_row(rows);
    if (row.table == table && std::ranges::equal(row.key, key)) {
      return std::optional<Bytes>(Bytes(row.value.begin(), row.value.end()));
    }
    rows = rows.subspan(row.whole.size());
  }
  return std::optional<Bytes>();
}

Status DeviceStore::scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) {
  COVEY_TRY(store::check_table_name(table));
  if (table == client::kRosterTable) {
    if (!active_) return {};
    for (const auto& identity : *active_) {
      if (starts_with(identity, key_prefix)) COVEY_TRY(visit(identity, Bytes{1}));
    }
    return {};
  }
  auto rows = all_rows(rows_);
  std::erase_if(rows, [&](const PackedRow& row) { return row.table != table || !starts_with(row.key, key_prefix); });
  std::ranges::sort(rows, [](const auto& a, const auto& b) {
    return std::lexicographical_compare(a.key.begin(), a.key.end(), b.key.begin(), b.key.end());
  });
  for (const auto& row : rows) COVEY_TRY(visit(row.key, row.value));
  return {};
}

Status DeviceStore::backup(const std::string& path) {
  return Error{ErrorCode::unsupported, path + ": a simulated device has no backup"};
}

void DeviceStore::share_active(client::ActiveDevices active) {
  if (active_ && active->size() == active_->size()) active_ = std::move(active);
}

// ---- CoordinatorStore ----------------------------------------------------------------------------------------------

Status CoordinatorStore::commit(std::span<const store::Write> writes) {
  std::vector<store::Write> kept;
  for (const auto& write : writes) {
    COVEY_TRY(store::check_write(write));
    if (read_again(write.table)) kept.push_back(write);
  }
  rows_counted_ += writes.size() - kept.size();
  return kept.empty() ? Status() : kept_.commit(kept);
}

Status CoordinatorStore::forget_before(RoundId round) {
  std::vector<store::Write> gone;
  for (; first_round_ < round.value; ++first_round_) {
    COVEY_TRY(kept_.scan(kCohortTable, store::key_of(first_round_), [&](ByteSpan key, ByteSpan) -> Status {
      gone.push_back({kCohortTable, Bytes(key.begin(), key.end()), std::nullopt});
      return {};
    }));
  }
  return gone.empty() ? Status() : kept_.commit(gone);
}

Status CoordinatorStore::backup(const std::string& path) {
  return Error{ErrorCode::unsupported, path + ": a simulated coordinator has no backup"};
}

}  // namespace covey::simulations
