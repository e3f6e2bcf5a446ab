#include "aggregation/dp_ledger.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <string>

#include "aggregation/dp_rdp.h"
#include "aggregation/serial.h"
#include "core/base/assert.h"

namespace covey::aggregation::dp {
namespace {

constexpr std::uint32_t kMagic = 0x4c504443;  // "CDPL"
constexpr std::uint32_t kVersion = 1;

}  // namespace

Status Budget::check() const {
  const auto bad = [](const char* what) { return Error{ErrorCode::invalid_argument, what}; };
  if (!(epsilon_max > 0 && epsilon_max <= 1e6)) return bad("privacy.dp.epsilon_max: write a number above 0");
  if (!(delta > 0 && delta < 1)) return bad("privacy.dp.delta: write a number above 0 and below 1, such as 1e-6");
  return {};
}

Ledger::Ledger(const Budget& budget) : budget_(budget), spent_(default_orders().size()) {}

std::vector<double> Ledger::concentrated(double rho) {
  std::vector<double> out;
  for (const double order : default_orders()) out.push_back(rho * order);
  return out;
}

double Ledger::epsilon_with(std::span<const double> more) const {
  COVEY_ASSERT(more.empty() || more.size() == spent_.size());
  std::vector<double> total = spent_;
  for (std::size_t i = 0; i < more.size(); ++i) total[i] += more[i];
  return charges_ == 0 && more.empty() ? 0 : epsilon_of_rdp(default_orders(), total, budget_.delta);
}

double Ledger::epsilon() const {
  return epsilon_with({});
}

bool Ledger::allows(std::span<const double> divergences) const {
  return epsilon_with(divergences) <= budget_.epsilon_max;
}

Status Ledger::charge(std::span<const double> divergences) {
  const double epsilon = epsilon_with(divergences);
  if (!(epsilon <= budget_.epsilon_max)) {
    char text[160];
    std::snprintf(text, sizeof text, "privacy budget: this round would bring epsilon to %.4g, over epsilon_max %.4g",
                  epsilon, budget_.epsilon_max);
    return Error{ErrorCode::resource_exhausted, text};
  }
  for (std::size_t i = 0; i < spent_.size(); ++i) spent_[i] += divergences[i];
  ++charges_;
  return {};
}

Bytes Ledger::serialize() const {
  Bytes out;
  put_u32(out, kMagic);
  put_u32(out, kVersion);
  put_u64(out, charges_);
  put_u64(out, spent_.size());
  for (const double value : spent_) put_u64(out, std::bit_cast<std::uint64_t>(value));
  return out;
}

Result<Ledger> Ledger::restore(const Budget& budget, ByteSpan bytes) {
  const auto corrupt = [] {
    return Error{ErrorCode::corrupt_data, "stored privacy ledger: damaged; restore the last backup"};
  };
  Ledger ledger(budget);
  if (bytes.size() != 24 + 8 * ledger.spent_.size()) return corrupt();
  StateReader in(bytes);
  if (in.u32() != kMagic || in.u32() != kVersion) return corrupt();
  ledger.charges_ = in.u64();
  if (in.u64() != ledger.spent_.size()) return corrupt();
  for (double& value : ledger.spent_) {
    value = std::bit_cast<double>(in.u64());
    if (!(value >= 0)) return corrupt();
  }
  return ledger;
}

}  // namespace covey::aggregation::dp
