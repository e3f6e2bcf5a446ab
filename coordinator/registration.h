/// Who may take part: invites, enrolled devices, and the roster, a hash chain of epochs signed by the roster key
/// (security.md section 2). All of it lies in the store; every change is durable when the call returns.
///
///   table            key            value
///   enrolled         device         EnrolledRow         invites          hash of the secret   InviteRow
///   roster           epoch          wire::SignedRosterEpoch
///   roster_pending   sequence       PendingRow, erased by the epoch that contains it
///
/// With the roster key at hand every change is signed at once; without it changes wait for `roster sign`, and a new
/// device is pending until then.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/selection.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/crypto/identity.h"
#include "core/net/transport.h"
#include "core/store/store.h"
#include "core/wire/codec.h"
#include "core/wire/field.h"
#include "core/wire/invite.h"
#include "core/wire/messages.h"

namespace covey::coordinator {

struct EnrolledRow {
  wire::Key curve{};
  std::string name;
  wire::DeviceStatus status = wire::DeviceStatus::active;
  std::int64_t enrolled_ms = 0;
  std::uint64_t epoch = 0;  ///< roster epoch of its newest change; 0 = still to be signed

  template <class Archive>
  void serialize(Archive& a) {
    a(curve, name, wire::up_to(status, wire::DeviceStatus::revoked), enrolled_ms, epoch);
  }
};

struct InviteRow {
  wire::Key curve{};  ///< derived from the secret, which is not kept
  std::int64_t expires_ms = 0;
  std::uint32_t uses_left = 0;
  std::uint32_t uses = 0;

  template <class Archive>
  void serialize(Archive& a) {
    a(curve, expires_ms, uses_left, uses);
  }
};

struct PendingRow {
  wire::RosterChange change;

  template <class Archive>
  void serialize(Archive& a) {
    a(change);
  }
};

/// Why a device is turned away, as it is told.
struct Refusal {
  wire::Complaint complaint{};
  std::string message;
};

struct InviteOptions {
  std::string endpoint;
  std::string task;
  wire::Key server_curve{};
  wire::Key coordinator{};
  std::uint32_t uses = 1;  ///< 1 to 100,000
  std::int64_t expires_ms = 0;
};

/// Calls that change belong to one thread; may_connect() and connections_max() may come from any.
class Registration final : public net::KeyDirectory {
 public:
  /// @param roster_public  the key that signs epochs
  /// @param roster_key     that key itself, where the coordinator holds it
  /// @errors corrupt_data: the chain in the store does not hold together. What the store reports.
  static Result<std::unique_ptr<Registration>> open(store::Store& store, const wire::Key& roster_public,
                                                    std::optional<crypto::IdentityKey> roster_key, const Clock& clock);
  ~Registration() override;

  [[nodiscard]] bool may_connect(const wire::Key& curve) const override;
  /// A device's key: 2. An invite's: as many as may still enrol with it, within 2 and 64.
  [[nodiscard]] std::size_t connections_max(const wire::Key& curve) const override;

  /// Makes an invite; `secret` are 32 fresh random bytes. @errors invalid_argument: uses out of range.
  Result<wire::Invite> invite(const InviteOptions& options, SecretBytes secret);
  /// A device's Enroll, on a connection authenticated with `curve`. The outer error is the store's: stop.
  Result<std::variant<wire::Enrolled, Refusal>> enroll(const wire::Enroll& message, const wire::Key& curve,
                                                       const std::string& task);
  /// Lists a device without an invite: for the simulator and for tests. @return the roster epoch, 0 = pending.
  Result<std::uint64_t> admit(const DeviceId& device, const wire::Key& curve, const std::string& name);
  /// Whether this Hello, on a connection authenticated with `curve`, names a device we serve. The clock in it is never
  /// a reason to refuse.
  [[nodiscard]] std::optional<Refusal> refuse_hello(const wire::Hello& message, const wire::Key& curve) const;
  /// @errors not_found.
  Status revoke(const DeviceId& device);
  [[nodiscard]] bool active(const DeviceId& device) const;
  /// Whether it is active now, and was listed so in the roster of `epoch`.
  [[nodiscard]] bool listed(const DeviceId& device, std::uint64_t epoch) const;

  /// The next epoch of what waits, to be signed by whoever has the roster key; nothing where nothing waits.
  [[nodiscard]] std::optional<wire::RosterEpoch> next_epoch() const;
  /// Appends next_epoch(), signed. @errors permission_denied: not by the roster key; invalid_argument: another epoch
  /// than the next one (something changed meanwhile: ask again).
  Status append(const wire::SignedRosterEpoch& document);
  /// Signs what waits, with the roster key given. @return the newest epoch. @errors permission_denied: another key than
  /// the roster's.
  Result<std::uint64_t> sign_pending(const crypto::IdentityKey& roster_key);
  [[nodiscard]] std::size_t pending() const { return pending_.size(); }
  [[nodiscard]] std::uint64_t roster_epoch() const { return head_epoch_; }
  /// The newest epoch with its hash and the number of devices that it lists as active.
  [[nodiscard]] DrawRoot draw_root() const;
  /// As many epochs as fit a frame.
  Result<wire::RosterReply> roster_after(std::uint64_t epoch) const;

  [[nodiscard]] const std::map<DeviceId, EnrolledRow>& devices() const { return devices_; }
  [[nodiscard]] std::size_t open_invites() const;

 private:
  Registration(store::Store& store, const wire::Key& roster_public, std::optional<crypto::IdentityKey> roster_key,
               const Clock& clock);
  Status load();
  Status load_chain();
  struct Change {
    DeviceId device;
    EnrolledRow row;
  };
  /// Commits the device's row with the epoch that lists it, or with a pending change where the roster key is apart.
  Status commit_change(Change change, std::vector<store::Write> writes);
  void rebuild_keys();

  store::Store& store_;
  const Clock& clock_;
  wire::Key roster_public_{};
  std::optional<crypto::IdentityKey> roster_key_;
  std::map<DeviceId, EnrolledRow> devices_;
  std::map<wire::Hash, InviteRow> invites_;
  std::map<std::uint64_t, wire::RosterChange> pending_;
  std::uint64_t head_epoch_ = 0;
  wire::Hash head_hash_{};
  struct Grant {
    std::int64_t until_ms = 0;  ///< wall clock
    std::size_t connections_max = 2;
  };
  static Grant grant_of(const InviteRow& invite);
  /// A new device, with what is left of the invite that it came with.
  void grant(const wire::Key& device, const std::optional<InviteRow>& invite = {});
  mutable std::mutex keys_mutex_;
  std::map<wire::Key, Grant> keys_;  ///< by CURVE key, guarded by keys_mutex_
};

}  // namespace covey::coordinator
