/// What attacks share: a cohort of nine with five puppets that the hostile coordinator runs, and what it does with what
/// it learns. Device 0 is the victim, 1 to 5 are puppets, 6 to 8 are honest. Five of nine is more than gamma, so that
/// each check is seen alone: with all checks in place even they learn nothing, because n_min is eight and t is six.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "aggregation/shamir.h"
#include "simulations/attacks.h"
#include "simulations/secagg_world.h"

namespace covey::simulations {

inline constexpr std::uint32_t kVictim = 0;
inline constexpr std::uint32_t kPuppets = 5;
inline constexpr std::uint32_t kStageDevices = 9;

SecAggWorldOptions stage_options();
/// A world whose devices (not the coordinator) run with these checks.
std::unique_ptr<SecAggWorld> stage(const aggregation::SecAggChecks& checks,
                                   SecAggWorldOptions options = stage_options());

/// What a hostile coordinator has learned of one session.
class Knowledge {
 public:
  /// Secrets of a device that it runs, or whose keys it made up.
  void add(const aggregation::SessionSecrets& secrets);
  [[nodiscard]] const crypto::ExchangeKey* mask_key(const wire::Key& public_key) const;
  [[nodiscard]] const crypto::ExchangeKey* share_key(const wire::Key& public_key) const;

  std::vector<aggregation::ShamirPoint> of_mask;  ///< shares of the victim's mask secret, by place
  std::vector<aggregation::ShamirPoint> of_self;  ///< and of its b

 private:
  std::map<wire::Key, crypto::ExchangeKey> mask_keys_;
  std::map<wire::Key, crypto::ExchangeKey> share_keys_;
};

/// Puts a share into the collection unless its place is taken.
void collect(std::vector<aggregation::ShamirPoint>& points, std::uint32_t place, const wire::SecretShare& share);

/// Everything about one masked update that an adversary needs to take its masks off.
struct Unmasking {
  const wire::MaskedUpdate* masked = nullptr;
  const wire::SecureList* list = nullptr;
  std::uint16_t index = 0;           ///< of the device in the list
  std::vector<std::uint16_t> peers;  ///< whom it masked with
  wire::Hash plan{};
  wire::Hash bound{};  ///< session, or zero where boxes and masks are not bound to it
  std::uint32_t threshold = 0;
};
/// The contribution behind a masked update, where what is known suffices. Shape (1 + P).
std::optional<std::vector<std::uint32_t>> unmask_one(const Unmasking& about, const Knowledge& known);

/// A list with this alteration is given to the victim alone, whose peers the coordinator plays where it knows their
/// keys.
struct Ambush {
  /// Changes the honest list; adds to what is known.
  std::function<void(SecAggWorld&, wire::SecureList&, Knowledge&)> alter;
  /// Runs before the victim advertises.
  std::function<void(SecAggWorld&)> before;
};
AttackOutcome ambush(const aggregation::SecAggChecks& checks, const Ambush& plan);

/// Orders a list by identity and fills in k and t as they follow from the plan.
void finish_list(const SecAggWorld& world, wire::SecureList& list);
/// Keys made up by the coordinator, signed by an identity for the world's round and plan.
wire::SecureKeys signed_keys(const SecAggWorld& world, const crypto::IdentityKey& identity,
                             const aggregation::SessionSecrets& secrets);
/// Whether every later step of a device is refused too.
bool silent_after(SecAggWorld::Device& device);

}  // namespace covey::simulations
