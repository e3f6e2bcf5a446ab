/// A device's part in one round of secure aggregation, from the end of training to the end of the session: the client
/// half (aggregation/secagg_client.h) with what it has said last, so that a lost link costs nothing. Pure, like the
/// session that owns it. Secrets live in this object alone; it is never stored.
///
///   begin() -> SecureAdvertise       on(SecureList)      -> SecureBoxes
///                                    on(SecureInbox)     -> SubmitBegin (masked), then chunk() by chunk()
///                                    on(SecureSurvivors) -> SecureAgree
///                                    on(SecureUnmask)    -> SecureShares
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "aggregation/secagg_client.h"
#include "client/session.h"
#include "core/base/result.h"

namespace covey::client {

class SecureRound {
 public:
  struct Inputs {
    const wire::RoundPlan* plan = nullptr;  ///< borrowed for the call
    wire::Hash plan_hash{};
    const TrainingOutcome* outcome = nullptr;  ///< borrowed for the call
    std::array<std::uint8_t, 32> rounding_seed{};
    std::array<std::uint8_t, 32> session_seed{};    ///< fresh entropy for keys, used for nothing else
    std::array<std::uint8_t, 32> noise_seed{};      ///< likewise, for its share of the plan's noise
    const crypto::IdentityKey* identity = nullptr;  ///< borrowed; outlives this
    aggregation::SecAggRoster roster;
    std::optional<aggregation::SecAggDraw> draw;  ///< where the plan's cohort is drawn by sortition
    std::uint32_t masked_per_version_max = 1;
  };
  /// Clips, quantizes, adds the plan's noise where it has some, and makes the keys of the session. `ledger` must be
  /// durable before last() is sent.
  /// @errors those of SecAggSetup::of, secagg_contribution and SecAggClient::advertise.
  static Result<SecureRound> begin(Inputs inputs, aggregation::SecAggLedger& ledger);

  /// The answer, which is also last() from now on. `ledger` must be durable before it is sent.
  /// @errors those of SecAggClient: the session is over, reason() says why.
  Result<wire::Message> on(const wire::SecureList& message, aggregation::SecAggLedger& ledger);
  Result<wire::Message> on(const wire::SecureInbox& message, aggregation::SecAggLedger& ledger);
  Result<wire::Message> on(const wire::SecureSurvivors& message, aggregation::SecAggLedger& ledger);
  Result<wire::Message> on(const wire::SecureUnmask& message, aggregation::SecAggLedger& ledger);

  /// What to say again on a new link.
  [[nodiscard]] const wire::Message& last() const { return last_; }
  /// The encoded MaskedUpdate; empty before there is one.
  [[nodiscard]] const Bytes& update() const { return update_; }
  [[nodiscard]] const wire::Hash& content() const { return content_; }
  /// The upload was announced and not yet acknowledged: an answer is owed.
  [[nodiscard]] bool uploading() const { return !update_.empty() && !acknowledged_; }
  void acknowledged() { acknowledged_ = true; }

  [[nodiscard]] SessionPhase phase() const;
  [[nodiscard]] wire::SecureReason reason() const { return client_.reason(); }

 private:
  SecureRound(aggregation::SecAggClient client, wire::RoundPlan plan)
      : client_(std::move(client)), plan_(std::move(plan)) {}
  static Result<std::vector<std::uint32_t>> contribution_of(const Inputs& inputs,
                                                            const aggregation::SecAggSetup& setup);
  Result<wire::Message> said(wire::Message message) {
    last_ = std::move(message);
    return last_;
  }

  aggregation::SecAggClient client_;
  wire::RoundPlan plan_;
  wire::TrainingReport report_;
  std::vector<std::uint32_t> contribution_;  ///< shape (1 + P), until it is masked
  wire::Message last_;
  Bytes update_;
  wire::Hash content_{};
  bool acknowledged_ = false;
};

}  // namespace covey::client
