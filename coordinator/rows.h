/// What the coordinator keeps in its store: one struct per table, in the codec's form (wire::encode(row),
/// wire::decode<Row>(bytes)). Written only through Persist effects and Registration's commits; read by restore() and
/// `verify`.
///
///   table      key             value
///   task       "identity"      hash of what must not change under a running task
///   task       "paused"        one byte
///   versions   version         VersionRow          adapters   version   P little-endian f32
///   optimizer  "state"         server optimizer after the newest version
///   privacy    "state"         PrivacyRow, under differential privacy
///   rounds     round           RoundRow            sums       round     running sum, erased when the round ends
///   updates    round, device   encoded ClearUpdate, where the rule looks at single updates; erased when the round ends
///   contributors round         ContributorsRow     (same commit as the sum or the updates it belongs to)
///   cohort     round, device   CohortRow           receipts   round, device   ReceiptRow
///   devices    device          DeviceRow           incidents  round, device   one line of text
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/wire/codec.h"
#include "core/wire/field.h"
#include "core/wire/messages.h"

namespace covey::coordinator {

/// What the coordinator measured of one adapter version; absent where it has no held-out data.
struct Metrics {
  std::optional<double> loss;  ///< nats per token
  std::optional<double> accuracy;
  std::uint64_t tokens = 0;
  bool operator==(const Metrics&) const = default;

  template <class Archive>
  void serialize(Archive& a) {
    a(loss, accuracy, tokens);
  }
};

struct VersionRow {
  ModelVersion version;
  RoundId round;           ///< the round that made it; 0 for the initial adapter
  wire::FileBlob adapter;  ///< P little-endian f32
  wire::Hash chain{};      ///< H(chain of the version before, version, round, adapter.blob)
  std::int64_t created_ms = 0;
  std::uint32_t contributors = 0;
  std::uint64_t weight = 0;
  bool evaluated = false;  ///< only the initial adapter is stored before it is evaluated
  Metrics metrics;

  template <class Archive>
  void serialize(Archive& a) {
    a(version, round, adapter, chain, created_ms, contributors, weight, evaluated, metrics);
  }
};

/// Rows of the secure round in progress: round + name.
inline constexpr const char* kSecureTable = "secagg";
inline constexpr const char* kMaskedSum = "sum";

enum class RoundState : std::uint8_t { open = 0, closed = 1, published = 2, aborted = 3 };
const char* to_string(RoundState state);
constexpr bool has_ended(RoundState state) {
  return state == RoundState::published || state == RoundState::aborted;
}

struct RoundRow {
  RoundId round;
  RoundState state = RoundState::open;
  Bytes plan;  ///< encoded wire::RoundPlan
  std::int64_t started_ms = 0;
  std::int64_t deadline_at_ms = 0;
  std::int64_t closed_ms = 0;
  std::int64_t ended_ms = 0;
  ModelVersion version;  ///< what it published
  std::uint32_t invited = 0;
  std::uint32_t refused = 0;
  std::uint32_t contributors = 0;
  std::uint32_t late = 0;
  std::uint64_t weight = 0;
  std::uint64_t update_bytes = 0;  ///< of the accepted updates
  std::uint64_t tokens = 0;        ///< trained on, as reported
  double train_loss_first = 0;     ///< mean over contributors, as reported
  double train_loss_last = 0;
  double delta_norm = 0;  ///< L2 of the mean delta
  Metrics metrics;
  std::string reason;  ///< why it ended

  template <class Archive>
  void serialize(Archive& a) {
    a(round, wire::up_to(state, RoundState::aborted), plan, started_ms, deadline_at_ms, closed_ms, ended_ms, version,
      invited, refused, contributors, late, weight, update_bytes, tokens, train_loss_first, train_loss_last, delta_norm,
      metrics, reason);
  }
};

enum class CohortState : std::uint8_t {
  not_drawn = 0,
  invited = 1,
  accepted = 2,
  refused = 3,
  contributed = 4,
  rejected = 5,  ///< its update broke the plan
  late = 6,
  silent = 7,  ///< nothing usable by the round's end; becomes `late` where its update still comes
};
const char* to_string(CohortState state);
/// Asked to take part and neither done nor out.
inline bool in_play(CohortState state) {
  return state == CohortState::invited || state == CohortState::accepted;
}

struct CohortRow {
  CohortState state = CohortState::not_drawn;
  wire::RefusalReason refusal = wire::RefusalReason::none;
  std::int64_t at_ms = 0;  ///< of the last change
  std::int64_t invited_ms = 0;
  std::string reason;  ///< why it was drawn, or not

