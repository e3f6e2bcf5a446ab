/// What of a privacy budget is spent: Renyi divergences on a fixed grid of orders, which add up. Source: security.md
/// section 5. Pure and serializable; the caller makes a charge durable before what it pays for is used.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::aggregation::dp {

struct Budget {
  double epsilon_max = 0;  ///< > 0
  double delta = 0;        ///< in (0, 1)
  /// @errors invalid_argument: names the key.
  [[nodiscard]] Status check() const;
};

/// A value: copyable, not thread-safe.
class Ledger {
 public:
  explicit Ledger(const Budget& budget);

  /// The divergences of a Gaussian or discrete Gaussian release of concentrated privacy rho, on the ledger's orders.
  static std::vector<double> concentrated(double rho);

  /// @errors resource_exhausted: epsilon would pass epsilon_max; nothing is charged.
  Status charge(std::span<const double> divergences);
  /// Whether charge() would go through.
  [[nodiscard]] bool allows(std::span<const double> divergences) const;
  [[nodiscard]] double epsilon() const;
  [[nodiscard]] std::uint64_t charges() const { return charges_; }
  [[nodiscard]] const Budget& budget() const { return budget_; }

  [[nodiscard]] Bytes serialize() const;
  /// What was spent under another budget counts in full under this one. @errors corrupt_data.
  static Result<Ledger> restore(const Budget& budget, ByteSpan bytes);

 private:
  [[nodiscard]] double epsilon_with(std::span<const double> more) const;
  Budget budget_;
  std::vector<double> spent_;  ///< per order of default_orders()
  std::uint64_t charges_ = 0;
};

}  // namespace covey::aggregation::dp
