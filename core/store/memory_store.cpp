#include "core/store/memory_store.h"

#include <algorithm>

#include "core/store/sqlite_store.h"

namespace covey::store {

Status MemoryStore::commit(std::span<const Write> writes) {
  for (const Write& write : writes) COVEY_TRY(check_write(write));
  const std::scoped_lock lock(mutex_);
  for (const Write& write : writes) {
    Table& table = tables_[write.table];
    if (write.value) {
      table.insert_or_assign(write.key, *write.value);
    } else {
      table.erase(write.key);
    }
  }
  ++commits_;
  return {};
}

Result<std::optional<Bytes>> MemoryStore::get(std::string_view table, ByteSpan key) {
  COVEY_TRY(check_table_name(table));
  const std::scoped_lock lock(mutex_);
  const auto rows = tables_.find(table);
  if (rows == tables_.end()) return std::optional<Bytes>();
  const auto row = rows->second.find(key);
  if (row == rows->second.end()) return std::optional<Bytes>();
  return std::optional<Bytes>(row->second);
}

Status MemoryStore::scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) {
  COVEY_TRY(check_table_name(table));
  const std::scoped_lock lock(mutex_);
  const auto rows = tables_.find(table);
  if (rows == tables_.end()) return {};
  for (auto row = rows->second.lower_bound(key_prefix); row != rows->second.end(); ++row) {
    const bool inside =
        row->first.size() >= key_prefix.size() && std::equal(key_prefix.begin(), key_prefix.end(), row->first.begin());
    if (!inside) break;
    COVEY_TRY(visit(row->first, row->second));
  }
  return {};
}

Status MemoryStore::verify() {
  return {};
}

Status MemoryStore::backup(const std::string& path) {
  COVEY_ASSIGN(auto copy, SqliteStore::open({":memory:", "", false}));
  {
    const std::scoped_lock lock(mutex_);
    std::vector<Write> writes;
    for (const auto& [name, rows] : tables_) {
      for (const auto& [key, value] : rows) writes.push_back({name, key, value});
    }
    COVEY_TRY(copy->commit(writes));
  }
  return copy->backup(path);
}

std::uint64_t MemoryStore::commits() const {
  const std::scoped_lock lock(mutex_);
  return commits_;
}

}  // namespace covey::store
