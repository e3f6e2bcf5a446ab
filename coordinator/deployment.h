/// A coordinator's files: configuration, keys, database. What `serve` and the other commands open.
///
///   DIR/coordinator.yaml   DIR/identity.key   DIR/curve.key   DIR/roster.pub   DIR/roster.key (may be moved away)
///   data_dir/coordinator.db   data_dir/admin.sock (while `serve` runs)
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "coordinator/registration.h"
#include "coordinator/settings.h"
#include "core/base/clock.h"
#include "core/crypto/curve.h"
#include "core/crypto/identity.h"
#include "core/store/sqlite_store.h"

namespace covey::coordinator {

/// Makes keys and a commented configuration. @errors already_exists: nothing is ever overwritten.
Status init_deployment(const std::string& directory, const std::string& task);

/// What devices are told to connect to: `advertise`, or else the endpoint as bound. @errors invalid_argument: bound to
/// every address and nothing to advertise; `where` begins the message.
Result<std::string> told_endpoint(const std::string& advertise, const std::string& bound, const std::string& where);

/// A fresh CURVE key to rotate to. @errors already_exists: nothing is ever overwritten.
Status make_transport_key(const std::string& path);

struct Deployment {
  Settings settings;
  crypto::IdentityKey identity;
  crypto::CurveKeyPair curve;
  std::optional<crypto::CurveKeyPair> next_curve;  ///< where the configuration rotates
  wire::Key roster_public{};
  std::unique_ptr<store::SqliteStore> store;
  std::unique_ptr<Registration> registration;

  [[nodiscard]] std::string socket_path() const { return settings.data_dir + "/admin.sock"; }
  /// What invites say: where devices connect and which transport key they expect there. The next endpoint once a
  /// rotation has begun. `bound` is the listening endpoint where there is one.
  [[nodiscard]] Result<net::ServerAddress> invite_address(const std::string& bound) const;
};

/// @errors those of the settings, the key files and the store (unavailable: another process still has it open after
/// `lock_wait_ms`).
Result<Deployment> open_deployment(Settings settings, const Clock& clock, int lock_wait_ms = 2'000);

}  // namespace covey::coordinator
