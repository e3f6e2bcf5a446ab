/// Client half of pairwise-mask secure aggregation. Source: Bonawitz et al., CCS 2017; Bell et al., CCS 2020;
/// security.md section 4. Deviations: README.md.
///
/// One session, without I/O: not thread-safe, not reusable, wipes its keys. Order of calls, each once its message came:
///   1 advertise()                local training is finished before
///   2 share(SecureList)
///   3 mask(SecureInbox, contribution)
///   4 agree(SecureSurvivors)
///   5 unmask(SecureUnmask)
/// A message that is the last one again gets the same answer again (mask(): already_exists, the caller sends the stored
/// update); any other repetition is refused. Every refusal ends the session: keys are wiped, reason() says why, and all
/// later calls fail. Nothing that a peer sends reaches an assertion.
///
/// The caller persists: SecAggLedger is changed by advertise() and mask(), and must be durable before what they return
/// is sent. Session secrets live in memory only: after a restart the session is gone (a dropout).
///
///   COVEY_ASSIGN(auto client, SecAggClient::create({setup, version, &identity, roster, seed}));
///   COVEY_ASSIGN(const auto advertise, client.advertise(ledger));  // persist ledger, then send
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "aggregation/secagg_session.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

struct SecAggSeam;

/// A durable row of the device, one per task.
struct SecAggLedger {
  std::uint64_t last_round = 0;  ///< highest round ever advertised in
  ModelVersion version;          ///< that `masked` counts for
  std::uint32_t masked = 0;      ///< masked updates made for this version

  template <class Archive>
  void serialize(Archive& a) {
    a(last_round, version, masked);
  }
};

/// Sortition: what a device checks a list against. Source: security.md section 2.
struct SecAggDraw {
  wire::Hash epoch_root{};     ///< of the plan's roster epoch, which the caller has verified
  std::uint64_t below = 0;     ///< SecurePlan::drawn_below
  std::uint64_t active = 0;    ///< devices in the roster
  double listed_share = 0.25;  ///< of those that are drawn on average, so many must be listed at least
};

struct SecAggClientInputs {
  SecAggSetup setup;
  ModelVersion version;                           ///< the plan's base_version
  const crypto::IdentityKey* identity = nullptr;  ///< borrowed; must outlive the client
  SecAggRoster roster;                            ///< as of setup.roster_epoch, which the caller has verified
  std::array<std::uint8_t, 32> seed{};            ///< fresh entropy, used for nothing else; wiped by the client's copy
  std::optional<SecAggDraw> draw;                 ///< where the plan's cohort is drawn by sortition
  /// A coordinator that reruns a finished round without one device learns that device's update by subtraction: more
  /// than 1 is for demonstrations, which must say so.
  std::uint32_t masked_per_version_max = 1;
};

class SecAggClient {
 public:
  enum class Phase : std::uint8_t { fresh, advertised, shared, masked, agreed, unmasked, dead };

  /// @errors invalid_argument: no identity.
  static Result<SecAggClient> create(SecAggClientInputs inputs);
  /// For demonstrations of attacks and tests: see secagg_seam.h.
  static Result<SecAggClient> create_with_seam(SecAggClientInputs inputs, const SecAggSeam& seam);
  SecAggClient(SecAggClient&&) noexcept;
  SecAggClient& operator=(SecAggClient&&) noexcept;
  ~SecAggClient();

  /// @errors permission_denied (round_seen): ledger.last_round is not below this round.
  [[nodiscard]] Result<wire::SecureAdvertise> advertise(SecAggLedger& ledger);

  /// @errors permission_denied, with the reasons of security.md section 4's table: signatures chain to the roster, keys
  /// distinct, itself exactly once, k and t as recomputed, n >= n_min, plan equal.
  /// @cost n signature checks, k key agreements, O(9 k t) multiplications.
  [[nodiscard]] Result<wire::SecureBoxes> share(const wire::SecureList& list);

  /// @param contribution  shape (1 + P), values in [0, 2^b), borrowed for the call: secagg_contribution().
  /// @param pool  nullptr: on the caller's thread.
  /// @errors invalid_argument: another shape, no state change. already_exists: masked before, no state change.
  /// permission_denied: fewer than t shares open; a masked update for this version was made before.
  /// @cost k key agreements, (k + 1) (1 + P) mask words.
  [[nodiscard]] Result<wire::MaskedUpdate> mask(const wire::SecureInbox& inbox,
                                                std::span<const std::uint32_t> contribution, SecAggLedger& ledger,
                                                ThreadPool* pool = nullptr);

  /// @errors permission_denied: it is declared dead, survivors < n_min, live neighbours < t, another set than before.
  [[nodiscard]] Result<wire::SecureAgree> agree(const wire::SecureSurvivors& survivors);

  /// @errors permission_denied: another survivor set than the one signed, fewer than t valid signatures of its own
  /// neighbours, a second request that differs.
  [[nodiscard]] Result<wire::SecureShares> unmask(const wire::SecureUnmask& request);

  /// The round is over, or its deadline passed: wipes everything. reason() becomes `ended` where it was `none`.
  void end();

  [[nodiscard]] Phase phase() const;
  /// Why the session is dead; `none` while it is not. What SecureAbort tells the coordinator.
  [[nodiscard]] wire::SecureReason reason() const;
  /// k and t, known from share() on.
  [[nodiscard]] const SecAggParams& params() const;

 private:
  struct Machine;
  explicit SecAggClient(std::unique_ptr<Machine> machine);
  std::unique_ptr<Machine> machine_;
};

}  // namespace covey::aggregation
