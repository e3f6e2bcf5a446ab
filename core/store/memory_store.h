/// The store in ordered maps: for the simulator, whose virtual processes die and come back while this object stands for
/// their disk, and for tests. Same behaviour as SqliteStore (one conformance test runs over both), no durability.
#pragma once

#include <cstring>
#include <functional>
#include <map>
#include <mutex>

#include "core/store/store.h"

namespace covey::store {

class MemoryStore final : public Store {
 public:
  Status commit(std::span<const Write> writes) override;
  Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key) override;
  Status scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) override;
  Status verify() override;
  Status backup(const std::string& path) override;

  /// How many commits succeeded: what a simulated disk charges time for.
  [[nodiscard]] std::uint64_t commits() const;

 private:
  struct ByteOrder {
    using is_transparent = void;
    bool operator()(ByteSpan a, ByteSpan b) const {
      const std::size_t shorter = a.size() < b.size() ? a.size() : b.size();
      const int order = shorter == 0 ? 0 : std::memcmp(a.data(), b.data(), shorter);
      return order != 0 ? order < 0 : a.size() < b.size();
    }
  };
  using Table = std::map<Bytes, Bytes, ByteOrder>;
  mutable std::mutex mutex_;
  std::map<std::string, Table, std::less<>> tables_;
  std::uint64_t commits_ = 0;
};

}  // namespace covey::store
