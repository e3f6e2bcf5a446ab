/// The device's own examples: texts that the user or an app gave for training. They lie in the device's store until
/// `forget` and never leave it; what leaves is said in the journal.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "adapters/workbench.h"
#include "core/base/result.h"
#include "core/store/store.h"

namespace covey::client {

struct ExampleLimits {
  std::uint64_t count_max = 200'000;
  std::uint64_t bytes_max = std::uint64_t{64} << 20;
  std::uint64_t example_bytes_max = std::uint64_t{1} << 20;
};

/// Thread-safe as far as the store is; add() and wipe() take turns with each other by their caller. Borrows the store.
class ExampleStore {
 public:
  /// Counts what is there. @errors corrupt_data and what the store reports.
  static Result<ExampleStore> open(store::Store& store, ExampleLimits limits = {});

  /// All of them or none, durably. @errors invalid_argument: empty or too long a text; resource_exhausted: a limit.
  [[nodiscard]] Status add(std::span<const adapters::TextExample> examples);
  /// In the order of import.
  [[nodiscard]] Result<std::vector<adapters::TextExample>> all() const;
  /// Erases every example. @errors what the store reports: none is erased then.
  [[nodiscard]] Status wipe();

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  /// What may be told to a coordinator: the count rounded down to a power of two.
  [[nodiscard]] std::uint64_t rounded_count() const;

 private:
  ExampleStore(store::Store& store, ExampleLimits limits) : store_(&store), limits_(limits) {}
  store::Store* store_;
  ExampleLimits limits_;
  std::uint64_t count_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t next_ = 0;
};

}  // namespace covey::client