  template <class Archive>
  void serialize(Archive& a) {
    a(wire::up_to(state, CohortState::silent), wire::up_to(refusal, wire::RefusalReason::failed), at_ms, invited_ms,
      reason);
  }
};

struct ReceiptRow {
  wire::Hash content{};
  wire::ReceiptStatus status = wire::ReceiptStatus::accepted;
  std::uint32_t weight = 0;
  std::uint64_t bytes = 0;
  std::int64_t at_ms = 0;
  std::string why;  ///< of a refusal
  wire::TrainingReport report;

  template <class Archive>
  void serialize(Archive& a) {
    a(content, wire::up_to(status, wire::ReceiptStatus::conflicting), weight, bytes, at_ms, why, report);
  }
};

/// The row of table "sums" in `grouped` mode: one RunningSum for each group that has one.
struct GroupSumsRow {
  std::vector<Bytes> sums;

  template <class Archive>
  void serialize(Archive& a) {
    a(sums);
  }
};

struct ContributorsRow {
  std::vector<DeviceId> devices;  ///< in order of arrival, each once
  std::uint64_t weight = 0;

  template <class Archive>
  void serialize(Archive& a) {
    a(devices, weight);
  }
};

/// One entry of a device's bounded history.
struct DeviceRound {
  RoundId round;
  CohortState state = CohortState::invited;
  std::uint32_t took_ms = 0;   ///< invitation to complete update
  std::uint32_t train_ms = 0;  ///< as reported
  std::uint64_t bytes = 0;

  template <class Archive>
  void serialize(Archive& a) {
    a(round, wire::up_to(state, CohortState::silent), took_ms, train_ms, bytes);
  }
};
inline constexpr std::size_t kHistoryMax = 16;

struct DeviceRow {
  wire::Capabilities capabilities;
  double tokens_per_s = 0;  ///< last measured
  double bytes_per_s = 0;
  double round_ms_mean = 0;  ///< exponential mean of took_ms, factor 0.3
  std::uint32_t invited = 0;
  std::uint32_t contributed = 0;
  std::uint32_t refused = 0;
  std::uint32_t failed = 0;  ///< invited, but nothing usable by the deadline
  std::uint32_t late = 0;
  std::int64_t first_seen_ms = 0;
  std::int64_t last_seen_ms = 0;
  std::vector<DeviceRound> history;  ///< newest last, at most kHistoryMax

  template <class Archive>
  void serialize(Archive& a) {
    a(capabilities, tokens_per_s, bytes_per_s, round_ms_mean, invited, contributed, refused, failed, late,
      first_seen_ms, last_seen_ms, history);
  }
};

/// Written with the round's charge before its noised sum is used, and again, without the seed, when the round ends.
struct PrivacyRow {
  Bytes ledger;          ///< aggregation::dp::Ledger
  double clip_norm = 0;  ///< of rounds that start from now on
  RoundId charged;       ///< newest round that is paid for
  Bytes seed;            ///< of its noise; empty once the round has ended: who has it can take the noise off
  // DP-FTRL alone
  RoundId charged_before;           ///< the newest one before `charged`: noise is of the rounds between
  wire::CorrelatedPlan correlated;  ///< what the task began with: it may not change
  std::uint32_t value_bits = 0;     ///< likewise, as is clip_norm
  Bytes task_seed;                  ///< of all its noise, kept for the whole task: who has it can take the noise off

  template <class Archive>
  void serialize(Archive& a) {
    a(ledger, clip_norm, charged, seed, charged_before, correlated, value_bits, task_seed);
  }
};

/// P floats and their little-endian bytes.
Bytes encode_values(std::span<const float> values);
/// @errors corrupt_data: another length than 4 P.
Result<std::vector<float>> decode_values(ByteSpan bytes, std::size_t values);

/// The chain hash of a version that follows one with chain `previous` (zero for version 0).
wire::Hash chain_hash(const wire::Hash& previous, const VersionRow& row);

}  // namespace covey::coordinator
