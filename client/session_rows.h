/// The rows of a device's store: the open round, the counters, the journal, the examples. Written by wire's bounded
/// codec; nothing read back is trusted beyond its form.
#pragma once

#include <cstdint>
#include <string>

#include "aggregation/secagg_client.h"
#include "client/session.h"
#include "core/wire/field.h"

namespace covey::client {

enum class RoundState : std::uint8_t { fetching = 0, training = 1, submitting = 2, securing = 3 };

/// The round that a device works on. The plan is kept as it was signed.
struct OpenRound {
  RoundState state = RoundState::fetching;
  std::int64_t deadline_ms = 0;  ///< on the session's time scale
  Bytes plan_bytes;
  wire::Signature signature{};
  wire::Hash content{};  ///< of the protected update, once there is one
  wire::TrainingReport report;

  wire::RoundPlan plan;  ///< decoded from plan_bytes, not stored
  Bytes update;          ///< a row of its own

  template <class Archive>
  void serialize(Archive& a) {
    a(wire::up_to(state, RoundState::securing), deadline_ms, plan_bytes, signature, content, report);
  }
};

/// What a device has agreed to under DP-FTRL, and what it has sent: nothing weaker is taken, and nothing sent sooner.
struct CorrelatedRow {
  wire::CorrelatedPlan agreed;   ///< of the first such round it took part in, or stricter; kind none: there was none
  std::uint64_t last_round = 0;  ///< newest round that an update of this device may have reached
  std::uint64_t sent = 0;        ///< such rounds

  template <class Archive>
  void serialize(Archive& a) {
    a(agreed, last_round, sent);
  }
};

struct Ledger {
  std::uint64_t last_round = 0;  ///< highest round ever started: none is started twice
  std::uint64_t accepted = 0;
  std::uint64_t bytes_submitted = 0;
  std::int64_t day = 0;  ///< number of the day that `rounds_in_day` counts
  std::uint32_t rounds_in_day = 0;
  std::uint64_t journal_next = 0;
  std::uint64_t plan_epoch = 0;  ///< newest roster epoch that a plan was based on: later plans go not below it
  aggregation::SecAggLedger secagg;
  Bytes privacy;  ///< aggregation::dp::Ledger: what noised rounds have told of this device; empty: nothing yet
  CorrelatedRow correlated;

  template <class Archive>
  void serialize(Archive& a) {
    a(last_round, accepted, bytes_submitted, day, rounds_in_day, journal_next, plan_epoch, secagg, privacy, correlated);
  }
};

/// What sparse updates have left out so far, or will have left out once an update counts.
struct ResidualRow {
  std::vector<float> values;  ///< (P)

  template <class Archive>
  void serialize(Archive& a) {
    a(values);
  }
};

/// One example of the device's own (example_store.h).
struct ExampleRow {
  std::string prompt;
  std::string text;

  template <class Archive>
  void serialize(Archive& a) {
    a(prompt, text);
  }
};

inline Bytes open_key() {
  return store::key_of("open");
}
inline Bytes update_key() {
  return store::key_of("update");
}
/// What sparse updates have left out (P floats), and what that becomes with the open round's receipt.
inline Bytes residual_key() {
  return store::key_of("residual");
}
inline Bytes residual_next_key() {
  return store::key_of("residual next");
}
inline Bytes roster_key() {
  return store::key_of("roster");
}
/// Table kRosterTable: one row for each active identity.
inline store::Write roster_row(const wire::RosterChange& change) {
  const bool active = change.status == wire::DeviceStatus::active;
  return {kRosterTable, store::key_of(DeviceId{change.identity}),
          active ? std::optional<Bytes>(Bytes{1}) : std::nullopt};
}
inline Bytes ledger_key() {
  return store::key_of("ledger");
}

}  // namespace covey::client
