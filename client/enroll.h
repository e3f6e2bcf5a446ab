/// Enrolment: an invite becomes a directory with this device's keys, the coordinator's pinned ones and a device.yaml.
#pragma once

#include <cstdint>
#include <string>

#include "client/device_config.h"
#include "core/base/result.h"

namespace covey::client {

struct EnrollOptions {
  std::string invite;
  std::string directory;  ///< made where missing
  std::string name;       ///< as the operator sees it; at most 128 bytes
  wire::PrivacyMode weakest_mode = wire::PrivacyMode::secure;
  std::uint32_t survivors_min = SessionPolicy{}.survivors_min;  ///< 2 to 1,000,000
  std::int64_t timeout_ms = 30'000;
};

/// Connects with the key that the invite's secret gives, and waits for the answer. Keys are written before they are
/// sent, so a call that was cut off can be repeated.
/// @errors invalid_argument: the invite; already_exists: the directory is enrolled; unavailable: no answer in time;
/// permission_denied: the coordinator refuses (used up, expired, unknown).
Result<Enrolment> enroll(const EnrollOptions& options);

}  // namespace covey::client
