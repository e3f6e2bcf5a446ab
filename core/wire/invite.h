/// The invite an operator hands to a device: where the coordinator is, who it is, and a one-time secret (security.md
/// section 2). Text form: "covey1:" and the fields below in hexadecimal, ended by a checksum against typing errors.
///
///   Coordinator: makes it, keeps hash(secret), admits the CURVE key derived from the secret until expiry.
///   Device: connects with CurveKeyPair::derive(secret, kInviteCurvePurpose), sends Enroll{hash(secret), ...}.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/base/secret.h"
#include "core/wire/messages.h"

namespace covey::wire {

/// What both sides pass to crypto::CurveKeyPair::derive() for the connection that enrols.
inline constexpr std::string_view kInviteCurvePurpose = "covey invite 1";

/// Move-only: it holds a secret. Valid ones have a secret of 32 bytes and a task and an endpoint of 1 to 255 bytes.
struct Invite {
  std::string endpoint;  ///< ZeroMQ endpoint, e.g. "tcp://192.0.2.1:7400"
  std::string task;
  Key server_curve{};           ///< CURVE key of the coordinator's transport
  Key coordinator{};            ///< its identity: signs plans and welcomes
  Key roster{};                 ///< signs the roster's epochs
  SecretBytes secret;           ///< 32 bytes
  std::int64_t expires_ms = 0;  ///< wall clock
};

/// @errors invalid_argument: a secret, task or endpoint of another length than above.
Result<std::string> encode_invite(const Invite& invite);
/// Surrounding white space is ignored. Messages never repeat the text.
/// @errors invalid_argument: not an invite, a newer version, or damaged.
Result<Invite> decode_invite(std::string_view text);

}  // namespace covey::wire
