// Sparse updates (top-k with error feedback): what an update leaves out waits on the device. The residual moves on only
// with the receipt of the update that it belongs to: an update that is lost or comes too late has sent nothing.
#include <cmath>
#include <utility>

#include "aggregation/update.h"
#include "client/session_machine.h"
#include "core/wire/signing.h"

namespace covey::client {

namespace {

Bytes residual_row(const std::vector<float>& values) {
  return wire::encode(ResidualRow{values});
}

Result<std::vector<float>> values_of_row(ByteSpan bytes) {
  COVEY_ASSIGN(auto row, wire::decode<ResidualRow>(bytes));
  if (std::ranges::all_of(row.values, [](float value) { return std::isfinite(value); })) return std::move(row.values);
  return Error{ErrorCode::corrupt_data,
               "device store: the residual is damaged; start afresh with `covey-device forget`"};
}

}  // namespace

Result<wire::ClearUpdate> Session::Machine::protect(const TrainingDone& e, std::vector<store::Write>& writes) {
  const auto& plan = open->plan;
  const auto hash = wire::plan_hash(open->plan_bytes);
  const auto bits = aggregation::seeded_bits(e.seed);
  if (plan.kept == 0) return aggregation::protect(plan, hash, e.outcome.delta, e.outcome.weight, bits);
  residual_next = residual;
  if (residual_next.size() != e.outcome.delta.size()) residual_next.clear();  // of another adapter
  auto update = aggregation::protect_sparse(plan, hash, e.outcome.delta, e.outcome.weight, bits, residual_next);
  if (!update.ok()) {
    residual_next.clear();
    return update;
  }
  writes.push_back({kSessionTable, residual_next_key(), residual_row(residual_next)});
  return update;
}

void Session::Machine::advance_residual() {
  if (residual_next.empty()) return;
  residual = std::exchange(residual_next, {});
  persist({{kSessionTable, residual_key(), residual_row(residual)}, {kSessionTable, residual_next_key(), std::nullopt}},
          "");
}

Status Session::Machine::restore_residual(store::Store& store) {
  COVEY_ASSIGN(const auto row, store.get(kSessionTable, residual_key()));
  if (row) {
    COVEY_ASSIGN(residual, values_of_row(*row));
  }
  COVEY_ASSIGN(const auto next, store.get(kSessionTable, residual_next_key()));
  if (next) {
    COVEY_ASSIGN(residual_next, values_of_row(*next));
  }
  return {};
}

}  // namespace covey::client
