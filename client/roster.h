/// The roster as a device follows it: a hash chain of epochs signed by the roster key pinned at enrolment. Pure.
///
/// Kept are the newest epoch's number and hash, what the chain says of this device itself, and who is active: the first
/// refuse whatever does not extend the chain, the last is what lists of secure aggregation are checked against.
/// security.md section 2.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "core/wire/field.h"
#include "core/wire/messages.h"

namespace covey::client {

enum class RosterListing : std::uint8_t { absent = 0, active = 1, revoked = 2 };

/// A row of the device's store.
struct RosterHead {
  std::uint64_t epoch = 0;                        ///< 0: none verified yet
  wire::Hash hash{};                              ///< of the encoded SignedRosterEpoch; zero for epoch 0
  RosterListing listing = RosterListing::absent;  ///< of this device
  wire::Key curve{};                              ///< its transport key as listed
  std::vector<wire::Hash> before;                 ///< hashes of the epochs before, newest first, at most kRootsKept

  template <class Archive>
  void serialize(Archive& a) {
    a(epoch, hash, wire::up_to(listing, RosterListing::revoked), curve, before);
  }
};
/// A plan may lag so many epochs behind the head and its sortition can still be checked.
inline constexpr std::size_t kRootsKept = 8;

/// The identities that are active at some head. May be shared between chains at the same head (many devices in one
/// thread): a chain that goes on to the next epoch takes a copy first.
using ActiveDevices = std::shared_ptr<const std::set<wire::Key>>;

class RosterChain {
 public:
  /// @param roster    the pinned key that signs epochs
  /// @param identity  this device's
  RosterChain(const wire::Key& roster, const wire::Key& identity) : roster_(roster), identity_(identity) {}

  /// What an earlier process verified: the head, and the identities that were active at it.
  void restore(const RosterHead& head, const ActiveDevices& active) {
    head_ = head;
    active_ = std::const_pointer_cast<std::set<wire::Key>>(active);
  }
  /// Takes the epoch that follows the head; an error leaves the chain as it is. @return what changed. @errors
  /// permission_denied: not signed by the roster key, older than the head, with a gap before it, or not on top of the
  /// head (a fork). corrupt_data: no epoch at all.
  [[nodiscard]] Result<std::vector<wire::RosterChange>> extend(const wire::SignedRosterEpoch& document);
  /// Whether this device may take part, with this transport key. @errors permission_denied: not listed, revoked, listed
  /// with another key.
  [[nodiscard]] Status check_listed(const wire::Key& curve) const;

  /// Whether the roster lists this identity as active, as of the head. Memory: about 80 bytes a device.
  [[nodiscard]] bool active(const wire::Key& identity) const { return active_->contains(identity); }

  [[nodiscard]] std::size_t active_count() const { return active_->size(); }
  [[nodiscard]] ActiveDevices active_devices() const { return active_; }
  /// The hash of a verified epoch, which sortition draws from; empty where it is too old, or not known yet.
  [[nodiscard]] std::optional<wire::Hash> root(std::uint64_t epoch) const;

  [[nodiscard]] const RosterHead& head() const { return head_; }

 private:
  wire::Key roster_;
  wire::Key identity_;
  RosterHead head_;
  std::shared_ptr<std::set<wire::Key>> active_ =
      std::make_shared<std::set<wire::Key>>();  ///< changed by one owner only
};

}  // namespace covey::client
